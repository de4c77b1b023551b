//! Connections to upstreams: the race of their addresses on real sockets, through TLS where there is TLS.
//!
//! Each attempt is a socket with its handshake; losing ones are dropped, which closes them. Never decides which attempt comes
//! next: that is the [`race`](crate::upstream::race). Invariant (R4.6): a connection that an agent or a redirect asked for leads
//! to a reserved address only where a rule lists it, or, for a redirect, where the upstream of the settings leads there itself.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tracing::debug;

use crate::base::clock::Clock;
use crate::base::destination::Destination;
use crate::base::nat64::Prefix;
use crate::base::reserved::reserved;
use crate::config::settings::ReachSettings;
use crate::policy::decide::Refusal;
use crate::policy::reach::{Destinations, Passage};
use crate::upstream::failed::Failed;
use crate::upstream::parent::{Parent, known_address};
use crate::upstream::race::{Loss, Next, Plan, Question, Race};
use crate::upstream::resolve::{Kind, Resolver, Source};
use crate::upstream::routes::Routes;
use crate::upstream::stream::{Connection, End, Io};
use crate::upstream::unreached::Unreached;
use crate::upstream::watch::{Step, Watcher};

/// What all connections of a relay share.
#[derive(Debug)]
pub struct Shared {
    /// Who knows names.
    pub resolver: Resolver,
    /// Which ways lead where.
    pub routes: Routes,
    /// The routes' parents, by their numbers.
    pub parents: Vec<Arc<Parent>>,
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
    /// Who is told what happens.
    pub watcher: Watcher,
}

/// Connects to one upstream, or to where it redirects. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    /// What is shared with others.
    pub shared: Arc<Shared>,
    /// Which addresses are used.
    pub reach: ReachSettings,
    /// Who named the host.
    pub named_by: NamedBy,
}

/// Who named a host.
#[derive(Clone, Debug)]
pub enum NamedBy {
    /// The administrator, as an upstream; the reserved addresses that it has are remembered.
    Settings(Arc<Own>),
    /// That upstream. Where it may lead besides its own addresses is as for agents.
    Redirect(Arc<Own>, Arc<Destinations>),
    /// Agents that may ask there; which of them does not matter.
    Agents(Arc<Destinations>),
    /// An agent that has this passage.
    Agent(Passage),
}

/// Reserved addresses to which an upstream leads itself.
#[derive(Debug, Default)]
pub struct Own {
    /// Guards the addresses.
    addresses: Mutex<HashSet<IpAddr>>,
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
pub enum ConnectError {
    /// The URL names no place.
    #[error("the URL names no host that can be connected to")]
    Target,
    /// The place has addresses that may not be connected to, and no others.
    #[error("{0}")]
    Refused(Refusal),
    /// Each attempt failed: which, and why.
    #[error("{1}")]
    Lost(Unreached, String),
    /// A parent failed: why, and whether it leads nowhere else either.
    #[error("{0}")]
    Parent(String, bool),
}

/// Where a connection is to lead.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// The name of its certificate, where TLS is to be spoken.
    pub(super) tls: Option<ServerName<'static>>,
}

enum Event {
    /// Addresses, and the NAT64 prefixes that some of them may lie under.
    Answered(Question, Result<(Vec<IpAddr>, Vec<Prefix>), String>),
    Ended(IpAddr, io::Result<Io>),
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self, ConnectError> {
        let host = uri.host().ok_or(ConnectError::Target)?;
        let secure = uri.scheme_str() == Some("https");
        let name = host.trim_matches(['[', ']']).to_owned();
        let tls = secure.then(|| ServerName::try_from(name)).transpose().map_err(|_| ConnectError::Target)?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl ConnectError {
    /// Why nobody was reached; `None` where nobody was to be.
    pub fn unreached(&self) -> Option<Unreached> {
        match self {
            Self::Target | Self::Refused(_) => None,
            Self::Lost(unreached, _) => Some(*unreached),
            Self::Parent(..) => Some(Unreached::Parent),
        }
    }
}

impl Own {
    fn note(&self, address: IpAddr) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() < OWN_MAX {
            addresses.insert(address);
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }
}

impl NamedBy {
    /// Whether an address of a place may be connected to. `nat64` are the prefixes of this network.
    fn admits(&self, to: &Destination, address: IpAddr, nat64: &[Prefix]) -> Result<(), Refusal> {
        match self {
            Self::Settings(own) => {
                if reserved(address, nat64).is_some() {
                    own.note(address);
                }
                Ok(())
            }
            Self::Redirect(own, _) if own.has(address) => Ok(()),
            Self::Redirect(_, destinations) | Self::Agents(destinations) => {
                destinations.judge(to).admits(address, nat64)
            }
            Self::Agent(passage) => passage.admits(address, nat64),
        }
    }
}

/// The place that a URI leads to.
pub(super) fn destination(uri: &Uri) -> Result<Destination, ConnectError> {
    let target = Target::of(uri)?;
    Destination::new(&target.host, target.port).map_err(|_| ConnectError::Target)
}

impl Connector {
    /// Judges a place whose name is another one's to resolve: by the address that it has all the same, if it has one.
    pub(super) async fn judge(&self, to: &Destination) -> Result<(), ConnectError> {
        let Some(address) = known_address(to) else { return Ok(()) };
        let nat64 = if address.is_ipv6() { self.prefixes().await } else { Vec::new() };
        self.named_by.admits(to, address, &nat64).map_err(ConnectError::Refused)
    }

    /// Connects to where a URI leads, directly.
    pub async fn connect(self, uri: Uri) -> Result<Connection, ConnectError> {
        let target = Target::of(&uri)?;
        let to = destination(&uri)?;
        let Shared { clock, resolver, failed, watcher, .. } = &*self.shared;
        let place = |address| SocketAddr::new(address, target.port);
        let mut race = Race::new(Plan {
            family: self.reach.family,
            attempt_delay: self.shared.attempt_delay,
            nat64: resolver.embeds(),
        });
        let deadline = clock.monotonic() + self.shared.connect;
        let mut events = FuturesUnordered::new();
        let mut attempts: Vec<(IpAddr, AbortHandle)> = Vec::new();
        let (mut won, mut refused, mut unreached) = (None, None, Unreached::Name);
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
                    watcher.tell(|| Step::Attempt(place(address)));
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
                    let end = End::Server(place(address));
                    watcher.tell(|| Step::Won(place(address)));
                    return won.map(|io| Connection::new(io, end)).ok_or(ConnectError::Target);
                }
                Next::Lost => {
                    let tried = race.losses().iter().any(Loss::is_attempt);
                    let refused = refused.filter(|_| !tried).map(ConnectError::Refused);
                    return Err(refused.unwrap_or_else(|| lost(&race, target.port, unreached, None)));
                }
                Next::Wait(until) => until.map_or(deadline, |until| until.min(deadline)),
            };
            if now >= deadline {
                failed_all(failed, race.under_way().map(place));
                let unreached = unreached.max(Unreached::Silent);
                return Err(lost(&race, target.port, unreached, Some(self.shared.connect)));
            }
            match tokio::time::timeout(wait.saturating_sub(now), events.next()).await {
                Ok(Some(Ok(Event::Answered(question, answer)))) => {
                    let admitted = answer.map(|(mut addresses, nat64)| {
                        addresses.retain(|address| match self.named_by.admits(&to, *address, &nat64) {
                            Ok(()) => true,
                            Err(refusal) => {
                                let reason = refusal.to_string();
                                watcher.tell(|| Step::Refused(*address, &reason));
                                refused.get_or_insert(refusal);
                                false
                            }
                        });
                        addresses
                    });
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
                    unreached = unreached.max(Unreached::by(&error));
                    let reason = error.to_string();
                    watcher.tell(|| Step::Failed(place(address), &reason));
                    race.failed(address, reason);
                }
                // An attempt that was given up; or the time came.
                Ok(Some(Err(_))) | Err(_) => {}
                // The race waits for what nobody does any more; its deadline still counts.
                Ok(None) => tokio::time::sleep(wait.saturating_sub(now)).await,
            }
        }
    }

    async fn ask(&self, host: &str, question: Question, ipv4: Vec<Ipv4Addr>) -> Event {
        let Shared { resolver, watcher, .. } = &*self.shared;
        watcher.tell(|| Step::Asked(host, question));
        let (source, answer) = match question {
            Question::Aaaa => resolver.find(host, Kind::Aaaa).await,
            Question::A => resolver.find(host, Kind::A).await,
            Question::Embedded => {
                let embedded = resolver.nat64().await.map(|prefixes| {
                    watcher.tell(|| Step::Embeds(&prefixes));
                    let embed = |v4| prefixes.iter().filter_map(move |prefix| prefix.embed(v4));
                    ipv4.into_iter().flat_map(embed).map(IpAddr::V6).collect()
                });
                (Source::Nat64, embedded)
            }
        };
        let told = answer.as_deref().map_err(String::as_str);
        watcher.tell(|| Step::Answered(host, question, source, told));
        let nat64 = match &answer {
            Ok(addresses) if addresses.iter().any(IpAddr::is_ipv6) => self.prefixes().await,
            _ => Vec::new(),
        };
        Event::Answered(question, answer.map(|addresses| (addresses, nat64)))
    }

    /// The network's NAT64 prefixes, where they are needed to see what an address carries. A network that does not answer the
    /// question has none that anybody uses.
    async fn prefixes(&self) -> Vec<Prefix> {
        match self.named_by {
            NamedBy::Settings(_) => Vec::new(),
            _ => self.shared.resolver.nat64().await.unwrap_or_default(),
        }
    }

    fn attempt(
        &self,
        address: SocketAddr,
        tls: Option<ServerName<'static>>,
    ) -> impl Future<Output = io::Result<Io>> + use<> {
        let (reach, shared) = (self.reach, self.shared.clone());
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
            let Some(name) = tls else { return Ok(Io::Plain(stream)) };
            shared.watcher.tell(|| Step::Opened(address));
            let shaken = shake(&shared, name, Io::Plain(stream)).await;
            shaken.map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}")))
        }
    }
}

/// Speaks TLS with who has a certificate for this name.
pub(super) async fn shake(shared: &Shared, name: ServerName<'static>, io: Io) -> io::Result<Io> {
    let stream = TlsConnector::from(shared.tls.clone()).connect(name, io).await?;
    shared.watcher.tell(|| Step::Secured(stream.get_ref().1.protocol_version()));
    Ok(Io::Tls(Box::new(stream)))
}

fn failed_all(failed: &Failed, addresses: impl IntoIterator<Item = SocketAddr>) {
    addresses.into_iter().for_each(|address| failed.note(address));
}

/// What was tried and what came of it, in one line.
fn lost(race: &Race, port: u16, unreached: Unreached, deadline: Option<Duration>) -> ConnectError {
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
    let told = match (&told[..], deadline) {
        ([], None) => Unreached::Name.to_string(),
        ([], Some(_)) => "no name server answered in time".to_owned(),
        _ => told.join("; "),
    };
    ConnectError::Lost(unreached, told)
}

/// Reserved addresses remembered of one upstream: it has a few.
const OWN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_reaches_a_reserved_address_only_where_the_upstream_has_it_or_a_rule_lists_it_r4_6() {
        use crate::base::destination::HostPattern;
        use crate::policy::reach::{Rule, Tunnels};

        let [own, other, listed, far] =
            ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1"].map(|text| text.parse().unwrap());
        let hosts = vec![HostPattern::Prefix("10.0.0.0/8".parse().unwrap())];
        let rule = Rule { name: "inside".into(), hosts, ports: vec![80], tunnels: Tunnels::Never };
        let destinations = Arc::new(Destinations::new([], vec![rule]));
        let known = Arc::new(Own::default());
        let settings = NamedBy::Settings(known.clone());
        let redirect = NamedBy::Redirect(known, destinations);
        let to = Destination::new("au.example", 80).unwrap();
        let admits = |named_by: &NamedBy, address| named_by.admits(&to, address, &[]).is_ok();
        assert!(!admits(&redirect, own));
        assert!(admits(&settings, own));
        assert!(admits(&redirect, own));
        assert!(!admits(&redirect, other));
        assert!(admits(&redirect, listed) && admits(&redirect, far));
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
