//! The first steps of an agent's connection, whatever is spoken on it: it is counted, and a trusted proxy says whom it is for.
//!
//! Never reads a request. Invariant: each step has the head's deadline, and a connection that waits may be told to go.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing::debug;

use crate::base::address::normalised_peer;
use crate::base::tally::{Hold, Refused};
use crate::http::connection::Worker;
use crate::http::speak::Agent;
use crate::net::addresses::Counted;
use crate::net::ahead::Ahead;
use crate::net::idle::Place;
use crate::net::noted::Noted;
use crate::net::proxy_header;
use crate::net::socket::Socket;
use crate::net::spans::Spans;
use crate::net::stall::Stall;
use crate::net::worker::Accepted;

/// A connection of which it is known whom it is for.
#[derive(Debug)]
pub struct Arrival {
    /// Its bytes.
    pub stream: Raw,
    /// Who speaks.
    pub agent: Agent,
    /// What is to be sent of files, for whoever writes straight to the stream.
    pub spans: Rc<Spans>,
    /// What bounds its next steps.
    pub steps: Steps,
    /// Its part in the relay's counts; kept until it ends.
    pub counts: Counts,
}

/// A connection's stream as it was accepted, with what was read ahead of it.
pub type Raw = Ahead<Stall<Noted<Socket>>>;

/// A connection's part in the relay's counts, while it is held.
#[derive(Debug)]
pub struct Counts {
    _open: Hold,
    _of_its_address: Option<Counted>,
}

/// What bounds each step.
#[derive(Debug)]
pub struct Steps {
    place: Rc<Place>,
    deadline: Duration,
    peer: SocketAddr,
}

/// Why a connection ends before anything was asked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A step failed, or took too long.
    Failed,
    /// The relay stops, or somebody else needs the place.
    Told,
}

impl Arrival {
    /// Takes the first steps; `None` where the connection ends with them.
    pub async fn of(worker: Rc<Worker>, accepted: Accepted) -> Option<Self> {
        let open = worker.tally.connections_now.hold();
        worker.tally.connections.one();
        let peer = normalised_peer(accepted.peer);
        // A socket without an address was closed meanwhile: the first read will tell.
        let local = accepted.local.map_or(peer, normalised_peer);
        let live = worker.live.load_full();
        let place = accepted.place;
        let spans = Rc::new(Spans::new(local, peer));
        let stream = Noted::new(Socket::new(accepted.stream, spans.clone()), place.clone());
        let mut stream = Ahead::new(Stall::new(stream, live.limits.stall_timeout));
        let deadline = live.limits.head_timeout;
        let steps = Steps { place: place.clone(), deadline, peer };
        let (mut address, mut counted) = (peer, None);
        if live.is_trusted(peer.ip()) {
            match steps.take("a proxy's header", named_by_proxy(&mut stream)).await {
                Ok(None) => {}
                Ok(Some(client)) => {
                    address = normalised_peer(client);
                    counted = Some(worker.places.count(address.ip(), live.connections_of(address.ip()))?);
                }
                Err(Ended::Failed) => {
                    worker.tally.refused(Refused::ProxyHeader);
                    return None;
                }
                Err(Ended::Told) => return None,
            }
        }
        place.begins();
        let connection = worker.limits.connection();
        let agent = Agent {
            worker,
            address,
            connection,
            place,
            local,
            transport: accepted.transport,
            certificate: None,
            toward: None,
            spans: None,
        };
        let counts = Counts { _open: open, _of_its_address: counted };
        Some(Self { stream, agent, spans, steps, counts })
    }
}

impl Steps {
    /// Takes a step.
    pub async fn take<T>(&self, what: &str, step: impl Future<Output = io::Result<T>>) -> Result<T, Ended> {
        let peer = self.peer;
        // The step comes first: what has arrived counts before the connection is told to go.
        let taken = tokio::select! {
            biased;
            taken = tokio::time::timeout(self.deadline, step) => taken,
            () = self.place.stopped() => return Err(Ended::Told),
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

/// Says a last thing, and waits until the client has ended its side: what is left unread at the close would have the last thing
/// thrown away.
pub async fn part(stream: &mut Raw, last: &[u8]) -> io::Result<()> {
    stream.write_all(last).await?;
    stream.shutdown().await?;
    let mut scrap = [0; 2048];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
