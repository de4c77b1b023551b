//! The steps of a request on its way, as they are told: a line for people at once, a value for programs at the end.
//!
//! Never changes what happens. Invariant: each step has the time since the check began, by the monotonic clock.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName};
use jiff::Timestamp;
use rustls::ProtocolVersion;
use serde_json::{Value, json};

use crate::cli::check::certificate::Shown;
use crate::cli::output::print;
use crate::upstream::race::Question;
use crate::upstream::resolve::Source;
use crate::upstream::watch::Step;

/// How steps are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Each in a line, as it happens.
    Lines,
    /// All in one value, at the end.
    Json,
}

/// What was told.
#[derive(Debug)]
pub(super) struct Told {
    form: Form,
    begun: Instant,
    /// Guards what steps before the next one say; held while a line is printed.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    steps: Vec<Value>,
    /// When each question and attempt began.
    began: HashMap<String, Duration>,
    attempts: usize,
    /// When a request could be sent.
    ready: Duration,
    /// The last answer's status.
    status: Option<StatusCode>,
}

/// A step for people and for programs.
struct Said {
    text: String,
    value: Value,
}

impl Told {
    /// Nothing happened yet.
    pub(super) fn new(form: Form) -> Self {
        Self { form, begun: Instant::now(), state: Mutex::default() }
    }

    /// Tells a step.
    pub(super) fn note(&self, step: &Step<'_>) {
        let at = self.begun.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Said { text, mut value } = state.say(step, at);
        match self.form {
            Form::Lines => print_lines(Some(at), &text),
            Form::Json => {
                value["at_ms"] = millis(at).into();
                state.steps.push(value);
            }
        }
    }

    /// Tells what is no step.
    pub(super) fn say(&self, text: &str) {
        if self.form == Form::Lines {
            print_lines(None, text);
        }
    }

    /// The last answer's status.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    /// All steps, for programs.
    pub(super) fn steps(&self) -> Vec<Value> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).steps)
    }
}

impl State {
    fn say(&mut self, step: &Step<'_>, at: Duration) -> Said {
        match step {
            Step::Sent(method, url) => {
                self.ready = at;
                said(format!("{method} {url}"), json!({ "step": "request", "method": method, "url": url }))
            }
            Step::Way(to, by) => said(
                format!("route to {to}: {}", way(*by)),
                json!({ "step": "route", "to": to.to_string(), "parent": by }),
            ),
            Step::WayFailed(to, by, reason) => said(
                format!("{} to {to} failed: {reason}", way(*by)),
                json!({ "step": "route_failed", "to": to.to_string(), "parent": by, "reason": reason }),
            ),
            Step::Asked(host, question) => {
                self.began.insert(asking(host, *question), at);
                said(
                    format!("{}: asked", asking(host, *question)),
                    json!({ "step": "asked", "host": host, "question": kind(*question) }),
                )
            }
            Step::Answered(host, question, source, answer) => {
                self.answered(host, *question, *source, *answer, at)
            }
            Step::Embeds(prefixes) => {
                let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
                let list = if prefixes.is_empty() { "none here".to_owned() } else { prefixes.join(" ") };
                said(format!("NAT64 prefix: {list}"), json!({ "step": "nat64", "prefixes": prefixes }))
            }
            Step::Refused(address, reason) => said(
                format!("{address} is not connected to: {reason}"),
                json!({ "step": "refused", "address": address, "reason": reason }),
            ),
            Step::Attempt(address) => {
                self.attempts += 1;
                self.began.insert(address.to_string(), at);
                let family = family(*address);
                said(
                    format!("attempt {}: {address} ({family})", self.attempts),
                    json!({ "step": "attempt", "number": self.attempts, "address": address, "family": family }),
                )
            }
            Step::Opened(address) => self.attempt("opened", *address, "connected, TLS begins", None, at),
            Step::Failed(address, reason) => {
                self.attempt("failed", *address, &format!("failed: {reason}"), Some(reason), at)
            }
            Step::Won(address) => {
                self.ready = at;
                self.attempt("won", *address, "is the connection", None, at)
            }
            Step::Certificate(name, der, error) => {
                let shown = Shown::read(der).unwrap_or_default();
                let verdict = error.map_or("trusted".to_owned(), |error| format!("NOT trusted: {error}"));
                said(
                    format!("certificate for {name}: {}; {verdict}", shown.words(Timestamp::now())),
                    json!({
                        "step": "certificate",
                        "for": name,
                        "certificate": shown.value(),
                        "error": error.map(ToString::to_string),
                    }),
                )
            }
            Step::Secured(version) => {
                self.ready = at;
                let version = tls(*version);
                said(version.to_owned(), json!({ "step": "tls", "version": version }))
            }
            Step::Led(parent) => {
                self.ready = at;
                said(format!("{parent} leads there"), json!({ "step": "led", "parent": parent }))
            }
            Step::Answer(status, headers) => self.answer(*status, headers, at),
        }
    }

    fn answered(
        &mut self,
        host: &str,
        question: Question,
        source: Source,
        answer: Result<&[IpAddr], &str>,
        at: Duration,
    ) -> Said {
        let took = self.since(&asking(host, question), at);
        let source = known_by(source);
        let words = match answer {
            Ok([]) => "none".to_owned(),
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(reason) => format!("not known: {reason}"),
        };
        said(
            format!("{}: {words} ({source}, {} ms)", asking(host, question), millis(took)),
            json!({
                "step": "answered",
                "host": host,
                "question": kind(question),
                "source": source,
                "addresses": answer.ok(),
                "reason": answer.err(),
                "took_ms": millis(took),
            }),
        )
    }

    fn attempt(
        &self,
        step: &str,
        address: SocketAddr,
        what: &str,
        reason: Option<&str>,
        at: Duration,
    ) -> Said {
        let took = millis(self.since(&address.to_string(), at));
        said(
            format!("{address} {what} ({took} ms)"),
            json!({ "step": step, "address": address, "took_ms": took, "reason": reason }),
        )
    }

    fn answer(&mut self, status: StatusCode, headers: &HeaderMap, at: Duration) -> Said {
        self.status = Some(status);
        let first_byte = millis(at.saturating_sub(self.ready));
        let mut text =
            format!("answer: {status}, first byte {first_byte} ms after the request could be sent");
        let mut shown = serde_json::Map::new();
        for name in &HEADERS {
            for value in headers.get_all(name) {
                let value = String::from_utf8_lossy(value.as_bytes());
                // Writing into a string does not fail.
                let _ = write!(text, "\n  {name}: {value}");
                shown.insert(name.to_string(), value.into());
            }
        }
        let value = json!({
            "step": "answer",
            "status": status.as_u16(),
            "first_byte_ms": first_byte,
            "headers": shown,
        });
        said(text, value)
    }

    fn since(&self, what: &str, at: Duration) -> Duration {
        at.saturating_sub(self.began.get(what).copied().unwrap_or(at))
    }
}

/// What of an answer's head is shown.
const HEADERS: [HeaderName; 9] = [
    header::SERVER,
    header::VIA,
    header::LOCATION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::ETAG,
    header::LAST_MODIFIED,
    header::ACCEPT_RANGES,
    header::AGE,
];

fn said(text: String, value: Value) -> Said {
    Said { text, value }
}

/// Lines with the time of the first one in front.
fn print_lines(at: Option<Duration>, text: &str) {
    let mut time = at.map_or_else(String::new, |at| format!("{:.1} ms", at.as_secs_f64() * 1000.0));
    for line in text.lines() {
        print(&format!("{time:>11}  {line}"));
        time.clear();
    }
}

/// Milliseconds with a tenth.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn way(by: Option<&str>) -> String {
    by.map_or("directly".to_owned(), |parent| format!("by {parent}"))
}

fn asking(host: &str, question: Question) -> String {
    format!("{} of {host}", kind(question))
}

fn kind(question: Question) -> &'static str {
    match question {
        Question::Aaaa => "AAAA",
        Question::A => "A",
        Question::Embedded => "embedded IPv4 addresses",
    }
}

fn known_by(source: Source) -> &'static str {
    match source {
        Source::Literal => "written as an address",
        Source::Settings => "upstream.hosts",
        Source::Localhost => "localhost",
        Source::Hosts => "/etc/hosts",
        Source::Dns => "DNS",
        Source::Nat64 => "NAT64",
    }
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn tls(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    }
}
