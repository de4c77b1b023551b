//! Connections to upstreams: the race of their addresses on real sockets, through TLS where there is TLS.
//!
//! Each attempt is a socket with its handshake; losing ones are dropped, which closes them. Never decides which attempt comes
//! next: that is the [`race`](crate::upstream::race). Invariant: a connection that a redirect asked for leads to this machine
//! or its link only where the upstream of the settings leads there itself.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower_service::Service;
use tracing::debug;

use crate::base::clock::Clock;
use crate::base::nat64::ipv4_within;
use crate::config::settings::ReachSettings;
use crate::upstream::failed::Failed;
use crate::upstream::race::{Loss, Next, Plan, Question, Race};
use crate::upstream::resolve::{Kind, Resolver};

/// What all connections of a relay share.
#[derive(Debug)]
pub struct Shared {
    /// Who knows names.
    pub resolver: Resolver,
    /// Which addresses failed.
    pub failed: Failed,
    /// Monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Whom TLS trusts.
    pub tls: Arc<ClientConfig>,
    /// How long a connection may take, TLS included.
    pub connect: Duration,
    /// From one attempt to the next.
    pub attempt_delay: Duration,
}

/// Connects to one upstream, or to where it redirects. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    /// What is shared with others.
    pub shared: Arc<Shared>,
    /// Which addresses are used.
    pub reach: ReachSettings,
    /// Addresses of this machine and its link that the upstream itself has.
    pub near: Arc<Near>,
    /// Who named the host.
    pub named_by: NamedBy,
}

/// Who named a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The administrator.
    Settings,
    /// The upstream.
    Redirect,
}

/// Addresses of this machine and its link to which an upstream leads.
#[derive(Debug, Default)]
pub struct Near {
    /// Guards the addresses.
    addresses: Mutex<HashSet<IpAddr>>,
}

/// A connection to an address.
#[derive(Debug)]
pub struct Connection {
    io: TokioIo<Io>,
    peer: SocketAddr,
}

type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The other end of a connection, as its requests know it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The URL names no place.
    #[error("the URL names no host that can be connected to")]
    Target,
    /// A redirect led to this machine or its link alone.
    #[error("the redirect leads to an address of this machine or its link")]
    Near,
    /// Each attempt failed: which, and why.
    #[error("{0}")]
    Lost(String),
}

/// Where a connection is to lead.
struct Target {
    host: String,
    port: u16,
    tls: Option<ServerName<'static>>,
}

enum Event {
    Answered(Question, Result<Vec<IpAddr>, String>),
    Ended(IpAddr, io::Result<Io>),
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, ConnectError> {
        let host = uri.host().ok_or(ConnectError::Target)?;
        let secure = uri.scheme_str() == Some("https");
        let name = host.trim_matches(['[', ']']).to_owned();
        let tls = secure.then(|| ServerName::try_from(name)).transpose().map_err(|_| ConnectError::Target)?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl Near {
    /// Whether an address may be connected to; one of the upstream itself is remembered.
    fn admits(&self, address: IpAddr, named_by: NamedBy) -> bool {
        if !is_near(address) {
            return true;
        }
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        match named_by {
            NamedBy::Redirect => addresses.contains(&address),
            NamedBy::Settings => {
                if addresses.len() < NEAR_MAX {
                    addresses.insert(address);
                }
                true
            }
        }
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Connection, ConnectError> {
        let target = Target::of(&uri)?;
        let Shared { clock, resolver, failed, .. } = &*self.shared;
        let place = |address| SocketAddr::new(address, target.port);
        let mut race = Race::new(Plan {
            family: self.reach.family,
            attempt_delay: self.shared.attempt_delay,
            nat64: resolver.embeds(),
        });
        let deadline = clock.monotonic() + self.shared.connect;
        let mut events = FuturesUnordered::new();
        let mut attempts: Vec<(IpAddr, AbortHandle)> = Vec::new();
        let (mut won, mut kept_away) = (None, false);
        loop {
            let now = clock.monotonic();
            let wait = match race.next(now) {
                Next::Ask(question) => {
                    let ask = self.ask(&target.host, question, race.ipv4().to_vec());
                    events.push(abortable(Either::Left(ask)).0);
                    continue;
                }
                Next::Attempt(address, given_up) => {
                    for (_, handle) in attempts.extract_if(.., |(other, _)| Some(*other) == given_up) {
                        handle.abort();
                    }
                    failed_all(failed, given_up.map(place));
                    let attempt = self.attempt(place(address), target.tls.clone());
                    let attempt = async move { Event::Ended(address, attempt.await) };
                    let (attempt, handle) = abortable(Either::Right(attempt));
                    attempts.push((address, handle));
                    events.push(attempt);
                    continue;
                }
                Next::Won(address) => {
                    failed_all(failed, race.overtaken().map(place));
                    debug!(host = target.host, %address, "connected");
                    let peer = place(address);
                    return won
                        .map(|io| Connection { io: TokioIo::new(io), peer })
                        .ok_or(ConnectError::Target);
                }
                Next::Lost if kept_away && !race.losses().iter().any(Loss::is_attempt) => {
                    return Err(ConnectError::Near);
                }
                Next::Lost => return Err(lost(&race, target.port, None)),
                Next::Wait(until) => until.map_or(deadline, |until| until.min(deadline)),
            };
            if now >= deadline {
                failed_all(failed, race.under_way().map(place));
                return Err(lost(&race, target.port, Some(self.shared.connect)));
            }
            match tokio::time::timeout(wait.saturating_sub(now), events.next()).await {
                Ok(Some(Ok(Event::Answered(question, answer)))) => {
                    let told = answer.as_ref().map_or(0, Vec::len);
                    let admitted = answer.map(|addresses| self.admitted(addresses));
                    kept_away |= admitted.as_ref().is_ok_and(|admitted| admitted.len() < told);
                    race.answered(question, admitted, clock.monotonic(), |address| {
                        failed.is_behind(place(address))
                    });
                }
                Ok(Some(Ok(Event::Ended(address, Ok(io))))) => {
                    won.get_or_insert(io);
                    race.connected(address);
                }
                Ok(Some(Ok(Event::Ended(address, Err(error))))) => {
                    failed.note(place(address));
                    race.failed(address, error.to_string());
                }
                // An attempt that was given up; or the time came.
                Ok(Some(Err(_))) | Err(_) => {}
                // The race waits for what nobody does any more; its deadline still counts.
                Ok(None) => tokio::time::sleep(wait.saturating_sub(now)).await,
            }
        }
    }

    async fn ask(&self, host: &str, question: Question, ipv4: Vec<Ipv4Addr>) -> Event {
        let resolver = &self.shared.resolver;
        let answer = match question {
            Question::Aaaa => resolver.look_up(host, Kind::Aaaa).await,
            Question::A => resolver.look_up(host, Kind::A).await,
            Question::Embedded => resolver.nat64().await.map(|prefixes| {
                let embed = |v4| prefixes.iter().filter_map(move |prefix| prefix.embed(v4));
                ipv4.into_iter().flat_map(embed).map(IpAddr::V6).collect()
            }),
        };
        Event::Answered(question, answer)
    }

    fn admitted(&self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| self.near.admits(*address, self.named_by)).collect()
    }

    fn attempt(
        &self,
        address: SocketAddr,
        tls: Option<ServerName<'static>>,
    ) -> impl Future<Output = io::Result<Io>> + use<> {
        let (reach, config) = (self.reach, self.shared.tls.clone());
        async move {
            let (socket, source) = match address {
                SocketAddr::V4(_) => (TcpSocket::new_v4()?, reach.source_ipv4.map(IpAddr::V4)),
                SocketAddr::V6(_) => (TcpSocket::new_v6()?, reach.source_ipv6.map(IpAddr::V6)),
            };
            if let Some(source) = source {
                let bound = socket.bind(SocketAddr::new(source, 0));
                bound.map_err(|error| io::Error::new(error.kind(), format!("from {source}: {error}")))?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            match tls {
                None => Ok(Either::Left(stream)),
                Some(name) => {
                    let shaken = TlsConnector::from(config).connect(name, stream).await;
                    shaken
                        .map(|stream| Either::Right(Box::new(stream)))
                        .map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}")))
                }
            }
        }
    }
}

fn failed_all(failed: &Failed, addresses: impl IntoIterator<Item = SocketAddr>) {
    addresses.into_iter().for_each(|address| failed.note(address));
}

/// What was tried and what came of it, in one line.
fn lost(race: &Race, port: u16, deadline: Option<Duration>) -> ConnectError {
    let told = race.losses().iter().map(|loss| match loss {
        Loss::Question(Question::Aaaa, reason) => format!("IPv6 addresses: {reason}"),
        Loss::Question(Question::A, reason) => format!("IPv4 addresses: {reason}"),
        Loss::Question(Question::Embedded, reason) => format!("NAT64: {reason}"),
        Loss::Attempt(address, reason) => format!("{}: {reason}", SocketAddr::new(*address, port)),
    });
    let silent = |address| {
        let secs = deadline.unwrap_or_default().as_secs_f32();
        format!("{}: no connection within {secs} s", SocketAddr::new(address, port))
    };
    let told: Vec<String> = told.chain(race.under_way().map(silent)).collect();
    ConnectError::Lost(match (&told[..], deadline) {
        ([], None) => "the name has no address that may be used".to_owned(),
        ([], Some(_)) => "no name server answered in time".to_owned(),
        _ => told.join("; "),
    })
}

/// Whether an address is of this machine, or what only its link can reach, such as a cloud's metadata: an upstream elsewhere
/// has no business there.
pub fn is_near(address: IpAddr) -> bool {
    if let Some(v4) = ipv4_within(address) {
        let [first, ..] = v4.octets();
        return first == 0
            || v4.is_loopback()
            || v4.is_link_local()
            || v4.is_broadcast()
            || METADATA.contains(&IpAddr::V4(v4));
    }
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || METADATA.contains(&IpAddr::V6(v6))
        }
    }
}

/// Where clouds tell a machine its secrets, besides link-local addresses.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Near addresses remembered of one upstream: it has a few.
const NEAR_MAX: usize = 32;

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl connect::Connection for Connection {
    fn connected(&self) -> connect::Connected {
        connect::Connected::new().extra(Peer(self.peer))
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
    use super::*;

    #[test]
    fn addresses_of_this_machine_its_link_and_metadata_are_near_in_any_dress() {
        let near = [
            "127.0.0.1",
            "127.8.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "255.255.255.255",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "64:ff9b::169.254.169.254",
            "fd00:ec2::254",
        ];
        for text in near {
            assert!(is_near(text.parse().unwrap()), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1", "64:ff9b::192.0.2.1"] {
            assert!(!is_near(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_redirect_reaches_a_near_address_only_where_the_upstream_has_it() {
        let (near, [own, other, far]) =
            (Near::default(), ["127.0.0.1", "::1", "192.0.2.1"].map(|text| text.parse().unwrap()));
        assert!(!near.admits(own, NamedBy::Redirect));
        assert!(near.admits(own, NamedBy::Settings));
        assert!(near.admits(own, NamedBy::Redirect));
        assert!(!near.admits(other, NamedBy::Redirect));
        assert!(near.admits(far, NamedBy::Redirect));
    }

    #[test]
    fn urls_are_places_with_the_ports_of_their_schemes() {
        let target = |text: &str| Target::of(&text.parse().unwrap());
        assert_eq!(target("http://au.example/a").unwrap().port, 80);
        let secure = target("https://[2001:db8::1]/a").unwrap();
        assert_eq!((secure.port, secure.tls.is_some()), (443, true));
        assert_eq!(target("https://au.example:8443/").unwrap().port, 8443);
        assert!(matches!(target("/a"), Err(ConnectError::Target)));
    }
}
