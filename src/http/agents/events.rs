//! `GET /api/v1/agent/events`: an agent is told when to update, and that its settings changed (R9.1a, R9.1d, R9.2).
//!
//! A stream, for whoever can hold one; else, with `?wait=SECS`, one answer as soon as there is something to tell. `Last-Event-ID`, or
//! `after=N` in the query, says which notices were heard: those still under way that were not are told again.

use std::time::Duration;

use hyper::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::json;
use tokio::time::timeout;
use url::form_urlencoded;

use crate::base::tally::Outcome;
use crate::http::agents::answer::json;
use crate::http::agents::{Calling, Served};
use crate::http::body::Body;
use crate::http::events::{Events, Told};
use crate::http::respond::Failure;

/// The longest that a poll waits, in seconds: what is between agent and relay may take less for silence.
const WAIT_SECS_MAX: u64 = 60;

/// How long an agent that polls counts as there between two polls.
const POLL_LINGERS: Duration = Duration::from_secs(15);

/// How long an agent whose stream ended does: a reload or a change of networks is no absence.
const STREAM_LINGERS: Duration = Duration::from_secs(2);

/// What a request for events asks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// The number of the last notice that was heard.
    after: Option<u64>,
    /// For how many seconds to wait; `None` for a stream.
    wait_secs: Option<u64>,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Failure> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = value.parse::<u64>().ok();
            match &*name {
                "after" if number.is_some() => asked.after = number,
                "wait" if number.is_some_and(|secs| secs <= WAIT_SECS_MAX) => asked.wait_secs = number,
                "after" => return Err(Failure::Query("after is the number of a notice".into())),
                "wait" => return Err(Failure::Query(format!("wait is 0 to {WAIT_SECS_MAX}, in seconds"))),
                _ => return Err(Failure::Query("what may be asked is after=N and wait=SECS".into())),
            }
        }
        Ok(asked)
    }
}

impl Calling<'_> {
    pub(super) async fn events(&self) -> Served {
        let agent = self.known()?;
        let asked = Asked::read(self.request.uri.query().unwrap_or(""))?;
        let last = match self.request.headers.get("last-event-id") {
            None => None,
            Some(last) => {
                let number = last.to_str().ok().and_then(|last| last.parse().ok());
                let wrong = || Failure::Query("Last-Event-ID is the number of a notice".into());
                Some(number.ok_or_else(wrong)?)
            }
        };
        let heard = asked.after.or(last).unwrap_or(0);
        let streams = &self.agent.worker.streams;
        let Some(wait_secs) = asked.wait_secs else {
            let listening = streams.listen(agent, heard, STREAM_LINGERS);
            let mut response = Response::new(Body::events(Events::new(listening)));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            // Proxies that gather an answer before they pass it on would tell nothing.
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            return Ok((response, Outcome::Hit));
        };
        let listening = streams.listen(agent, heard, POLL_LINGERS);
        let mut told = Vec::new();
        if let Ok(first) = timeout(Duration::from_secs(wait_secs), listening.next()).await {
            told.extend(Told::of(first));
            told.extend(std::iter::from_fn(|| listening.take()).map_while(Told::of));
        }
        Ok(json(StatusCode::OK, &json!({ "events": told })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_strictly() {
        assert_eq!(Asked::read("").unwrap(), Asked::default());
        assert_eq!(Asked::read("wait=30&after=7").unwrap(), Asked { after: Some(7), wait_secs: Some(30) });
        for wrong in ["wait=61", "wait=-1", "wait=", "after=x", "until=3", "wait"] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
    }
}
