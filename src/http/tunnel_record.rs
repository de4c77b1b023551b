//! What is counted and logged of a tunnel: once, when it ends or is refused, whether it was asked for by CONNECT or by SOCKS.

use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::base::clock::Clock;
use crate::base::peer::Peer;
use crate::base::tally::{Outcome, Tally};
use crate::config::settings::AccessLog;
use crate::http::connection::Worker;
use crate::http::respond::Failure;
use crate::net::copy::Passed;
use crate::relay::refusals::{Refusal, Refusals};

/// One tunnel's line of the access log.
#[derive(Debug)]
pub struct TunnelRecord {
    tally: Arc<Tally>,
    refusals: Arc<Refusals>,
    clock: Arc<dyn Clock>,
    access: AccessLog,
    started: Duration,
    agent: SocketAddr,
    by: By,
    destination: String,
    /// The status of HTTP, or the reply of SOCKS; `None` until there is one.
    answer: Option<u16>,
    outcome: Outcome,
    reason: Option<String>,
    passed: Rc<Passed>,
}

/// How a tunnel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By HTTP.
    Connect,
    /// By SOCKS5.
    Socks,
}

impl By {
    /// Its name in logs.
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Socks => "SOCKS5",
        }
    }
}

impl TunnelRecord {
    /// Begins a record when it is known where a tunnel is to lead, or that nobody can know it.
    pub fn begin(worker: &Worker, agent: SocketAddr, by: By, destination: &str) -> Self {
        Self {
            tally: worker.tally.clone(),
            refusals: worker.refusals.clone(),
            clock: worker.clock.clone(),
            access: worker.live.load().log.access,
            started: worker.clock.monotonic(),
            agent,
            by,
            destination: destination.chars().take(DESTINATION_CHARS_MAX).collect(),
            answer: None,
            outcome: Outcome::GivenUp,
            reason: None,
            passed: Rc::new(Passed::new(worker.tally.clone())),
        }
    }

    /// Notes that there is no tunnel, and how the agent is told.
    pub fn failed(&mut self, failure: &Failure, answer: u16) {
        if let Some(by) = failure.refused_by() {
            self.tally.refused_by(by);
        }
        self.ended_early(failure.outcome(), failure, answer);
    }

    /// The same for what is no failure of HTTP's.
    pub fn ended_early(&mut self, outcome: Outcome, reason: &dyn Display, answer: u16) {
        self.outcome = outcome;
        self.answer = Some(answer);
        self.reason = Some(reason.to_string());
    }

    /// Notes that there is a tunnel, and how the agent is told.
    pub fn opened(&mut self, answer: u16) {
        self.outcome = Outcome::Tunnel;
        self.answer = Some(answer);
        self.reason = Some("it was cut".to_owned());
    }

    /// Notes why the tunnel has ended.
    pub fn ended(&mut self, reason: &dyn Display) {
        self.reason = Some(reason.to_string());
    }

    /// What passes through the tunnel.
    pub fn passed(&self) -> Rc<Passed> {
        self.passed.clone()
    }
}

/// The longest destination that a log line holds, in characters: what is none may be longer.
const DESTINATION_CHARS_MAX: usize = 300;

impl Drop for TunnelRecord {
    fn drop(&mut self) {
        self.tally.request(self.outcome);
        if self.outcome == Outcome::Refused {
            self.refusals.note(Refusal {
                number: 0,
                at: self.clock.wall(),
                from: self.agent,
                agent: None,
                method: self.by.name().into(),
                path: self.destination.as_str().into(),
                reason: self.reason.as_deref().unwrap_or("there is no tunnel").into(),
            });
        }
        // A refusal is told whatever else is (R11.2).
        if self.access == AccessLog::Off && self.outcome != Outcome::Refused {
            return;
        }
        let took = self.clock.monotonic().saturating_sub(self.started);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let method = self.by.name();
        let (status, reply) = match self.by {
            By::Connect => (self.answer, None),
            By::Socks => (None, self.answer),
        };
        info!(
            target: "access",
            agent = %Peer(self.agent),
            method,
            destination = self.destination,
            status,
            reply,
            outcome = self.outcome.name(),
            reason = self.reason.as_deref(),
            up_bytes = self.passed.up_bytes(),
            down_bytes = self.passed.down_bytes(),
            ms,
        );
    }
}
