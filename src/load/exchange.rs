//! One request of an agent: sent, answered, and the answer checked to its last byte.
//!
//! Owns what counts as a whole, right answer, and the names of all others. Invariant: a body that was not compared byte for byte, by
//! its hash, is never told as right without being counted as uncompared.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;

use crate::base::limits::SIGNATURE_BYTES_MAX;
use crate::load::answer::{broken, refused, serves_on};
use crate::load::connection::Connection;
use crate::load::fault::{Failure, Fault};
use crate::load::figures::Kind;
use crate::load::fleet::Ground;
use crate::load::known::{Compared, MANIFEST};
use crate::load::menu::Menu;
use crate::load::request::{ANSWER_BYTES_MAX, CHECK_IN, REPORT, request};
use crate::load::wanted::Wanted;

/// A request, and the way it goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
    /// What the agent shows to be known by.
    pub(super) shown: Option<HeaderValue>,
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
        if response.status() != self.good_status() {
            let failure = refused(&response, self.what(), self.ground.wall());
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
                Ok(Err(error)) if error.is_parse() => return Err(broken(&error, self.what())),
                Ok(Err(_)) => self.seen.lost = true,
            }
        }
        let mut connection =
            Connection::open(&self.ground.target, self.asked.to, self.asked.from, silence).await?;
        self.seen.connections += 1;
        match timeout(silence, connection.send(self.request())).await {
            Err(_) => Err(self.silent("no answer")),
            Ok(Err(error)) => Err(broken(&error, self.what())),
            Ok(Ok(response)) => Ok((connection, response)),
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let Ground { target, .. } = self.ground;
        let Wanted { kind, path, says, .. } = &self.asked.wanted;
        let target_path = match kind {
            Kind::CheckIn => CHECK_IN.to_owned(),
            Kind::Report => REPORT.to_owned(),
            _ => target.request_target(path.as_ref()),
        };
        let mut request = request(target, self.asked.shown.clone(), &target_path, says.clone());
        if self.asked.keep == Keep::Close {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
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
            Kind::CheckIn | Kind::Report | Kind::Events => ANSWER_BYTES_MAX as u64,
        };
        let mut hasher = blake3::Hasher::new();
        let mut manifest = BytesMut::new();
        loop {
            let frame = timeout(self.ground.plan.silence, body.frame()).await;
            let frame = match frame {
                Err(_) => return Err(self.silent("the body stopped")),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(broken(&error, self.what())),
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
        if matches!(wanted.kind, Kind::CheckIn | Kind::Report) {
            // What is said to one agent is nothing that others are told too.
            return Ok(Got::Whole);
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

    fn good_status(&self) -> StatusCode {
        if self.asked.wanted.kind == Kind::Report { StatusCode::NO_CONTENT } else { StatusCode::OK }
    }

    fn silent(&self, what: &str) -> Failure {
        let silence = self.ground.plan.silence;
        self.failure(Fault::Silence, &format!("{what} within {silence:?}"))
    }

    fn failure(&self, fault: Fault, what: &str) -> Failure {
        Failure::new(fault, format!("{}: {what}", self.what()))
    }

    /// What is asked for, for people.
    fn what(&self) -> &str {
        match self.asked.wanted.kind {
            Kind::CheckIn => CHECK_IN,
            Kind::Report => REPORT,
            _ => self.asked.wanted.path.as_ref().map_or(MANIFEST, |path| path.as_str()),
        }
    }
}

/// What names the state of a file: its entity tag, else its date, else nothing.
fn tag(headers: &HeaderMap) -> Vec<u8> {
    let tag = headers.get(header::ETAG).or_else(|| headers.get(header::LAST_MODIFIED));
    tag.map_or_else(Vec::new, |tag| tag.as_bytes().to_vec())
}

/// A manifest, in bytes: the largest known stay under 2 MB, and each connection may hold one.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// An error's page that is read to keep its connection, in bytes.
const PAGE_BYTES_MAX: usize = 64 << 10;
