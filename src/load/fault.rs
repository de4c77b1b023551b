//! What a request can end with that is not a whole, right answer.

use std::time::Duration;

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 401 or 403: the server keeps it from this agent.
    Refused,
    /// 429 or 503 with `Retry-After`: the agent comes back.
    PutOff,
    /// Any other status than 200.
    Status,
    /// No connection.
    Connect,
    /// No TLS on it.
    Tls,
    /// The connection was reset, or closed before the answer began.
    Reset,
    /// Nothing came for too long.
    Silence,
    /// The body ended before its length.
    Short,
    /// The length is not the manifest's, or no manifest or signature has that many bytes.
    Length,
    /// The bytes are not those that came before, or not those of the local tree.
    Bytes,
    /// The manifest cannot be read.
    Manifest,
    /// The answer is not HTTP.
    Protocol,
    /// A stream of events, or a poll, says what is none.
    Events,
}

/// One such end.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its kind.
    pub fault: Fault,
    /// What was seen, for a person.
    pub what: String,
    /// The answer's status, where there was one.
    pub status: Option<u16>,
    /// When the agent was told to come back.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Refused,
        Self::PutOff,
        Self::Status,
        Self::Connect,
        Self::Tls,
        Self::Reset,
        Self::Silence,
        Self::Short,
        Self::Length,
        Self::Bytes,
        Self::Manifest,
        Self::Protocol,
        Self::Events,
    ];

    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::PutOff => "put-off",
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Silence => "timeout",
            Self::Short => "short-body",
            Self::Length => "wrong-length",
            Self::Bytes => "wrong-bytes",
            Self::Manifest => "manifest",
            Self::Protocol => "not-http",
            Self::Events => "not-events",
        }
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, what: what.into(), status: None, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_at_its_own_place() {
        assert!(Fault::ALL.iter().enumerate().all(|(place, fault)| *fault as usize == place));
    }
}
