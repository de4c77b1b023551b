//! One agent's connection over SOCKS5: who speaks, what it asks for, and the tunnel that it becomes.
//!
//! Never decides: the policy does, by the same code as for CONNECT. Invariant: each message has the head's deadline, and no more
//! is read ahead than one look brings.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;

use crate::base::destination::Destination;
use crate::base::tally::Outcome;
use crate::http::arrival::{Arrival, Ended, Raw, Steps, part};
use crate::http::connection::Worker;
use crate::http::respond::Failure;
use crate::http::speak::Agent;
use crate::http::tunnel::{Far, Opened, Tunnel, open, run};
use crate::http::tunnel_record::{By, TunnelRecord};
use crate::net::worker::Accepted;
use crate::policy::caller::{Caller, Said, Shown, Who};
use crate::policy::decide::Refusal;
use crate::policy::secret::Token;
use crate::relay::live::Live;
use crate::socks::message::{
    self, Ask, Command, Credentials, Host, Message, Method, Methods, NoMessage, Reply, credentials_told,
};
use crate::socks::respond::NoTunnel;

/// Serves a connection until either side closes it; once the relay stops, until its tunnel is idle.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let Some(arrival) = Arrival::of(worker, accepted).await else { return };
    let Arrival { mut stream, agent, steps, counts, .. } = arrival;
    if let Some(tunnel) = asked(&mut stream, &agent, &steps).await {
        run(&agent, stream, tunnel).await;
    }
    drop(counts);
}

/// Reads what a client asks for and answers it; gives the tunnel where there is one.
async fn asked(stream: &mut Raw, agent: &Agent, steps: &Steps) -> Option<Tunnel> {
    let live = agent.worker.live.load_full();
    let greeted = steps.take("a SOCKS greeting", greet(stream, &live)).await;
    let who = match heard(greeted, agent)? {
        Method::None => None,
        Method::Credentials => {
            agent.place.begins();
            let identified = steps.take("SOCKS credentials", identify(stream, agent, &live)).await;
            match heard(identified, agent)? {
                Ok(who) => who,
                Err(refusal) => {
                    let why = Failure::from(refusal).into();
                    refuse(stream, agent, steps, &why, &credentials_told(false)).await;
                    return None;
                }
            }
        }
        Method::Unacceptable => {
            let everybody = live.users.is_empty();
            let why = if everybody { NoTunnel::Methods } else { Failure::from(Refusal::Credentials).into() };
            refuse(stream, agent, steps, &why, &Method::Unacceptable.told()).await;
            return None;
        }
    };
    agent.place.begins();
    let (named, wanted) = heard(steps.take("a SOCKS request", wanted(stream)).await, agent)?;
    let mut record = TunnelRecord::begin(&agent.worker, agent.address, By::Socks, &named);
    let opened = match wanted {
        Ok(to) => match caller(agent, who, &live) {
            Ok(caller) => reached(stream, agent, &live, &caller, to).await?,
            Err(refusal) => Err(Failure::from(refusal).into()),
        },
        Err(why) => Err(why),
    };
    let reply = opened.as_ref().map_or_else(NoTunnel::reply, |_| Reply::Succeeded);
    match opened {
        Ok((far, opened)) => {
            let told = reply.told(far.bound(agent.local));
            record.opened(u16::from(reply as u8));
            steps.take("a SOCKS reply", tell(stream, &told)).await.ok()?;
            Some(Tunnel { far, opened, record })
        }
        Err(why) => {
            why.note(&mut record, reply as u8);
            drop(record);
            // Whether the client waits for the end of its refusal is its own affair.
            let _ = steps.take("a SOCKS refusal", part(stream, &reply.told(agent.local))).await;
            None
        }
    }
}

/// What a step brought; `None` where the connection ends with it, which is counted where the client spoke something else.
fn heard<T>(step: Result<Result<T, NoMessage>, Ended>, agent: &Agent) -> Option<T> {
    match step {
        Ok(Ok(heard)) => Some(heard),
        Ok(Err(_)) => {
            agent.worker.tally.request(Outcome::BadRequest);
            None
        }
        Err(_) => None,
    }
}

/// Reads the methods of a client, and tells it which one is taken.
async fn greet(stream: &mut Raw, live: &Live) -> io::Result<Result<Method, NoMessage>> {
    let methods = match read(stream, message::methods).await? {
        Ok(methods) => methods,
        Err(no_message) => return Ok(Err(no_message)),
    };
    let nobody_known = live.agents.tree().tree().knows_nobody();
    let method = chosen(methods, live.users.is_empty(), nobody_known);
    if method != Method::Unacceptable {
        tell(stream, &method.told()).await?;
    }
    Ok(Ok(method))
}

/// Who has credentials is to show them where they tell one from another. Without users, and while nobody is known, a client may
/// say who it is, and is not believed.
fn chosen(methods: Methods, everybody: bool, nobody_known: bool) -> Method {
    match methods {
        Methods { none: true, credentials } if everybody && (nobody_known || !credentials) => Method::None,
        Methods { credentials: true, .. } => Method::Credentials,
        _ => Method::Unacceptable,
    }
}

/// Reads the credentials of a client, and tells it when they are right: a token is an agent's, whatever name stands beside it;
/// anything else is a user's of the proxy. Gives the agent.
async fn identify(
    stream: &mut Raw,
    agent: &Agent,
    live: &Live,
) -> io::Result<Result<Result<Option<Who>, Refusal>, NoMessage>> {
    let admitted = read(stream, |bytes| {
        let given = message::credentials(bytes)?;
        Ok(given.map(|Message { len, says }| Message { len, says: admit(agent, live, says) }))
    });
    let admitted = admitted.await?;
    if let Ok(Ok(_)) = admitted {
        tell(stream, &credentials_told(true)).await?;
    }
    Ok(admitted)
}

fn admit(agent: &Agent, live: &Live, given: Credentials<'_>) -> Result<Option<Who>, Refusal> {
    // What is no text is nobody's name.
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let said = text(given.secret).and_then(Token::parse).map_or(Said::Other, Said::Token);
    if let Said::Other = said
        && !live.users.is_empty()
    {
        return live.users.admit(text(given.name).map(|name| (name, given.secret))).map(|()| None);
    }
    let shown = Shown { certificate: None, said, address: agent.address.ip() };
    live.policy.caller(&live.agents.tree(), &shown).map(|caller| Some(caller.who()))
}

/// Who asks for a tunnel, of whom it may be known who it is.
fn caller(agent: &Agent, who: Option<Who>, live: &Live) -> Result<Caller, Refusal> {
    let said = who.map_or(Said::Nothing, Said::Before);
    let shown = Shown { certificate: None, said, address: agent.address.ip() };
    live.policy.caller(&live.agents.tree(), &shown)
}

/// Reads a request: how it names its destination, and that, or why it gets no tunnel.
async fn wanted(stream: &mut Raw) -> io::Result<Result<(String, Result<Destination, NoTunnel>), NoMessage>> {
    let wanted = read(stream, |bytes| {
        let ask = message::ask(bytes)?;
        Ok(ask.map(|Message { len, says }| Message { len, says: (named(&says), destination(&says)) }))
    });
    Ok(match wanted.await? {
        Err(NoMessage::Version) => Err(NoMessage::Version),
        Err(no_message) => Ok((String::new(), Err(NoTunnel::Message(no_message)))),
        wanted => wanted,
    })
}

fn named(ask: &Ask<'_>) -> String {
    match ask.host {
        Host::Address(address) => SocketAddr::new(address, ask.port).to_string(),
        Host::Name(name) => format!("{}:{}", name.escape_ascii(), ask.port),
    }
}

fn destination(ask: &Ask<'_>) -> Result<Destination, NoTunnel> {
    if let Command::Other(number) = ask.command {
        return Err(NoTunnel::Command(number));
    }
    let destination = match ask.host {
        Host::Address(_) if ask.port == 0 => None,
        Host::Address(address) => Some(Destination::at(address, ask.port)),
        Host::Name(name) => {
            std::str::from_utf8(name).ok().and_then(|name| Destination::new(name, ask.port).ok())
        }
    };
    destination.ok_or(NoTunnel::Destination)
}

/// Connects; `None` where the client has left meanwhile.
async fn reached(
    stream: &mut Raw,
    agent: &Agent,
    live: &Live,
    caller: &Caller,
    to: Destination,
) -> Option<Result<(Far, Opened), NoTunnel>> {
    let busy = agent.place.begin();
    busy.waits(true);
    tokio::select! {
        biased;
        opened = open(live, agent, caller, &to) => {
            let opened = opened.map(|far| (far, Opened { who: caller.who(), to: to.clone() }));
            Some(opened.map_err(NoTunnel::from))
        }
        () = left(stream) => None,
    }
}

/// Waits until a client has left. What it sends before it is told that it may is kept, up to a look or two.
async fn left(stream: &mut Raw) {
    while stream.seen().is_empty() {
        if !stream.look().await.is_ok_and(|count| count > 0) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Notes a refusal before there was a request, and tells the client.
async fn refuse(stream: &mut Raw, agent: &Agent, steps: &Steps, why: &NoTunnel, told: &[u8; 2]) {
    let mut record = TunnelRecord::begin(&agent.worker, agent.address, By::Socks, "");
    why.note(&mut record, told[1]);
    drop(record);
    // Whether the client waits for the end of its refusal is its own affair.
    let _ = steps.take("a SOCKS refusal", part(stream, told)).await;
}

async fn tell(stream: &mut Raw, told: &[u8]) -> io::Result<()> {
    stream.write_all(told).await?;
    stream.flush().await
}

/// Reads one message, and no byte beyond it.
async fn read<T>(
    stream: &mut Raw,
    read: impl Fn(&[u8]) -> Result<Option<Message<T>>, NoMessage>,
) -> io::Result<Result<T, NoMessage>> {
    loop {
        match read(stream.seen()) {
            Ok(Some(Message { len, says })) => {
                stream.skip(len);
                return Ok(Ok(says));
            }
            Ok(None) if stream.look().await? > 0 => {}
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(no_message) => return Ok(Err(no_message)),
        }
    }
}
