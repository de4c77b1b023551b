//! HTTP on a connection: hyper over its stream, with the deadlines of a connection that does not ask or does not take. What is HTTP/1's
//! alone: [`http1`](crate::http::http1).
//!
//! Never knows what lies under the stream. Invariant: a connection ends by its client, its deadlines, a flood of frames, the
//! relay's stop, or for want of room; the last two not before what was asked is answered.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::http::connection::Worker;
use crate::http::exchange::answer;
use crate::http::frames::Frames;
use crate::http::held::hold;
use crate::http::http1::requests;
use crate::http::onward::Becomes;
use crate::http::route::Asked;
use crate::http::streams::{Quiet, Streams};
use crate::http::tunnel::{Toward, run};
use crate::net::idle::Place;
use crate::net::listen::Transport;
use crate::net::spans::Spans;
use crate::policy::identity::Certificate;
use crate::relay::limits::Connection;

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

/// Speaks HTTP/1, and then whatever is spoken on what the connection may have become.
pub async fn speak<S>(agent: Agent, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let agent = Rc::new(agent);
    // In places of their own: each connection would take room for them.
    match requests(&agent, stream).await {
        Some((stream, Becomes::Tunnel(tunnel))) => Box::pin(run(&agent, stream, *tunnel)).await,
        Some((stream, Becomes::Events(held))) => Box::pin(hold(&agent, stream, *held)).await,
        None => {}
    }
}

/// Speaks HTTP/2.
pub async fn speak_http2<S>(agent: Agent, stream: S)
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
        let (stream, drain) = (streams.begin(), place.drain().clone());
        let answer = answer(&agent, request, place.begin(), None);
        answer.map_ok(|answer| answer.map(|body| body.ended_by_stop(drain).streamed(stream)))
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
        () = place.stopped() => {
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
