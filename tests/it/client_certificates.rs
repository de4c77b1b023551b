//! What a client shows of itself over TLS: known by its fingerprint, named where an authority of the settings vouches for it.
//!
//! The TLS side alone is at work here, on real sockets; who is decided by it is tested elsewhere.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use forebay::config::settings::{CertificateFiles, TlsSettings};
use forebay::net::tls::Tls;
use forebay::policy::identity::{Certificate, Fingerprint};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream as Socket};
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, get, shake_hands};
use crate::process::{run, tool};
use crate::raw::PATIENCE;
use crate::relay::{Running, settings};
use crate::served::WITHIN;

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
        let tls = Arc::new(Tls::new(&settings_with(&certificate, client_authorities)).unwrap());
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
        Certificate { fingerprint: Fingerprint::of(&self.chain[0]), names }
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

#[test]
fn an_agent_is_seen_by_its_fingerprint_and_named_where_an_authority_vouches() {
    let authority = Authority::new();
    let (ours, own) = (Agent::signed(&authority, &named()), Agent::self_signed(&named()));
    let others = Agent::signed(&Authority::new(), &named());
    let site = Site::new(vec![authority.file()]);
    for version in VERSIONS {
        assert_eq!(site.sees(version, None), None);
        assert_eq!(site.sees(version, Some(&ours)), Some(ours.as_seen(NAMES)));
        assert_eq!(site.sees(version, Some(&own)), Some(own.as_seen(&[])));
        assert_eq!(site.sees(version, Some(&others)), Some(others.as_seen(&[])));
    }
}

#[test]
fn nobody_is_asked_until_something_could_come_of_it() {
    let authority = Authority::new();
    let agent = Agent::signed(&authority, &named());
    let site = Site::new(Vec::new());
    for version in VERSIONS {
        let asked = |config: Arc<ClientConfig>, shows: &Shows| {
            let met = site.meet_client(config).unwrap();
            (site.seen(&met, Timestamp::now()), shows.asked.swap(0, Ordering::Relaxed))
        };
        // One that was not asked has a session to resume, in which it could not be asked: it is not resumed.
        let (config, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(config.clone(), &shows), (None, 0));
        site.tls.set_fingerprints(1);
        assert_eq!(asked(config.clone(), &shows), (Some(agent.as_seen(&[])), 1));
        site.tls.set_fingerprints(0);
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (None, 0));
        site.reload(vec![authority.file()]);
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (Some(agent.as_seen(NAMES)), 1));
        site.reload(Vec::new());
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (None, 0));
    }
}

#[test]
fn names_count_only_of_a_clients_certificate_that_is_valid_now() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = named();
        change(&mut params);
        Agent::signed(&authority, &params)
    };
    for (what, agent) in [
        ("expired", with(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not valid yet", with(|params| params.not_before = date_time_ymd(3020, 1, 1))),
        ("a server's", with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("nobody's", with(|params| params.extended_key_usages = Vec::new())),
        ("an authority's", with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
    ] {
        assert_eq!(site.sees(&TLS13, Some(&agent)), Some(agent.as_seen(&[])), "{what}");
    }
}

#[test]
fn authorities_in_between_are_shown_by_the_agent() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let mut between = CertificateParams::new(Vec::new()).unwrap();
    between.distinguished_name.push(DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let (between_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let between_certificate = authority.issue(&between, &between_key).der().clone();
    let issuer = Issuer::new(between, between_key);
    let first = named().signed_by(&key, &issuer).unwrap().der().clone();
    let mut agent = Agent { chain: vec![first, between_certificate], key };
    for version in VERSIONS {
        assert_eq!(site.sees(version, Some(&agent)), Some(agent.as_seen(NAMES)));
    }
    agent.chain.truncate(1);
    assert_eq!(site.sees(&TLS13, Some(&agent)), Some(agent.as_seen(&[])));
}

#[test]
fn a_resumed_session_keeps_the_certificate_and_is_judged_anew() {
    let authority = Authority::new();
    let mut params = named();
    params.not_after = date_time_ymd(2090, 1, 1);
    let agent = Agent::signed(&authority, &params);
    let after: Timestamp = "2090-01-02T00:00:00Z".parse().unwrap();
    for version in VERSIONS {
        let site = Site::new(vec![authority.file()]);
        let (config, shows) = site.client(version, Some(&agent));
        let meet = |kind: HandshakeKind| {
            let met = site.meet_client(config.clone()).unwrap();
            assert_eq!(met.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
            met
        };
        let now = Timestamp::now();
        assert_eq!(site.seen(&meet(HandshakeKind::Full), now), Some(agent.as_seen(NAMES)));
        let met = meet(HandshakeKind::Resumed);
        assert_eq!(site.seen(&met, now), Some(agent.as_seen(NAMES)));
        assert_eq!(site.seen(&met, after), Some(agent.as_seen(&[])));
        site.reload(vec![Authority::new().file()]);
        assert_eq!(site.seen(&met, now), Some(agent.as_seen(&[])));
        assert_eq!(site.seen(&meet(HandshakeKind::Resumed), now), Some(agent.as_seen(&[])));
        site.reload(vec![authority.file()]);
        assert_eq!(site.seen(&meet(HandshakeKind::Resumed), now), Some(agent.as_seen(NAMES)));
        assert_eq!(shows.asked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_file_of_authorities_that_changes_is_taken_and_a_bad_one_is_not_r11_3() {
    let (first, second) = (Authority::new(), Authority::new());
    let (ours, theirs) = (Agent::signed(&first, &named()), Agent::signed(&second, &named()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agents.pem");
    let replace = |bytes: &[u8]| {
        fs::write(folder.path().join("new"), bytes).unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
    };
    replace(&fs::read(first.file()).unwrap());
    let site = Site::new(vec![file.clone()]);
    assert_eq!(site.sees(&TLS13, Some(&theirs)), Some(theirs.as_seen(&[])));
    let watching = site.runtime.spawn(site.tls.clone().watch());
    // It has its first look at the file as it is now.
    site.runtime.block_on(tokio::task::yield_now());

    replace(&fs::read(second.file()).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while site.sees(&TLS13, Some(&theirs)) != Some(theirs.as_seen(NAMES)) {
        assert!(Instant::now() < deadline, "the new authority is not taken");
    }
    assert_eq!(site.sees(&TLS13, Some(&ours)), Some(ours.as_seen(&[])));
    watching.abort();

    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for bad in [&b""[..], b"junk", junk] {
        replace(bad);
        site.reload(vec![file.clone()]);
        assert_eq!(site.sees(&TLS13, Some(&theirs)), Some(theirs.as_seen(NAMES)));
        let settings = settings_with(&site.certificate, vec![file.clone()]);
        let error = Tls::new(&settings).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
    // Several files vouch, each for its own.
    site.reload(vec![first.file(), second.file()]);
    for agent in [&ours, &theirs] {
        assert_eq!(site.sees(&TLS13, Some(agent)), Some(agent.as_seen(NAMES)));
    }
    let absent = settings_with(&site.certificate, vec![folder.path().join("absent")]);
    assert!(site.tls.read(&absent).unwrap_err().to_string().contains("absent"));
}

#[test]
fn whoever_shows_anothers_certificate_has_no_connection() {
    let authority = Authority::new();
    let Agent { chain, .. } = Agent::signed(&authority, &named());
    let thief = Agent { chain, key: KeyPair::generate().unwrap() };
    let site = Site::new(vec![authority.file()]);
    for version in VERSIONS {
        let refused = site.meet_client(site.client(version, Some(&thief)).0).unwrap_err();
        assert!(refused.to_string().contains("BadSignature"), "{refused}");
    }
}

#[test]
fn hostile_certificates_do_no_harm_and_have_no_names_beyond_the_bounds() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let many = |count: usize| {
        let mut params = named();
        let names = (0..count).map(|index| format!("n{index}.test").try_into().unwrap());
        params.subject_alt_names = names.map(SanType::DnsName).collect();
        Agent::signed(&authority, &params)
    };
    let good = Agent::signed(&authority, &named());
    let damaged = |from: usize, value: u8| {
        let mut bytes = good.chain[0].to_vec();
        bytes[from] = value;
        Agent { chain: vec![bytes.into()], key: KeyPair::generate().unwrap() }
    };
    let longer = |count: usize| {
        let Agent { mut chain, key } = Agent::signed(&authority, &named());
        chain.extend(vec![chain[0].clone(); count]);
        Agent { chain, key }
    };
    let junk = || {
        let Agent { mut chain, key } = Agent::signed(&authority, &named());
        chain.extend(vec![CertificateDer::from(vec![0x30; 1500]); 7]);
        Agent { chain, key }
    };
    for version in VERSIONS {
        let names = site.sees(version, Some(&many(1000))).unwrap().names;
        assert_eq!(names.len(), 16);
        for within in [longer(7), junk()] {
            assert_eq!(site.sees(version, Some(&within)).unwrap().names.len(), NAMES.len());
        }
        for (beyond, reason) in [
            (many(4000), "ApplicationVerificationFailure"),
            (longer(8), "ApplicationVerificationFailure"),
            (many(50_000), "HandshakePayloadTooLarge"),
            (longer(200), "HandshakePayloadTooLarge"),
            (damaged(0, 0x31), "BadEncoding"),
            (damaged(1, 0x7f), "BadEncoding"),
        ] {
            let refused = site.meet_client(site.client(version, Some(&beyond)).0).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        assert_eq!(site.sees(version, Some(&good)), Some(good.as_seen(NAMES)));
    }
}

#[test]
fn stock_clients_show_their_certificates() {
    let (Some(curl), Some(openssl)) = (tool("curl"), tool("openssl")) else { return };
    let authority = Authority::new();
    let agent_key = KeyPair::generate().unwrap();
    let signed = authority.issue(&named(), &agent_key);
    let agent = Agent { chain: vec![signed.der().clone()], key: agent_key };
    let site = Site::new(vec![authority.file()]);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("agent.pem"), folder.path().join("agent.key"));
    fs::write(&certificate, signed.pem()).unwrap();
    fs::write(&key, agent.key.serialize_pem()).unwrap();
    let port = site.address().port();
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--http1.1", "--noproxy", "*", "--cacert"]).arg(site.relays.file());
        command.args(["--resolve", &format!("relay.test:{port}:127.0.0.1")]).args(version);
        command.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        command.arg(format!("https://relay.test:{port}/"));
        let (met, ended) = site.meet(move |_| run(&mut command, WITHIN).succeeded());
        assert_eq!(ended.stdout.trim_end(), "ok");
        assert_eq!(site.seen(&met.unwrap(), Timestamp::now()), Some(agent.as_seen(NAMES)));
    }
    // One that openssl made, as an administrator would, and its fingerprint as openssl prints it.
    let mut command = Command::new(&openssl);
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pc-8", "-days", "2"]);
    command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    run(&mut command, WITHIN).succeeded();
    let mut command = Command::new(&openssl);
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&certificate);
    let printed = run(&mut command, WITHIN).succeeded().stdout;
    let fingerprint: Fingerprint = printed.trim().split_once('=').unwrap().1.parse().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &site.address().to_string(), "-servername", "relay.test"]);
        command.args(["-brief", version, "-cert"]).arg(&certificate).arg("-key").arg(&key);
        command.arg("-CAfile").arg(site.relays.file());
        let (met, ended) = site.meet(move |_| run(&mut command, WITHIN).succeeded());
        assert!((ended.stdout + &ended.stderr).contains("Verification: OK"));
        let expected = Certificate { fingerprint, names: Vec::new() };
        assert_eq!(site.seen(&met.unwrap(), Timestamp::now()), Some(expected));
    }
}

#[test]
fn a_relay_asks_and_serves_whoever_shows_one_or_none() {
    let (relays, agents) = (Authority::new(), Authority::new());
    let agent = Agent::signed(&agents, &named());
    let mut settings = settings("fixtures/activeupdate");
    settings.tls = settings_with(&relays.sign("relay", &["relay.test"]).0, vec![agents.file()]);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let mut relay = Running::refreshed(settings);
    let address = relay.handle().running().tls[0];
    for shown in [None, Some(&agent)] {
        let mut config = relays.client(&[&TLS13]);
        let shows = Arc::new(Shows { key: shown.map(Agent::certified), asked: AtomicUsize::new(0) });
        config.client_auth_cert_resolver = shows.clone();
        let mut stream = shake_hands(Arc::new(config), address, "relay.test").unwrap();
        let (head, _) = get(&mut stream, "/activeupdate/server.ini");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(shows.asked.load(Ordering::Relaxed), 1);
    }
    relay.stop();
}
