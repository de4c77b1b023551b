//! Whom a client believes that it speaks to, and what makes TLS with it.
//!
//! Invariant: a server is believed by an authority's word for the name or the address that it was asked under, and by nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio_rustls::TlsConnector;
use tracing::warn;

use crate::net::pem::certificates;

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody's: what is asked in clear text needs none.
    Nobody,
    /// Those of the system's authorities.
    System,
    /// Those of the system's authorities, and of the ones in a file.
    SystemAnd(PathBuf),
    /// Those of the authorities in a file.
    File(PathBuf),
}

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of authorities cannot be used.
    #[error("authorities in {path}: {reason}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What makes TLS, in which the client shows this; HTTP/1.1 is spoken over it.
pub(super) fn connector(
    roots: &Arc<RootCertStore>,
    shown: Option<CertifiedKey>,
) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots.clone());
    let mut tls = match shown {
        Some(shown) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(shown));
            builder.with_client_cert_resolver(shown)
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)))
}

/// The authorities that are believed.
pub(super) fn authorities(trust: &Trust) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Trust::System | Trust::SystemAnd(_) = trust {
        let system = rustls_native_certs::load_native_certs();
        for error in system.errors {
            warn!(%error, "the system's certificate authorities could not all be read");
        }
        roots.add_parsable_certificates(system.certs);
    }
    if let Trust::SystemAnd(path) | Trust::File(path) = trust {
        let refuse = |reason: String| TlsError::Authorities { path: path.clone(), reason };
        for certificate in certificates(path).map_err(refuse)? {
            roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
        }
    }
    Ok(roots)
}
