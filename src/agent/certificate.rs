//! A client's certificate with its private key, and a new key for which one is asked.
//!
//! Never does I/O, and never shows a key: what is wrong with one is said in words of our own. Invariant: a certificate and a key that are
//! held together fit each other.

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// What the agent shows to its relay.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    shown: CertifiedKey,
    /// Its first and its last second, since 1970.
    from: i64,
    until: i64,
}

/// A private key that is nowhere else yet, and never goes out.
pub(super) struct NewKey(KeyPair);

/// Why a certificate cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum CertificateError {
    #[error("it holds no certificate in PEM")]
    NoCertificate,
    #[error("it holds no private key in PEM")]
    NoKey,
    #[error("its certificate cannot be read")]
    Unread,
    #[error("its key cannot be used, or is not its certificate's")]
    Key,
    #[error("no key can be made")]
    Make,
}

/// The part of its time that a certificate is to have left when it is renewed: of a year four months, in which the agent was on once.
const LEFT: i64 = 3;

impl Certificate {
    /// Reads a certificate, with those that lead to its authority, and its key; both may stand in one text.
    pub(super) fn parse(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| CertificateError::NoCertificate)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let (_, read) = X509Certificate::from_der(first).map_err(|_| CertificateError::Unread)?;
        let validity = read.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let shown = CertifiedKey::from_der(chain, key, &default_provider());
        Ok(Self { shown: shown.map_err(|_| CertificateError::Key)?, from, until })
    }

    /// As TLS shows it.
    pub(super) fn shown(&self) -> CertifiedKey {
        self.shown.clone()
    }

    /// Whether it is the same as another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.shown.cert == other.shown.cert
    }

    /// Its last second.
    pub(super) fn until(&self) -> Timestamp {
        Timestamp::from_second(self.until).unwrap_or(Timestamp::MAX)
    }

    /// Whether it is over.
    pub(super) fn is_past(&self, now: Timestamp) -> bool {
        now.as_second() > self.until
    }

    /// Whether it is time for the next one.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let left = self.until.saturating_sub(now.as_second());
        left <= self.until.saturating_sub(self.from) / LEFT
    }
}

impl NewKey {
    /// Makes one: ECDSA on P-256, which every relay takes.
    pub(super) fn make() -> Result<Self, CertificateError> {
        KeyPair::generate().map(Self).map_err(|_| CertificateError::Make)
    }

    /// A request for a certificate (PKCS #10, PEM), signed by the key and without it.
    pub(super) fn request(&self) -> Result<String, CertificateError> {
        let signed = CertificateParams::default().serialize_request(&self.0);
        signed.and_then(|request| request.pem()).map_err(|_| CertificateError::Make)
    }

    /// The text of one file with the key and the certificate that was made for it: there is never one without the other.
    pub(super) fn with(&self, certificate: &str) -> String {
        format!("{}{certificate}", self.0.serialize_pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate from and to these years, in PEM, with its key.
    fn made(from: i32, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pc-1".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left_r5_5() {
        let (certificate, key) = made(2026, 2029);
        let certificate = Certificate::parse(certificate.as_bytes(), key.as_bytes()).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!certificate.is_due(at("2027-12-31T00:00Z")) && certificate.is_due(at("2028-01-02T00:00Z")));
        // A clock that is behind is no reason.
        assert!(!certificate.is_due(at("1970-01-01T00:00Z")));
        assert!(
            !certificate.is_past(at("2029-01-01T00:00:00Z"))
                && certificate.is_past(at("2029-01-01T00:00:01Z"))
        );
        assert_eq!(certificate.until(), at("2029-01-01T00:00Z"));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_no_key_is_shown_r5_5() {
        let ((one, own), (_, other)) = (made(2026, 2027), made(2026, 2027));
        let says = |chain: &str, key: &str| Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(says(&one, &other), CertificateError::Key);
        assert_eq!(says(&one, &one), CertificateError::NoKey);
        assert_eq!(says(&own, &own), CertificateError::NoCertificate);
        assert_eq!(says(&one.replace("MII", "AAA"), &own), CertificateError::Unread);
        let whole = format!("{own}{one}");
        let both = Certificate::parse(whole.as_bytes(), whole.as_bytes()).unwrap();
        let digits: String = own.lines().nth(1).unwrap().to_owned();
        assert!(!format!("{both:?}").contains(&digits));
    }

    #[test]
    fn a_request_holds_no_key_and_what_is_made_for_it_fits_r5_5() {
        let key = NewKey::make().unwrap();
        let request = key.request().unwrap();
        assert!(request.contains("CERTIFICATE REQUEST") && !request.contains("PRIVATE"));
        let certificate = CertificateParams::default().self_signed(&key.0).unwrap().pem();
        let file = key.with(&certificate);
        Certificate::parse(file.as_bytes(), file.as_bytes()).unwrap();
        let other = NewKey::make().unwrap().with(&certificate);
        assert_eq!(
            Certificate::parse(other.as_bytes(), other.as_bytes()).unwrap_err(),
            CertificateError::Key
        );
    }
}
