//! Requests by whichever way of their destination works: way after way, each with connections of its own.
//!
//! Never sends a body twice: the next way is tried only where the one before gave no connection, or a parent answered in place of
//! the server (it wants credentials; it did not get there) and the body is whole still. A GET or HEAD that went out on a kept connection,
//! which ended before its answer's head, goes once more, on a new one: most likely the server was closing it already (RFC 9112 section
//! 9.3.1). Invariant: connections of different ways are never mixed, and a parent's credentials go with requests to that parent alone.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http_body::Body;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tracing::debug;

use crate::base::causes::causes;
use crate::base::destination::Destination;
use crate::config::settings::ReachSettings;
use crate::upstream::connect::{ConnectError, Connector, NamedBy, Shared, destination};
use crate::upstream::hop::{For, Hop};
use crate::upstream::lent::Lent;
use crate::upstream::parent::{Parent, ParentError};
use crate::upstream::routes::{By, Extent};
use crate::upstream::stream::{Connection, Past, Peer};
use crate::upstream::unreached::Unreached;
use crate::upstream::watch::Step;

/// Connections to one host by one way that are kept open unused: as many as prefetch uses, with room.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long an unused connection is kept: under the 60 s after which many servers close theirs.
const IDLE: Duration = Duration::from_secs(45);

/// Clients for one purpose, one for each way. Cheap to clone.
#[derive(Debug)]
pub(super) struct Ways<B> {
    connector: Connector,
    /// Of each way: directly, then by each parent.
    clients: Arc<[Clients<B>]>,
}

/// The clients of one way, each made when it is first used.
#[derive(Debug)]
struct Clients<B> {
    /// Takes a connection that was kept, where there is one.
    keeping: OnceLock<Pooled<B>>,
    /// Takes a new one each time.
    renewing: OnceLock<Pooled<B>>,
}

type Pooled<B> = legacy::Client<Hop, Lent<B>>;

/// What a request goes on.
#[derive(Clone, Copy)]
enum Connections {
    /// What is kept, or else a new connection.
    Kept,
    New,
}

/// Which way a request went, as far as is known.
#[derive(Debug, Default)]
pub struct Way {
    /// Guards the last request's way and connection.
    taken: Mutex<Option<Taken>>,
}

#[derive(Debug)]
struct Taken {
    by: By,
    to: Destination,
    connection: CaptureConnection,
}

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum WayError {
    /// There is no connection by any way.
    #[error(transparent)]
    Connect(ConnectError),
    /// It broke, or what came is no HTTP.
    #[error("{0}")]
    Broken(String),
}

impl<B> Ways<B>
where
    B: Body<Data: Send> + Send + Unpin + 'static,
{
    /// Clients for hosts that are named by this, and reached like this.
    pub(super) fn new(shared: &Arc<Shared>, reach: ReachSettings, named_by: NamedBy) -> Self {
        let clients = (0..=shared.parents.len()).map(|_| Clients::default()).collect();
        Self { connector: Connector { shared: shared.clone(), reach, named_by }, clients }
    }

    fn client(&self, by: By, connections: Connections) -> &Pooled<B> {
        let place = match by {
            By::Direct => 0,
            By::Parent(number) => number + 1,
        };
        let Clients { keeping, renewing } = &self.clients[place];
        let (client, kept_max) = match connections {
            Connections::Kept => (keeping, IDLE_CONNECTIONS_MAX),
            Connections::New => (renewing, 0),
        };
        client.get_or_init(|| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(kept_max)
                .build(hop(&self.connector, by))
        })
    }
}

impl<B> Ways<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    /// Sends a request whose URI is absolute, and notes which way it went.
    pub(super) async fn send(&self, request: Request<B>, way: &Way) -> Result<Response<Incoming>, WayError> {
        let shared = &self.connector.shared;
        let to = destination(request.uri()).map_err(WayError::Connect)?;
        let clear = request.uri().scheme_str() == Some("http");
        let (head, mut body) = request.into_parts();
        let safe = is_safe(&head.method);
        let mut tries = Tries::new(shared, &to);
        let mut connections = Connections::Kept;
        // What a parent said in place of a server that it did not reach.
        let mut said = None;
        while let Some(by) = tries.next_way() {
            let proxy = parent(shared, by).filter(|parent| clear && parent.takes_requests());
            let authorization = proxy.and_then(|parent| parent.authorization());
            let note = |connection| way.set(Taken { by, to: to.clone(), connection });
            let (sent, back) = self.send_by((by, &mut connections), &head, authorization, body, note).await;
            let failed = match sent {
                Ok(answer) => match answer.status() {
                    StatusCode::PROXY_AUTHENTICATION_REQUIRED if proxy.is_some() => {
                        ParentError::Credentials.into()
                    }
                    status @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
                        if proxy.is_some() && safe && tries.are_left() =>
                    {
                        said = Some(answer);
                        ConnectError::Parent(format!("it answered with status {status}"), false)
                    }
                    _ => {
                        debug!(%to, by = name(shared, by).unwrap_or("direct"), "answered");
                        return Ok(answer);
                    }
                },
                Err(error) => WayError::connect(&error)?,
            };
            tries.failed(by, failed).map_err(WayError::Connect)?;
            match back {
                Some(back) => body = back,
                None => break,
            }
        }
        said.ok_or_else(|| WayError::Connect(tries.lost()))
    }

    /// Sends a request by one way on such connections, and notes each; on new ones alone from where it had to go once more. Gives the body back
    /// where nobody began to send it.
    async fn send_by(
        &self,
        (by, connections): (By, &mut Connections),
        head: &Parts,
        authorization: Option<HeaderValue>,
        mut body: B,
        note: impl Fn(CaptureConnection),
    ) -> (Result<Response<Incoming>, legacy::Error>, Option<B>) {
        loop {
            let (lent, back) = Lent::new(body);
            let mut request = Request::from_parts(head.clone(), lent);
            if let Some(authorization) = authorization.clone() {
                request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
            }
            let connection = capture_connection(&mut request);
            note(connection.clone());
            let begun = Instant::now();
            let sent = self.client(by, *connections).request(request).await;
            let past = extra::<Past>(&connection);
            match (sent, back.take()) {
                (Err(error), Some(whole))
                    if is_safe(&head.method)
                        && past.as_ref().is_some_and(|past| past.was_before(begun))
                        && has_ended(&error) =>
                {
                    debug!(host = head.uri.host(), "a kept connection ended: the request goes once more");
                    (body, *connections) = (whole, Connections::New);
                }
                (Ok(answer), back) => {
                    if let Some(past) = past {
                        past.answered();
                    }
                    return (Ok(answer), back);
                }
                sent => return sent,
            }
        }
    }
}

impl<B> Ways<B> {
    /// The way that a request went gave an answer, or failed to.
    pub(super) fn note(&self, way: &Way, answered: bool) {
        let shared = &self.connector.shared;
        let taken = way.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Taken { by, to, connection }) = taken.as_ref() else { return };
        match peer(connection) {
            Some(peer) if answered => shared.failed.forget(peer),
            Some(peer) => shared.failed.note(peer),
            None => {}
        }
        if answered {
            shared.routes.worked(*by, to);
        } else {
            shared.routes.failed(*by, Extent::To(to.clone()), shared.clock.monotonic());
        }
    }
}

/// A connection for whatever is spoken with a destination, by whichever way of it works. The URI is that of clear text.
pub(super) async fn tunnel(
    connector: Connector,
    uri: hyper::Uri,
    own: &[u16],
) -> Result<Connection, ConnectError> {
    let to = destination(&uri)?;
    let shared = connector.shared.clone();
    let mut tries = Tries::new(&shared, &to);
    while let Some(by) = tries.next_way() {
        match hop(&connector, by).connect(uri.clone(), For::Bytes(own)).await {
            Ok(connection) => {
                shared.routes.worked(by, &to);
                return Ok(connection);
            }
            Err(error) => tries.failed(by, error)?,
        }
    }
    Err(tries.lost())
}

/// The ways to one destination, one after the other.
struct Tries<'a> {
    shared: &'a Shared,
    to: &'a Destination,
    left: std::vec::IntoIter<By>,
    failures: Vec<(By, ConnectError)>,
}

impl<'a> Tries<'a> {
    fn new(shared: &'a Shared, to: &'a Destination) -> Self {
        let left = shared.routes.ways(to, shared.clock.monotonic()).into_iter();
        Self { shared, to, left, failures: Vec::new() }
    }

    fn next_way(&mut self) -> Option<By> {
        let by = self.left.next()?;
        self.shared.watcher.tell(|| Step::Way(self.to, name(self.shared, by)));
        Some(by)
    }

    fn are_left(&self) -> bool {
        !self.left.as_slice().is_empty()
    }

    /// A way failed: it rests. What no other way may get around is the error.
    fn failed(&mut self, by: By, error: ConnectError) -> Result<(), ConnectError> {
        let extent = match &error {
            ConnectError::Refused(_) | ConnectError::Target => return Err(error),
            ConnectError::Parent(_, true) => Extent::Everywhere,
            ConnectError::Parent(_, false) | ConnectError::Lost(..) => Extent::To(self.to.clone()),
        };
        self.shared.routes.failed(by, extent, self.shared.clock.monotonic());
        debug!(to = %self.to, by = name(self.shared, by).unwrap_or("direct"), %error, "a way failed");
        let reason = error.to_string();
        self.shared.watcher.tell(|| Step::WayFailed(self.to, name(self.shared, by), &reason));
        self.failures.push((by, error));
        Ok(())
    }

    /// That each way failed: which, and why.
    fn lost(self) -> ConnectError {
        let told = |(by, error): &(By, ConnectError)| match name(self.shared, *by) {
            Some(parent) => format!("by {parent}: {error}"),
            None => format!("directly: {error}"),
        };
        match &self.failures[..] {
            [(By::Direct, error)] => error.clone(),
            failures => {
                let unreached = failures.iter().filter_map(|(_, error)| error.unreached()).max();
                let told = failures.iter().map(told).collect::<Vec<_>>().join("; ");
                ConnectError::Lost(unreached.unwrap_or(Unreached::Parent), told)
            }
        }
    }
}

fn parent(shared: &Shared, by: By) -> Option<&Arc<Parent>> {
    match by {
        By::Direct => None,
        By::Parent(number) => shared.parents.get(number),
    }
}

fn name(shared: &Shared, by: By) -> Option<&str> {
    parent(shared, by).map(|parent| parent.name())
}

fn hop(connector: &Connector, by: By) -> Hop {
    Hop { direct: connector.clone(), parent: parent(&connector.shared, by).cloned() }
}

impl<B> Default for Clients<B> {
    fn default() -> Self {
        Self { keeping: OnceLock::new(), renewing: OnceLock::new() }
    }
}

impl<B> Clone for Ways<B> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), clients: self.clients.clone() }
    }
}

impl Way {
    fn set(&self, taken: Taken) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }
}

/// The address at the other end of a connection; `None` while there is none, or where a parent stands between.
fn peer(connection: &CaptureConnection) -> Option<SocketAddr> {
    extra(connection).map(|Peer(address)| address)
}

fn extra<T: Clone + Send + Sync + 'static>(connection: &CaptureConnection) -> Option<T> {
    let mut extensions = Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extensions);
    extensions.remove()
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a connection ended before its answer's head did.
fn has_ended(error: &legacy::Error) -> bool {
    let mut under = error.source();
    while let Some(error) = under {
        if error.downcast_ref().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            );
        }
        under = error.source();
    }
    false
}

impl WayError {
    /// Why there is no connection; the error is that there was one.
    fn connect(error: &legacy::Error) -> Result<ConnectError, Self> {
        let mut under: Option<&dyn Error> = Some(error);
        while let Some(error) = under {
            match error.downcast_ref::<ConnectError>() {
                Some(connect) => return Ok(connect.clone()),
                None => under = error.source(),
            }
        }
        Err(Self::Broken(causes(error)))
    }
}
