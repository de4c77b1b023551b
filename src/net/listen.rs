//! Listening sockets: one for each address and data worker, families kept apart (R4.1).
//!
//! Never accepts. Invariant: what connections have of their listener holds for each of them, so that the kernel is neither told nor
//! asked it once more.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

/// Connections that the kernel keeps until they are accepted; it lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP in clear text.
    Clear,
    /// HTTP in TLS.
    Tls,
    /// SOCKS5.
    Socks,
}

/// The sockets of one address, one for each worker.
#[derive(Debug)]
pub struct Listener {
    /// The address, with the port that the system chose where 0 was asked for.
    pub address: SocketAddr,
    /// The sockets; the kernel spreads connections over them.
    pub sockets: Vec<TcpListener>,
    /// The relay's own address on every connection, where there can be no other.
    pub local: Option<SocketAddr>,
}

/// One of the sockets.
#[derive(Debug)]
pub struct Inlet {
    /// The socket.
    pub socket: TcpListener,
    /// What it is for.
    pub transport: Transport,
    /// As the listener's.
    pub local: Option<SocketAddr>,
}

impl Listener {
    /// Takes one of the sockets, while there are any.
    pub fn take(&mut self, transport: Transport) -> Option<Inlet> {
        Some(Inlet { socket: self.sockets.pop()?, transport, local: self.local })
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another process, or another relay, has it.
    #[error("cannot listen on {0}: the port is in use, by another program or another relay")]
    InUse(SocketAddr),
    /// This machine has no such address, or not that family.
    #[error("cannot listen on {0}: this machine has no such address, or the address family is disabled")]
    Unavailable(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error("cannot listen on {0}: the port needs the privilege to bind ports below 1024")]
    Privileged(SocketAddr),
    /// A socket that the relay was given.
    #[error("a socket that was passed to the relay cannot be used: {0}")]
    Given(String),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, io::Error),
}

impl ListenError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => Self::Unavailable(address),
            io::ErrorKind::PermissionDenied => Self::Privileged(address),
            _ if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                Self::Unavailable(address)
            }
            _ => Self::Other(address, error),
        }
    }
}

/// Binds an address `count` times. A port that anybody has already is refused: `SO_REUSEPORT` alone would share it with
/// another relay in silence, so a bind without it is tried first.
pub fn listen(address: SocketAddr, count: usize) -> Result<Listener, ListenError> {
    let refuse = |error| ListenError::new(address, error);
    if address.is_ipv6() && !has_ipv6() {
        return Err(ListenError::Unavailable(address));
    }
    drop(bind(address, Sharing::Alone).map_err(refuse)?);
    let mut listener = Listener { address, sockets: Vec::with_capacity(count), local: None };
    for _ in 0..count {
        let socket = bind(listener.address, Sharing::WithWorkers).map_err(refuse)?;
        listener.address = socket.local_addr().map_err(refuse)?;
        listener.sockets.push(socket);
    }
    // A socket that was bound to a wildcard has connections to every address of the machine.
    listener.local = Some(listener.address).filter(|address| !address.ip().is_unspecified());
    Ok(listener)
}

/// Whether the machine has any IPv6 address. Where IPv6 is disabled the kernel still binds `[::]`, and nobody could connect.
/// Where the list cannot be read, binding decides.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").map_or_else(
        |error| error.kind() != io::ErrorKind::NotFound || !Path::new("/proc/net").exists(),
        |list| !list.trim().is_empty(),
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Lets a restarted relay have its port while old connections linger; it does not share a port that is listened on.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithWorkers {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    if sharing == Sharing::WithWorkers {
        // Answers are written whole; waiting for more would only delay them. On Linux what is accepted has it of its listener.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn workers_share_a_port_and_a_second_relay_does_not_r4_1() {
        let first = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        assert_ne!(first.address.port(), 0);
        assert!(matches!(listen(first.address, 2), Err(ListenError::InUse(_))));
    }

    #[test]
    fn connections_have_of_their_listener_what_it_says() {
        for (address, is_one) in
            [("127.0.0.1:0", true), ("[::1]:0", true), ("0.0.0.0:0", false), ("[::]:0", false)]
        {
            let mut listener = listen(address.parse().unwrap(), 1).unwrap();
            assert_eq!(listener.local, is_one.then_some(listener.address), "{address}");
            let inlet = listener.take(Transport::Clear).unwrap();
            assert!(listener.take(Transport::Clear).is_none());
            inlet.socket.set_nonblocking(false).unwrap();
            let family = if listener.address.is_ipv4() { "127.0.0.1" } else { "::1" };
            let _client = TcpStream::connect((family, listener.address.port())).unwrap();
            let (stream, _) = inlet.socket.accept().unwrap();
            assert!(stream.nodelay().unwrap(), "{address}");
            let local = stream.local_addr().unwrap();
            assert_eq!(inlet.local.unwrap_or(local), local);
            assert_eq!(local.ip().to_string(), family);
        }
    }

    #[test]
    fn an_address_of_no_interface_is_named() {
        let foreign = "203.0.113.9:0".parse().unwrap();
        let error = listen(foreign, 1).unwrap_err();
        assert!(matches!(error, ListenError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("203.0.113.9:0"));
    }
}
