//! Parent proxies: what is said to one so that it leads to a destination (RFC 9110 section 9.3.6, RFC 1928 and 1929).
//!
//! HTTP is hyper's and SOCKS5 tokio-socks': both leave what comes after the parent's answer to the reader. Never connects, and
//! never resolves a destination's name, which is the parent's. Invariant: credentials are told to the parent they are for, and
//! to nobody else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;

use crate::base::destination::Destination;
use crate::config::elsewhere::{self, ParentScheme};
use crate::upstream::connect::ConnectError;
use crate::upstream::credentials::{Credentials, CredentialsError};
use crate::upstream::stream::Io;

/// What a parent's answer to CONNECT may take, in bytes: proxies send a few hundred.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A proxy that leads to other servers.
#[derive(Debug, PartialEq, Eq)]
pub struct Parent {
    scheme: ParentScheme,
    /// Its name for people, with its scheme and without credentials.
    name: String,
    /// Where it is connected to: with TLS where it speaks that.
    uri: Uri,
    credentials: Option<Credentials>,
}

/// Why a parent did not lead to a destination.
#[derive(Debug, Error)]
pub enum ParentError {
    /// It cannot be told the way: its own URL, or the destination's name.
    #[error("it cannot be named")]
    Name,
    /// It wants credentials, or others.
    #[error("it asks for credentials, or refuses those that it was told")]
    Credentials,
    /// Its answer to CONNECT.
    #[error("it answered CONNECT with status {0}")]
    Status(StatusCode),
    /// Its answer as a SOCKS5 server.
    #[error("it answered by SOCKS5: {0}")]
    Socks(tokio_socks::Error),
    /// What it says is no proxy's answer, or it left.
    #[error("it gave no proxy's answer: {0}")]
    Speech(String),
    /// It took too long.
    #[error("it led to nothing within {} s", .0.as_secs_f32())]
    Silence(Duration),
    /// TLS with the destination, through it.
    #[error("TLS through it: {0}")]
    Tls(io::Error),
}

impl Parent {
    /// A parent of the settings; reads its credentials.
    pub fn new(settings: &elsewhere::Parent) -> Result<Self, CredentialsError> {
        let read = |path| Credentials::read(path, settings.scheme);
        let credentials = settings.credentials.as_deref().map(read).transpose()?;
        let authority = format!("{}:{}", settings.host, settings.port);
        let (scheme, connect) = match settings.scheme {
            ParentScheme::Http => ("http", "http"),
            ParentScheme::Https => ("https", "https"),
            ParentScheme::Socks5 => ("socks5", "http"),
        };
        let uri = Uri::builder().scheme(connect).authority(authority.as_str()).path_and_query("/").build();
        Ok(Self {
            scheme: settings.scheme,
            name: format!("{scheme}://{authority}"),
            // Settings hold hosts of URLs alone; what is none has no place to connect to.
            uri: uri.unwrap_or_default(),
            credentials,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it takes requests for what servers have, besides leading to them.
    pub(super) fn takes_requests(&self) -> bool {
        match self.scheme {
            ParentScheme::Http | ParentScheme::Https => true,
            ParentScheme::Socks5 => false,
        }
    }

    /// What `Proxy-Authorization` tells it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.credentials.as_ref().map(Credentials::basic)
    }

    /// Has it lead to a destination.
    pub(super) async fn lead(&self, io: Io, to: &Destination) -> Result<Io, ParentError> {
        match self.scheme {
            ParentScheme::Http | ParentScheme::Https => self.connect(io, to).await,
            ParentScheme::Socks5 => self.socks(io, to).await,
        }
    }

    async fn connect(&self, io: Io, to: &Destination) -> Result<Io, ParentError> {
        let speech = |error: hyper::Error| ParentError::Speech(error.to_string());
        let place = to.to_string();
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(&place)
            .header(header::HOST, &place)
            .header(header::USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = self.authorization() {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| ParentError::Name)?;
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_BYTES_MAX);
        let (mut asking, speaking) = http.handshake(TokioIo::new(io)).await.map_err(speech)?;
        let answer = Box::pin(asking.send_request(request));
        let left = Box::pin(speaking.without_shutdown());
        let (answer, left) = match select(answer, left).await {
            Either::Left((answer, left)) => (answer.map_err(speech)?, Either::Left(left)),
            Either::Right((left, answer)) => {
                let left = left.map_err(speech)?;
                (answer.await.map_err(speech)?, Either::Right(left))
            }
        };
        match answer.status() {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(ParentError::Credentials),
            // These have no body, and nothing after them: they are no answer to CONNECT.
            status @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) => {
                return Err(ParentError::Status(status));
            }
            status if !status.is_success() => return Err(ParentError::Status(status)),
            _ => {}
        }
        let parts = match left {
            Either::Left(left) => left.await.map_err(speech)?,
            Either::Right(parts) => parts,
        };
        let io = parts.io.into_inner();
        Ok(if parts.read_buf.is_empty() { io } else { Io::Ahead(parts.read_buf, Box::new(io)) })
    }

    async fn socks(&self, io: Io, to: &Destination) -> Result<Io, ParentError> {
        let target = match to.address() {
            Some(address) => TargetAddr::Ip(SocketAddr::new(address, to.port())),
            None => TargetAddr::Domain(to.host().into(), to.port()),
        };
        let led = match &self.credentials {
            Some(own) => {
                Socks5Stream::connect_with_password_and_socket(io, target, own.user(), own.password()).await
            }
            None => Socks5Stream::connect_with_socket(io, target).await,
        };
        led.map(Socks5Stream::into_inner).map_err(|error| match error {
            tokio_socks::Error::PasswordAuthFailure(_)
            | tokio_socks::Error::NoAcceptableAuthMethods
            | tokio_socks::Error::AuthorizationRequired => ParentError::Credentials,
            tokio_socks::Error::Io(error) => ParentError::Speech(error.to_string()),
            error => ParentError::Socks(error),
        })
    }
}

impl ParentError {
    /// Whether it leads nowhere, as far as this says, and not to this destination alone.
    fn is_everywhere(&self) -> bool {
        use tokio_socks::Error as Socks;
        match self {
            Self::Credentials | Self::Speech(_) => true,
            // Whether it hangs or waits for the destination does not show.
            Self::Name | Self::Status(_) | Self::Silence(_) | Self::Tls(_) => false,
            Self::Socks(error) => !matches!(
                error,
                Socks::GeneralSocksServerFailure
                    | Socks::ConnectionNotAllowedByRuleset
                    | Socks::NetworkUnreachable
                    | Socks::HostUnreachable
                    | Socks::ConnectionRefused
                    | Socks::TtlExpired
                    | Socks::AddressTypeNotSupported
            ),
        }
    }
}

impl From<ParentError> for ConnectError {
    fn from(error: ParentError) -> Self {
        Self::Parent(error.to_string(), error.is_everywhere())
    }
}

/// The address that a destination has whoever resolves its name: its own, or a loopback one.
pub(super) fn known_address(to: &Destination) -> Option<IpAddr> {
    let host = to.host();
    let loopback = host == "localhost" || host.ends_with(".localhost");
    to.address().or_else(|| loopback.then_some(IpAddr::from([127, 0, 0, 1])))
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn parent(scheme: ParentScheme, credentials: Option<&str>) -> Parent {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("parent");
        if let Some(text) = credentials {
            std::fs::write(&file, text).unwrap();
        }
        let credentials = credentials.map(|_| file);
        Parent::new(&elsewhere::Parent { scheme, host: "[::1]".into(), port: 3128, credentials }).unwrap()
    }

    /// A parent that reads until `ask` ended, and sends these bytes: how it led to the destination, and what it was told.
    async fn told(
        parent: &Parent,
        to: &str,
        script: &[(usize, &[u8])],
    ) -> (Result<Io, ParentError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let destination = Destination::parse(to).unwrap();
        let answering = async {
            let mut told = Vec::new();
            for (count, answer) in script {
                let begun = told.len();
                if *count == HEAD {
                    while !told.ends_with(b"\r\n\r\n") {
                        told.push(far.read_u8().await.unwrap());
                    }
                } else {
                    told.resize(begun + count, 0);
                    far.read_exact(&mut told[begun..]).await.unwrap();
                }
                // One that is refused may leave before it read all.
                let _ = far.write_all(answer).await;
            }
            let _ = far.shutdown().await;
            (told, far)
        };
        let (led, (told, _far)) = both(parent.lead(Io::Plain(near), &destination), answering).await;
        (led, told)
    }

    /// A head of whatever length.
    const HEAD: usize = usize::MAX;

    async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
        futures_util::future::join(one, other).await
    }

    async fn rest(io: Io) -> Vec<u8> {
        let (mut io, mut bytes) = (io, Vec::new());
        io.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn connect_names_the_destination_and_keeps_what_comes_with_the_answer_r4_5() {
        let parent = parent(ParentScheme::Http, Some("relay:3cret\n"));
        let (led, told) = told(
            &parent,
            "au.example:443",
            &[(HEAD, b"HTTP/1.0 200 Connection established\r\nContent-Length: 9\r\n\r\nbanner")],
        )
        .await;
        let told = String::from_utf8(told).unwrap();
        assert!(told.starts_with("CONNECT au.example:443 HTTP/1.1\r\nhost: au.example:443\r\n"), "{told}");
        assert!(told.contains("proxy-authorization: Basic cmVsYXk6M2NyZXQ=\r\n"), "{told}");
        assert_eq!(rest(led.unwrap()).await, b"banner");
        assert_eq!(parent.name(), "http://[::1]:3128");
    }

    #[tokio::test]
    async fn what_is_no_success_or_no_answer_leads_nowhere_r4_5() {
        let parent = parent(ParentScheme::Http, None);
        let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
        for (answer, expected, everywhere) in [
            (&b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"[..], "status 403", false),
            (b"HTTP/1.1 502 Bad\r\n\r\nall of the page", "status 502", false),
            (b"HTTP/1.1 204 None\r\n\r\n", "status 204", false),
            (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "asks for credentials", true),
            (b"SSH-2.0-OpenSSH_9.9\r\n", "no proxy's answer", true),
            (b"HTTP/1.1 200 O", "no proxy's answer", true),
            (b"HTTP/1.1 101 Switch\r\n\r\n", "status 101", false),
            (b"", "no proxy's answer", true),
            (huge.as_bytes(), "no proxy's answer", true),
        ] {
            let (led, told) = told(&parent, "[2001:db8::1]:80", &[(HEAD, answer)]).await;
            let error = led.expect_err("it led nowhere");
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_everywhere(), everywhere, "{error}");
            let told = String::from_utf8(told).unwrap();
            assert!(
                told.starts_with("CONNECT [2001:db8::1]:80 ") && !told.contains("uthorization"),
                "{told}"
            );
        }
    }

    #[tokio::test]
    async fn socks_names_the_destination_and_reads_no_byte_too_many_r4_5() {
        let open = parent(ParentScheme::Socks5, None);
        let established = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90banner";
        let (led, heard) = told(&open, "au.example:443", &[(3, b"\x05\x00"), (17, established)]).await;
        assert_eq!(heard, b"\x05\x01\x00\x05\x01\x00\x03\x0aau.example\x01\xbb");
        assert_eq!(rest(led.unwrap()).await, b"banner");
        let known = parent(ParentScheme::Socks5, Some("relay:3cret"));
        let script: [(usize, &[u8]); 3] = [(4, b"\x05\x02"), (13, b"\x01\x00"), (22, established)];
        let (led, heard) = told(&known, "[2001:db8::1]:80", &script).await;
        assert!(
            heard.starts_with(b"\x05\x02\x00\x02\x01\x05relay\x053cret\x05\x01\x00\x04\x20\x01"),
            "{heard:?}"
        );
        assert_eq!(rest(led.unwrap()).await, b"banner");
    }

    #[tokio::test]
    async fn a_socks_parent_that_refuses_says_for_what_r4_5() {
        let (open, known) =
            (parent(ParentScheme::Socks5, None), parent(ParentScheme::Socks5, Some("relay:3cret")));
        for (parent, script, expected, everywhere) in [
            (&open, &[(3, &b"\x05\xff"[..])][..], "asks for credentials", true),
            (&open, &[(3, b"\x05\x02")], "asks for credentials", true),
            (&known, &[(4, b"\x05\x02"), (13, b"\x01\x01")], "asks for credentials", true),
            (&open, &[(3, b"HTTP/1.1 400 Bad\r\n\r\n")], "SOCKS5", true),
            (&open, &[(3, b"\x05")], "no proxy's answer", true),
            (&open, &[(3, b"\x05\x00"), (17, b"\x05\x02\x00\x01")], "not allowed by ruleset", false),
            (&open, &[(3, b"\x05\x00"), (17, b"\x05\x05\x00\x01")], "refused", false),
            (&open, &[(3, b"\x05\x00"), (17, b"\x05\x63\x00\x01")], "SOCKS5", true),
            (&open, &[(3, b"\x05\x00"), (17, b"\x05\x00\x00\x09")], "SOCKS5", true),
        ] {
            let (led, _) = told(parent, "au.example:443", script).await;
            let error = led.expect_err("it led nowhere");
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_everywhere(), everywhere, "{error}");
        }
    }
}
