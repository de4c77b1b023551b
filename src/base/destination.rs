//! A place that a connection may lead to: a host, by name or address, and a port; and patterns that name such hosts.
//!
//! Never resolves a name. Invariant: a host has one spelling: names are in lower case without a dot at the end, and whatever
//! reads as an IPv4 address to a browser (`0x7f.1`) is one here, so that no rule is passed by writing a host differently.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

use crate::base::address::normalised;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    host: Host<String>,
    port: u16,
}

/// What names hosts in rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// All of them: `*`.
    Any,
    /// The one of this name.
    Name(String),
    /// Those below this name, not itself: `*.example.net`.
    Below(String),
    /// Those named by an address in this prefix.
    Prefix(IpNet),
}

/// Why a text names no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// Neither a name nor an address.
    #[error("it names no host")]
    Host,
    /// No port, or none that one can connect to.
    #[error("it names no port")]
    Port,
}

impl Destination {
    /// The place at a host, as URLs write it or as an address without brackets.
    pub fn new(host: &str, port: u16) -> Result<Self, DestinationError> {
        if port == 0 {
            return Err(DestinationError::Port);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self::at(address, port));
        }
        let host = Host::parse(host).map_err(|_| DestinationError::Host)?;
        Self::of_host(host, port)
    }

    /// Reads `host:port` (the authority-form of RFC 9112 section 3.2.3).
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let (host, port) = text.rsplit_once(':').ok_or(DestinationError::Port)?;
        // `+80` is a number for Rust, and no port.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(DestinationError::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(DestinationError::Host);
        }
        Self::new(host, port)
    }

    /// The place at an address; an IPv4-mapped one is IPv4 (R4.1).
    pub fn at(address: IpAddr, port: u16) -> Self {
        let host = match normalised(address) {
            IpAddr::V4(v4) => Host::Ipv4(v4),
            IpAddr::V6(v6) => Host::Ipv6(v6),
        };
        Self { host, port }
    }

    /// Where a URL leads; `None` where it names no host, or no port and its scheme has none.
    pub fn of(url: &Url) -> Option<Self> {
        let host = url.host()?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0)?;
        Self::of_host(host, port).ok()
    }

    fn of_host(host: Host<String>, port: u16) -> Result<Self, DestinationError> {
        match host {
            Host::Ipv4(v4) => Ok(Self::at(v4.into(), port)),
            Host::Ipv6(v6) => Ok(Self::at(v6.into(), port)),
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.is_empty() || name.len() > NAME_BYTES_MAX || name.split('.').any(str::is_empty) {
                    return Err(DestinationError::Host);
                }
                Ok(Self { host: Host::Domain(name.to_ascii_lowercase()), port })
            }
        }
    }

    /// The host, IPv6 addresses in brackets.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port, not 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is named by it.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(IpAddr::V4(*v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(*v6)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl HostPattern {
    /// Whether a destination's host is named by this.
    pub fn names(&self, destination: &Destination) -> bool {
        match (self, &destination.host) {
            (Self::Any, _) => true,
            (Self::Name(own), Host::Domain(name)) => own == name,
            (Self::Below(own), Host::Domain(name)) => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Self::Prefix(prefix), _) => {
                destination.address().is_some_and(|address| prefix.contains(&address))
            }
            (Self::Name(_) | Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

/// The longest name that DNS has, in bytes.
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, DestinationError> {
        Destination::parse(text).map(|destination| destination.to_string())
    }

    #[test]
    fn a_host_has_one_spelling_r4_6() {
        for (text, expected) in [
            ("Au.Example.:80", "au.example:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0x7f.1:80", "127.0.0.1:80"),
            ("2130706433:80", "127.0.0.1:80"),
            ("0177.0.0.1:80", "127.0.0.1:80"),
            ("127.1:80", "127.0.0.1:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::1]:443", "[::1]:443"),
            ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"),
            ("１２７.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        use DestinationError::{Host, Port};
        for (text, expected) in [
            ("au.example", Port),
            ("au.example:", Port),
            ("au.example:0", Port),
            ("au.example:65536", Port),
            ("au.example:+80", Port),
            (":80", Host),
            (".:80", Host),
            ("a..b:80", Host),
            ("::1:80", Host),
            ("[::1:80", Host),
            ("[fe80::1%25eth0]:80", Host),
            ("a b:80", Host),
            ("user@host:80", Host),
            ("a/b:80", Host),
            ("256.0.0.1:80", Host),
        ] {
            assert_eq!(parsed(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn patterns_name_hosts_and_never_more() {
        let names = |pattern: &HostPattern, text: &str| pattern.names(&Destination::parse(text).unwrap());
        let below = HostPattern::Below("example.net".into());
        assert!(names(&below, "a.example.net:80") && names(&below, "b.a.EXAMPLE.net:80"));
        assert!(!names(&below, "example.net:80") && !names(&below, "badexample.net:80"));
        let name = HostPattern::Name("example.net".into());
        assert!(names(&name, "example.net.:80") && !names(&name, "a.example.net:80"));
        let prefix = HostPattern::Prefix("10.0.0.0/8".parse().unwrap());
        assert!(names(&prefix, "10.1.2.3:80") && names(&prefix, "[::ffff:10.1.2.3]:80"));
        assert!(!names(&prefix, "11.0.0.1:80") && !names(&prefix, "ten.example:80"));
    }
}
