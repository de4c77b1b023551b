//! What goes wrong, as SOCKS clients see it: one match from failures to replies, the cause in the log.

use thiserror::Error;

use crate::base::tally::Outcome;
use crate::http::respond::Failure;
use crate::http::tunnel_record::TunnelRecord;
use crate::socks::message::{NoMessage, Reply};
use crate::upstream::unreached::Unreached;

/// Why a client gets no tunnel.
#[derive(Debug, Error)]
pub enum NoTunnel {
    /// It names none of the methods that are known here.
    #[error("none of its methods is known here")]
    Methods,
    /// It asks for something else than a connection.
    #[error("only connections are made here, and command {0} is another one")]
    Command(u8),
    /// Its request is none.
    #[error("a request that is none: {0}")]
    Message(NoMessage),
    /// Its host is none, or its port.
    #[error("it names no host and port")]
    Destination,
    /// What CONNECT would be told, too.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl NoTunnel {
    /// The one match.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Command(_) => Reply::CommandNotSupported,
            Self::Message(NoMessage::AddressKind) => Reply::AddressNotSupported,
            Self::Failed(Failure::Refused(_)) => Reply::NotAllowed,
            Self::Failed(Failure::Unreached(Unreached::Refused, _)) => Reply::Refused,
            Self::Failed(Failure::Unreached(Unreached::Network, _)) => Reply::NetworkUnreachable,
            Self::Failed(Failure::Unreached(..)) => Reply::HostUnreachable,
            Self::Methods | Self::Message(_) | Self::Destination | Self::Failed(_) => Reply::Failure,
        }
    }

    /// Notes it, and with which number its client is told.
    pub fn note(&self, record: &mut TunnelRecord, told: u8) {
        match self {
            Self::Failed(failure) => record.failed(failure, told.into()),
            reason => record.ended_early(Outcome::BadRequest, reason, told.into()),
        }
    }
}
