//! HTTP on a connection: hyper over its stream, with the deadlines of a connection that does not ask or does not take. What is HTTP/1's
//! alone: [`http1`](crate::http::http1).
//!
//! Never knows what lies under the stream. Invariant: a connection ends by its client, its deadlines, a flood of frames, the
//! relay's stop, or for want of room; the last two not before what was asked is answered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH};
use hyper::http::request::Parts;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::base::tally::Outcome;
use crate::http::agents::{self, Call};
use crate::http::body::{Body, EndedBy};
use crate::http::caller::caller;
use crate::http::connect;
use crate::http::connection::Worker;
use crate::http::forward::{self, Meanwhile};
use crate::http::frames::Frames;
use crate::http::held::{Held, hold};
use crate::http::http1::requests;
use crate::http::limited::{self, Admitted};
use crate::http::mirror;
use crate::http::onward::{Becomes, Onward};
use crate::http::outlet::{Files, Outlet};
use crate::http::record::{Record, shown};
use crate::http::respond::{Failure, failure, problem};
use crate::http::route::{Asked, Leave, Route, Routed, route};
use crate::http::streams::{Quiet, Streams};
use crate::http::tunnel::{Toward, run};
use crate::http::turn::Turn;
use crate::net::idle::{Busy, Place};
use crate::net::inserts::Inserts;
use crate::net::listen::Transport;
use crate::net::spans::Spans;
use crate::policy::identity::Certificate;
use crate::relay::limits::Connection;
use crate::relay::live::Live;
use crate::relay::serve::ServeError;

/// Who speaks on a connection, and who serves it.
#[derive(Debug)]
pub struct Agent {
    /// The worker.
    pub worker: Rc<Worker>,
    /// The agent's address, as a trusted proxy named it or as the socket has it.
    pub address: SocketAddr,
    /// The connection, as limits count it.
    pub connection: Connection,
    /// Where the connection tells whether it is idle.
    pub place: Rc<Place>,
    /// The relay's own address, as the connection has it.
    pub local: SocketAddr,
    /// What the connection is spoken on.
    pub transport: Transport,
    /// The certificate that the connection showed.
    pub certificate: Option<Rc<Certificate>>,
    /// The server that the agent believes to speak to, where the relay stands in for it.
    pub toward: Option<Toward>,
    /// What its connection is about to send of files, where answers are written straight to its socket: clear text, and HTTP/1.
    pub spans: Option<Rc<Spans>>,
}

impl Agent {
    /// Where its requests are sent.
    pub fn asked(&self) -> Asked<'_> {
        Asked { local: self.local, toward: self.toward.as_ref().map(|toward| &toward.server) }
    }
}

/// What a connection may do that one request has to itself.
#[derive(Debug)]
pub(super) struct Own {
    /// Become something else.
    pub(super) onward: Onward,
    /// Carry interim answers.
    pub(super) inserts: Rc<Inserts>,
    /// Take turns with others.
    pub(super) turn: Rc<Turn>,
}

/// Speaks HTTP/1, and then whatever is spoken on what the connection may have become.
pub async fn speak<S>(agent: Agent, stream: S, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let agent = Rc::new(agent);
    // In places of their own: each connection would take room for them.
    match requests(&agent, stream, drain.clone()).await {
        Some((stream, Becomes::Tunnel(tunnel))) => Box::pin(run(&agent, stream, *tunnel, drain)).await,
        Some((stream, Becomes::Events(held))) => Box::pin(hold(&agent, stream, *held, drain)).await,
        None => {}
    }
}

/// Speaks HTTP/2.
pub async fn speak_http2<S>(agent: Agent, stream: S, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let agent = Rc::new(agent);
    let Agent { worker, address, place, .. } = &*agent;
    let (limits, http2) = {
        let live = worker.live.load();
        (live.limits, live.http2)
    };
    place.speaks_frames();
    let stream = Frames::new(stream, http2.control_frames_max, worker.tally.clone());
    let streams = Rc::new(Streams::new(http2.send_buffer_bytes));
    let service = service_fn(|request| {
        let (agent, stream, busy) = (agent.clone(), streams.begin(), place.begin());
        let drain = drain.clone();
        // In a place of its own: what sends the body would keep room for it, as long as a stream of events is held.
        Box::pin(async move {
            let answer = answer(&agent, request, busy, None).await;
            Ok::<_, Infallible>(answer.map(|body| body.ended_by_stop(drain).streamed(stream)))
        })
    });
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.streams_max)
        .max_pending_accept_reset_streams(http2.resets_max)
        .max_local_error_reset_streams(http2.resets_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(http2.send_buffer_bytes)
        .initial_stream_window_size(REQUEST_WINDOW_BYTES)
        .initial_connection_window_size(REQUEST_WINDOW_BYTES)
        .keep_alive_interval(http2.ping)
        .keep_alive_timeout(http2.ping);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let quiet = || streams.quiet(limits.head_timeout, limits.stall_timeout);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                _ = quiet() => Ok(()),
            }
        }
        () = place.dismissed() => {
            debug!(agent = %address, "an idle connection makes room");
            connection.as_mut().graceful_shutdown();
            let parting = place.part();
            let parted = async {
                if parting.is_some() {
                    sleep(PARTING).await;
                }
                // What was asked before the client heard of it is answered.
                if streams.any() {
                    quiet().await;
                }
            };
            tokio::select! {
                biased;
                served = connection => served,
                () = parted => Ok(()),
            }
        }
        quiet = quiet() => {
            debug!(agent = %address, ?quiet, "a connection is ended");
            connection.as_mut().graceful_shutdown();
            // A client that is idle is told; one that took nothing would not take this either.
            let told = timeout(if quiet == Quiet::Idle { GOODBYE } else { Duration::ZERO }, connection);
            told.await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        debug!(agent = %address, %error, "a connection ended");
    }
}

/// What a client may send of requests' bodies before it is told to stop: they have none (RFC 9113's first window).
const REQUEST_WINDOW_BYTES: u32 = 65_535;

/// For an idle client to hear that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// The same while somebody waits for its place: a round trip within a site.
pub(super) const PARTING: Duration = Duration::from_millis(50);

/// Runs the requests of a connection on its worker.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Answers a request; `own` is what its connection may do for it, where it has one to itself.
pub(super) async fn answer(
    agent: &Agent,
    request: Request<Incoming>,
    busy: Busy,
    own: Option<&Own>,
) -> Response<Body> {
    let worker = &agent.worker;
    let live = worker.live.load_full();
    let (request, body) = request.into_parts();
    if request.method == Method::CONNECT {
        let onward = own.map(|own| &own.onward);
        let answer = Box::pin(connect::answer(agent, &request, &live, &busy, onward)).await;
        return answer.map(|body| body.busy(busy));
    }
    let mut record = Record::begin(worker, live.log.access, agent.address, &request);
    let routed = route(&request, &live, agent.asked());
    let asking = own.map(|own| own.turn.asked());
    let to_api = matches!(&routed, Ok(Routed { route: Route::Agents(_), .. }));
    let served = match routed {
        Ok(routed) => {
            let meanwhile = Meanwhile { busy: &busy, inserts: own.map(|own| &*own.inserts) };
            served(agent, &request, body, routed, &live, meanwhile, &mut record).await
        }
        Err(failure) => Err(failure),
    };
    let (mut response, outcome) = served.unwrap_or_else(|failed| {
        if let Some(by) = failed.refused_by() {
            worker.tally.refused_by(by);
        }
        record.failed(&failed);
        if let Failure::Serve(ServeError::Store(error)) = &failed {
            error!(path = %shown(request.uri.path()), %error, "the store could not be read");
        }
        let answer = if to_api { problem(&failed) } else { failure(&failed) };
        (answer, failed.outcome())
    });
    if let Some(own) = own
        && let Some(events) = response.body_mut().take_events()
    {
        record.answered(response.status(), outcome, Some(0));
        own.onward.set(Becomes::Events(Held { head: response.map(drop), events }.into()));
        drop((record, busy, asking));
        // Whoever takes the connection over answers.
        return std::future::pending().await;
    }
    record.sent_by(agent.spans.clone());
    let body_bytes = response.body().size_hint().exact();
    record.answered(response.status(), outcome, body_bytes);
    if request.version == Version::HTTP_2 {
        response.headers_mut().remove(CONNECTION);
        // hyper leaves a HEAD's body out of HTTP/1 alone.
        if let Some(bytes) = body_bytes.filter(|bytes| *bytes > 0 && request.method == Method::HEAD) {
            response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
            *response.body_mut() = Body::default();
        }
    }
    busy.waits(false);
    let by_close = request.version == Version::HTTP_10;
    let ended_by = if by_close { EndedBy::Close } else { EndedBy::Framing };
    let files = agent.spans.as_ref().map(|spans| Files { spans: spans.clone(), by: spans.by(live.sendfile) });
    let outlet = Outlet { turn: own.map(|own| own.turn.clone()), buffers: worker.buffers.clone(), files };
    let response = response.map(|body| body.recorded(record).busy(busy).ended_by(ended_by).sent_by(outlet));
    if response.body().takes_turns()
        && let Some(asking) = asking
    {
        asking.let_others_in().await;
    }
    response
}

/// Serves what a request is for to whoever sends it. What is not the mirror's has a place of its own in memory: each request of the
/// mirror would take room for it.
async fn served(
    agent: &Agent,
    request: &Parts,
    body: Incoming,
    routed: Routed,
    live: &Live,
    meanwhile: Meanwhile<'_>,
    record: &mut Record,
) -> Result<(Response<Body>, Outcome), Failure> {
    if let Route::Agents(Call::Enrol) = routed.route {
        // Who enrols is nobody yet.
        return Box::pin(agents::serve(agent, None, request, body, &Call::Enrol, live)).await;
    }
    let mut caller = caller(agent, request, &routed, live)?;
    record.known_as(&caller);
    if caller.is_limited() && Box::pin(limited::admit(agent, &caller)).await? == Admitted::Late {
        // Who had to wait may be another one by now.
        caller = self::caller(agent, request, &routed, live)?;
    }
    // A body is dropped unread where none belongs: a file's request has none.
    let has_body = request.version == Version::HTTP_2 && !body.is_end_stream();
    let shelf = &agent.worker.shelf;
    let (response, outcome) = match routed.route {
        Route::Manifest(_) | Route::File(..) if has_body => Err(Failure::RequestBody),
        Route::Manifest(tree) => mirror::manifest(request, &tree, &caller, live, shelf).await,
        Route::File(tree, path) => {
            mirror::file(request, &tree, &path, &caller, live, shelf, meanwhile.busy).await
        }
        Route::Elsewhere(elsewhere) => {
            if elsewhere.leave == Leave::Proxy {
                record.toward(&elsewhere.url);
            }
            Box::pin(forward::serve(shelf, &caller, request, body, &elsewhere, live, meanwhile)).await
        }
        Route::Agents(call) => {
            // An agent that leaves while nothing is told gives up its place.
            meanwhile.busy.waits(call == Call::Events);
            Box::pin(agents::serve(agent, Some(&caller), request, body, &call, live)).await
        }
        // Another method has no tunnel.
        Route::Tunnel(_) => Err(Failure::Target),
    }?;
    Ok((response.map(|body| limited::body(agent, &caller, body)), outcome))
}
