//! An answer as it came, how it ended, and the parts of a multipart body.
//!
//! Never repairs what it reads. Invariant: what is not strictly well-formed is an error or a panic.

use std::io::{self, ErrorKind};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the end that its framing announced.
    Complete,
    /// Closed in order where only the close marks the end: nothing says whether it was whole.
    Closed,
    /// Closed in order before the announced end.
    Short,
    /// Reset by the other side.
    Reset,
    /// Nothing came for as long as the client waits.
    TimedOut,
    /// Not HTTP, and what was wrong.
    Malformed(&'static str),
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            _ => panic!("a socket failed in an unforeseen way: {error}"),
        }
    }
}

/// A status line and headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `HTTP/1.1`
    pub(crate) version: String,
    pub(crate) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut status = lines.next()?.splitn(3, ' ');
        let version = status.next().filter(|version| version.starts_with("HTTP/1."))?.to_owned();
        let status = status.next()?.parse().ok()?;
        let headers = lines.map(header).collect::<Option<_>>()?;
        Some(Self { version, status, headers })
    }

    /// The only header of this name, given in lower case; panics when there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "several headers '{name}': {:?}", self.headers);
        first
    }
}

/// An answer, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    /// The body; panics unless the answer has this status and came whole.
    pub(crate) fn whole(self, status: u16) -> Vec<u8> {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        assert_eq!(self.head.status, status, "{:?}, body begins: {body}", self.head);
        assert_eq!(self.end, End::Complete, "after {} bytes: {:?}", self.body.len(), self.head);
        self.body
    }

    /// The parts of a `multipart/byteranges` body (RFC 9110, 14.6), read strictly; an error says what is wrong with it.
    pub(crate) fn parts(&self) -> Result<Vec<Part>, String> {
        let media = self.head.header("content-type").ok_or("no Content-Type")?;
        let boundary = media.strip_prefix("multipart/byteranges; boundary=").ok_or(format!("is {media}"))?;
        let boundary = boundary.trim_matches('"');
        let opening = format!("--{boundary}\r\n");
        // The first delimiter may follow a line end or stand at the very beginning.
        let mut left = self.body.strip_prefix(b"\r\n").unwrap_or(&self.body);
        left = left.strip_prefix(opening.as_bytes()).ok_or("no first delimiter")?;
        let mut parts = Vec::new();
        loop {
            let (part, rest) = Part::parse(left)?;
            parts.push(part);
            let rest = rest.strip_prefix(format!("\r\n--{boundary}").as_bytes()).ok_or("no delimiter")?;
            match rest.strip_prefix(b"\r\n") {
                Some(rest) => left = rest,
                None if matches!(rest, b"--" | b"--\r\n") => return Ok(parts),
                None => return Err(format!("{} stray bytes after the last delimiter", rest.len())),
            }
        }
    }
}

/// One part of a `multipart/byteranges` body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) content_type: Option<String>,
    /// Where the bytes begin in the whole.
    pub(crate) start: usize,
    /// How long the whole is.
    pub(crate) whole: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let at =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("a part without a blank line")?;
        let head = std::str::from_utf8(&bytes[..at]).map_err(|error| error.to_string())?;
        let headers =
            head.split("\r\n").map(header).collect::<Option<Vec<_>>>().ok_or("a header of a part")?;
        let named = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
        let place = named("content-range").ok_or("a part without Content-Range")?;
        let (start, end, whole) = content_range(place).ok_or(format!("Content-Range: {place}"))?;
        let body = bytes[at + 4..].get(..end - start).ok_or("a part shorter than its Content-Range")?;
        let part = Self { content_type: named("content-type").cloned(), start, whole, bytes: body.to_vec() };
        Ok((part, &bytes[at + 4 + body.len()..]))
    }
}

/// `bytes first-last/whole` as start, end (one past the last) and whole.
pub(crate) fn content_range(value: &str) -> Option<(usize, usize, usize)> {
    let (span, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (start, last, whole): (usize, usize, usize) =
        (first.parse().ok()?, last.parse().ok()?, whole.parse().ok()?);
    (start <= last && last < whole).then_some((start, last + 1, whole))
}

fn header(line: &str) -> Option<(String, String)> {
    line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
}
