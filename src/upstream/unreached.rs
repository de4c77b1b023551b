//! Why nobody was reached, told by kind: what agents may know of it, and what SOCKS has numbers for.

use std::io;

use thiserror::Error;

/// Why nobody was reached, as far as it can be told apart; where attempts failed in several ways, the one that came furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Unreached {
    /// Its name has no address that may be used.
    #[error("its name has no address that may be used")]
    Name,
    /// No parent proxy led there.
    #[error("no parent proxy led there")]
    Parent,
    /// No route leads to its network.
    #[error("its network is unreachable")]
    Network,
    /// No way leads to the host.
    #[error("the host is unreachable")]
    Host,
    /// Nobody answered in time.
    #[error("nobody answered in time")]
    Silent,
    /// The host would not.
    #[error("the host refused")]
    Refused,
}

impl Unreached {
    /// What an attempt's error says.
    pub(super) fn by(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => Self::Network,
            _ => Self::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};

    use super::*;

    #[test]
    fn of_several_failures_the_one_counts_that_came_furthest() {
        let by = |kinds: &[io::ErrorKind]| kinds.iter().map(|kind| Unreached::by(&(*kind).into())).max();
        assert_eq!(by(&[NetworkUnreachable, ConnectionRefused, TimedOut]), Some(Unreached::Refused));
        assert_eq!(by(&[NetworkUnreachable, HostUnreachable]), Some(Unreached::Host));
        assert_eq!(by(&[NetworkUnreachable]), Some(Unreached::Network));
    }
}
