//! Connections to other servers for agents that have a passage: requests, and tunnels.
//!
//! Both begin on the control runtime, where names are resolved and connections are kept; a tunnel's socket then moves to the
//! worker that copies its bytes. Never decides who may go where. Invariant: without a passage nothing is connected to, and each
//! address that a place turns out to have is judged by it (R4.6).

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::{Request, Response};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::base::destination::Destination;
use crate::config::settings::ReachSettings;
use crate::policy::decide::Refusal;
use crate::policy::reach::Passage;
use crate::upstream::client::{Clients, Forwarder};
use crate::upstream::connect::ConnectError;
use crate::upstream::stream::Io;
use crate::upstream::unreached::Unreached;
use crate::upstream::ways::{Way, WayError};

/// A request's body, on its way to another server.
pub type Outgoing = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What takes agents to other servers.
#[derive(Debug)]
pub struct Reach {
    runtime: Handle,
    clients: Clients,
    forwarder: Forwarder<Counted>,
    first_byte: Duration,
}

/// Why an agent does not get there.
#[derive(Debug, Error)]
pub enum ReachError {
    /// The place's addresses are not for agents.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No answer in time.
    #[error("no first byte within {} s", .0.as_secs_f32())]
    FirstByte(Duration),
    /// The connection broke before the answer.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What came stands for nothing.
    #[error("what the server says is no answer: {0}")]
    Wrong(&'static str),
}

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// The place's addresses are not for agents.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Nobody was reached: how, and what was tried.
    #[error("{0}: {1}")]
    Unreached(Unreached, String),
}

/// A body that tells how far it is.
#[derive(Debug)]
struct Counted {
    body: Outgoing,
    frames: Arc<AtomicU64>,
}

impl Reach {
    /// What asks by these clients, on the control runtime.
    pub fn new(
        runtime: Handle,
        clients: Clients,
        mounts: impl IntoIterator<Item = (Destination, ReachSettings)>,
        first_byte: Duration,
    ) -> Self {
        let forwarder = clients.forwarder(mounts);
        Self { runtime, clients, forwarder, first_byte }
    }

    /// Sends a request whose URI is absolute to where the passage leads; gives the answer's head, and its body as it comes.
    /// A request that brings no byte of its own is answered within the first byte's deadline, or fails.
    pub async fn request(
        &self,
        passage: &Passage,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, ReachError> {
        debug_assert!(leads_there(passage, &request), "the passage is for another place");
        let frames = Arc::new(AtomicU64::new(0));
        let request = request.map(|body| Counted { body, frames: frames.clone() });
        let (forwarder, first_byte) = (self.forwarder.clone(), self.first_byte);
        let asked = self.runtime.spawn(async move {
            let way = Way::default();
            let mut answer = std::pin::pin!(forwarder.send(request, &way));
            loop {
                let before = frames.load(Ordering::Relaxed);
                match tokio::time::timeout(first_byte, answer.as_mut()).await {
                    Ok(Ok(answer)) => {
                        forwarder.note(&way, true);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    // A long upload is no silence.
                    Err(_) if frames.load(Ordering::Relaxed) > before => {}
                    Err(_) => {
                        forwarder.note(&way, false);
                        return Err(ReachError::FirstByte(first_byte));
                    }
                }
            }
        });
        AbortOnDropHandle::new(asked).await.unwrap_or_else(|error| Err(ReachError::Broken(error.to_string())))
    }

    /// Connects to where the passage leads; `own` are the ports of the relay, which is no parent of its own.
    pub async fn tunnel(&self, passage: Passage, own: Arc<[u16]>) -> Result<Io, TunnelError> {
        let clients = self.clients.clone();
        let failed = |error: &dyn Error| TunnelError::Unreached(Unreached::Host, error.to_string());
        let connected = self.runtime.spawn(async move { clients.tunnel(passage, &own).await });
        let io = AbortOnDropHandle::new(connected).await.map_err(|error| failed(&error))??;
        moved_here(io).map_err(|error| failed(&error))
    }
}

/// Has a socket woken by the runtime of whoever calls.
fn moved_here(io: Io) -> io::Result<Io> {
    match io {
        Io::Plain(stream) => Ok(Io::Plain(TcpStream::from_std(stream.into_std()?)?)),
        Io::Ahead(bytes, below) => Ok(Io::Ahead(bytes, Box::new(moved_here(*below)?))),
        // What TLS has read already cannot be taken out; it stays with the control runtime.
        tls @ Io::Tls(_) => Ok(tls),
    }
}

fn leads_there(passage: &Passage, request: &Request<Outgoing>) -> bool {
    let port = if request.uri().scheme_str() == Some("https") { 443 } else { 80 };
    let port = request.uri().port_u16().unwrap_or(port);
    passage.destination().port() == port
}

impl From<WayError> for ReachError {
    fn from(error: WayError) -> Self {
        match error {
            WayError::Connect(error) => error.into(),
            WayError::Broken(reason) => Self::Broken(reason),
        }
    }
}

impl From<ConnectError> for ReachError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Connect(error.to_string()),
        }
    }
}

impl From<ConnectError> for TunnelError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Unreached(error.unreached().unwrap_or(Unreached::Name), error.to_string()),
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
