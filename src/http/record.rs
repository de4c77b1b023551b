//! What is counted and logged of a request: once, when its body ends or its agent leaves.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use memchr::memchr2;
use percent_encoding::percent_decode_str;
use tracing::{debug, info, warn};
use url::Url;

use crate::base::peer::Peer;
use crate::base::tally::Outcome;
use crate::config::settings::AccessLog;
use crate::http::connection::Worker;
use crate::http::route::Prefixed;
use crate::net::spans::Spans;
use crate::policy::caller::Caller;
use crate::policy::secret::{BETWEEN, Token};
use crate::policy::tree::id::AgentId;
use crate::relay::refusals::Refusal;

/// One request's line of the access log.
#[derive(Debug)]
pub struct Record {
    worker: Rc<Worker>,
    access: AccessLog,
    started: Duration,
    agent: SocketAddr,
    id: Option<AgentId>,
    method: Method,
    path: String,
    range: Option<String>,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    outcome: Outcome,
    /// Why the request got no representation.
    reason: Option<String>,
    /// `None` while nobody knows.
    expected_bytes: Option<u64>,
    sent_bytes: u64,
    broken: bool,
    /// Where it shows that a file broke off after its bytes were handed over.
    spans: Option<Rc<Spans>>,
}

impl Record {
    /// Begins a record when a request's head was read.
    pub fn begin(
        worker: &Rc<Worker>,
        access: AccessLog,
        agent: SocketAddr,
        request: &hyper::http::request::Parts,
    ) -> Self {
        let range = request.headers.get(hyper::header::RANGE);
        Self {
            worker: worker.clone(),
            started: worker.clock.monotonic(),
            access,
            agent,
            id: None,
            method: request.method.clone(),
            path: cut(&shown(request.uri.path()), PATH_CHARS_MAX).to_owned(),
            range: range
                .map(|range| cut(&String::from_utf8_lossy(range.as_bytes()), RANGE_CHARS_MAX).to_owned()),
            status: None,
            outcome: Outcome::GivenUp,
            reason: None,
            expected_bytes: Some(0),
            sent_bytes: 0,
            broken: false,
            spans: None,
        }
    }

    /// When the head was read, by the monotonic clock.
    pub fn began(&self) -> Duration {
        self.started
    }

    /// Notes which agent of the tree sends the request.
    pub fn known_as(&mut self, caller: &Caller) {
        self.id = caller.agent().copied();
    }

    /// Notes where bytes are handed to that come of files.
    pub fn sent_by(&mut self, spans: Option<Rc<Spans>>) {
        self.spans = spans;
    }

    /// Notes that the request is for another server, and for what there.
    pub fn toward(&mut self, url: &Url) {
        let place = format!("{}{}", url.origin().ascii_serialization(), shown(url.path()));
        cut(&place, PATH_CHARS_MAX).clone_into(&mut self.path);
    }

    /// Notes how the request is answered, with how many bytes of body, where that is known.
    pub fn answered(&mut self, status: StatusCode, outcome: Outcome, body_bytes: Option<u64>) {
        self.status = Some(status);
        self.outcome = outcome;
        self.expected_bytes = if self.method == Method::HEAD { Some(0) } else { body_bytes };
    }

    /// Notes why the request gets no representation: what the agent is told, and what lies behind it.
    pub fn failed(&mut self, reason: &dyn std::fmt::Display) {
        self.reason = Some(reason.to_string());
    }

    /// Notes bytes that were handed to the connection.
    pub fn sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
        self.worker.tally.sent_bytes.add(bytes);
    }

    /// Notes that the body's end was handed over.
    pub fn ended(&mut self) {
        self.expected_bytes.get_or_insert(self.sent_bytes);
    }

    /// Notes that the body broke off on the relay's side.
    pub fn broken(&mut self, error: &io::Error) {
        self.broken = true;
        warn!(agent = %self.agent, path = self.path, sent_bytes = self.sent_bytes, %error, "a transfer is broken off");
    }
}

impl Record {
    /// Whether less was handed over than there was.
    fn is_short(&self) -> bool {
        self.expected_bytes.is_none_or(|expected| self.sent_bytes < expected)
    }
}

/// A path as it may be shown: without the token that it may begin with, or any other in it, in whatever way they are written.
pub fn shown(path: &str) -> Cow<'_, str> {
    if is_surely_plain(path) { path.into() } else { cleared(path) }
}

/// Whether there is neither a token nor what might be read as one: most paths have none of the marks.
fn is_surely_plain(path: &str) -> bool {
    memchr2(b'%', BETWEEN, path.as_bytes()).is_none() && Prefixed::of(path).is_none()
}

fn cleared(path: &str) -> Cow<'_, str> {
    let plain = percent_decode_str(path).decode_utf8_lossy();
    let (begins, rest) = match Prefixed::of(&plain) {
        Some(Prefixed { path, .. }) => ("/t/.", path),
        None if plain.split('/').any(is_token) => ("", &*plain),
        None => return path.into(),
    };
    let names: Vec<_> = rest.split('/').map(|name| if is_token(name) { "." } else { name }).collect();
    format!("{begins}{}", names.join("/")).into()
}

fn is_token(name: &str) -> bool {
    Token::parse(name).is_some()
}

/// The first so many characters of a text.
fn cut(text: &str, chars_max: usize) -> &str {
    // Few texts have more bytes than that.
    if text.len() <= chars_max {
        return text;
    }
    text.char_indices().nth(chars_max).map_or(text, |(at, _)| &text[..at])
}

/// The longest path and range that a log line holds, in characters.
const PATH_CHARS_MAX: usize = 1024;
const RANGE_CHARS_MAX: usize = 200;

impl Drop for Record {
    fn drop(&mut self) {
        if !self.broken && self.spans.as_ref().is_some_and(|spans| spans.is_broken()) {
            self.broken(&io::Error::other("a file of the store could not be sent to its end"));
        }
        let outcome = match self.outcome {
            _ if self.broken => Outcome::Failed,
            outcome if self.is_short() && outcome != Outcome::Failed => Outcome::GivenUp,
            outcome => outcome,
        };
        self.worker.tally.request(outcome);
        if outcome == Outcome::Refused {
            self.worker.refusals.note(Refusal {
                number: 0,
                at: self.worker.clock.wall(),
                from: self.agent,
                agent: self.id,
                method: self.method.as_str().into(),
                path: self.path.as_str().into(),
                reason: self.reason.as_deref().unwrap_or("it may not update now").into(),
            });
        }
        // A refusal is told whatever else is (R11.2).
        if self.access == AccessLog::Off && outcome != Outcome::Refused {
            return;
        }
        let took = self.worker.clock.monotonic().saturating_sub(self.started);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (agent, method, status) =
            (Peer(self.agent), &self.method, self.status.map(|status| status.as_u16()));
        info!(
            target: "access",
            %agent,
            id = self.id.as_ref().map(AgentId::as_str),
            %method,
            path = self.path,
            range = self.range.as_deref(),
            status,
            outcome = outcome.name(),
            reason = self.reason.as_deref(),
            bytes = self.sent_bytes,
            ms,
        );
        if outcome == Outcome::GivenUp {
            debug!(%agent, path = self.path, expected_bytes = ?self.expected_bytes, "the agent left before the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_path_is_taken_for_plain_that_would_be_cleared(
            path in "(/|/t|/a|/t/[a~]{1,3}|%74|%7e|/x~[0-9a-f]{64}|/é){0,5}",
        ) {
            prop_assert!(!is_surely_plain(&path) || cleared(&path) == path, "{path}");
            prop_assert_eq!(shown(&path), cleared(&path));
        }
    }
}
