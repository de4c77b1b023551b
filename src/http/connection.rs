//! One agent's connection, from accept to the first byte of what is spoken on it: whether in TLS, and which HTTP.
//!
//! Never reads a request. Invariant: each step has the head's deadline, and a connection that waits may be told to go.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tracing::error;

use crate::base::clock::Clock;
use crate::base::tally::{Outcome, Tally};
use crate::http::arrival::{Arrival, Ended, Raw, Steps, part};
use crate::http::buffers::Buffers;
use crate::http::frames::PREFACE;
use crate::http::speak::{Agent, speak, speak_http2};
use crate::http::turn::Turns;
use crate::net::listen::Transport;
use crate::net::places::Places;
use crate::net::tls::Tls;
use crate::net::worker::Accepted;
use crate::relay::limits::Limits;
use crate::relay::live::Live;
use crate::relay::refusals::Refusals;
use crate::relay::shelf::Shelf;
use crate::schedule::streams::Streams;

/// What one data worker serves with.
#[derive(Debug)]
pub struct Worker {
    /// The settings in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The relay's counts.
    pub tally: Arc<Tally>,
    /// The last requests that were refused.
    pub refusals: Arc<Refusals>,
    /// Where agents are told.
    pub streams: Arc<Streams>,
    /// What is left of agents' and domains' limits.
    pub limits: Arc<Limits>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The ports at which agents reach the relay.
    pub ports: Arc<[u16]>,
    /// The TLS side, where a listener has one.
    pub tls: Option<Arc<Tls>>,
    /// The places of all workers' connections.
    pub places: Arc<Places>,
    /// What the worker has at hand.
    pub shelf: Shelf,
    /// The bodies under way on it.
    pub turns: Rc<Turns>,
    /// What it reads files into.
    pub buffers: Buffers,
}

/// Serves a connection until either side closes it; once the relay stops, until the request under way is answered.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let transport = accepted.transport;
    let Some(arrival) = Arrival::of(worker, accepted).await else { return };
    let Arrival { mut stream, mut agent, spans, steps, counts } = arrival;
    // What HTTP/1 in clear text does not need has a place of its own: each connection would take room for it.
    match (transport, agent.worker.tls.clone()) {
        (Transport::Tls, Some(tls)) => Box::pin(in_tls(agent, stream, &tls, steps)).await,
        (Transport::Tls, None) => error!("a TLS listener without certificates"),
        (Transport::Clear, _) => match steps.take("the first bytes", begins_http2(&mut stream)).await {
            Ok(true) => Box::pin(speak_http2(agent, stream)).await,
            Ok(false) => {
                agent.spans = Some(spans);
                speak(agent, stream).await;
            }
            Err(_) => {}
        },
        (Transport::Socks, _) => error!("HTTP is not spoken on a SOCKS listener"),
    }
    drop(counts);
}

/// Serves a connection in TLS.
async fn in_tls(mut agent: Agent, stream: Raw, tls: &Tls, steps: Steps) {
    let shaken = shake_hands(&agent.worker.tally, stream, tls.acceptor());
    let stream = match steps.take("a TLS handshake", shaken).await {
        Ok(Some(stream)) => stream,
        Err(Ended::Failed) => return agent.worker.tally.tls_failed.one(),
        Ok(None) | Err(Ended::Told) => return,
    };
    agent.worker.tally.tls_completed.one();
    agent.place.begins();
    let certificate = tls.certificate_of(stream.get_ref().1, agent.worker.clock.wall());
    agent.certificate = certificate.map(Rc::new);
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(speak_http2(agent, stream)).await;
    } else {
        Box::pin(speak(agent, stream)).await;
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
    part(&mut stream, CLEAR_TEXT).await?;
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
