//! What the tests of enforcement stand on: a relay with an agent of each scope, and every way in which one of them can ask it.
//!
//! Never decides what is right. Invariant: a line is one connection, and what is asked on it is asked there.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use forebay::config::settings::Settings;
use forebay::policy::identity::Fingerprint;
use headers::authorization::Credentials as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::*;
use crate::authority::Authority;
use crate::origin::Origin;
use crate::served::WITHIN;
use crate::tunnel::users::credentials;
use crate::tunnel::{named, socks_ask, socks_reply};

/// The agents, one for each domain of [`fleet`].
pub(super) const AGENTS: [&str; 3] = ["patterns", "engines", "all"];

/// A relay that mirrors an origin, and what its agents show. Each agent has a token and a certificate; another certificate names it;
/// and each domain has an address.
pub(super) struct Site {
    pub(super) relay: Running,
    pub(super) origin: Origin,
    authority: Authority,
    /// By agent: a certificate that the tree knows, and one that an authority vouches for.
    certificates: [[Certificate; 2]; 3],
}

/// A client's certificate and its key.
pub(super) struct Certificate {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

/// A way of asking the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Bearer,
    Basic,
    Prefix,
    PrefixEscaped,
    /// As a proxy, by the URL of the upstream.
    Proxy,
    ProxyBearer,
    Connect,
    Socks,
    /// The address alone.
    Range,
    Http2,
    Http2Prefix,
    /// A certificate that the tree knows.
    Fingerprint,
    FingerprintHttp2,
    /// A certificate that names the agent.
    Name,
    NameHttp2,
}

pub(super) const WAYS: [Way; 15] = [
    Way::Bearer,
    Way::Basic,
    Way::Prefix,
    Way::PrefixEscaped,
    Way::Proxy,
    Way::ProxyBearer,
    Way::Connect,
    Way::Socks,
    Way::Range,
    Way::Http2,
    Way::Http2Prefix,
    Way::Fingerprint,
    Way::FingerprintHttp2,
    Way::Name,
    Way::NameHttp2,
];

/// One connection of an agent.
pub(super) struct Line {
    speaks: Speaks,
    /// What stands before a path of the tree.
    base: String,
    shows: Vec<(&'static str, String)>,
}

enum Speaks {
    Bytes(Client),
    Requests(Runtime, Sender),
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What an agent is answered.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the head says anything of a file.
    pub(super) tells: bool,
}

/// What tells of a file.
const TELLING: [&str; 3] = ["etag", "last-modified", "content-range"];

pub(super) fn basic(token: &str) -> String {
    let value = headers::Authorization::basic("anything", token).0.encode();
    value.to_str().unwrap().to_owned()
}

/// The relay's own certificate is for this address.
pub(super) const HERE: &str = "127.0.0.1";

impl Certificate {
    /// One that its owner made, and that names an agent.
    pub(super) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate, key }
    }

    /// One that names an agent.
    pub(super) fn naming(authority: &Authority, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self { certificate: authority.issue(&params, &key), key }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.certificate.der())
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }
}

impl Site {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other settings.
    pub(super) fn with(change_settings: impl FnOnce(&mut Settings)) -> Self {
        let (origin, authority) = (Origin::start(FIXTURE.as_ref()), Authority::new());
        let mut settings = named(&origin.url("/"), &[]);
        settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
        settings.tls.certificates = vec![authority.sign("relay", &[HERE]).0];
        settings.tls.client_authorities = vec![authority.file()];
        change_settings(&mut settings);
        let mut relay = fleet(settings);
        let certificates =
            AGENTS.map(|name| [Certificate::self_signed(name), Certificate::naming(&authority, name)]);
        let mut actions = Vec::new();
        for (number, ([known, _], name)) in (1..).zip(certificates.iter().zip(AGENTS)) {
            let key = Key::Certificate(known.fingerprint());
            let from = format!("{}/32", address(number)).parse().unwrap();
            actions.extend([
                Action::GiveKey { agent: agent(name), key },
                Action::SetRange { from, domain: Some(domain(number)) },
            ]);
        }
        change(&mut relay, actions);
        Self { relay, origin, authority, certificates }
    }

    /// The certificates of an agent, by [`AGENTS`].
    pub(super) fn certificates(&self, at: usize) -> &[Certificate; 2] {
        &self.certificates[at]
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client's side that trusts the relay and shows a certificate.
    pub(super) fn shows(&self, certificate: &Certificate) -> ClientConfig {
        let mut config = self.authority.client(rustls::DEFAULT_VERSIONS);
        let der = PrivateKeyDer::try_from(certificate.key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&der).unwrap();
        let shown = SingleCertAndKey::from(CertifiedKey::new(certificate.chain(), key));
        config.client_auth_cert_resolver = Arc::new(shown);
        config
    }

    /// A line of an agent, by [`AGENTS`].
    pub(super) fn line(&mut self, way: Way, at: usize) -> Line {
        let own = token(AGENTS[at]);
        let (clear, upstream) = (self.relay.v4(), self.origin.address());
        let tree = || "/activeupdate/".to_owned();
        let bytes = |base: String, shows| Line { speaks: Speaks::Bytes(Client::connect(clear)), base, shows };
        match way {
            Way::Bearer => bytes(tree(), vec![("authorization", bearer(&own))]),
            Way::Basic => bytes(tree(), vec![("authorization", basic(&own))]),
            Way::Prefix => bytes(format!("/t/{own}/activeupdate/"), vec![]),
            Way::PrefixEscaped => bytes(format!("/%74/{}/%61ctiveupdate/", own.replace('~', "%7E")), vec![]),
            Way::Proxy => bytes(format!("http://{upstream}/"), vec![("proxy-authorization", basic(&own))]),
            Way::ProxyBearer => {
                bytes(format!("http://{upstream}/"), vec![("Proxy-Authorization", bearer(&own))])
            }
            Way::Connect => {
                let mut client = Client::connect(clear);
                assert_eq!(connect(&mut client, &upstream.to_string(), &own), 200);
                Line { speaks: Speaks::Bytes(client), base: "/".into(), shows: vec![] }
            }
            Way::Socks => {
                let mut client = Client::connect(self.relay.socks()[0]);
                assert_eq!(socks(&mut client, &upstream.to_string(), &own), Some(0));
                Line { speaks: Speaks::Bytes(client), base: "/".into(), shows: vec![] }
            }
            Way::Range => {
                let client = Client::connect_from(address(u32::try_from(at).unwrap() + 1), clear);
                Line { speaks: Speaks::Bytes(client), base: tree(), shows: vec![] }
            }
            Way::Http2 => {
                let speaks = Speaks::http2(|| open(clear));
                Line { speaks, base: tree(), shows: vec![("authorization", bearer(&own))] }
            }
            Way::Http2Prefix => {
                let speaks = Speaks::http2(|| open(clear));
                Line { speaks, base: format!("/t/{own}/activeupdate/"), shows: vec![] }
            }
            Way::Fingerprint | Way::Name => {
                let config = self.shows(&self.certificates[at][usize::from(way == Way::Name)]);
                self.secure(config)
            }
            Way::FingerprintHttp2 | Way::NameHttp2 => {
                let mut config = self.shows(&self.certificates[at][usize::from(way == Way::NameHttp2)]);
                config.alpn_protocols = vec![b"h2".to_vec()];
                self.secure(config)
            }
        }
    }

    /// A line over TLS.
    pub(super) fn secure(&mut self, config: ClientConfig) -> Line {
        let secure = self.relay.handle().running().tls[0];
        let http2 = !config.alpn_protocols.is_empty();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let connect = async move || {
            let stream = open(secure).await?;
            connector.connect(HERE.try_into().unwrap(), stream).await
        };
        let speaks = if http2 { Speaks::http2(connect) } else { Speaks::http1(connect) };
        Line { speaks, base: "/activeupdate/".into(), shows: vec![] }
    }
}

/// Where those of a domain call from that are known by their address alone.
pub(super) fn address(domain: u32) -> IpAddr {
    format!("127.0.3.{domain}").parse().unwrap()
}

/// Asks for a tunnel by CONNECT, with a token; gives the status.
pub(super) fn connect(client: &mut Client, to: &str, token: &str) -> u16 {
    let shown = basic(token);
    let head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: {shown}\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    client.read_head("CONNECT").unwrap().status
}

/// Asks for a tunnel by SOCKS5, with a token as the password; gives the reply, or none where the token is not taken.
pub(super) fn socks(client: &mut Client, to: &str, token: &str) -> Option<u16> {
    client.send(&[5, 1, 2]).unwrap();
    assert_eq!(client.take(2), [5, 2]);
    client.send(&credentials(b"anything", token.as_bytes())).unwrap();
    if client.take(2) != [1, 0] {
        return None;
    }
    client.send(&socks_ask(1, to)).unwrap();
    Some(socks_reply(client))
}

impl Speaks {
    fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        connect: impl AsyncFnOnce() -> std::io::Result<S>,
    ) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TokioIo::new(connect().await.unwrap());
            let (sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self::Requests(runtime, Sender::Http1(sender))
    }

    fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        connect: impl AsyncFnOnce() -> std::io::Result<S>,
    ) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TokioIo::new(connect().await.unwrap());
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self::Requests(runtime, Sender::Http2(sender))
    }
}

async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Line {
    /// Asks for a file of the tree.
    pub(super) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answered {
        let target = format!("{}{path}", self.base);
        let own = self.shows.iter().map(|(name, value)| (*name, &**value));
        let headers: Vec<_> = headers.iter().copied().chain(own).collect();
        match &mut self.speaks {
            Speaks::Bytes(client) => {
                let answer = client.exchange(method, &target, &headers).unwrap();
                let tells = TELLING.iter().any(|name| answer.head.header(name).is_some());
                Answered { status: answer.head.status, body: answer.body, tells }
            }
            Speaks::Requests(runtime, sender) => {
                within(runtime, async { whole(sender.send(method, &target, &headers).await).await })
            }
        }
    }

    /// The status of a GET.
    pub(super) fn get(&mut self, path: &str) -> u16 {
        self.ask("GET", path, &[]).status
    }

    /// Begins a GET and has the meantime pass between its head and its body; gives the body.
    pub(super) fn get_meanwhile(&mut self, path: &str, meanwhile: impl FnOnce()) -> Vec<u8> {
        let target = format!("{}{path}", self.base);
        let headers: Vec<_> = self.shows.iter().map(|(name, value)| (*name, &**value)).collect();
        match &mut self.speaks {
            Speaks::Bytes(client) => {
                client.ask("GET", &target, &headers).unwrap();
                let head = client.read_head("GET").unwrap();
                assert_eq!(head.status, 200);
                meanwhile();
                let (body, end) = client.read(usize::MAX);
                assert_eq!(end, Some(crate::raw::answer::End::Complete));
                body
            }
            Speaks::Requests(runtime, sender) => {
                let response = within(runtime, sender.send("GET", &target, &headers));
                assert_eq!(response.status(), 200);
                meanwhile();
                within(runtime, whole(response)).body
            }
        }
    }
}

impl Sender {
    async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let request = Request::builder().method(method);
        let request = match self {
            Self::Http1(_) => request.uri(target).header("host", "relay.test"),
            Self::Http2(_) => request.uri(format!("http://relay.test{target}")),
        };
        let with = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = with.body(Full::default()).unwrap();
        match self {
            Self::Http1(sender) => sender.send_request(request).await.unwrap(),
            Self::Http2(sender) => sender.send_request(request).await.unwrap(),
        }
    }
}

async fn whole(response: Response<Incoming>) -> Answered {
    let (head, body) = response.into_parts();
    let tells = TELLING.iter().any(|name| head.headers.contains_key(*name));
    Answered { status: head.status.as_u16(), body: body.collect().await.unwrap().to_bytes().into(), tells }
}

fn within<F: Future>(runtime: &Runtime, work: F) -> F::Output {
    runtime.block_on(async { tokio::time::timeout(WITHIN, work).await.expect("it took too long") })
}
