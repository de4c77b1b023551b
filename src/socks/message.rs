//! What a SOCKS5 client says before its bytes are passed on (RFC 1928, RFC 1929): its methods, its credentials, its request;
//! and what it is told.
//!
//! Does no I/O. Invariant: an answer depends on the bytes alone, not on how many of them came at a time, and a message that is
//! whole is never longer than [`BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest message, in bytes: credentials of twice 255.
pub const BYTES_MAX: usize = 3 + 2 * 255;

/// The protocol's version.
const VERSION: u8 = 5;

/// That of the negotiation of credentials.
const CREDENTIALS_VERSION: u8 = 1;

/// A message that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<T> {
    /// Its length in bytes.
    pub len: usize,
    /// What it says.
    pub says: T,
}

/// How a client may say who it is; the methods that it did not name and those that nobody here knows are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// Not at all.
    pub none: bool,
    /// By a name and a secret.
    pub credentials: bool,
}

/// The method that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The client need not say who it is.
    None,
    /// It is to give a name and a secret.
    Credentials,
    /// None of its methods will do.
    Unacceptable,
}

/// Who a client says it is; neither needs to be text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'b> {
    /// The name.
    pub name: &'b [u8],
    /// The secret.
    pub secret: &'b [u8],
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'b> {
    /// What is to be done.
    pub command: Command,
    /// The host.
    pub host: Host<'b>,
    /// The port.
    pub port: u16,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A connection.
    Connect,
    /// Anything else: BIND, UDP ASSOCIATE, and what nobody knows.
    Other(u8),
}

/// A host as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'b> {
    /// By its address.
    Address(IpAddr),
    /// By its name, which need not be one.
    Name(&'b [u8]),
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Succeeded = 0,
    /// The relay failed, or the request means nothing.
    Failure = 1,
    /// A rule is against it.
    NotAllowed = 2,
    /// No route leads there.
    NetworkUnreachable = 3,
    /// Nobody answers there.
    HostUnreachable = 4,
    /// The host would not.
    Refused = 5,
    /// Only connections are made here.
    CommandNotSupported = 7,
    /// The host's kind of address is unknown.
    AddressNotSupported = 8,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoMessage {
    /// Another protocol, or another version.
    #[error("its version is not 5")]
    Version,
    /// The same within credentials.
    #[error("the version of its credentials is not 1")]
    CredentialsVersion,
    /// A byte that has to be 0.
    #[error("its reserved byte is not 0")]
    Reserved,
    /// Neither IPv4, nor IPv6, nor a name: where it ends is unknown.
    #[error("its kind of address is unknown")]
    AddressKind,
    /// A name without a letter.
    #[error("its host has no name")]
    NoName,
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A secret is in no log, not even by mistake.
        f.debug_struct("Credentials")
            .field("name", &self.name.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

/// Reads the methods that a client begins with; `None` while they may go on.
pub fn methods(bytes: &[u8]) -> Result<Option<Message<Methods>>, NoMessage> {
    version(bytes, VERSION, NoMessage::Version)?;
    let Some((named, len)) = counted(bytes, 1) else { return Ok(None) };
    let says = Methods { none: named.contains(&0), credentials: named.contains(&2) };
    Ok(Some(Message { len, says }))
}

/// Reads a name and a secret; `None` while they may go on. Either may be empty, as clients send them that have none.
pub fn credentials(bytes: &[u8]) -> Result<Option<Message<Credentials<'_>>>, NoMessage> {
    version(bytes, CREDENTIALS_VERSION, NoMessage::CredentialsVersion)?;
    let Some((name, end)) = counted(bytes, 1) else { return Ok(None) };
    let Some((secret, len)) = counted(bytes, end) else { return Ok(None) };
    Ok(Some(Message { len, says: Credentials { name, secret } }))
}

/// Reads a request; `None` while it may go on.
pub fn ask(bytes: &[u8]) -> Result<Option<Message<Ask<'_>>>, NoMessage> {
    version(bytes, VERSION, NoMessage::Version)?;
    if bytes.get(2).is_some_and(|reserved| *reserved != 0) {
        return Err(NoMessage::Reserved);
    }
    let Some([_, command, _, kind]) = bytes.first_chunk() else { return Ok(None) };
    let (host, end) = match kind {
        1 => match bytes[4..].first_chunk::<4>() {
            Some(octets) => (Host::Address(Ipv4Addr::from(*octets).into()), 8),
            None => return Ok(None),
        },
        4 => match bytes[4..].first_chunk::<16>() {
            Some(octets) => (Host::Address(Ipv6Addr::from(*octets).into()), 20),
            None => return Ok(None),
        },
        3 if bytes.get(4) == Some(&0) => return Err(NoMessage::NoName),
        3 => match counted(bytes, 4) {
            Some((name, end)) => (Host::Name(name), end),
            None => return Ok(None),
        },
        _ => return Err(NoMessage::AddressKind),
    };
    let Some(port) = bytes[end..].first_chunk() else { return Ok(None) };
    let command = if *command == 1 { Command::Connect } else { Command::Other(*command) };
    Ok(Some(Message { len: end + 2, says: Ask { command, host, port: u16::from_be_bytes(*port) } }))
}

fn version(bytes: &[u8], wanted: u8, otherwise: NoMessage) -> Result<(), NoMessage> {
    if bytes.first().is_none_or(|version| *version == wanted) { Ok(()) } else { Err(otherwise) }
}

/// The bytes whose count stands at `at`, and where they end.
fn counted(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let start = at + 1;
    let end = start + usize::from(*bytes.get(at)?);
    Some((bytes.get(start..end)?, end))
}

impl Method {
    /// What tells the client.
    pub fn told(self) -> [u8; 2] {
        let number = match self {
            Self::None => 0,
            Self::Credentials => 2,
            Self::Unacceptable => 0xff,
        };
        [VERSION, number]
    }
}

/// What tells a client whether its credentials are right.
pub fn credentials_told(right: bool) -> [u8; 2] {
    [CREDENTIALS_VERSION, u8::from(!right)]
}

impl Reply {
    /// What tells the client. `bound` is the address that its connection has on the relay's far side, or stands for it.
    pub fn told(self, bound: SocketAddr) -> Vec<u8> {
        let mut told = vec![VERSION, self as u8, 0];
        match bound.ip() {
            IpAddr::V4(v4) => {
                told.push(1);
                told.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                told.push(4);
                told.extend(v6.octets());
            }
        }
        told.extend(bound.port().to_be_bytes());
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads bytes one after the other: nothing is said before the last one.
    fn arrives<'b, T: PartialEq + std::fmt::Debug>(
        bytes: &'b [u8],
        read: impl Fn(&'b [u8]) -> Result<Option<Message<T>>, NoMessage>,
    ) -> T {
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "{cut} bytes of {}", bytes.escape_ascii());
        }
        let message = read(bytes).unwrap().unwrap();
        assert_eq!(message.len, bytes.len());
        message.says
    }

    #[test]
    fn messages_are_read_whole_however_they_arrive_r4_2() {
        let offered = |none, credentials| Methods { none, credentials };
        assert_eq!(arrives(&[5, 1, 0], methods), offered(true, false));
        assert_eq!(arrives(&[5, 3, 2, 1, 0], methods), offered(true, true));
        assert_eq!(arrives(&[5, 2, 1, 3], methods), offered(false, false));
        assert_eq!(arrives(&[5, 0], methods), offered(false, false));
        let who = arrives(b"\x01\x04name\x06secret", credentials);
        assert_eq!((who.name, who.secret), (&b"name"[..], &b"secret"[..]));
        assert!(!format!("{who:?}").contains("secret\""), "{who:?}");
        arrives(&[1, 0, 0], credentials);
        let v4 = arrives(&[5, 1, 0, 1, 192, 0, 2, 1, 1, 187], ask);
        let host = Host::Address([192, 0, 2, 1].into());
        assert_eq!(v4, Ask { command: Command::Connect, host, port: 443 });
        let mut v6 = [0; 22];
        v6[..4].copy_from_slice(&[5, 3, 0, 4]);
        v6[19] = 1;
        let host = Host::Address(Ipv6Addr::LOCALHOST.into());
        assert_eq!(arrives(&v6, ask), Ask { command: Command::Other(3), host, port: 0 });
        let name = arrives(b"\x05\x02\x00\x03\x0aau.example\x00\x50", ask);
        assert_eq!(name, Ask { command: Command::Other(2), host: Host::Name(b"au.example"), port: 80 });
    }

    #[test]
    fn what_is_no_message_is_refused_at_its_first_wrong_byte_r4_2() {
        use NoMessage::{AddressKind, CredentialsVersion, NoName, Reserved, Version};
        assert_eq!(methods(&[4]), Err(Version));
        assert_eq!(methods(b"GET / HTTP/1.1\r\n"), Err(Version));
        assert_eq!(credentials(&[5]), Err(CredentialsVersion));
        for (bytes, reason) in [
            (&[4][..], Version),
            (&[5, 1, 1], Reserved),
            (&[5, 1, 0, 0], AddressKind),
            (&[5, 1, 0, 2], AddressKind),
            (&[5, 1, 0, 3, 0], NoName),
        ] {
            assert_eq!(ask(bytes), Err(reason), "{bytes:?}");
            assert_eq!(ask(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:?}");
        }
    }

    #[test]
    fn replies_are_those_of_the_protocol() {
        assert_eq!(Method::None.told(), [5, 0]);
        assert_eq!(Method::Unacceptable.told(), [5, 255]);
        assert_eq!((credentials_told(true), credentials_told(false)), ([1, 0], [1, 1]));
        let told = Reply::NotAllowed.told("192.0.2.1:1080".parse().unwrap());
        assert_eq!(told, [5, 2, 0, 1, 192, 0, 2, 1, 4, 56]);
        let told = Reply::AddressNotSupported.told("[::1]:1".parse().unwrap());
        assert_eq!((told.len(), told[1], told[3], told[19], told[21]), (22, 8, 4, 1, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic_and_more_never_change_an_answer(
            start in prop::sample::select(vec![&[5][..], &[1], &[5, 1, 0], &[5, 1, 0, 3], &[]]),
            rest in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let bytes = [start, &rest].concat();
            let mut answers = [None; 3];
            for end in 0..=bytes.len() {
                let now = [
                    methods(&bytes[..end]).map(|read| read.map(|message| message.len)),
                    credentials(&bytes[..end]).map(|read| read.map(|message| message.len)),
                    ask(&bytes[..end]).map(|read| read.map(|message| message.len)),
                ];
                for (answer, now) in answers.iter_mut().zip(now) {
                    match answer {
                        Some(before) => prop_assert_eq!(now, *before),
                        None if now != Ok(None) => *answer = Some(now),
                        None => {}
                    }
                    prop_assert!(now.is_err() || now.is_ok_and(|len| len.is_none_or(|len| len <= end)));
                }
            }
            prop_assert!(bytes.len() < BYTES_MAX || answers.iter().all(Option::is_some));
        }
    }
}
