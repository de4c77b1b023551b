//! TLS towards agents: which certificate is shown to whom, and what is spoken under it.
//!
//! Certificates are read again when their files change. Invariant: once there was a good certificate of a pair of files, a bad
//! one never takes its place.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, crypto};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use crate::config::settings::CertificateFiles;
use crate::net::certificate::{Certificate, CertificateError, Stamp, Wildcards};

/// Between two looks at the files. A change counts when two looks see the same: a chain and its key are seldom replaced in
/// one moment.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is spoken under TLS, the most wanted first (ALPN, RFC 7301). A client that names what is not here gets no connection.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The TLS side of a relay's listeners.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// The certificates that are shown, in the order of the settings.
#[derive(Debug)]
struct Shown(ArcSwap<Vec<Certificate>>);

/// Certificates that were read and checked, to be shown.
#[derive(Debug)]
pub struct Fresh(Vec<Certificate>);

impl Tls {
    /// Reads the certificates; there is at least one.
    pub fn new(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let certificates = files.iter().map(|files| Certificate::load(files, &provider));
        let shown = Arc::new(Shown(ArcSwap::from_pointee(certificates.collect::<Result<_, _>>()?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring speaks both versions")
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Tickets keep a client's session with the client: nothing here grows with their number.
        match crypto::ring::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => error!(%error, "TLS sessions cannot be resumed"),
        }
        Ok(Self { config: Arc::new(config), shown })
    }

    /// What makes TLS streams of accepted ones.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }

    /// Reads the certificates again, from these files. Of a pair that is shown already and is bad now, what was read before
    /// is kept; a bad pair that is new is an error.
    pub fn read(&self, files: &[CertificateFiles]) -> Result<Fresh, CertificateError> {
        let shown = self.shown.0.load();
        let read = files.iter().map(|files| {
            let before = shown.iter().find(|shown| shown.files == *files);
            match (Certificate::load(files, self.provider()), before) {
                (Err(error), Some(before)) => {
                    error!(%error, "a certificate is bad: the one before stays");
                    Ok(before.clone())
                }
                (read, _) => read,
            }
        });
        read.collect::<Result<_, _>>().map(Fresh)
    }

    /// Shows these certificates from the next handshake on.
    pub fn show(&self, fresh: Fresh) {
        self.shown.0.store(Arc::new(fresh.0));
    }

    /// Looks for changed files until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut taken, mut last) = (self.stamps(), self.stamps());
        loop {
            looks.tick().await;
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let now = tls.stamps();
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

    fn stamps(&self) -> Vec<(CertificateFiles, Stamp)> {
        self.shown.0.load().iter().map(|shown| (shown.files.clone(), Stamp::of(&shown.files))).collect()
    }

    /// Reads those pairs again whose stamp is another one. A reload may show others meanwhile: then it is as new as this.
    fn take_changed(&self, before: &[(CertificateFiles, Stamp)], now: &[(CertificateFiles, Stamp)]) {
        let shown = self.shown.0.load_full();
        let mut fresh = shown.to_vec();
        for certificate in &mut fresh {
            let changed = now.iter().any(|one| one.0 == certificate.files && !before.contains(one));
            if !changed {
                continue;
            }
            match Certificate::load(&certificate.files, self.provider()) {
                Ok(read) => {
                    info!(chain = %read.files.chain.display(), names = %read.names.join(" "), "a certificate is new");
                    *certificate = read;
                }
                Err(error) => error!(%error, "a certificate is bad: the one before stays"),
            }
        }
        self.shown.0.compare_and_swap(&shown, Arc::new(fresh));
    }

    fn provider(&self) -> &CryptoProvider {
        self.config.crypto_provider()
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
