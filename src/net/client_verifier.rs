//! The handshake's side of a client's certificate: whoever shows one has its key, or there is no connection.
//!
//! Never asks who issued it: an agent may be known by a fingerprint alone, and what an authority vouches for is judged when the
//! handshake is done, of a resumed session as of a new one. Invariant: a certificate without its key ends the handshake.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use crate::net::client_certificate::is_bounded;

/// Asks for a certificate and demands none.
#[derive(Debug)]
pub(super) struct ClientVerifier(pub(super) WebPkiSupportedAlgorithms);

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client that is told of authorities keeps a certificate that none of them issued to itself, and one that is known by
    /// its fingerprint may be issued by anybody. Nobody is told either who issues a fleet's certificates.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !is_bounded(end_entity, intermediates) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
