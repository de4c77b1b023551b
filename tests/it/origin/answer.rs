//! From a request, an object and faults to the answer that goes out: RFC 9110 where no fault says otherwise.
//!
//! Never does I/O. Invariant: without a fault the answer is right, so that a relay which fails on it is wrong.

use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::fault::{Fault, Gate};
use super::seen::Request;

/// Which validators an origin sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Validators {
    /// A strong `ETag` and Last-Modified.
    #[default]
    Strong,
    /// A weak `ETag` alone.
    Weak,
    /// Last-Modified alone.
    Date,
    /// None.
    None,
}

/// A file as it is served.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) bytes: Vec<u8>,
    pub(super) modified: SystemTime,
}

impl Object {
    /// The object after a change: every byte from `offset` on is another one, and it is two seconds younger.
    pub(super) fn changed_from(mut self, offset: usize) -> Self {
        self.bytes.iter_mut().skip(offset).for_each(|byte| *byte ^= 0xff);
        self.modified += Duration::from_secs(2);
        self
    }

    fn etag(&self, validators: Validators) -> Option<String> {
        let opaque = &blake3::hash(&self.bytes).to_hex()[..16];
        match validators {
            Validators::Strong => Some(format!("\"{opaque}\"")),
            Validators::Weak => Some(format!("W/\"{opaque}\"")),
            Validators::Date | Validators::None => None,
        }
    }

    fn date(&self, validators: Validators) -> Option<String> {
        matches!(validators, Validators::Strong | Validators::Date)
            .then(|| httpdate::fmt_http_date(self.modified))
    }
}

/// An answer, and how it is written.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes that go out in place of the head.
    garbage: Option<&'static [u8]>,
    pub(super) chunked: bool,
    pub(super) before_head: Option<Gate>,
    pub(super) late: Duration,
    pub(super) stall: Option<(usize, Gate)>,
    pub(super) cut: Option<(usize, Cut)>,
    pub(super) pace: Pace,
    pub(super) close: bool,
}

/// How an answer is broken off.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Reset,
    Close,
}

/// How fast a body goes out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Pace {
    #[default]
    Full,
    BytesPerSec(usize),
    Drip(Duration),
}

impl Answer {
    /// What goes out before the body.
    pub(super) fn head(&self) -> Vec<u8> {
        if let Some(garbage) = self.garbage {
            return garbage.to_vec();
        }
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    fn text(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Self { status, headers, body: body.into(), ..Self::default() }
    }

    fn replace(&mut self, name: &'static str, value: String) {
        self.headers.retain(|(header, _)| *header != name);
        self.headers.push((name, value));
    }
}

/// The answer to a request for an object that is there, or not.
pub(super) fn answer(
    request: &Request,
    object: Option<&Object>,
    validators: Validators,
    faults: &[Fault],
) -> Answer {
    let mut answer = told(request, faults).unwrap_or_else(|| right(request, object, validators, faults));
    if faults.iter().any(|fault| matches!(fault, Fault::ContentEncodingGzip)) && answer.status == 200 {
        answer.body = gzip(&answer.body);
        answer.replace("Content-Encoding", "gzip".into());
    }
    if !matches!(answer.status, 204 | 304) {
        let length = answer.body.len().to_string();
        answer.replace("Content-Length", length);
    }
    for fault in faults {
        bend(&mut answer, fault);
    }
    if request.method == "HEAD" {
        answer.body.clear();
        answer.chunked = false;
    }
    if request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        answer.close = true;
    }
    if answer.close {
        answer.replace("Connection", "close".into());
    }
    answer
}

/// The answer that a fault gives whatever was asked for.
fn told(request: &Request, faults: &[Fault]) -> Option<Answer> {
    faults
        .iter()
        .find_map(|fault| match fault {
            Fault::Status(status @ (204 | 304)) => Some(Answer { status: *status, ..Answer::default() }),
            Fault::Status(status) => Some(Answer::text(*status, "text/plain", "as it was told\n")),
            Fault::Html => Some(Answer::text(200, "text/html", PORTAL)),
            Fault::Redirect(to) => {
                let mut answer = Answer::text(302, "text/plain", "elsewhere\n");
                answer.replace("Location", to.clone());
                Some(answer)
            }
            Fault::GarbageHead => Some(Answer { garbage: Some(GARBAGE), close: true, ..Answer::default() }),
            _ => None,
        })
        .or_else(|| {
            let refused = !matches!(request.method.as_str(), "GET" | "HEAD");
            refused.then(|| Answer { close: true, ..Answer::text(405, "text/plain", "GET or HEAD\n") })
        })
}

/// The answer that RFC 9110 asks for.
fn right(request: &Request, object: Option<&Object>, validators: Validators, faults: &[Fault]) -> Answer {
    let Some(object) = object else { return Answer::text(404, "text/plain", "not here\n") };
    let (etag, date) = (object.etag(validators), object.date(validators));
    let ranges = !faults.iter().any(|fault| matches!(fault, Fault::NoRange));
    let mut answer = Answer { status: 200, ..Answer::default() };
    answer.headers.extend(etag.clone().map(|etag| ("ETag", etag)));
    answer.headers.extend(date.clone().map(|date| ("Last-Modified", date)));
    if is_known(request, etag.as_deref(), object, date.is_some()) {
        answer.status = 304;
        return answer;
    }
    answer.headers.push(("Accept-Ranges", if ranges { "bytes" } else { "none" }.into()));
    answer.headers.push(("Content-Type", "application/octet-stream".into()));
    let whole = object.bytes.len();
    let same = request.header("if-range").is_none_or(|validator| {
        // Only a strong validator may join two answers (RFC 9110, 13.1.5).
        !validator.starts_with("W/") && [etag.as_deref(), date.as_deref()].contains(&Some(validator))
    });
    match request.range().filter(|_| ranges && same).map(|range| single(range, whole)) {
        Some(Wanted::Span(span)) => {
            answer.status = 206;
            answer.headers.push(("Content-Range", format!("bytes {}-{}/{whole}", span.start, span.end - 1)));
            answer.body = object.bytes[span].to_vec();
        }
        Some(Wanted::Nothing) => {
            answer.status = 416;
            answer.headers.push(("Content-Range", format!("bytes */{whole}")));
        }
        Some(Wanted::Whole) | None => answer.body.clone_from(&object.bytes),
    }
    answer
}

/// Whether the client's own copy is the current one (RFC 9110, 13.1.2 and 13.1.3).
fn is_known(request: &Request, etag: Option<&str>, object: &Object, dated: bool) -> bool {
    if let Some(known) = request.header("if-none-match") {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        return known.trim() == "*" || known.split(',').any(|tag| etag.map(opaque) == Some(opaque(tag)));
    }
    let since = request.header("if-modified-since").and_then(|date| httpdate::parse_http_date(date).ok());
    // Dates have whole seconds, files finer ones.
    dated && since.is_some_and(|since| object.modified < since + Duration::from_secs(1))
}

enum Wanted {
    Span(Range<usize>),
    Nothing,
    Whole,
}

/// One range of a body `whole` bytes long; several ranges and what cannot be read count as none asked for.
fn single(range: &str, whole: usize) -> Wanted {
    let parsed =
        range.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')).and_then(|(first, last)| {
            let number = |text: &str| text.trim().parse::<usize>().ok();
            match (first.trim(), last.trim()) {
                ("", last) => Some(whole.saturating_sub(number(last)?)..whole),
                (first, "") => Some(number(first)?..whole),
                (first, last) => Some(number(first)?..number(last)?.saturating_add(1).min(whole)),
            }
        });
    match parsed {
        Some(span) if span.start < span.end => Wanted::Span(span),
        Some(_) => Wanted::Nothing,
        None => Wanted::Whole,
    }
}

/// Puts a fault that concerns framing, pace or ending into an answer.
fn bend(answer: &mut Answer, fault: &Fault) {
    match fault {
        Fault::ResetAfter(count) => answer.cut = Some((*count, Cut::Reset)),
        Fault::CloseAfter(count) => answer.cut = Some((*count, Cut::Close)),
        Fault::StallAfter(count, gate) => answer.stall = Some((*count, gate.clone())),
        Fault::Late { by } => answer.late = *by,
        Fault::StallBeforeHead(gate) => answer.before_head = Some(gate.clone()),
        Fault::WrongLength { declared } => {
            answer.replace("Content-Length", declared.to_string());
            answer.cut = Some((usize::MAX, Cut::Close));
        }
        Fault::TooLong { by } => {
            answer.body.resize(answer.body.len() + by, 7);
            let length = answer.body.len().to_string();
            answer.replace("Content-Length", length);
        }
        Fault::WrongContentRange => shift_content_range(answer),
        Fault::Chunked => {
            answer.headers.retain(|(name, _)| *name != "Content-Length");
            answer.replace("Transfer-Encoding", "chunked".into());
            answer.chunked = true;
        }
        Fault::Throttle { bytes_per_sec } => answer.pace = Pace::BytesPerSec(*bytes_per_sec),
        Fault::Drip { every } => answer.pace = Pace::Drip(*every),
        Fault::Status(_)
        | Fault::Html
        | Fault::Redirect(_)
        | Fault::NoRange
        | Fault::ChangedFrom(_)
        | Fault::ContentEncodingGzip
        | Fault::GarbageHead => {}
    }
}

fn shift_content_range(answer: &mut Answer) {
    let Some((_, value)) = answer.headers.iter().find(|(name, _)| *name == "Content-Range") else { return };
    let shifted = value.strip_prefix("bytes ").and_then(|value| {
        let (span, whole) = value.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let next = |text: &str| text.parse::<usize>().map(|number| number + 1).ok();
        Some(format!("bytes {}-{}/{whole}", next(first)?, next(last)?))
    });
    if let Some(shifted) = shifted {
        answer.replace("Content-Range", shifted);
    }
}

/// A gzip member (RFC 1952) of stored blocks (RFC 1951, 3.2.4): real, but no smaller.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.chunks(usize::from(u16::MAX));
    for block in blocks {
        let length = u16::try_from(block.len()).expect("a block is at most u16::MAX long");
        member.push(0);
        member.extend(length.to_le_bytes());
        member.extend((!length).to_le_bytes());
        member.extend(block);
    }
    member.extend([1, 0, 0, 255, 255]);
    member.extend(crc32(bytes).to_le_bytes());
    member.extend(u32::try_from(bytes.len()).expect("test objects stay below 4 GiB").to_le_bytes());
    member
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "As Told",
    }
}

const PORTAL: &str = "<!doctype html><title>Sign in</title><p>Accept the terms to use this network.</p>\n";

/// The beginning of a TLS record, as from a port where HTTP was not expected.
const GARBAGE: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n";
