//! A connection of the fleet: a socket, TLS on it where the URL says so, and HTTP/1.1. HTTP/2 on the same: `told/shared`.
//!
//! Invariant: dropping it closes the socket, whatever is under way on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::base::causes::causes;
use crate::load::fault::{Failure, Fault};
use crate::load::target::Target;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driven: AbortOnDropHandle<()>,
}

/// What HTTP is spoken on.
#[derive(Debug)]
pub(super) enum Way {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Connects. Each step may take as long as `silence`.
    pub(super) async fn open(
        target: &Target,
        to: SocketAddr,
        from: Option<IpAddr>,
        silence: Duration,
    ) -> Result<Self, Failure> {
        Self::shaken(way(target, to, from, silence, Version::HTTP_11).await?, &Builder::new()).await
    }

    /// The same for a connection that is held for a few events: it takes little memory.
    pub(super) async fn open_lean(
        target: &Target,
        to: SocketAddr,
        from: Option<IpAddr>,
        silence: Duration,
    ) -> Result<Self, Failure> {
        let way = way(target, to, from, silence, Version::HTTP_11).await?;
        Self::shaken(way, Builder::new().read_buf_exact_size(Some(LEAN_BYTES))).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    async fn shaken(way: Way, builder: &Builder) -> Result<Self, Failure> {
        match way {
            Way::Clear(stream) => Self::shake(stream, builder).await,
            Way::Tls(stream) => Self::shake(stream, builder).await,
        }
    }

    async fn shake<S>(stream: S, builder: &Builder) -> Result<Self, Failure>
    where
        S: Send + Unpin + 'static,
        TokioIo<S>: Read + Write,
    {
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::new(Fault::Reset, error.to_string()))?;
        let driven = tokio::spawn(async move {
            // What goes wrong here is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Self { sender, _driven: AbortOnDropHandle::new(driven) })
    }
}

/// A connected socket, with TLS on it where the URL says so, for this version of HTTP.
pub(super) async fn way(
    target: &Target,
    to: SocketAddr,
    from: Option<IpAddr>,
    silence: Duration,
    version: Version,
) -> Result<Way, Failure> {
    let failed =
        |fault: Fault, error: &dyn std::error::Error| Failure::new(fault, format!("{to}: {}", causes(error)));
    let socket = open_socket(to, from, silence).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => failed(Fault::Silence, &error),
        _ => failed(Fault::Connect, &error),
    })?;
    let Some(tls) = &target.tls else { return Ok(Way::Clear(socket)) };
    let connector = if version == Version::HTTP_2 { &tls.http2 } else { &tls.http1 };
    let shaken = timeout(silence, connector.connect(tls.name.clone(), socket)).await;
    let shaken = shaken.map_err(|_| Failure::new(Fault::Silence, format!("{to}: TLS: no answer")))?;
    let stream = shaken.map_err(|error| failed(Fault::Tls, &error))?;
    if version == Version::HTTP_2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::new(Fault::Protocol, format!("{to}: HTTP/2 is not spoken there")));
    }
    Ok(Way::Tls(Box::new(stream)))
}

/// A connected socket, from a source if one is given.
pub(super) async fn open_socket(
    to: SocketAddr,
    from: Option<IpAddr>,
    silence: Duration,
) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        // A port that a closed connection still keeps may be taken again: a source has 28,000 of them.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.set_nodelay(true)?;
    match timeout(silence, socket.connect(to)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
    }
}

/// What a connection reads at a time that is held for events, in bytes: a head, or some of them.
const LEAN_BYTES: usize = 1024;
