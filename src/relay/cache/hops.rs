//! What of a message's head is for one connection alone, and the mark that the relay leaves on what passes (RFC 9110 section 7.6).
//!
//! Invariant: no field that concerns a connection, or the proxy itself, gets from one side to the other.

use hyper::Version;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// Fields of one connection (section 7.6.1), those of the proxy's own users, and the framing, which each side has anew.
const HOP_BY_HOP: [HeaderName; 11] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    CONTENT_LENGTH,
];

/// Fields that a message cannot do without, whatever its `Connection` names.
const KEPT: [HeaderName; 2] = [HOST, HeaderName::from_static("cache-control")];

/// The name by which this relay marks what passes, and knows it when it comes again.
#[derive(Clone, Debug)]
pub struct Pseudonym(String);

impl Pseudonym {
    /// One from random bits: no other relay has it.
    pub fn new(bits: u64) -> Self {
        Self(format!("forebay-{bits:016x}"))
    }

    /// Whether a message passed here before.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VIA).iter().any(|line| {
            let line = String::from_utf8_lossy(line.as_bytes());
            line.split(',').any(|hop| hop.split_ascii_whitespace().nth(1) == Some(&self.0))
        })
    }

    /// Marks a message that came by this version of HTTP.
    pub fn mark(&self, headers: &mut HeaderMap, version: Version) {
        let version = match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        let value = HeaderValue::from_str(&format!("{version} {}", self.0));
        headers.append(VIA, value.expect("digits and letters are a header's value"));
    }
}

/// A head without what concerns its connection alone.
pub fn stripped(headers: &HeaderMap) -> HeaderMap {
    let mut left = headers.clone();
    for line in headers.get_all(CONNECTION) {
        let line = String::from_utf8_lossy(line.as_bytes());
        for name in line.split(',').filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()) {
            if !KEPT.contains(&name) {
                left.remove(name);
            }
        }
    }
    for name in HOP_BY_HOP {
        left.remove(name);
    }
    left
}

/// How an answer's bytes were coded for its way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Not at all: a length, or the close, marks their end.
    Plain,
    /// In chunks, and in nothing else: the last one marks their end.
    Chunked,
    /// In some other way, that nobody takes off again: the field does not pass on.
    Unknown,
}

/// Reads it from the head.
pub fn transfer(headers: &HeaderMap) -> Transfer {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    match (lines.next(), lines.next()) {
        (None, _) => Transfer::Plain,
        (Some(one), None) if one.trim_ascii().eq_ignore_ascii_case(b"chunked") => Transfer::Chunked,
        _ => Transfer::Unknown,
    }
}

/// The length that a head without a body tells, where it is one number.
pub fn told_length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter().map(|line| {
        let digits = line.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse::<u64>().ok())
    });
    let first = lines.next()??;
    lines.all(|line| line == Some(first)).then_some(first)
}

/// Whether a request's client takes trailers.
pub fn takes_trailers(request: &HeaderMap) -> bool {
    request.get_all(TE).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// `Max-Forwards`, lowered by one for the next server; `None` in it where this is the last (section 7.6.2).
pub fn lowered(headers: &mut HeaderMap) -> Option<()> {
    let Some(left) = headers.get(MAX_FORWARDS) else { return Some(()) };
    let left = left.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
    match left {
        Some(0) => None,
        Some(left) => {
            headers.insert(MAX_FORWARDS, (left - 1).into());
            Some(())
        }
        // What is no number limits nothing.
        None => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::cache::samples::headers;

    #[test]
    fn only_one_chunked_marks_the_end_of_an_answer_r1_5() {
        for (expected, lines) in [
            (Transfer::Plain, &[][..]),
            (Transfer::Chunked, &["chunked"]),
            (Transfer::Chunked, &["Chunked "]),
            (Transfer::Unknown, &["gzip"]),
            (Transfer::Unknown, &["gzip, chunked"]),
            (Transfer::Unknown, &["chunked, chunked"]),
            (Transfer::Unknown, &["chunked", "chunked"]),
            (Transfer::Unknown, &["chunked", "gzip"]),
            (Transfer::Unknown, &[""]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRANSFER_ENCODING, line.parse().unwrap());
            }
            assert_eq!(transfer(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_length_without_a_body_is_one_number_or_none_r3_3() {
        for (expected, lines) in [
            (None, &[][..]),
            (Some(5), &["5"]),
            (Some(5), &["5", "5"]),
            (None, &["5", "6"]),
            (None, &["5, 5"]),
            (None, &["-5"]),
            (None, &["+5"]),
            (None, &["abc"]),
            (None, &[""]),
            (None, &["18446744073709551616"]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_LENGTH, line.parse().unwrap());
            }
            assert_eq!(told_length(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_concerns_a_connection_goes_no_further_r3_2() {
        let before = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "te, host, cache-control"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("content-length", "5"),
            ("host", "a"),
            ("cache-control", "no-store"),
        ]);
        assert!(takes_trailers(&before));
        assert_eq!(
            stripped(&before),
            headers(&[("x-other", "2"), ("host", "a"), ("cache-control", "no-store")])
        );
    }

    #[test]
    fn a_relay_knows_its_own_mark_among_others_r3_2() {
        let (own, other) = (Pseudonym::new(1), Pseudonym::new(2));
        let mut passed = headers(&[("via", "1.0 fred, 1.1 forebay-00000000000000010")]);
        other.mark(&mut passed, Version::HTTP_10);
        assert!(!own.is_in(&passed) && other.is_in(&passed));
        own.mark(&mut passed, Version::HTTP_2);
        assert!(own.is_in(&passed));
        assert!(own.is_in(&headers(&[("via", "1.1 a (x),1.1 forebay-0000000000000001 (comment)")])));
    }

    #[test]
    fn forwards_are_counted_down_to_the_last_r3_2() {
        let mut counted = headers(&[("max-forwards", "1")]);
        assert_eq!(lowered(&mut counted), Some(()));
        assert_eq!(counted, headers(&[("max-forwards", "0")]));
        assert_eq!(lowered(&mut counted), None);
        for free in [headers(&[]), headers(&[("max-forwards", "x")])] {
            assert_eq!(lowered(&mut free.clone()), Some(()));
        }
    }
}
