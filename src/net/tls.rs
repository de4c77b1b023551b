//! TLS towards agents and administrators: which certificate is shown to whom, what is spoken under it, and what the agent's own certificate says.
//!
//! Files are read again when they change. Never decides which agent a certificate is of. Invariants: once there was a good certificate
//! of a pair of files, or good authorities of a file, bad ones never take their place; a session that was begun without being asked for
//! a certificate is not resumed where one is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, crypto};
use rustls_pki_types::UnixTime;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info};

use crate::config::settings::TlsSettings;
use crate::net::certificate::{Certificate, CertificateError, Wildcards};
use crate::net::client_authorities::{Authorities, AuthorityFile};
use crate::net::client_certificate::{names, validity};
use crate::net::client_verifier::ClientVerifier;
use crate::net::pem::Stamp;
use crate::policy::identity::{self, Fingerprint};

/// Between two looks at the files. A change counts when two looks see the same: a chain and its key are seldom replaced in
/// one moment.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is spoken under TLS, the most wanted first (ALPN, RFC 7301). A client that names what is not here gets no connection.
pub type Protocols = &'static [&'static [u8]];

/// With agents.
pub const AGENTS: Protocols = &[b"h2", b"http/1.1", b"http/1.0"];

/// With administrators, who are few.
pub const ADMINISTRATORS: Protocols = &[b"http/1.1", b"http/1.0"];

/// The TLS side of a relay's listeners.
#[derive(Debug)]
pub struct Tls {
    /// Asks no client for a certificate. Its tickets are its own: whoever was not asked before is asked where the other one is used,
    /// and not taken for who had nothing to show.
    plain: Arc<ServerConfig>,
    /// Asks each client for a certificate.
    asking: Arc<ServerConfig>,
    shown: Arc<Shown>,
    authorities: ArcSwap<Authorities>,
    /// How many fingerprints of clients' certificates are known.
    fingerprints: AtomicUsize,
}

/// The certificates that are shown, in the order of the settings.
#[derive(Debug)]
struct Shown(ArcSwap<Vec<Certificate>>);

/// Certificates and authorities that were read and checked, to be shown and to vouch.
#[derive(Debug)]
pub struct Fresh {
    certificates: Vec<Certificate>,
    authorities: Authorities,
}

/// Files as they were when they were looked at.
type Look = Vec<(PathBuf, Stamp)>;

impl Tls {
    /// Reads the certificates, of which there is at least one, and the authorities.
    pub fn new(settings: &TlsSettings, protocols: Protocols) -> Result<Self, CertificateError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let certificates = settings.certificates.iter().map(|files| Certificate::load(files, &provider));
        let shown = Arc::new(Shown(ArcSwap::from_pointee(certificates.collect::<Result<_, _>>()?)));
        let files = settings.client_authorities.iter().map(|path| AuthorityFile::load(path));
        let authorities = ArcSwap::from_pointee(Authorities::of(files.collect::<Result<_, _>>()?));
        let verifier = Arc::new(ClientVerifier(provider.signature_verification_algorithms));
        let plain = config(&provider, Arc::new(NoClientAuth), &shown, protocols);
        let asking = config(&provider, verifier, &shown, protocols);
        Ok(Self { plain, asking, shown, authorities, fingerprints: AtomicUsize::new(0) })
    }

    /// What makes TLS streams of accepted ones. A client is asked for a certificate where something could come of it: an authority may
    /// vouch for it, or its fingerprint may be known. Some programs ask their users which certificate to show.
    pub fn acceptor(&self) -> TlsAcceptor {
        let asks = self.fingerprints.load(Ordering::Relaxed) > 0 || !self.authorities.load().is_empty();
        if asks { self.asking.clone().into() } else { self.plain.clone().into() }
    }

    /// Says how many fingerprints of clients' certificates are known; none until it is said.
    pub fn set_fingerprints(&self, count: usize) {
        self.fingerprints.store(count, Ordering::Relaxed);
    }

    /// What the client of a connection showed, once the handshake is done; `None` where it showed nothing. A resumed session has the
    /// certificate that it began with: who vouches for it, and whether it is still valid, is judged at each call.
    pub fn certificate_of(
        &self,
        connection: &ServerConnection,
        now: Timestamp,
    ) -> Option<identity::Certificate> {
        let chain = connection.peer_certificates().filter(|_| !connection.is_handshaking())?;
        let first = chain.first()?;
        let fingerprint = Fingerprint::of(first);
        let validity = validity(first, now.as_second());
        let authorities = self.authorities.load();
        // A clock before 1970 is wrong, and no certificate was valid then.
        let now = Duration::from_secs(now.as_second().try_into().unwrap_or(0));
        let algorithms = self.provider().signature_verification_algorithms.all;
        let names = match authorities.vouch(chain, algorithms, UnixTime::since_unix_epoch(now)) {
            Ok(()) => names(first),
            Err(reason) => {
                if !authorities.is_empty() {
                    debug!(%fingerprint, %reason, "nobody vouches for the names in a client's certificate");
                }
                Vec::new()
            }
        };
        Some(identity::Certificate { fingerprint, names, validity })
    }

    /// Reads the certificates and authorities again, from these settings. Of files that are in use already and are bad now, what was
    /// read before is kept; new ones that are bad are an error.
    pub fn read(&self, settings: &TlsSettings) -> Result<Fresh, CertificateError> {
        let (shown, vouching) = (self.shown.0.load(), self.authorities.load());
        let certificates = settings.certificates.iter().map(|files| {
            let before = shown.iter().find(|shown| shown.files == *files);
            or_before(Certificate::load(files, self.provider()), before)
        });
        let files = settings.client_authorities.iter().map(|path| {
            let before = vouching.files.iter().find(|before| before.path == *path);
            or_before(AuthorityFile::load(path), before)
        });
        Ok(Fresh {
            certificates: certificates.collect::<Result<_, _>>()?,
            authorities: Authorities::of(files.collect::<Result<_, _>>()?),
        })
    }

    /// Takes these from the next handshake on.
    pub fn show(&self, fresh: Fresh) {
        self.shown.0.store(Arc::new(fresh.certificates));
        self.authorities.store(Arc::new(fresh.authorities));
    }

    /// Looks for changed files until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut taken, mut last) = (self.look(), self.look());
        loop {
            looks.tick().await;
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let now = tls.look();
                if now != taken && now == last {
                    tls.take_changed(&taken, &now);
                    taken.clone_from(&now);
                }
                (taken, now)
            });
            let Ok(seen) = looked.await else { return };
            (taken, last) = seen;
        }
    }

    fn look(&self) -> Look {
        let shown = self.shown.0.load();
        let pairs = shown.iter().flat_map(|shown| [&shown.files.chain, &shown.files.key]);
        let authorities = self.authorities.load();
        let files = pairs.chain(authorities.files.iter().map(|file| &file.path));
        files.map(|file| (file.clone(), Stamp::of(file))).collect()
    }

    /// Reads those files again whose stamp is another one. A reload may take others meanwhile: then they are as new as these.
    fn take_changed(&self, before: &Look, now: &Look) {
        let changed = |path: &Path| now.iter().any(|one| one.0 == path && !before.contains(one));
        let shown = self.shown.0.load_full();
        let mut fresh = shown.to_vec();
        for certificate in &mut fresh {
            if !changed(&certificate.files.chain) && !changed(&certificate.files.key) {
                continue;
            }
            match Certificate::load(&certificate.files, self.provider()) {
                Ok(read) => {
                    info!(chain = %read.files.chain.display(), names = %read.names.join(" "), "a certificate is new");
                    *certificate = read;
                }
                Err(error) => error!(%error, "{BAD}"),
            }
        }
        self.shown.0.compare_and_swap(&shown, Arc::new(fresh));
        let vouching = self.authorities.load_full();
        let mut fresh = vouching.files.clone();
        for file in fresh.iter_mut().filter(|file| changed(&file.path)) {
            match AuthorityFile::load(&file.path) {
                Ok(read) => {
                    info!(file = %read.path.display(), count = read.count(), "clients' authorities are new");
                    *file = read;
                }
                Err(error) => error!(%error, "{BAD}"),
            }
        }
        self.authorities.compare_and_swap(&vouching, Arc::new(Authorities::of(fresh)));
    }

    fn provider(&self) -> &CryptoProvider {
        self.plain.crypto_provider()
    }
}

/// What is said of files that stay as they were.
const BAD: &str = "a certificate is bad: the one before stays";

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    shown: &Arc<Shown>,
    protocols: Protocols,
) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring speaks both versions")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown.clone());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Tickets keep a client's session with the client: nothing here grows with their number.
    match crypto::ring::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => error!(%error, "TLS sessions cannot be resumed"),
    }
    Arc::new(config)
}

/// What was read; where it is bad, what was there before, if anything was.
fn or_before<T: Clone>(read: Result<T, CertificateError>, before: Option<&T>) -> Result<T, CertificateError> {
    match (read, before) {
        (Err(error), Some(before)) => {
            error!(%error, "{BAD}");
            Ok(before.clone())
        }
        (read, _) => read,
    }
}

impl ResolvesServerCert for Shown {
    /// The certificate for the name that is asked for; the first one where none is, or where no name is given.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load();
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let find = |wildcards| shown.iter().find(|shown| shown.is_for(&name, wildcards));
            find(Wildcards::Apart).or_else(|| find(Wildcards::Count))
        });
        named.or_else(|| shown.first()).map(|certificate| certificate.key.clone())
    }
}
