//! One agent's connection, from accept to the first byte of what is spoken on it: who speaks, whether in TLS, which HTTP.
//!
//! Never reads a request. Invariant: each step has the head's deadline, and a connection that waits may be told to go.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::base::address::normalised_peer;
use crate::base::clock::Clock;
use crate::base::tally::{Outcome, Refused, Tally};
use crate::http::frames::PREFACE;
use crate::http::speak::{Agent, speak, speak_http2};
use crate::net::ahead::Ahead;
use crate::net::idle::Place;
use crate::net::listen::Transport;
use crate::net::noted::Noted;
use crate::net::places::Places;
use crate::net::proxy_header;
use crate::net::stall::Stall;
use crate::net::tls::Tls;
use crate::net::worker::Accepted;
use crate::relay::live::Live;
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
    /// The places of all workers' connections.
    pub places: Arc<Places>,
    /// What the worker has at hand.
    pub shelf: Shelf,
}

/// Serves a connection until either side closes it; once `drain` is cancelled, until the request under way is answered.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted, drain: CancellationToken) {
    let _open = worker.tally.connections_now.hold();
    worker.tally.connections.one();
    let peer = normalised_peer(accepted.peer);
    // Answers are written whole; waiting for more would only delay them.
    let _ = accepted.stream.set_nodelay(true);
    // A socket without an address was closed meanwhile: the first read will tell.
    let local = accepted.stream.local_addr().map_or(peer, normalised_peer);
    let live = worker.live.load_full();
    let deadline = live.limits.head_timeout;
    let place = accepted.place;
    let stream = Noted::new(accepted.stream, place.clone());
    let mut stream = Ahead::new(Stall::new(stream, live.limits.stall_timeout));
    let steps = Steps { place: &place, drain: &drain, deadline, peer };
    let (mut address, mut counted) = (peer, None);
    if live.is_trusted(peer.ip()) {
        let named = named_by_proxy(&mut stream);
        let named = match steps.take("a proxy's header", named).await {
            Ok(named) => named,
            Err(Ended::Failed) => return worker.tally.refused(Refused::ProxyHeader),
            Err(Ended::Told) => return,
        };
        if let Some(client) = named.map(normalised_peer) {
            counted = worker.places.count(client.ip(), live.connections_of(client.ip()));
            if counted.is_none() {
                return;
            }
            address = client;
        }
    }
    place.begins();
    let agent = Agent { worker, address, place: place.clone(), local, toward: None };
    match (accepted.transport, &agent.worker.tls) {
        (Transport::Tls, Some(tls)) => {
            let shaken = shake_hands(&agent.worker.tally, stream, tls.acceptor());
            let stream = match steps.take("a TLS handshake", shaken).await {
                Ok(Some(stream)) => stream,
                Err(Ended::Failed) => return agent.worker.tally.tls_failed.one(),
                Ok(None) | Err(Ended::Told) => return,
            };
            agent.worker.tally.tls_completed.one();
            place.begins();
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                speak_http2(agent, stream, drain).await;
            } else {
                speak(agent, stream, drain).await;
            }
        }
        (Transport::Tls, None) => error!("a TLS listener without certificates"),
        (Transport::Clear, _) => match steps.take("the first bytes", begins_http2(&mut stream)).await {
            Ok(true) => speak_http2(agent, stream, drain).await,
            Ok(false) => speak(agent, stream, drain).await,
            Err(_) => {}
        },
    }
    drop(counted);
}

type Raw = Ahead<Stall<Noted<TcpStream>>>;

/// What bounds each step.
#[derive(Debug)]
struct Steps<'c> {
    place: &'c Place,
    drain: &'c CancellationToken,
    deadline: Duration,
    peer: SocketAddr,
}

/// Why a connection ends before anything was asked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// A step failed, or took too long.
    Failed,
    /// The relay stops, or somebody else needs the place.
    Told,
}

impl Steps<'_> {
    /// Takes a step.
    async fn take<T>(&self, what: &str, step: impl Future<Output = io::Result<T>>) -> Result<T, Ended> {
        let peer = self.peer;
        // The step comes first: what has arrived counts before the connection is told to go.
        let taken = tokio::select! {
            biased;
            taken = tokio::time::timeout(self.deadline, step) => taken,
            () = self.drain.cancelled() => return Err(Ended::Told),
            () = self.place.dismissed() => {
                debug!(%peer, what, "a connection makes room");
                return Err(Ended::Told);
            }
        };
        match taken {
            Ok(Ok(taken)) => return Ok(taken),
            Ok(Err(error)) => debug!(%peer, what, %error, "a connection is ended"),
            Err(_) => debug!(%peer, what, "a connection is ended: it took too long"),
        }
        Err(Ended::Failed)
    }
}

/// Reads the header that a trusted proxy sends first, and no byte beyond it.
async fn named_by_proxy(stream: &mut Raw) -> io::Result<Option<SocketAddr>> {
    loop {
        match proxy_header::read(stream.seen()) {
            Ok(Some(header)) => {
                stream.skip(header.len);
                return Ok(header.client);
            }
            Ok(None) if stream.look().await? > 0 => {}
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
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
