//! Limits (R10.1), as requests, bodies and tunnels meet them.
//!
//! Never counts: `relay::limits` does. Invariant: who has no limit waits for nothing here, and takes no lock.

use tokio::time::sleep;

use crate::http::body::Body;
use crate::http::respond::Failure;
use crate::http::speak::Agent;
use crate::http::tunnel::Opened;
use crate::policy::caller::{Caller, Who};
use crate::policy::sources::Kind;
use crate::relay::limits::gate::{Gate, Transfer};

/// How a request went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// At once.
    AtOnce,
    /// After others.
    Late,
}

/// Has a request wait for the limits that it counts against.
pub async fn admit(agent: &Agent, caller: &Caller) -> Result<Admitted, Failure> {
    let wait = agent.worker.limits.admit(caller.request_limits(), rand::random())?;
    if wait.is_zero() {
        return Ok(Admitted::AtOnce);
    }
    sleep(wait).await;
    Ok(Admitted::Late)
}

/// A body that asks for what it sends, where it is limited, or long enough to see a limit that is set meanwhile.
pub fn body(agent: &Agent, caller: &Caller, body: Body) -> Body {
    if !caller.is_limited() && !body.is_long() {
        return body;
    }
    let kind = body.kind();
    body.gated(gate(agent, caller.who(), kind))
}

/// What a tunnel asks before it takes bytes to its agent.
pub fn tunnel(agent: &Agent, opened: &Opened) -> Gate {
    gate(agent, opened.who, Kind::Components)
}

fn gate(agent: &Agent, who: Who, kind: Kind) -> Gate {
    let worker = &agent.worker;
    let transfer = Transfer { who, address: agent.address.ip(), kind, connection: agent.connection };
    Gate::new(worker.limits.clone(), worker.live.clone(), transfer)
}
