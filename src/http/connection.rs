//! One agent's connection: hyper over a socket, with its deadlines, from accept to close.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::base::address::normalised_peer;
use crate::base::clock::Clock;
use crate::base::tally::{Outcome, Tally};
use crate::http::body::Body;
use crate::http::mirror;
use crate::http::record::Record;
use crate::http::respond::{Failure, failure};
use crate::http::route::route;
use crate::http::streams::{Quiet, Streams};
use crate::net::ahead::Ahead;
use crate::net::listen::Transport;
use crate::net::proxy_header;
use crate::net::stall::Stall;
use crate::net::tls::Tls;
use crate::net::worker::Accepted;
use crate::relay::live::Live;
use crate::relay::serve::ServeError;
use crate::relay::shelf::Shelf;

/// What one data worker serves with.
#[derive(Debug)]
pub struct Worker {
    /// The settings in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The relay's counts.
    pub tally: Arc<Tally>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The TLS side, where a listener has one.
    pub tls: Option<Arc<Tls>>,
    /// What the worker has at hand.
    pub shelf: Shelf,
}

/// Serves a connection until either side closes it; once `drain` is cancelled, until the request under way is answered.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted, drain: CancellationToken) {
    let _open = worker.tally.connections_now.hold();
    worker.tally.connections.one();
    let agent = normalised_peer(accepted.peer);
    // Answers are written whole; waiting for more would only delay them.
    let _ = accepted.stream.set_nodelay(true);
    let limits = worker.live.load().limits;
    let mut stream = Ahead::new(Stall::new(accepted.stream, limits.stall_timeout));
    let trusted = worker.live.load().trusted_proxies.iter().any(|proxy| proxy.contains(&agent.ip()));
    let agent = if trusted {
        let named = tokio::time::timeout(limits.head_timeout, named_by_proxy(&worker.tally, &mut stream));
        match drain.run_until_cancelled(named).await {
            Some(Ok(Ok(client))) => client.map_or(agent, normalised_peer),
            Some(Ok(Err(error))) => return debug!(proxy = %agent, %error, "a proxy's connection is ended"),
            Some(Err(_)) => return debug!(proxy = %agent, "a proxy sent no whole header in time"),
            None => return,
        }
    } else {
        agent
    };
    match (accepted.transport, &worker.tls) {
        (Transport::Tls, Some(tls)) => {
            let shaken =
                tokio::time::timeout(limits.head_timeout, shake_hands(&worker.tally, stream, tls.acceptor()));
            let shaken = drain.run_until_cancelled(shaken).await;
            match shaken {
                Some(Ok(Ok(Some(stream)))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    speak_http2(&worker, stream, agent, drain).await;
                }
                Some(Ok(Ok(Some(stream)))) => speak(&worker, stream, agent, drain).await,
                Some(Ok(Err(error))) => debug!(%agent, %error, "a TLS handshake failed"),
                Some(Err(_)) => debug!(%agent, "a TLS handshake took too long"),
                Some(Ok(Ok(None))) | None => {}
            }
        }
        (Transport::Tls, None) => error!("a TLS listener without certificates"),
        (Transport::Clear, _) => {
            let begun = tokio::time::timeout(limits.head_timeout, begins_http2(&mut stream));
            match drain.run_until_cancelled(begun).await {
                Some(Ok(Ok(true))) => speak_http2(&worker, stream, agent, drain).await,
                Some(Ok(Ok(false))) => speak(&worker, stream, agent, drain).await,
                Some(Ok(Err(error))) => debug!(%agent, %error, "a connection ended"),
                Some(Err(_)) => debug!(%agent, "a connection asked for nothing"),
                None => {}
            }
        }
    }
}

type Raw = Ahead<Stall<TcpStream>>;

/// Reads the header that a trusted proxy sends first, and no byte beyond it.
async fn named_by_proxy(tally: &Tally, stream: &mut Raw) -> io::Result<Option<SocketAddr>> {
    loop {
        match proxy_header::read(stream.seen()) {
            Ok(Some(header)) => {
                stream.skip(header.len);
                return Ok(header.client);
            }
            Ok(None) if stream.look().await? > 0 => {}
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                tally.request(Outcome::BadRequest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// Makes a TLS stream. Who begins with a request instead, in clear text, is told so: `None`.
async fn shake_hands(
    tally: &Tally,
    mut stream: Raw,
    acceptor: TlsAcceptor,
) -> io::Result<Option<tokio_rustls::server::TlsStream<Raw>>> {
    if stream.seen().is_empty() && stream.look().await? == 0 {
        return Ok(None);
    }
    if !stream.seen().first().is_some_and(u8::is_ascii_uppercase) {
        return acceptor.accept(stream).await.map(Some);
    }
    tally.request(Outcome::BadRequest);
    stream.write_all(CLEAR_TEXT).await?;
    stream.shutdown().await?;
    // What is left unread at the close would have the answer thrown away: it is read to its end or to the deadline.
    let mut scrap = [0; 2048];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(None)
}

/// Answers to who speaks plain HTTP to a TLS listener.
const CLEAR_TEXT: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n\r\nthis port speaks TLS: ask with https, not http.\n";

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Looks ahead until it is clear whether HTTP/2 is spoken.
async fn begins_http2(stream: &mut Raw) -> io::Result<bool> {
    loop {
        let seen = stream.seen();
        if seen.starts_with(PREFACE) {
            return Ok(true);
        }
        // What ends here is for HTTP/1 to judge.
        if !PREFACE.starts_with(seen) || stream.look().await? == 0 {
            return Ok(false);
        }
    }
}

async fn speak<S>(worker: &Rc<Worker>, stream: S, agent: SocketAddr, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = worker.live.load().limits;
    let service = service_fn(|request| {
        let worker = worker.clone();
        async move { Ok::<_, Infallible>(answer(&worker, request, agent).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        if error.is_parse() {
            // hyper has answered what it could not read; no record was begun for it.
            worker.tally.request(Outcome::BadRequest);
        }
        debug!(%agent, %error, "a connection ended");
    }
}

async fn speak_http2<S>(worker: &Rc<Worker>, stream: S, agent: SocketAddr, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (limits, http2) = {
        let live = worker.live.load();
        (live.limits, live.http2)
    };
    let streams = Rc::new(Streams::default());
    let service = service_fn(|request| {
        let (worker, stream) = (worker.clone(), streams.begin());
        async move { Ok::<_, Infallible>(answer(&worker, request, agent).await.map(|body| body.streamed(stream))) }
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
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                _ = streams.quiet(limits.head_timeout, limits.stall_timeout) => Ok(()),
            }
        }
        quiet = streams.quiet(limits.head_timeout, limits.stall_timeout) => {
            debug!(%agent, ?quiet, "a connection is ended");
            connection.as_mut().graceful_shutdown();
            // A client that is idle is told; one that took nothing would not take this either.
            let told = tokio::time::timeout(if quiet == Quiet::Idle { GOODBYE } else { Duration::ZERO }, connection);
            told.await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        debug!(%agent, %error, "a connection ended");
    }
}

/// What a client may send of requests' bodies before it is told to stop: they have none (RFC 9113's first window).
const REQUEST_WINDOW_BYTES: u32 = 65_535;

/// For an idle client to hear that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// Runs the requests of a connection on its worker.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

async fn answer(worker: &Worker, request: Request<Incoming>, agent: SocketAddr) -> Response<Body> {
    let live = worker.live.load_full();
    // The body is dropped here unread: a file's request has none.
    let (request, body) = request.into_parts();
    let has_body = request.version == Version::HTTP_2 && !body.is_end_stream();
    drop(body);
    let mut record =
        Record::begin(worker.tally.clone(), worker.clock.clone(), live.log.access, agent, &request);
    let served = match route(&request, &live) {
        Ok(_) if has_body => Err(Failure::RequestBody),
        Ok(route) => mirror::serve(&request, route, agent, &live, &worker.shelf).await,
        Err(failure) => Err(failure),
    };
    let (mut response, outcome) = served.unwrap_or_else(|failed| {
        record.failed(&failed);
        if let Failure::Serve(ServeError::Store(error)) = &failed {
            error!(path = request.uri.path(), %error, "the store could not be read");
        }
        (failure(&failed), failed.outcome())
    });
    let body_bytes = response.body().size_hint().exact().unwrap_or(0);
    record.answered(response.status(), outcome, body_bytes);
    if request.version == Version::HTTP_2 {
        response.headers_mut().remove(CONNECTION);
        // hyper leaves a HEAD's body out of HTTP/1 alone.
        if request.method == Method::HEAD && body_bytes > 0 {
            response.headers_mut().insert(CONTENT_LENGTH, body_bytes.into());
            *response.body_mut() = Body::default();
        }
    }
    response.map(|body| body.recorded(record))
}
