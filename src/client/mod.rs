//! The HTTP client of agents, and of commands that ask a relay: one request at a time to a server, directly or through a proxy, with
//! deadlines. Whom it believes, and what it shows: [`tls`].
//!
//! Not [`upstream`](crate::upstream)'s: that obeys an administrator's settings of a relay, its routes and its rules about destinations,
//! of which neither has any; nor the fleet's, which speaks to one host. Names are resolved and addresses raced by `hyper-util`'s
//! connector. Never retries what is not a GET. Invariant: a credential, the client's certificate too, goes to the server that it
//! is for alone: what redirects elsewhere is asked without, and only [`follow`](Client::follow) goes there at all.

pub mod tls;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;
use url::{Host, Position, Url};

use crate::base::causes::causes;
use crate::base::limits::REDIRECTS_MAX;
use crate::client::tls::{TlsError, Trust, authorities, connector};

/// The client of one agent, or of one command.
pub struct Client {
    name: HeaderValue,
    roots: Arc<RootCertStore>,
    tls: TlsConnector,
    /// Guards what connects where the client's certificate is shown, and how many certificates there were.
    certified: Mutex<Option<(u64, TlsConnector)>>,
    connect: Duration,
    silence: Duration,
    /// Guards connections that wait for the next request, one for each line.
    kept: Mutex<HashMap<Line, SendRequest<Full<Bytes>>>>,
}

/// A proxy that a request goes through, and what it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// Where it is.
    pub url: Url,
    /// What it is shown.
    pub shows: Shows,
}

/// What a server is shown of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shows {
    /// Nothing.
    #[default]
    Nothing,
    /// A token, or a name with a password.
    Authorization(HeaderValue),
    /// The client's certificate, where the server asks for one.
    Certificate,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Question<'q> {
    /// Its method.
    pub method: Method,
    /// What is asked for.
    pub url: &'q Url,
    /// The proxy that it goes through, where it does.
    pub through: Option<&'q Through>,
    /// What the server is shown of who asks.
    pub shows: Shows,
    /// What it says besides its host and who sends it.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why a request got no answer, or not all of it.
#[derive(Debug, Error)]
pub enum AskError {
    /// The URL names no host that can be asked.
    #[error("{0} cannot be asked")]
    Url(Box<Url>),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// A proxy did not lead there.
    #[error("the proxy answered CONNECT with status {}", .0.as_u16())]
    Proxy(StatusCode),
    /// Nothing came for too long.
    #[error("{what} within {} s", .within.as_secs_f32())]
    Silence {
        /// What did not come.
        what: &'static str,
        /// How long it might take.
        within: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// More than is read.
    #[error("the answer has more than {0} bytes")]
    Length(u64),
    /// It leads on and on.
    #[error("more than {REDIRECTS_MAX} redirects")]
    Redirects,
}

/// Where a kept connection leads, and by which proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    origin: String,
    through: Option<String>,
    /// The number of the certificate that was shown on it: another one is shown on a line of its own.
    certificate: Option<u64>,
}

/// A stream of bytes to a server, with TLS or without.
trait Stream: Read + Write + Send + Unpin {}

impl<S: Read + Write + Send + Unpin> Stream for S {}

type Wire = Box<dyn Stream>;

impl<'q> Question<'q> {
    /// A GET of a URL.
    pub fn get(url: &'q Url, through: Option<&'q Through>) -> Self {
        let (shows, headers) = (Shows::Nothing, HeaderMap::new());
        Self { method: Method::GET, url, through, shows, headers, body: Bytes::new() }
    }

    /// With who asks, who is nobody where there is nothing to show.
    #[must_use]
    pub fn by(self, shows: &Shows) -> Self {
        Self { shows: shows.clone(), ..self }
    }

    fn shows_certificate(&self) -> bool {
        let by_proxy = self.through.is_some_and(|through| through.shows == Shows::Certificate);
        by_proxy || self.shows == Shows::Certificate
    }
}

impl Client {
    /// A client that names itself so and believes these authorities. A connection may take as long as `connect`, and whatever is waited
    /// for after that as long as `silence`.
    pub fn new(
        name: &'static str,
        trust: &Trust,
        connect: Duration,
        silence: Duration,
    ) -> Result<Self, TlsError> {
        let roots = Arc::new(authorities(trust)?);
        let (name, tls) = (HeaderValue::from_static(name), connector(&roots, None)?);
        let (certified, kept) = (Mutex::default(), Mutex::default());
        Ok(Self { name, roots, tls, certified, connect, silence, kept })
    }

    /// Shows this certificate from now on, to whom it is shown at all.
    pub fn set_certificate(&self, shown: CertifiedKey) -> Result<(), TlsError> {
        let tls = connector(&self.roots, Some(shown))?;
        let mut certified = self.certified.lock().unwrap_or_else(PoisonError::into_inner);
        let number = certified.as_ref().map_or(1, |(number, _)| number + 1);
        *certified = Some((number, tls));
        Ok(())
    }

    fn certified(&self) -> Option<(u64, TlsConnector)> {
        self.certified.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn ask(&self, question: &Question<'_>) -> Result<Response<Incoming>, AskError> {
        let mut line = Line::of(question)?;
        line.certificate =
            self.certified().filter(|_| question.shows_certificate()).map(|(number, _)| number);
        if question.method == Method::GET
            && let Some(kept) = self.kept(&line)
        {
            // The server may have closed it at that moment, which is no error (RFC 9112 section 9.3.1).
            if let Ok(Ok(response)) = timeout(self.silence, self.send(kept, question, &line)).await {
                return Ok(response);
            }
        }
        let opened = timeout(self.connect, self.open(question)).await;
        let sender =
            opened.map_err(|_| AskError::Silence { what: "no connection", within: self.connect })??;
        let sent = timeout(self.silence, self.send(sender, question, &line)).await;
        sent.map_err(|_| AskError::Silence { what: "no answer", within: self.silence })?
    }

    /// The same of a GET, whose redirects are followed.
    pub async fn follow(&self, question: Question<'_>) -> Result<Response<Incoming>, AskError> {
        let mut response = self.ask(&question).await?;
        let mut at = question.url.clone();
        let mut shows = question.shows.clone();
        for _ in 0..REDIRECTS_MAX {
            let location = response.headers().get(header::LOCATION).filter(|_| redirects(response.status()));
            let Some(next) = location.and_then(|to| at.join(to.to_str().ok()?).ok()) else {
                return Ok(response);
            };
            if next.origin() != at.origin() {
                shows = Shows::Nothing;
            }
            at = next;
            let again = Question { url: &at, shows: shows.clone(), ..question.clone() };
            response = self.ask(&again).await?;
        }
        if redirects(response.status()) { Err(AskError::Redirects) } else { Ok(response) }
    }

    /// The next bytes of a body; `None` at its end.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, AskError> {
        piece(body, self.silence).await
    }

    /// A whole body of at most so many bytes.
    pub async fn whole(&self, mut body: Incoming, bytes_max: u64) -> Result<Bytes, AskError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece(&mut body).await? {
            if (whole.len() + piece.len()) as u64 > bytes_max {
                return Err(AskError::Length(bytes_max));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn kept(&self, line: &Line) -> Option<SendRequest<Full<Bytes>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose answer is still on its way, as events are, serves nobody else.
        kept.remove(line).filter(SendRequest::is_ready)
    }

    async fn send(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        question: &Question<'_>,
        line: &Line,
    ) -> Result<Response<Incoming>, AskError> {
        let broken = |error: hyper::Error| AskError::Broken(causes(&error));
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(self.request(question)?).await.map_err(broken)?;
        // It is ready again once the body was read, and closed where the body was dropped.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(line.clone(), sender);
        Ok(response)
    }

    async fn open(&self, question: &Question<'_>) -> Result<SendRequest<Full<Bytes>>, AskError> {
        let own = (question.url, &question.shows);
        let (first, shows) = question.through.map_or(own, |through| (&through.url, &through.shows));
        let wire = self.reach(first, shows).await?;
        match question.through.filter(|_| question.url.scheme() == "https") {
            Some(through) => {
                let wire = self.tunnel(wire, through, question.url).await?;
                speak(self.secure(wire, question.url, &question.shows).await?).await
            }
            None => speak(wire).await,
        }
    }

    /// A connection to the host of a URL, with TLS where its scheme says so.
    async fn reach(&self, url: &Url, shows: &Shows) -> Result<Wire, AskError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect));
        let uri: Uri = url[..Position::AfterPath].parse().map_err(|_| AskError::Url(url.clone().into()))?;
        let socket = connector.call(uri).await.map_err(|error| AskError::Connect(causes(&error)))?;
        let wire: Wire = Box::new(socket);
        if url.scheme() == "https" { self.secure(wire, url, shows).await } else { Ok(wire) }
    }

    async fn secure(&self, wire: Wire, url: &Url, shows: &Shows) -> Result<Wire, AskError> {
        let unnamed = || AskError::Url(url.clone().into());
        let name = match url.host().ok_or_else(unnamed)? {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|_| unnamed())?,
            Host::Ipv4(v4) => ServerName::IpAddress(std::net::IpAddr::V4(v4).into()),
            Host::Ipv6(v6) => ServerName::IpAddress(std::net::IpAddr::V6(v6).into()),
        };
        let certified = self.certified().filter(|_| *shows == Shows::Certificate);
        let tls = certified.map_or_else(|| self.tls.clone(), |(_, tls)| tls);
        let secured = tls.connect(name, TokioIo::new(wire)).await.map_err(AskError::Tls)?;
        Ok(Box::new(TokioIo::new(secured)))
    }

    /// Asks a proxy for a connection to the host of a URL.
    async fn tunnel(&self, wire: Wire, through: &Through, to: &Url) -> Result<Wire, AskError> {
        let authority = authority(to)?;
        let (mut sender, connection) =
            handshake(wire).await.map_err(|error| AskError::Broken(causes(&error)))?;
        // Its end is told to whoever waits for the answer.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::connect(&authority)
            .body(Full::<Bytes>::default())
            .map_err(|_| AskError::Url(to.clone().into()))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, value(&authority, to)?);
        headers.insert(header::USER_AGENT, self.name.clone());
        if let Shows::Authorization(authorization) = &through.shows {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let response =
            sender.send_request(request).await.map_err(|error| AskError::Broken(causes(&error)))?;
        if !response.status().is_success() {
            return Err(AskError::Proxy(response.status()));
        }
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|error| AskError::Broken(causes(&error)))?;
        Ok(Box::new(upgraded))
    }

    fn request(&self, question: &Question<'_>) -> Result<Request<Full<Bytes>>, AskError> {
        let url = question.url;
        let through = question.through.filter(|_| url.scheme() == "http");
        let target = if through.is_some() {
            &url[..Position::AfterQuery]
        } else {
            &url[Position::BeforePath..Position::AfterQuery]
        };
        let mut request = Request::new(Full::new(question.body.clone()));
        *request.method_mut() = question.method.clone();
        *request.uri_mut() = target.parse().map_err(|_| AskError::Url(url.clone().into()))?;
        let headers = request.headers_mut();
        headers.extend(question.headers.clone());
        headers.insert(header::HOST, value(&url[Position::BeforeHost..Position::AfterPort], url)?);
        headers.insert(header::USER_AGENT, self.name.clone());
        if let Shows::Authorization(authorization) = &question.shows {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(Shows::Authorization(authorization)) = through.map(|through| &through.shows) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl Line {
    fn of(question: &Question<'_>) -> Result<Self, AskError> {
        if question.url.host().is_none() {
            return Err(AskError::Url(question.url.clone().into()));
        }
        let origin = |url: &Url| url.origin().ascii_serialization();
        Ok(Self {
            origin: origin(question.url),
            through: question.through.map(|through| origin(&through.url)),
            certificate: None,
        })
    }
}

/// The next bytes of a body, which may be silent for so long; `None` at its end.
pub async fn piece(body: &mut Incoming, silence: Duration) -> Result<Option<Bytes>, AskError> {
    loop {
        let frame = timeout(silence, body.frame()).await;
        match frame.map_err(|_| AskError::Silence { what: "nothing more came", within: silence })? {
            None => return Ok(None),
            Some(Err(error)) => return Err(AskError::Broken(causes(&error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_) => {}
            },
        }
    }
}

async fn speak(wire: Wire) -> Result<SendRequest<Full<Bytes>>, AskError> {
    let (sender, connection) = handshake(wire).await.map_err(|error| AskError::Broken(causes(&error)))?;
    // It ends with the sender and the body; what goes wrong on it is told to whoever waits for the answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// Host and port, which CONNECT always has (RFC 9110 section 9.3.6).
fn authority(url: &Url) -> Result<String, AskError> {
    let port = url.port_or_known_default().ok_or_else(|| AskError::Url(url.clone().into()))?;
    let host = url.host_str().ok_or_else(|| AskError::Url(url.clone().into()))?;
    Ok(format!("{host}:{port}"))
}

fn value(text: &str, url: &Url) -> Result<HeaderValue, AskError> {
    HeaderValue::from_str(text).map_err(|_| AskError::Url(url.clone().into()))
}

fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
