//! The HTTP clients that upstreams are asked with: connections kept, TLS checked against the system's authorities.
//!
//! Each origin has its own, and one more for where it redirects to, so that no connection of the one serves the other; what
//! agents ask of other servers goes by a [`Forwarder`], whose connections no origin shares.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::http::Extensions;
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use tracing::warn;

use crate::base::clock::Clock;
use crate::base::destination::Destination;
use crate::config::settings::{ReachSettings, UpstreamSettings};
use crate::policy::reach::{Destinations, Passage};
use crate::upstream::connect::{ConnectError, Connector, Io, NamedBy, Own, Peer, Shared};
use crate::upstream::failed::Failed;
use crate::upstream::http::causes;
use crate::upstream::resolve::{Files, Resolver};

/// Connections to one upstream host that are kept open unused: as many as prefetch uses, with room.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long an unused connection is kept: under the 60 s after which many servers close theirs.
const IDLE: Duration = Duration::from_secs(45);

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
    mounts: HashMap<Destination, legacy::Client<Connector, B>>,
    others: legacy::Client<Connector, B>,
}

/// Why a request of an agent has no answer.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// There is no connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// It broke, or what came is no HTTP.
    #[error("{0}")]
    Broken(String),
}

/// The client of one origin.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// For the host that the settings name.
    home: Pooled,
    /// For hosts that the origin redirects to.
    away: Pooled,
}

type Pooled = legacy::Client<Connector, Empty<Bytes>>;

/// Which connection a request went over, as far as is known.
#[derive(Debug, Default)]
pub struct Way {
    /// Guards the last request's connection.
    captured: Mutex<Option<CaptureConnection>>,
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
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Clients {
    /// What connections need; reads the file of authorities. `destinations` says where redirects and agents may lead.
    pub fn new(
        settings: &UpstreamSettings,
        destinations: Arc<Destinations>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let provider = rustls::crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities(settings.ca_file.as_deref())?)
            .with_no_client_auth();
        let shared = Shared {
            resolver: Resolver::new(settings, Files::default()),
            failed: Failed::new(clock.clone()),
            clock,
            tls: Arc::new(tls),
            connect: settings.connect,
            attempt_delay: settings.attempt_delay,
        };
        Ok(Self { shared: Arc::new(shared), destinations })
    }

    /// A client for one origin.
    pub fn client(&self, reach: ReachSettings) -> Client {
        let own = Arc::new(Own::default());
        let home = self.pooled(reach, NamedBy::Settings(own.clone()));
        let away = self.pooled(reach, NamedBy::Redirect(own, self.destinations.clone()));
        Client { shared: self.shared.clone(), home, away }
    }

    /// A client for what agents ask, and for mounts in their own ways; of two that lead to one place the first counts.
    pub fn forwarder<B>(&self, mounts: impl IntoIterator<Item = (Destination, ReachSettings)>) -> Forwarder<B>
    where
        B: Body<Data: Send> + Send + 'static,
    {
        let by_agents = |reach| self.pooled(reach, NamedBy::Agents(self.destinations.clone()));
        let mut ways = HashMap::new();
        for (destination, reach) in mounts {
            ways.entry(destination).or_insert_with(|| by_agents(reach));
        }
        Forwarder { mounts: ways, others: by_agents(ReachSettings::default()) }
    }

    /// A connection to where a passage leads.
    pub async fn tunnel(&self, passage: Passage) -> Result<Io, ConnectError> {
        // What is spoken in a tunnel is not known: it is connected to as in clear text.
        let uri = format!("http://{}/", passage.destination()).parse().map_err(|_| ConnectError::Target)?;
        let named_by = NamedBy::Agent(passage);
        let connector = Connector { shared: self.shared.clone(), reach: ReachSettings::default(), named_by };
        Ok(connector.connect(uri).await?.into_io())
    }

    /// Where agents and redirects may lead.
    pub fn destinations(&self) -> &Arc<Destinations> {
        &self.destinations
    }

    fn pooled<B>(&self, reach: ReachSettings, named_by: NamedBy) -> legacy::Client<Connector, B>
    where
        B: Body<Data: Send> + Send,
    {
        let connector = Connector { shared: self.shared.clone(), reach, named_by };
        legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector)
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
    /// Sends a request whose URI is absolute.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, ForwardError> {
        let https = request.uri().scheme_str() == Some("https");
        let port = request.uri().port_u16().unwrap_or(if https { 443 } else { 80 });
        let to = request.uri().host().and_then(|host| Destination::new(host, port).ok());
        let client = to.and_then(|to| self.mounts.get(&to)).unwrap_or(&self.others);
        client.request(request).await.map_err(|error| ForwardError::new(&error))
    }
}

impl ForwardError {
    fn new(error: &legacy::Error) -> Self {
        let mut under: Option<&dyn Error> = Some(error);
        while let Some(error) = under {
            match error.downcast_ref::<ConnectError>() {
                Some(connect) => return Self::Connect(connect.clone()),
                None => under = error.source(),
            }
        }
        Self::Broken(causes(error))
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
        mut request: Request<Empty<Bytes>>,
        host: Host,
        way: &Way,
    ) -> Result<Response<Incoming>, legacy::Error> {
        way.set(capture_connection(&mut request));
        match host {
            Host::Home => self.home.request(request).await,
            Host::Away => self.away.request(request).await,
        }
    }

    /// The address that a request went to gave an answer, or failed to.
    pub(super) fn note(&self, way: &Way, answered: bool) {
        match way.peer() {
            Some(peer) if answered => self.shared.failed.forget(peer),
            Some(peer) => self.shared.failed.note(peer),
            None => {}
        }
    }
}

impl Way {
    fn set(&self, captured: CaptureConnection) {
        *self.captured.lock().unwrap_or_else(PoisonError::into_inner) = Some(captured);
    }

    /// The other end of the connection; `None` while there is none.
    fn peer(&self) -> Option<SocketAddr> {
        let captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        let mut extensions = Extensions::new();
        captured.as_ref()?.connection_metadata().as_ref()?.get_extras(&mut extensions);
        extensions.get::<Peer>().map(|peer| peer.0)
    }
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
