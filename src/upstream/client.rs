//! The HTTP client that upstreams are asked with: connections kept, TLS checked against the system's authorities.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use tracing::warn;

/// Connections to one upstream host that are kept open unused: as many as prefetch uses, with room.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long an unused connection is kept: under the 60 s after which many servers close theirs.
const IDLE: Duration = Duration::from_secs(45);

/// Cheap to clone; clones share their connections.
pub type Client = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

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

/// Makes a client. `ca_file` holds authorities in PEM that count beside the system's.
pub fn client(connect: Duration, ca_file: Option<&Path>) -> Result<Client, ClientError> {
    let provider = rustls::crypto::ring::default_provider();
    let tls = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(ca_file)?)
        .with_no_client_auth();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    Ok(builder.build(connector))
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
