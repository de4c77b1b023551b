//! What a client shows of itself over TLS: known by its fingerprint, named where an authority of the settings vouches for it.
//!
//! The TLS side alone is at work here, on real sockets; who is decided by it is tested elsewhere. `seen`: names and fingerprints, sessions
//! that are resumed, files that change; `hostile`: stolen, damaged and oversize certificates; `stock`: curl and openssl; `issued`: what the
//! relay's own authority makes for agents.

mod hostile;
mod issued;
mod seen;
mod stock;

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use forebay::config::settings::{CertificateFiles, TlsSettings};
use forebay::net::tls::{AGENTS, Tls};
use forebay::policy::identity::{Certificate, Fingerprint, Validity};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream as Socket};
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, shake_hands};
use crate::raw::PATIENCE;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The relay's TLS side at a socket, one connection at a time.
struct Site {
    relays: Authority,
    certificate: CertificateFiles,
    tls: Arc<Tls>,
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
}

/// The relay's side of a connection.
type Met = io::Result<TlsStream<Socket>>;

impl Site {
    fn new(client_authorities: Vec<PathBuf>) -> Self {
        let relays = Authority::new();
        let certificate = relays.sign("relay", &["relay.test"]).0;
        let tls = Arc::new(Tls::new(&settings_with(&certificate, client_authorities), AGENTS).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        Self { relays, certificate, tls, runtime, listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A client's side that trusts the relay, and shows this.
    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        shows: Option<&Agent>,
    ) -> (Arc<ClientConfig>, Arc<Shows>) {
        let mut config = self.relays.client(&[version]);
        let shows = Arc::new(Shows { key: shows.map(Agent::certified), asked: AtomicUsize::new(0) });
        config.client_auth_cert_resolver = shows.clone();
        (Arc::new(config), shows)
    }

    /// Meets whoever connects meanwhile: shakes hands, waits for a request or for the end, answers, and closes.
    fn meet<T: Send>(&self, connect: impl FnOnce(SocketAddr) -> T + Send) -> (Met, T) {
        let address = self.address();
        thread::scope(|scope| {
            let client = scope.spawn(move || connect(address));
            let meeting = async {
                let (socket, _) = self.listener.accept().await?;
                let mut stream = self.tls.acceptor().accept(socket).await?;
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
                stream.shutdown().await?;
                Ok(stream)
            };
            let met = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, meeting).await.unwrap() });
            (met, client.join().unwrap())
        })
    }

    /// Meets a client of this side, which takes all that the relay sends.
    fn meet_client(&self, config: Arc<ClientConfig>) -> Met {
        let connect = |address| {
            let mut stream = shake_hands(config, address, "relay.test")?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        };
        self.meet(connect).0
    }

    fn seen(&self, met: &TlsStream<Socket>, now: Timestamp) -> Option<Certificate> {
        self.tls.certificate_of(met.get_ref().1, now)
    }

    /// What the relay sees of an agent now, over this version.
    fn sees(&self, version: &'static SupportedProtocolVersion, agent: Option<&Agent>) -> Option<Certificate> {
        let met = self.meet_client(self.client(version, agent).0).unwrap();
        self.seen(&met, Timestamp::now())
    }

    fn reload(&self, client_authorities: Vec<PathBuf>) {
        let settings = settings_with(&self.certificate, client_authorities);
        self.tls.show(self.tls.read(&settings).unwrap());
    }
}

fn settings_with(certificate: &CertificateFiles, client_authorities: Vec<PathBuf>) -> TlsSettings {
    TlsSettings { listen: Vec::new(), certificates: vec![certificate.clone()], client_authorities }
}

/// What a client shows when it is asked, and how often it was.
#[derive(Debug)]
struct Shows {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicUsize,
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        assert!(hints.is_empty(), "nobody is told of authorities");
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// A client's chain and key.
struct Agent {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Agent {
    fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![params.self_signed(&key).unwrap().der().clone()], key }
    }

    fn signed(authority: &Authority, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![authority.issue(params, &key).der().clone()], key }
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let der = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&der).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }

    /// What is seen of it where these names count.
    fn as_seen(&self, names: &[&str]) -> Certificate {
        let names = names.iter().map(|&name| name.into()).collect();
        let fingerprint = Fingerprint::of(&self.chain[0]);
        Certificate { fingerprint, names, validity: Validity::Valid }
    }

    /// What is seen of it when it is not valid.
    fn as_past(&self) -> Certificate {
        Certificate { validity: Validity::Past, ..self.as_seen(&[]) }
    }
}

/// A client's certificate with a DNS name and a URI.
fn named() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["PC-7.corp.test".into()]).unwrap();
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from("urn:corp:pc-7").unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Its names.
const NAMES: &[&str] = &["urn:corp:pc-7", "pc-7.corp.test"];
