//! One certificate of the relay's, or of who asks one, with its key, read from PEM files and checked: for which names it is, and that the
//! key is its own.
//!
//! Never says anything of a key's bytes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use webpki::EndEntityCert;

use crate::config::settings::CertificateFiles;
use crate::net::pem::{certificates, read};

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
#[error("TLS: {path}: {reason}", path = path.display())]
pub struct CertificateError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(super) files: CertificateFiles,
    /// Its DNS names in lower case, wildcards among them.
    pub(super) names: Vec<String>,
    /// It and the chain to its authority, with its key.
    pub key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads and checks both files.
    pub fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let of_chain = |reason: String| CertificateError { path: files.chain.clone(), reason };
        let of_key = |reason: String| CertificateError { path: files.key.clone(), reason };
        let chain = certificates(&files.chain).map_err(of_chain)?;
        let parsed = EndEntityCert::try_from(&chain[0])
            .map_err(|error| of_chain(format!("its first certificate cannot be used: {error}")))?;
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let text = read(&files.key).map_err(|error| of_key(error.to_string()))?;
        // What a parser says of a key may show some of it.
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| of_key("it holds no private key in PEM, or an encrypted one".into()))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                of_key(format!("it is not the key of the certificate in {}", files.chain.display()))
            }
            _ => of_key(
                "a private key of a kind that is not supported: RSA, ECDSA P-256 or P-384, or Ed25519".into(),
            ),
        })?;
        Ok(Self { files: files.clone(), names, key: Arc::new(key) })
    }

    /// Whether it is for this name, in lower case. A wildcard stands for one label (RFC 9525 section 6.3).
    pub(super) fn is_for(&self, name: &str, wildcards: Wildcards) -> bool {
        self.names.iter().any(|own| match (own.strip_prefix("*."), wildcards) {
            (None, _) => own == name,
            (Some(rest), Wildcards::Count) => name.split_once('.').is_some_and(|(_, parent)| parent == rest),
            (Some(_), Wildcards::Apart) => false,
        })
    }
}

/// Whether wildcards count when a certificate is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcards {
    Count,
    Apart,
}
