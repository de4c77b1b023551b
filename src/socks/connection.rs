//! One agent's connection over SOCKS5: who speaks, what it asks for, and the tunnel that it becomes.
//!
//! Never decides: the policy does, by the same code as for CONNECT. Invariant: each message has the head's deadline, and no more
//! is read ahead than one look brings.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::base::destination::Destination;
use crate::base::tally::Outcome;
use crate::http::arrival::{Arrival, Ended, Raw, Steps, part};
use crate::http::connection::Worker;
use crate::http::respond::Failure;
use crate::http::speak::Agent;
use crate::http::tunnel::{Far, Tunnel, open, run};
use crate::http::tunnel_record::{By, TunnelRecord};
use crate::net::worker::Accepted;
use crate::policy::decide::Refusal;
use crate::policy::users::Users;
use crate::relay::live::Live;
use crate::socks::message::{
    self, Ask, Command, Credentials, Host, Message, Method, Methods, NoMessage, Reply, credentials_told,
};
use crate::socks::respond::NoTunnel;

/// Serves a connection until either side closes it; once `drain` is cancelled, until its tunnel is idle.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted, drain: CancellationToken) {
    let Some(arrival) = Arrival::of(worker, accepted, &drain).await else { return };
    let Arrival { mut stream, agent, steps, counts } = arrival;
    if let Some(tunnel) = asked(&mut stream, &agent, &steps).await {
        run(&agent, stream, tunnel, drain).await;
    }
    drop(counts);
}

/// Reads what a client asks for and answers it; gives the tunnel where there is one.
async fn asked(stream: &mut Raw, agent: &Agent, steps: &Steps) -> Option<Tunnel> {
    let live = agent.worker.live.load_full();
    let greeted = steps.take("a SOCKS greeting", greet(stream, &live.users)).await;
    let greeted = match heard(greeted, agent)? {
        Greeted::As(Method::Credentials) => {
            agent.place.begins();
            heard(steps.take("SOCKS credentials", identify(stream, &live.users)).await, agent)?
        }
        greeted => greeted,
    };
    match greeted {
        Greeted::As(Method::None | Method::Credentials) => {}
        Greeted::As(Method::Unacceptable) => {
            let known = live.users.is_empty();
            let why = if known { NoTunnel::Methods } else { Failure::from(Refusal::Credentials).into() };
            refuse(stream, agent, steps, &why, &Method::Unacceptable.told()).await;
            return None;
        }
        Greeted::Refused(refusal) => {
            let why = Failure::from(refusal).into();
            refuse(stream, agent, steps, &why, &credentials_told(false)).await;
            return None;
        }
    }
    agent.place.begins();
    let (named, wanted) = heard(steps.take("a SOCKS request", wanted(stream)).await, agent)?;
    let mut record = TunnelRecord::begin(&agent.worker, agent.address, By::Socks, &named);
    let opened = match wanted {
        Ok(to) => reached(stream, agent, &live, &to).await?,
        Err(why) => Err(why),
    };
    let reply = opened.as_ref().map_or_else(NoTunnel::reply, |_| Reply::Succeeded);
    match opened {
        Ok(far) => {
            let told = reply.told(far.bound(agent.local));
            record.opened(u16::from(reply as u8));
            steps.take("a SOCKS reply", tell(stream, &told)).await.ok()?;
            Some(Tunnel { far, record })
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

/// How a client was greeted.
enum Greeted {
    As(Method),
    Refused(Refusal),
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
async fn greet(stream: &mut Raw, users: &Users) -> io::Result<Result<Greeted, NoMessage>> {
    let methods = match read(stream, message::methods).await? {
        Ok(methods) => methods,
        Err(no_message) => return Ok(Err(no_message)),
    };
    let method = chosen(methods, users.is_empty());
    if method != Method::Unacceptable {
        tell(stream, &method.told()).await?;
    }
    Ok(Ok(Greeted::As(method)))
}

/// Without users a client may say who it is, and is not believed.
fn chosen(methods: Methods, everybody: bool) -> Method {
    match methods {
        Methods { none: true, .. } if everybody => Method::None,
        Methods { credentials: true, .. } => Method::Credentials,
        _ => Method::Unacceptable,
    }
}

/// Reads the credentials of a client, and tells it when they are right.
async fn identify(stream: &mut Raw, users: &Users) -> io::Result<Result<Greeted, NoMessage>> {
    let admitted = read(stream, |bytes| {
        let given = message::credentials(bytes)?;
        Ok(given.map(|Message { len, says }| Message { len, says: admit(users, says) }))
    });
    Ok(match admitted.await? {
        Ok(Ok(())) => {
            tell(stream, &credentials_told(true)).await?;
            Ok(Greeted::As(Method::Credentials))
        }
        Ok(Err(refusal)) => Ok(Greeted::Refused(refusal)),
        Err(no_message) => Err(no_message),
    })
}

fn admit(users: &Users, Credentials { name, secret }: Credentials<'_>) -> Result<(), Refusal> {
    // What is no text is nobody's name.
    users.admit(std::str::from_utf8(name).ok().map(|name| (name, secret)))
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
    to: &Destination,
) -> Option<Result<Far, NoTunnel>> {
    let busy = agent.place.begin();
    busy.waits(true);
    tokio::select! {
        biased;
        opened = open(live, agent, to) => Some(opened.map_err(NoTunnel::from)),
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
