//! Authorities that vouch for the names in clients' certificates, as the settings name them.
//!
//! Never vouches for anybody without the key: that the handshake saw. Invariant: what is vouched for is so at the time that is given.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::net::certificate::CertificateError;
use crate::net::client_certificate::is_a_clients;
use crate::net::pem::certificates;

/// All that vouch, in the order of the settings.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    pub(super) files: Vec<AuthorityFile>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// The authorities of one file.
#[derive(Clone, Debug)]
pub(super) struct AuthorityFile {
    pub(super) path: PathBuf,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Authorities {
    /// Those of these files.
    pub(super) fn of(files: Vec<AuthorityFile>) -> Self {
        let anchors = files.iter().flat_map(|file| file.anchors.clone()).collect();
        Self { files, anchors }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Finds one that vouches for the names in the first certificate of a chain, and that it is a client's.
    pub(super) fn vouch(
        &self,
        chain: &[CertificateDer<'_>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: UnixTime,
    ) -> Result<(), NotVouchedFor> {
        let Some((first, others)) = chain.split_first() else {
            return Err(webpki::Error::UnknownIssuer.into());
        };
        // This asks for the usage where a certificate of the chain says any: authorities seldom do.
        let usage = KeyUsage::client_auth();
        let certificate = EndEntityCert::try_from(first)?;
        certificate.verify_for_usage(algorithms, &self.anchors, others, now, usage, None, None)?;
        if is_a_clients(first) { Ok(()) } else { Err(NotVouchedFor::NotAClients) }
    }
}

/// Why nobody vouches for the names in a certificate.
#[derive(Debug, Error)]
pub(super) enum NotVouchedFor {
    #[error(transparent)]
    Chain(#[from] webpki::Error),
    #[error("it does not say that it is a client's (extended key usage clientAuth)")]
    NotAClients,
}

impl AuthorityFile {
    /// Reads and checks the file.
    pub(super) fn load(path: &Path) -> Result<Self, CertificateError> {
        let refuse = |reason: String| CertificateError { path: path.to_owned(), reason };
        let certificates = certificates(path).map_err(refuse)?;
        let anchors = certificates.iter().enumerate().map(|(index, certificate)| {
            let anchor = anchor_from_trusted_cert(certificate);
            let number = index + 1;
            let bad = |error| refuse(format!("certificate {number} in it cannot be used: {error}"));
            anchor.map(|anchor| anchor.to_owned()).map_err(bad)
        });
        Ok(Self { path: path.to_owned(), anchors: anchors.collect::<Result<_, _>>()? })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.anchors.len()
    }
}
