//! What the relay counts about itself: plain atomics that any layer may add to and `admin::metrics` shows.
//!
//! Never formats or exports. Invariant: a counter never goes back; gauges say so in their name.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one until the returned hold is dropped.
    pub fn hold(self: &std::sync::Arc<Self>) -> Hold {
        self.0.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One held count of a [`Gauge`].
#[derive(Debug)]
pub struct Hold(std::sync::Arc<Gauge>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a request ended, as metrics and the access log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from the store.
    Hit,
    /// Answered by following a fill.
    Miss,
    /// 304: the agent has it.
    NotModified,
    /// 403: the policy refused; 429 or 503: a limit is reached.
    Refused,
    /// 404.
    NotFound,
    /// Any other 4xx: the request was wrong.
    BadRequest,
    /// 5xx, or a body that broke off on the relay's side.
    Failed,
    /// The agent left before the end.
    GivenUp,
    /// A tunnel was opened.
    Tunnel,
}

impl Outcome {
    /// All outcomes, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Hit,
        Self::Miss,
        Self::NotModified,
        Self::Refused,
        Self::NotFound,
        Self::BadRequest,
        Self::Failed,
        Self::GivenUp,
        Self::Tunnel,
    ];

    /// The outcome's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::NotModified => "not-modified",
            Self::Refused => "refused",
            Self::NotFound => "not-found",
            Self::BadRequest => "bad-request",
            Self::Failed => "failed",
            Self::GivenUp => "given-up",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Why a connection was closed before anything was asked on it, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its address had as many as one may have.
    Address,
    /// A trusted proxy did not say for whom it was.
    ProxyHeader,
}

impl Refused {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Address, Self::ProxyHeader];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::ProxyHeader => "proxy-header",
        }
    }
}

/// What an agent's request was refused by, as metrics and the access log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// No address range names the agent.
    Agents,
    /// Its scope.
    Scope,
    /// No rule lists where it wants to go.
    Destination,
    /// A rule does, without the port.
    Port,
    /// A rule does, and has no tunnels for it.
    Tunnel,
    /// The place's address is reserved.
    Address,
    /// It goes in a loop.
    Loop,
    /// It named no user, or not with its secret; or what it showed is no agent's.
    Credentials,
    /// It has not checked in.
    Permission,
    /// It is to take what it asked for elsewhere.
    Source,
    /// It sends more requests than it may.
    AgentLimit,
    /// All of its domain do.
    DomainLimit,
}

impl RefusedBy {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::Agents,
        Self::Scope,
        Self::Destination,
        Self::Port,
        Self::Tunnel,
        Self::Address,
        Self::Loop,
        Self::Credentials,
        Self::Permission,
        Self::Source,
        Self::AgentLimit,
        Self::DomainLimit,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Scope => "scope",
            Self::Destination => "destination",
            Self::Port => "port",
            Self::Tunnel => "tunnel",
            Self::Address => "address",
            Self::Loop => "loop",
            Self::Credentials => "credentials",
            Self::Permission => "permission",
            Self::Source => "source",
            Self::AgentLimit => "agent-limit",
            Self::DomainLimit => "domain-limit",
        }
    }
}

/// How an update of an agent went, as the agent tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// It has something new.
    Updated,
    /// There was nothing new.
    UpToDate,
    /// It failed.
    Failed,
}

impl Went {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Updated, Self::UpToDate, Self::Failed];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::UpToDate => "up_to_date",
            Self::Failed => "failed",
        }
    }
}

/// The relay's counts.
#[derive(Debug, Default)]
pub struct Tally {
    reports: [Counter; Went::ALL.len()],
    requests: [Counter; Outcome::ALL.len()],
    refused: [Counter; Refused::ALL.len()],
    refused_by: [Counter; RefusedBy::ALL.len()],
    /// Body bytes handed to agents.
    pub sent_bytes: Counter,
    /// Body bytes received from upstreams.
    pub upstream_bytes: Counter,
    /// Requests sent to upstreams.
    pub upstream_requests: Counter,
    /// Fills begun.
    pub fills_begun: Counter,
    /// Fills that became a blob.
    pub fills_completed: Counter,
    /// Fills that ended in an error.
    pub fills_failed: Counter,
    /// Fills under way.
    pub fills_now: std::sync::Arc<Gauge>,
    /// Agents' connections open.
    pub connections_now: std::sync::Arc<Gauge>,
    /// Agents' connections accepted.
    pub connections: Counter,
    /// Idle connections closed to make room for new ones.
    pub connections_dismissed: Counter,
    /// HTTP/2 connections ended because their client sent too many frames that asked for nothing.
    pub http2_floods: Counter,
    /// TLS handshakes that agents completed.
    pub tls_completed: Counter,
    /// TLS handshakes that failed or took too long.
    pub tls_failed: Counter,
    /// Tunnels open, of those that lead to other servers.
    pub tunnels_now: std::sync::Arc<Gauge>,
    /// Agents that hold a connection to be told (R9).
    pub streams_now: std::sync::Arc<Gauge>,
    /// Bytes that tunnels took from agents to other servers.
    pub tunnel_up_bytes: Counter,
    /// Bytes that they took from other servers to agents.
    pub tunnel_down_bytes: Counter,
    /// Refreshes that gave a new generation.
    pub refreshes_new: Counter,
    /// Refreshes that found nothing new.
    pub refreshes_same: Counter,
    /// Refreshes that failed.
    pub refreshes_failed: Counter,
    /// Lines of manifests that neither parser nor catalogue knew (R6.3), of the generations taken so far.
    pub unknown_components: Counter,
    /// Stored blobs that the scrubber looked at.
    pub scrubbed_blobs: Counter,
    /// Their bytes.
    pub scrubbed_bytes: Counter,
    /// Those of them that were bad.
    pub bad_blobs: Counter,
    /// Packages that agents took without a permission, where that is recorded alone (R8).
    pub unpermitted: Counter,
    /// Settings files, and lists of them, that agents asked for (R5.6).
    pub settings_files: Counter,
    /// Requests that waited for a limit, and went on (R10.1).
    pub requests_delayed: Counter,
    /// Bytes that waited for one.
    pub slowed_bytes: Counter,
    /// Requests on the admin listener that were refused for want of a right token, or of a role.
    pub admin_refused: Counter,
    /// Log lines lost because the log's reader was too slow.
    pub log_lines_lost: Counter,
}

impl Tally {
    /// Counts one request.
    pub fn request(&self, outcome: Outcome) {
        self.requests[outcome as usize].one();
    }

    /// Counts one connection that was refused.
    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].one();
    }

    /// Connections that were refused for this reason.
    pub fn connections_refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].value()
    }

    /// Counts one request that the policy refused.
    pub fn refused_by(&self, rule: RefusedBy) {
        self.refused_by[rule as usize].one();
    }

    /// Counts a report of an agent.
    pub fn reported(&self, went: Went) {
        self.reports[went as usize].one();
    }

    /// Reports of updates that went so.
    pub fn reports(&self, went: Went) -> u64 {
        self.reports[went as usize].value()
    }

    /// Requests that were refused by this.
    pub fn requests_refused(&self, rule: RefusedBy) -> u64 {
        self.refused_by[rule as usize].value()
    }

    /// Requests that ended so.
    pub fn requests(&self, outcome: Outcome) -> u64 {
        self.requests[outcome as usize].value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_counter_and_a_name_of_its_own() {
        let tally = Tally::default();
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            tally.request(outcome);
            assert_eq!(tally.requests(outcome), 1);
        }
        let mut names: Vec<_> = Outcome::ALL.iter().map(|o| o.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}
