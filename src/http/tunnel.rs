//! Tunnels, for CONNECT and SOCKS alike: where one leads, and what is done with its bytes.
//!
//! A tunnel would pass the scope by, therefore one to an upstream that speaks in clear text does not leave the relay: its bytes
//! are requests to the mirror (R6.2). Never decides: that is the policy's. Invariant: without a passage nothing is connected to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;

use crate::base::destination::Destination;
use crate::http::http1::requests;
use crate::http::limited;
use crate::http::paced::Paced;
use crate::http::respond::Failure;
use crate::http::speak::Agent;
use crate::http::tunnel_record::TunnelRecord;
use crate::net::copy::{End, copy};
use crate::policy::caller::{Caller, Who};
use crate::policy::decide::Refusal;
use crate::policy::reach::{Reach, Way};
use crate::relay::live::Live;
use crate::relay::reach::TunnelError;
use crate::upstream::stream::Io;

/// The far end of a tunnel.
#[derive(Debug)]
pub enum Far {
    /// The relay itself, which answers for this server.
    Here(Destination),
    /// The server.
    There(Io),
}

/// A tunnel that is open.
#[derive(Debug)]
pub struct Tunnel {
    /// Its far end.
    pub far: Far,
    /// Who opened it, and where to.
    pub opened: Opened,
    /// Its line of the log.
    pub record: TunnelRecord,
}

/// By whom a tunnel was opened, and where to: it goes on only while that is allowed.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Who.
    pub who: Who,
    /// Where to.
    pub to: Destination,
}

/// The server that an agent believes to speak to within a tunnel, and who opened that.
#[derive(Clone, Debug)]
pub struct Toward {
    /// The server.
    pub server: Destination,
    /// Who opened the tunnel.
    pub who: Who,
}

/// Decides where an agent's tunnel leads, and connects to it.
pub async fn open(live: &Live, agent: &Agent, caller: &Caller, to: &Destination) -> Result<Far, Failure> {
    let passage = match live.policy.reach(caller, to, Way::Tunnel)? {
        Reach::Here(server) => return Ok(Far::Here(server)),
        Reach::There(passage) => passage,
    };
    let ports = &agent.worker.ports;
    let server = live.reach.tunnel(passage, ports.clone()).await.map_err(|error| match error {
        TunnelError::Refused(refusal) => Failure::Refused(refusal),
        TunnelError::Unreached(how, tried) => Failure::Unreached(how, tried),
    })?;
    // There the agent would have the relay's address, and what that is allowed.
    if server.leads_back(ports) {
        return Err(Refusal::Loop.into());
    }
    Ok(Far::There(server))
}

impl Far {
    /// The relay's address on the tunnel's far side; `near` is the one that it has on the agent's.
    pub fn bound(&self, near: SocketAddr) -> SocketAddr {
        match self {
            Self::Here(_) => near,
            Self::There(server) => server.socket().local_addr().unwrap_or(near),
        }
    }
}

/// Runs a tunnel to its end.
pub async fn run<S>(agent: &Agent, mut stream: S, mut tunnel: Tunnel)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Agent { worker, address, connection, place, local, transport, certificate, .. } = agent;
    match tunnel.far {
        Far::Here(server) => {
            place.begins();
            let (worker, place) = (worker.clone(), place.clone());
            let toward = Some(Toward { server, who: tunnel.opened.who });
            let (address, connection, local, transport) = (*address, *connection, *local, *transport);
            let certificate = certificate.clone();
            let agent = Rc::new(Agent {
                worker,
                address,
                connection,
                place,
                local,
                transport,
                certificate,
                toward,
                spans: None,
            });
            // The route refuses tunnels within a tunnel.
            requests(&agent, stream).await;
            tunnel.record.ended(&"the relay answered for the server");
        }
        Far::There(server) => {
            let _now = worker.tally.tunnels_now.hold();
            let passed = tunnel.record.passed();
            let gate = limited::tunnel(agent, &tunnel.opened);
            let mut server = Paced::new(server, gate, passed.clone());
            let bounds = worker.live.load().tunnels;
            let refusal = {
                let copied = copy(&mut stream, &mut server, &passed, place, bounds);
                tokio::select! {
                    biased;
                    end = copied => Ok(end),
                    // However much there is to copy, the change is heard of.
                    refusal = unconstrained(refused(agent, &tunnel.opened)) => Err(refusal),
                }
            };
            if !matches!(refusal, Ok(End::Closed)) {
                // Neither the agent nor the server sees an end in order.
                place.cut();
                let _ = SockRef::from(server.stream().socket()).set_linger(Some(Duration::ZERO));
            }
            match refusal {
                Ok(end) => tunnel.record.ended(&end),
                Err(refusal) => {
                    worker.tally.refused_by(refusal.by());
                    tunnel.record.ended(&refusal);
                }
            }
        }
    }
}

/// Waits until a change of the agent tree has it that who opened a tunnel may not have it any more: then gives the reason.
async fn refused(agent: &Agent, opened: &Opened) -> Refusal {
    let worker = &agent.worker;
    let mut changes = worker.live.load().agents.changes();
    changes.mark_changed();
    loop {
        if changes.changed().await.is_err() {
            // The relay stops: whoever drains it ends the tunnel.
            std::future::pending::<()>().await;
        }
        let live = worker.live.load();
        let caller = live.policy.again(&live.agents.tree(), opened.who, agent.address.ip());
        let reach = caller.and_then(|caller| live.policy.reach(&caller, &opened.to, Way::Tunnel));
        if let Err(refusal) = reach {
            return refusal;
        }
    }
}
