//! Listening sockets that the relay was given, by a service manager or by the program that it is part of (R11.4).
//!
//! Never binds. Workers share such a socket, and whichever is idle accepts: `SO_REUSEPORT` spreads connections only over
//! sockets of one owner. Invariant: what is accepted on listens, and on TCP.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use socket2::{Socket, Type};

use crate::net::listen::{ListenError, Listener};

/// Sockets to accept on, in place of the settings' addresses where there is one.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For agents, in place of `listen`.
    pub agents: Vec<Given>,
    /// For agents that speak SOCKS5, in place of `socks.listen`.
    pub socks: Vec<Given>,
    /// For administrators, in place of `admin.listen`.
    pub admin: Vec<Given>,
}

/// A socket that listens on TCP.
#[derive(Debug)]
pub struct Given(TcpListener);

impl Given {
    /// Checks a descriptor that is said to be such a socket.
    pub fn new(descriptor: OwnedFd) -> Result<Self, ListenError> {
        let socket = Socket::from(descriptor);
        let refuse = |reason: &str| Err(ListenError::Given(reason.to_owned()));
        let failed = |error: io::Error| ListenError::Given(error.to_string());
        if socket.r#type().map_err(failed)? != Type::STREAM {
            return refuse("it is no stream socket");
        }
        if socket.local_addr().map_err(failed)?.as_socket().is_none() {
            return refuse("it is neither of IPv4 nor of IPv6");
        }
        if !socket.is_listener().map_err(failed)? {
            return refuse("it does not listen; a socket unit needs Accept=no");
        }
        socket.set_nonblocking(true).map_err(failed)?;
        // As for those that are bound here. Where it cannot be set, or connections do not have it of such a socket, whoever accepts
        // sets it for each.
        let _ = socket.set_tcp_nodelay(true);
        Ok(Self(socket.into()))
    }

    /// One handle on it for each of `count` workers.
    pub fn share(&self, count: usize) -> Result<Listener, ListenError> {
        let shared = || -> io::Result<Listener> {
            let sockets = (0..count).map(|_| self.0.try_clone()).collect::<io::Result<_>>()?;
            // Whoever made the socket may have connections to any address led to it (IP_TRANSPARENT).
            Ok(Listener { address: self.0.local_addr()?, sockets, local: None })
        };
        shared().map_err(|error| ListenError::Given(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn workers_share_what_listens_on_tcp_r11_4() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Given::new(socket.into()).unwrap().share(3).unwrap();
        assert_eq!((shared.address, shared.sockets.len(), shared.local), (address, 3, None));
        let client = TcpStream::connect(address).unwrap();
        let accepted: Vec<_> = shared.sockets.iter().map(TcpListener::accept).collect();
        assert_eq!(accepted[0].as_ref().unwrap().1, client.local_addr().unwrap());
        assert!(accepted[0].as_ref().unwrap().0.nodelay().unwrap());
        let nothing = accepted[1].as_ref().unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "a worker that comes too late does not wait");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason_r11_4() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let others: [(OwnedFd, &str); 4] = [
            (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "no stream socket"),
            (stream.into(), "does not listen"),
            (UnixListener::bind(folder.path().join("socket")).unwrap().into(), "neither of IPv4 nor of IPv6"),
            (std::fs::File::open("/dev/null").unwrap().into(), "not a socket"),
        ];
        for (descriptor, reason) in others {
            let error = Given::new(descriptor).unwrap_err().to_string();
            assert!(
                error.to_lowercase().contains(&reason.to_lowercase()) || error.contains("non-socket"),
                "{error}"
            );
        }
    }
}
