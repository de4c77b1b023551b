//! An agent's request for a certificate (PKCS #10, RFC 2986), of which its public key alone is taken.
//!
//! What else it asks for, be it a name, a use or to be an authority, is not read: who the agent is, is known before. Invariant: whoever
//! made a request that is taken has the private key, and the key is one that a TLS handshake takes.

use rcgen::SubjectPublicKeyInfo;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use thiserror::Error;
use webpki::RawPublicKeyEntity;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Bytes of a request: one of the largest key that is taken has 3 KiB in PEM.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Bits of an RSA key (NIST SP 800-57 part 1, section 5.6): smaller ones can be broken, and no handshake takes them.
const RSA_BITS_MIN: usize = 2048;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is longer than any.
    #[error("a signing request has at most {REQUEST_BYTES_MAX} bytes")]
    TooLong,
    /// It cannot be read.
    #[error("it is no certificate signing request in PEM or DER (PKCS #10)")]
    NotOne,
    /// Its key is weak.
    #[error("an RSA key has at least {RSA_BITS_MIN} bits")]
    Weak,
    /// Its key or its signature is of another kind, or the signature is not by the key.
    #[error(
        "its signature is not by its key, or either is of a kind that is not taken: RSA of 2048 to 8192 bits, ECDSA on P-256 or \
        P-384, or Ed25519; with SHA-256 or better"
    )]
    Unproven,
}

/// The public key of a request in PEM or DER, whose owner has signed it.
pub(super) fn proven_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if request.len() > REQUEST_BYTES_MAX {
        return Err(RequestError::TooLong);
    }
    // A sequence's tag in DER; in PEM it would be the digit 0.
    if request.first() == Some(&0x30) {
        return of_der(request);
    }
    let (_, pem) = parse_x509_pem(request).map_err(|_| RequestError::NotOne)?;
    // Windows writes the second one (RFC 7468 section 7).
    match &*pem.label {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => of_der(&pem.contents),
        _ => Err(RequestError::NotOne),
    }
}

fn of_der(request: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    let parsed = X509CertificationRequest::from_der(request);
    let (_, request) = parsed.ok().filter(|(rest, _)| rest.is_empty()).ok_or(RequestError::NotOne)?;
    let asked = &request.certification_request_info;
    let key = &asked.subject_pki;
    if matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() < RSA_BITS_MIN) {
        return Err(RequestError::Weak);
    }
    if !is_signed_by(key.raw, asked.raw, &request.signature_value.data) {
        return Err(RequestError::Unproven);
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| RequestError::Unproven)
}

/// Whether these bytes have been signed with the key whose public half this is, in any way that a TLS handshake takes. Which way it
/// was is not asked: a signature that fits in one of them proves the key.
pub(super) fn is_signed_by(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let public_key = SubjectPublicKeyInfoDer::from(public_key);
    let Ok(key) = RawPublicKeyEntity::try_from(&public_key) else { return false };
    let mut ways = default_provider().signature_verification_algorithms.all.iter();
    ways.any(|way| key.verify_signature(*way, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PublicKeyData as _,
    };

    use super::*;

    fn request(key: &KeyPair) -> (Vec<u8>, String) {
        let request = CertificateParams::new(vec!["pc.test".into()]).unwrap().serialize_request(key).unwrap();
        (request.der().to_vec(), request.pem().unwrap())
    }

    #[test]
    fn the_key_of_a_request_is_taken_from_der_and_from_either_pem() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let (der, pem) = request(&key);
            let windows = pem.replace("CERTIFICATE", "NEW CERTIFICATE").replace('\n', "\r\n");
            for text in [&der[..], pem.as_bytes(), windows.as_bytes()] {
                let taken = proven_key(text).unwrap();
                assert_eq!(taken.subject_public_key_info(), key.subject_public_key_info());
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let key = KeyPair::generate().unwrap();
        let (der, pem) = request(&key);
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        for text in [
            b"".to_vec(),
            b"junk".to_vec(),
            b"-----BEGIN CERTIFICATE REQUEST-----\n!\n-----END CERTIFICATE REQUEST-----\n".to_vec(),
            certificate.pem().into(),
            certificate.der().to_vec(),
            key.serialize_pem().into(),
            pem.replace("CERTIFICATE REQUEST", "CERTIFICATE").into(),
            [&der[..], b"\0"].concat(),
        ] {
            assert_eq!(proven_key(&text).unwrap_err(), RequestError::NotOne, "{}", text.escape_ascii());
        }
        for len in 0..der.len() {
            proven_key(&der[..len]).unwrap_err();
        }
        let long = [pem.as_bytes(), &vec![b'\n'; REQUEST_BYTES_MAX]].concat();
        assert_eq!(proven_key(&long).unwrap_err(), RequestError::TooLong);
    }

    #[test]
    fn a_request_that_was_changed_gives_no_other_key() {
        let key = KeyPair::generate().unwrap();
        let (der, _) = request(&key);
        let own = key.subject_public_key_info();
        let at = der.windows(own.len()).position(|window| window == own).unwrap();
        let other = KeyPair::generate().unwrap().subject_public_key_info();
        let stolen = [&der[..at], &other, &der[at + own.len()..]].concat();
        assert_eq!(proven_key(&stolen).unwrap_err(), RequestError::Unproven);
        for index in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[index] ^= 1 << bit;
                // The kind of signature that it names is not asked.
                if let Ok(taken) = proven_key(&changed) {
                    assert_eq!(taken.subject_public_key_info(), own, "byte {index}");
                }
            }
        }
    }
}
