//! The HTTP clients that upstreams are asked with: connections kept, TLS checked against the system's authorities.
//!
//! Each origin has its own, and one more for where it redirects to, so that no connection of the one serves the other; what
//! agents ask of other servers goes by a [`Forwarder`], whose connections no origin shares.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use tracing::warn;

use crate::base::clock::Clock;
use crate::base::destination::Destination;
use crate::config::elsewhere::RouteSettings;
use crate::config::settings::{ReachSettings, UpstreamSettings};
use crate::policy::reach::{Destinations, Passage};
use crate::upstream::connect::{ConnectError, Connector, NamedBy, Own, Shared, destination};
use crate::upstream::credentials::CredentialsError;
use crate::upstream::failed::Failed;
use crate::upstream::parent::Parent;
use crate::upstream::resolve::{Files, Resolver};
use crate::upstream::routes::Routes;
use crate::upstream::stream::Io;
use crate::upstream::watch::{Step, Watcher, Witness};
use crate::upstream::ways::{Way, WayError, Ways, tunnel};

/// Makes the clients of a relay, which share what they know of names and addresses.
#[derive(Clone, Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    destinations: Arc<Destinations>,
}

/// The client for what agents ask of other servers, with bodies of type `B`.
#[derive(Debug)]
pub struct Forwarder<B> {
    /// For mounts, which may be reached in ways of their own.
    mounts: HashMap<Destination, Ways<B>>,
    others: Ways<B>,
}

/// The client of one origin.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// For the host that the settings name.
    home: Ways<Empty<Bytes>>,
    /// For hosts that the origin redirects to.
    away: Ways<Empty<Bytes>>,
}

/// Why the client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The file of authorities cannot be read.
    #[error("upstream.ca_file {path}: {reason}", path = path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What a parent is to be told cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Clients {
    /// What connections need; reads the file of authorities, and what parents are told. `destinations` says where redirects
    /// and agents may lead.
    pub fn new(
        settings: &UpstreamSettings,
        routes: &[RouteSettings],
        destinations: Arc<Destinations>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Self::watched(settings, routes, destinations, clock, Watcher::default())
    }

    /// The same, and who watches is told all that happens.
    pub fn watched(
        settings: &UpstreamSettings,
        routes: &[RouteSettings],
        destinations: Arc<Destinations>,
        clock: Arc<dyn Clock>,
        watcher: Watcher,
    ) -> Result<Self, ClientError> {
        let routes = Routes::new(routes, &settings.no_proxy);
        let parents = routes.parents().iter().map(|parent| Parent::new(parent).map(Arc::new));
        let shared = Shared {
            resolver: Resolver::new(settings, Files::default()),
            parents: parents.collect::<Result<_, _>>()?,
            routes,
            failed: Failed::new(clock.clone()),
            clock,
            tls: Arc::new(tls(settings.ca_file.as_deref(), &watcher)?),
            connect: settings.connect,
            attempt_delay: settings.attempt_delay,
            watcher,
        };
        Ok(Self { shared: Arc::new(shared), destinations })
    }

    /// A client for one origin.
    pub fn client(&self, reach: ReachSettings) -> Client {
        let own = Arc::new(Own::default());
        let home = Ways::new(&self.shared, reach, NamedBy::Settings(own.clone()));
        let away = Ways::new(&self.shared, reach, NamedBy::Redirect(own, self.destinations.clone()));
        Client { shared: self.shared.clone(), home, away }
    }

    /// A client for what agents ask, and for mounts in their own ways; of two that lead to one place the first counts.
    pub fn forwarder<B>(&self, mounts: impl IntoIterator<Item = (Destination, ReachSettings)>) -> Forwarder<B>
    where
        B: Body<Data: Send> + Send + Unpin + 'static,
    {
        let by_agents = |reach| Ways::new(&self.shared, reach, NamedBy::Agents(self.destinations.clone()));
        let mut ways = HashMap::new();
        for (destination, reach) in mounts {
            ways.entry(destination).or_insert_with(|| by_agents(reach));
        }
        Forwarder { mounts: ways, others: by_agents(ReachSettings::default()) }
    }

    /// A connection to where a passage leads, by no parent that listens at these ports of this machine.
    pub async fn tunnel(&self, passage: Passage, own: &[u16]) -> Result<Io, ConnectError> {
        // What is spoken in a tunnel is not known: it is connected to as in clear text.
        let uri = format!("http://{}/", passage.destination()).parse().map_err(|_| ConnectError::Target)?;
        let named_by = NamedBy::Agent(passage);
        let connector = Connector { shared: self.shared.clone(), reach: ReachSettings::default(), named_by };
        Ok(tunnel(connector, uri, own).await?.into_io())
    }

    /// Whether others lead by the same ways to the same places: routes, what parents are told, and rules.
    pub fn lead_alike(&self, other: &Self) -> bool {
        self.shared.routes.are_alike(&other.shared.routes)
            && self.shared.parents == other.shared.parents
            && self.destinations == other.destinations
    }

    /// Where agents and redirects may lead.
    pub fn destinations(&self) -> &Arc<Destinations> {
        &self.destinations
    }
}

impl<B> Clone for Forwarder<B> {
    fn clone(&self) -> Self {
        Self { mounts: self.mounts.clone(), others: self.others.clone() }
    }
}

impl<B> Forwarder<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    /// Sends a request whose URI is absolute, and notes which way it went.
    pub async fn send(&self, request: Request<B>, way: &Way) -> Result<Response<Incoming>, WayError> {
        let to = destination(request.uri()).ok();
        let ways = to.and_then(|to| self.mounts.get(&to)).unwrap_or(&self.others);
        ways.send(request, way).await
    }

    /// The way that a request went gave an answer, or failed to.
    pub fn note(&self, way: &Way, answered: bool) {
        self.others.note(way, answered);
    }
}

/// Who named the host that an origin's client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The settings.
    Home,
    /// The origin, by a redirect.
    Away,
}

impl Client {
    /// Sends a request, and notes which way it went.
    pub(super) async fn request(
        &self,
        request: Request<Empty<Bytes>>,
        host: Host,
        way: &Way,
    ) -> Result<Response<Incoming>, WayError> {
        let watcher = &self.shared.watcher;
        if watcher.is_there() {
            let uri = request.uri().to_string();
            watcher.tell(|| Step::Sent(request.method().as_str(), &uri));
        }
        let answer = match host {
            Host::Home => self.home.send(request, way).await,
            Host::Away => self.away.send(request, way).await,
        }?;
        watcher.tell(|| Step::Answer(answer.status(), answer.headers()));
        Ok(answer)
    }

    /// The way that a request went gave an answer, or failed to.
    pub(super) fn note(&self, way: &Way, answered: bool) {
        self.home.note(way, answered);
    }
}

/// Whom TLS trusts: who watches is told of each certificate.
fn tls(ca_file: Option<&Path>, watcher: &Watcher) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let roots = authorities(ca_file)?;
    if !watcher.is_there() {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let inner = inner.map_err(|error| rustls::Error::General(error.to_string()))?;
    let witness = Arc::new(Witness { inner, watcher: watcher.clone() });
    Ok(builder.dangerous().with_custom_certificate_verifier(witness).with_no_client_auth())
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        warn!(%error, "the system's certificate authorities could not all be read");
    }
    roots.add_parsable_certificates(system.certs);
    let Some(path) = ca_file else { return Ok(roots) };
    let refuse = |reason: String| ClientError::CaFile { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error: io::Error| refuse(error.to_string()))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
        count += 1;
    }
    if count == 0 { Err(refuse("it holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}
