//! One request of an agent: sent, answered, and the answer checked to its last byte.
//!
//! Owns what counts as a whole, right answer, and the names of all others. Invariant: a body that was not compared byte for byte, by
//! its hash, is never told as right without being counted as uncompared.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode, Version};
use tokio::time::timeout;

use crate::base::limits::SIGNATURE_BYTES_MAX;
use crate::load::agent::Wanted;
use crate::load::connection::{Connection, chain};
use crate::load::fault::{Failure, Fault};
use crate::load::figures::Kind;
use crate::load::fleet::Ground;
use crate::load::known::{Compared, MANIFEST};
use crate::load::menu::Menu;

/// A request, and the way it goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
    /// Whether the connection serves on.
    pub(super) keep: Keep,
}

/// Whether a connection serves on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Open,
    /// The server is asked to close it, so that the ports that a closed connection keeps for a minute are the server's one.
    Close,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) result: Result<Got, Failure>,
    /// The connection, where it serves on.
    pub(super) connection: Option<Connection>,
    pub(super) seen: Seen,
}

/// What a good answer brought.
#[derive(Debug)]
pub(super) enum Got {
    Manifest(Arc<Menu>),
    Whole,
    /// The agent dropped it.
    Dropped,
}

/// What was seen on the way, however it ended.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) begun: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) ended: Duration,
    pub(super) bytes: u64,
    pub(super) connections: u64,
    /// The kept connection was closed already.
    pub(super) lost: bool,
    pub(super) uncompared: bool,
}

/// Makes a request, on the connection that was kept if there is one.
pub(super) async fn exchange(ground: &Ground, asked: &Asked, kept: Option<Connection>) -> Answered {
    let begun = ground.now();
    let mut exchange = Exchange {
        ground,
        asked,
        seen: Seen {
            begun,
            first_byte: None,
            ended: begun,
            bytes: 0,
            connections: 0,
            lost: false,
            uncompared: false,
        },
        connection: None,
    };
    let result = exchange.run(kept).await;
    let Exchange { mut seen, connection, .. } = exchange;
    seen.ended = ground.now();
    let connection = connection.filter(|_| asked.keep == Keep::Open);
    Answered { result, connection, seen }
}

struct Exchange<'a> {
    ground: &'a Ground,
    asked: &'a Asked,
    seen: Seen,
    /// Set when the answer has ended and the connection serves on.
    connection: Option<Connection>,
}

impl Exchange<'_> {
    async fn run(&mut self, kept: Option<Connection>) -> Result<Got, Failure> {
        let (connection, response) = self.head(kept).await?;
        let serves_on = serves_on(&response);
        if response.status() != StatusCode::OK {
            let failure = self.refused(&response);
            // What follows the head is read, so that the connection serves on; a long page is not worth it.
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect();
            let read = timeout(self.ground.plan.silence, body).await;
            self.connection = (serves_on && matches!(read, Ok(Ok(_)))).then_some(connection);
            return Err(failure);
        }
        let got = self.body(response).await?;
        if !matches!(got, Got::Dropped) {
            self.connection = serves_on.then_some(connection);
        }
        Ok(got)
    }

    /// Sends the request and waits for a head. On a connection that was kept, the server may have closed it at that moment, which
    /// is no error: the request is sent again, once, on a new one (RFC 9112 section 9.3.1).
    async fn head(&mut self, kept: Option<Connection>) -> Result<(Connection, Response<Incoming>), Failure> {
        let silence = self.ground.plan.silence;
        if let Some(mut connection) = kept {
            match timeout(silence, connection.send(self.request())).await {
                Err(_) => return Err(self.silent("no answer")),
                Ok(Ok(response)) => return Ok((connection, response)),
                Ok(Err(error)) if error.is_parse() => return Err(self.broken(&error)),
                Ok(Err(_)) => self.seen.lost = true,
            }
        }
        let mut connection =
            Connection::open(&self.ground.target, self.asked.to, self.asked.from, silence).await?;
        self.seen.connections += 1;
        match timeout(silence, connection.send(self.request())).await {
            Err(_) => Err(self.silent("no answer")),
            Ok(Err(error)) => Err(self.broken(&error)),
            Ok(Ok(response)) => Ok((connection, response)),
        }
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let path = self.ground.target.request_target(self.asked.wanted.path.as_ref());
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.parse().expect("a base's path and an escaped path make a request target");
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.ground.target.host.clone());
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        if self.asked.keep == Keep::Close {
            headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        request
    }

    async fn body(&mut self, response: Response<Incoming>) -> Result<Got, Failure> {
        let wanted = &self.asked.wanted;
        let tag = tag(response.headers());
        let mut body = response.into_body();
        let declared = body.size_hint().exact();
        if let (Some(declared), Some(size)) = (declared, wanted.size)
            && declared != size
        {
            return Err(self.failure(Fault::Length, &format!("{declared} bytes, the manifest says {size}")));
        }
        let most = match wanted.kind {
            Kind::Manifest => MANIFEST_BYTES_MAX,
            Kind::Signature => SIGNATURE_BYTES_MAX,
            Kind::Package | Kind::Increment => wanted.size.unwrap_or(u64::MAX),
        };
        let mut hasher = blake3::Hasher::new();
        let mut manifest = BytesMut::new();
        loop {
            let frame = timeout(self.ground.plan.silence, body.frame()).await;
            let frame = match frame {
                Err(_) => return Err(self.silent("the body stopped")),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(self.broken(&error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            self.seen.first_byte.get_or_insert_with(|| self.ground.now());
            self.seen.bytes += data.len() as u64;
            self.ground.live.bytes(data.len());
            if self.seen.bytes > most {
                return Err(self.failure(Fault::Length, &format!("more than {most} bytes")));
            }
            hasher.update(&data);
            if wanted.kind == Kind::Manifest {
                manifest.extend_from_slice(&data);
            }
            if wanted.drop_after.is_some_and(|after| self.seen.bytes >= after) {
                return Ok(Got::Dropped);
            }
        }
        if let Some(size) = wanted.size.filter(|size| *size != self.seen.bytes) {
            let what = format!("{} bytes, the manifest says {size}", self.seen.bytes);
            return Err(self.failure(Fault::Length, &what));
        }
        let hash = hasher.finalize().into();
        match self.ground.known.compare(wanted.path.as_ref(), &tag, hash) {
            Compared::Same => {}
            Compared::Uncompared => self.seen.uncompared = true,
            Compared::OtherBefore => {
                return Err(self.failure(Fault::Bytes, "other bytes than before under the same entity tag"));
            }
            Compared::OtherInTree => {
                return Err(self.failure(Fault::Bytes, "other bytes than in the local tree"));
            }
            Compared::NotInTree => return Err(self.failure(Fault::Bytes, "the local tree has no such file")),
        }
        if wanted.kind != Kind::Manifest {
            return Ok(Got::Whole);
        }
        let menu = self.ground.menus.menu(hash, manifest.freeze());
        menu.map(Got::Manifest).map_err(|failure| self.failure(failure.fault, &failure.what))
    }

    /// An answer that is not 200.
    fn refused(&self, response: &Response<Incoming>) -> Failure {
        let status = response.status();
        let retry_after = retry_after(response.headers(), self.ground.wall());
        let fault = match (status, retry_after) {
            (StatusCode::FORBIDDEN, _) => Fault::Refused,
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(_)) => Fault::PutOff,
            _ => Fault::Status,
        };
        Failure {
            status: Some(status.as_u16()),
            retry_after: retry_after.filter(|_| fault == Fault::PutOff),
            ..self.failure(fault, &format!("status {}", status.as_u16()))
        }
    }

    fn silent(&self, what: &str) -> Failure {
        let silence = self.ground.plan.silence;
        self.failure(Fault::Silence, &format!("{what} within {silence:?}"))
    }

    /// What the HTTP library says of a connection that went wrong.
    fn broken(&self, error: &hyper::Error) -> Failure {
        let fault = match caused_by_io(error) {
            _ if error.is_parse() => Fault::Protocol,
            Some(io::ErrorKind::UnexpectedEof) => Fault::Short,
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Fault::Protocol,
            _ => Fault::Reset,
        };
        self.failure(fault, &chain(error))
    }

    fn failure(&self, fault: Fault, what: &str) -> Failure {
        let path = self.asked.wanted.path.as_ref().map_or(MANIFEST, |path| path.as_str());
        Failure::new(fault, format!("{path}: {what}"))
    }
}

/// Whether another request may follow on the connection (RFC 9112 section 9.3).
fn serves_on(response: &Response<Incoming>) -> bool {
    let says_close = response.headers().get_all(header::CONNECTION).iter().any(|value| {
        let tokens = value.to_str().unwrap_or("close");
        tokens.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
    });
    response.version() == Version::HTTP_11 && !says_close
}

/// What names the state of a file: its entity tag, else its date, else nothing.
fn tag(headers: &HeaderMap) -> Vec<u8> {
    let tag = headers.get(header::ETAG).or_else(|| headers.get(header::LAST_MODIFIED));
    tag.map_or_else(Vec::new, |tag| tag.as_bytes().to_vec())
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|at| at.duration_since(now).unwrap_or_default()),
    }
}

/// The kind of the I/O error below an error.
fn caused_by_io(error: &hyper::Error) -> Option<io::ErrorKind> {
    let mut under = std::error::Error::source(error);
    while let Some(cause) = under {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        under = cause.source();
    }
    None
}

/// How the fleet names itself.
const USER_AGENT: &str = concat!("forebay-load/", env!("CARGO_PKG_VERSION"));

/// A manifest, in bytes: the largest known stay under 2 MB, and each connection may hold one.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// An error's page that is read to keep its connection, in bytes.
const PAGE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_to_come_back_in_seconds_or_at_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let told = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(told("7"), Some(Duration::from_secs(7)));
        assert_eq!(told("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(told("Sun, 06 Nov 1994 07:50:37 GMT"), Some(Duration::ZERO));
        assert_eq!(told("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
