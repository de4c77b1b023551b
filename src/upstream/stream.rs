//! What a connection to another server consists of: a socket, TLS over it, and both again where a proxy stands between.
//!
//! Never connects. Invariant: its reader gets every byte in order, those that came together with a proxy's answer first.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Bytes to and from another server.
#[derive(Debug)]
pub enum Io {
    /// A socket.
    Plain(TcpStream),
    /// TLS over what is below.
    Tls(Box<TlsStream<Io>>),
    /// What is below, with bytes of it that were read already.
    Ahead(Bytes, Box<Io>),
}

/// A connection to an address, or through a parent.
#[derive(Debug)]
pub struct Connection {
    io: TokioIo<Io>,
    end: End,
}

/// Who is at the other end of a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server itself, at this address.
    Server(SocketAddr),
    /// A parent, which copies bytes to and from the server.
    Tunnel,
    /// A parent, which is asked for what the server has.
    Proxy,
}

/// The other end of a connection, as its requests know it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What was with a connection before, as its requests know it.
#[derive(Clone, Debug)]
pub struct Past {
    since: Instant,
    has_answered: Arc<AtomicBool>,
}

impl Past {
    fn new() -> Self {
        Self { since: Instant::now(), has_answered: Arc::default() }
    }

    /// Whether it had one for a request that was begun then: it was there before, or answered another.
    pub fn was_before(&self, begun: Instant) -> bool {
        self.since < begun || self.has_answered.load(Ordering::Relaxed)
    }

    /// Notes that a request was answered on it.
    pub fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }
}

impl Connection {
    /// A connection that is ready for requests or bytes.
    pub fn new(io: Io, end: End) -> Self {
        Self { io: TokioIo::new(io), end }
    }

    /// What bytes are read from and written to.
    pub fn into_io(self) -> Io {
        self.io.into_inner()
    }
}

impl Io {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0.socket(),
            Self::Ahead(_, below) => below.socket(),
        }
    }
}

impl Io {
    /// Whether it leads to one of these ports of this machine, by the socket below.
    pub fn leads_back(&self, ports: &[u16]) -> bool {
        let socket = self.socket();
        let (Ok(near), Ok(far)) = (socket.local_addr(), socket.peer_addr()) else { return false };
        // What connects to its own machine has the address that it connects to, but on loopback.
        let same = near.ip() == far.ip() || near.ip().is_loopback() && far.ip().is_loopback();
        same && ports.contains(&far.port())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Ahead(bytes, stream) if bytes.is_empty() => Pin::new(stream).poll_read(context, buffer),
            Self::Ahead(bytes, _) => {
                let count = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..count]);
                bytes.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Ahead(_, stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Ahead(_, stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Ahead(_, stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl connect::Connection for Connection {
    fn connected(&self) -> connect::Connected {
        let connected = connect::Connected::new().extra(Past::new());
        match self.end {
            End::Server(peer) => connected.extra(Peer(peer)),
            End::Tunnel => connected,
            End::Proxy => connected.proxy(true),
        }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_came_with_a_proxys_answer_is_read_first_and_nothing_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut io = Io::Ahead(Bytes::from_static(b"abc"), Box::new(Io::Plain(near)));
        far.write_all(b"def").await.unwrap();
        let mut two = [0; 2];
        io.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"ab");
        io.write_all(b"back").await.unwrap();
        io.shutdown().await.unwrap();
        let mut back = Vec::new();
        far.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"back");
        drop(far);
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"cdef", "the other direction ended alone");
    }
}
