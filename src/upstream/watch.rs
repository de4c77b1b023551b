//! What happens on the way to another server, told as it happens to whoever watches: `forebay check upstream`.
//!
//! The relay itself is not watched: then nothing is made up, and a step costs a look at an `Option`. Never changes what happens.
//! Invariant: what is told comes from the code that does it, so that a check shows what the relay would do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::base::destination::Destination;
use crate::base::nat64::Prefix;
use crate::upstream::race::Question;
use crate::upstream::resolve::Source;

/// One step.
#[derive(Debug)]
pub enum Step<'a> {
    /// This way to a destination is tried: `None` for directly.
    Way(&'a Destination, Option<&'a str>),
    /// That way led nowhere.
    WayFailed(&'a Destination, Option<&'a str>, &'a str),
    /// A host is asked for.
    Asked(&'a str, Question),
    /// Its addresses, from where; or why they are not known.
    Answered(&'a str, Question, Source, Result<&'a [IpAddr], &'a str>),
    /// The prefixes under which IPv4 addresses are embedded.
    Embeds(&'a [Prefix]),
    /// An address is not connected to.
    Refused(IpAddr, &'a str),
    /// An attempt begins.
    Attempt(SocketAddr),
    /// Its socket is connected; TLS follows.
    Opened(SocketAddr),
    /// It failed.
    Failed(SocketAddr, &'a str),
    /// It won: it is the connection.
    Won(SocketAddr),
    /// A certificate that was shown for a name, and what is wrong with it.
    Certificate(&'a str, &'a CertificateDer<'a>, Option<&'a rustls::Error>),
    /// TLS is spoken.
    Secured(Option<ProtocolVersion>),
    /// A parent leads to the destination.
    Led(&'a str),
    /// A request was sent: where, and with which method.
    Sent(&'a str, &'a str),
    /// The head of an answer.
    Answer(StatusCode, &'a HeaderMap),
}

/// Who is told; nobody by default.
#[derive(Clone, Default)]
pub struct Watcher(Option<Arc<Tell>>);

type Tell = dyn Fn(Step<'_>) + Send + Sync;

impl Watcher {
    /// Tells this one. It is called where things happen, and is to be quick.
    pub fn new(tell: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Whether anybody is told.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Tells a step, which is made up only where somebody is told.
    pub(super) fn tell<'a>(&self, step: impl FnOnce() -> Step<'a>) {
        if let Some(tell) = &self.0 {
            tell(step());
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_there() { "Watcher(..)" } else { "Watcher" })
    }
}

/// Verifies as without it, and tells which certificates were shown.
#[derive(Debug)]
pub(super) struct Witness {
    /// Who verifies.
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// Who is told.
    pub(super) watcher: Watcher,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(own, between, name, ocsp, now);
        let shown = name.to_str();
        self.watcher.tell(|| Step::Certificate(&shown, own, verified.as_ref().err()));
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
