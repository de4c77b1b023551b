//! Where a tree comes from: URLs tried in order, or a directory (R1.2).
//!
//! `routes` chooses the ways to a destination, `ways` tries them, and `hop` connects by one: directly, or through a `parent` (R4.5).
//! A connection is what wins the `race` of a host's addresses, which `resolve` knows and `connect` attempts (R4.3).
//! A fetch's way: [`Upstream::fetch`] at one *origin* (a URL of the list, or the directory) -> an [`Answer`] whose head is
//! known -> [`Transfer::chunk`] until it ends. Each wait has a deadline. Never writes, never decides which origin is next:
//! that is the fill's. Invariant: a transfer that ends without an error gave exactly the bytes that its head promised.

pub mod client;
pub mod connect;
pub mod credentials;
pub mod directory;
pub mod failed;
pub mod hop;
pub mod http;
mod lent;
pub mod parent;
pub mod race;
pub mod resolve;
pub mod routes;
pub mod stream;
pub mod unreached;
pub mod watch;
pub mod ways;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use url::Url;

use crate::base::range::ByteRange;
use crate::base::tally::Tally;
use crate::base::validator::Validator;
use crate::policy::decide::Refusal;
use crate::upstream::client::Client;
use crate::upstream::directory::DirectoryTransfer;
use crate::upstream::http::HttpTransfer;
use crate::upstream::ways::Way;

/// Where one tree comes from.
#[derive(Debug)]
pub struct Upstream {
    origins: Vec<Origin>,
    deadlines: Deadlines,
    tally: Arc<Tally>,
}

/// One place of an upstream.
#[derive(Debug)]
pub enum Origin {
    /// A base URL that ends with `/`.
    Url(Url, Box<Client>),
    /// A folder of this machine.
    Directory(PathBuf),
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Until an answer's head.
    pub first_byte: Duration,
    /// Between two pieces of its body.
    pub silence: Duration,
}

/// What is asked of an origin.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The path below the origin's base.
    pub path: &'a str,
    /// What of it.
    pub part: Part<'a>,
}

/// What of a file is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// All of it.
    Whole,
    /// All of it, unless it is still in this state.
    UnlessStill(&'a Validator),
    /// The bytes from an offset on, if the entity tag (strong) still holds; else all of it.
    From(u64, &'a str),
    /// The bytes of a run that is not empty, if the entity tag (strong) still holds; else all of it.
    Span(ByteRange, &'a str),
    /// Its head alone.
    Head,
    /// Its head, by way of its first byte: for servers that do not know HEAD.
    First,
}

/// An origin's answer, its head complete.
#[derive(Debug)]
pub enum Answer {
    /// It is still in the state that was named.
    Unchanged,
    /// Bytes follow, from the transfer's offset on.
    Found(Transfer),
    /// A head without bytes.
    Head(Head),
}

/// What an origin says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many bytes the whole file has, if the origin says so.
    pub size: Option<u64>,
    /// What tells its states apart.
    pub validator: Validator,
    /// What the origin takes it for.
    pub kind: Kind,
}

/// What an origin takes a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page for people: what a captive portal, or a server that says sorry with status 200, sends for anything.
    Page,
    /// Anything else, or nothing said.
    File,
}

/// Bytes on their way.
#[derive(Debug)]
pub struct Transfer {
    /// What the origin says of the file.
    pub head: Head,
    /// Where in the file the first byte stands: 0, or what was asked for.
    pub offset: u64,
    /// One past the last byte that its head promises, where the origin says it.
    pub end: Option<u64>,
    source: Source,
    silence: Duration,
    tally: Arc<Tally>,
}

#[derive(Debug)]
enum Source {
    Http(HttpTransfer),
    Directory(DirectoryTransfer),
}

/// Why an origin did not give what was asked for.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// 404 or 410, or no such file.
    #[error("the upstream has no such file")]
    NotFound,
    /// Any other status that is not a success.
    #[error("the upstream answered with status {0}")]
    Status(u16),
    /// No connection, or it broke before the head.
    #[error("no answer from the upstream: {0}")]
    Connect(String),
    /// No head in time.
    #[error("the upstream sent no first byte within {} s", .0.as_secs_f32())]
    FirstByte(Duration),
    /// A body fell silent.
    #[error("the upstream was silent for {} s", .0.as_secs_f32())]
    Silence(Duration),
    /// A body broke off.
    #[error("the upstream broke off: {0}")]
    Broken(String),
    /// Redirects without end, or to where they may not go.
    #[error("the upstream redirects {0}")]
    Redirect(&'static str),
    /// A redirect leads where none may.
    #[error("the upstream redirects to where it may not: {0}")]
    Refused(Refusal),
    /// The head contradicts itself or what was asked.
    #[error("the upstream's answer is wrong: {0}")]
    Head(&'static str),
    /// The file changed while it was read.
    #[error("the file changed while it was read")]
    Changed,
    /// The directory could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl UpstreamError {
    /// Whether asking the same origin again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotFound | Self::Redirect(_) | Self::Refused(_) | Self::Head(_) => false,
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Connect(_)
            | Self::FirstByte(_)
            | Self::Silence(_)
            | Self::Broken(_)
            | Self::Changed
            | Self::Io(_) => true,
        }
    }
}

impl Upstream {
    /// An upstream of one or more origins, tried in their order.
    pub fn new(origins: Vec<Origin>, deadlines: Deadlines, tally: Arc<Tally>) -> Self {
        debug_assert!(!origins.is_empty(), "settings name at least one origin");
        Self { origins, deadlines, tally }
    }

    /// How many origins there are.
    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// An origin's URL or folder.
    pub fn origin_name(&self, origin: usize) -> String {
        match &self.origins[origin % self.origins.len()] {
            Origin::Url(base, _) => base.to_string(),
            Origin::Directory(folder) => folder.display().to_string(),
        }
    }

    /// Which origin has this URL or folder.
    pub fn origin_named(&self, name: &str) -> Option<usize> {
        (0..self.origins()).find(|origin| self.origin_name(*origin) == name)
    }

    /// Asks one origin, counted from 0 in their order; beyond the last it goes on with the first.
    pub async fn fetch(&self, origin: usize, request: Request<'_>) -> Result<Answer, UpstreamError> {
        self.tally.upstream_requests.one();
        let first_byte = self.deadlines.first_byte;
        let origin = &self.origins[origin % self.origins.len()];
        let way = Way::default();
        let answer = async {
            match origin {
                Origin::Url(base, client) => http::fetch(client, base, request, &way).await,
                Origin::Directory(folder) => directory::fetch(folder, request).await,
            }
        };
        let found = tokio::time::timeout(first_byte, answer).await;
        let found = found.unwrap_or(Err(UpstreamError::FirstByte(first_byte)));
        if let Origin::Url(_, client) = origin {
            let silent = matches!(found, Err(UpstreamError::FirstByte(_) | UpstreamError::Connect(_)));
            client.note(&way, !silent);
        }
        let found = found?;
        Ok(match found {
            Found::Unchanged => Answer::Unchanged,
            Found::Head(head) => Answer::Head(head),
            Found::Bytes { head, offset, end, source } => Answer::Found(Transfer {
                head,
                offset,
                end,
                source,
                silence: self.deadlines.silence,
                tally: self.tally.clone(),
            }),
        })
    }
}

/// What a driver of an origin found.
#[derive(Debug)]
enum Found {
    Unchanged,
    Head(Head),
    Bytes { head: Head, offset: u64, end: Option<u64>, source: Source },
}

impl Transfer {
    /// The next bytes, never empty; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let next = async {
            match &mut self.source {
                Source::Http(transfer) => transfer.chunk().await,
                Source::Directory(transfer) => transfer.chunk().await,
            }
        };
        let chunk = tokio::time::timeout(self.silence, next)
            .await
            .map_err(|_| UpstreamError::Silence(self.silence))??;
        if let Some(bytes) = &chunk {
            self.tally.upstream_bytes.add(bytes.len() as u64);
        }
        Ok(chunk)
    }
}
