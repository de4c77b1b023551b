//! The HTTP clients that upstreams are asked with: connections kept, TLS checked against the system's authorities.
//!
//! Each origin has its own, and one more for where it redirects to, so that no connection of the one serves the other.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
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
use crate::config::settings::{ReachSettings, UpstreamSettings};
use crate::upstream::connect::{Connector, NamedBy, Near, Peer, Shared};
use crate::upstream::failed::Failed;
use crate::upstream::resolve::{Files, Resolver};

/// Connections to one upstream host that are kept open unused: as many as prefetch uses, with room.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long an unused connection is kept: under the 60 s after which many servers close theirs.
const IDLE: Duration = Duration::from_secs(45);

/// Makes the clients of a relay, which share what they know of names and addresses.
#[derive(Clone, Debug)]
pub struct Clients {
    shared: Arc<Shared>,
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
    /// What connections need; reads the file of authorities.
    pub fn new(settings: &UpstreamSettings, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
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
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A client for one origin.
    pub fn client(&self, reach: ReachSettings) -> Client {
        let near = Arc::new(Near::default());
        let pooled = |named_by| {
            let connector = Connector { shared: self.shared.clone(), reach, near: near.clone(), named_by };
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .build(connector)
        };
        let (home, away) = (pooled(NamedBy::Settings), pooled(NamedBy::Redirect));
        Client { shared: self.shared.clone(), home, away }
    }
}

impl Client {
    /// Sends a request, and notes which way it went.
    pub(super) async fn request(
        &self,
        mut request: Request<Empty<Bytes>>,
        named_by: NamedBy,
        way: &Way,
    ) -> Result<Response<Incoming>, legacy::Error> {
        way.set(capture_connection(&mut request));
        match named_by {
            NamedBy::Settings => self.home.request(request).await,
            NamedBy::Redirect => self.away.request(request).await,
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
