//! What an answer says of itself, before its body: whether it is one at all, and when to come back.
//!
//! Invariant: whatever is wrong has one name.

use std::io;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode, Version};

use crate::base::causes::causes;
use crate::load::fault::{Failure, Fault};

/// An answer with another status than the right one, to a request for this.
pub(super) fn refused(response: &Response<Incoming>, what: &str, now: SystemTime) -> Failure {
    let status = response.status();
    let retry_after = retry_after(response.headers(), now);
    let fault = match (status, retry_after) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Fault::Refused,
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(_)) => Fault::PutOff,
        _ => Fault::Status,
    };
    Failure {
        status: Some(status.as_u16()),
        retry_after: retry_after.filter(|_| fault == Fault::PutOff),
        ..Failure::new(fault, format!("{what}: status {}", status.as_u16()))
    }
}

/// What the HTTP library says of a connection that went wrong, at a request for this.
pub(super) fn broken(error: &hyper::Error, what: &str) -> Failure {
    let fault = match caused_by_io(error) {
        _ if error.is_parse() => Fault::Protocol,
        Some(io::ErrorKind::UnexpectedEof) => Fault::Short,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Fault::Protocol,
        _ => Fault::Reset,
    };
    Failure::new(fault, format!("{what}: {}", causes(error)))
}

/// Whether another request may follow on the connection (RFC 9112 section 9.3).
pub(super) fn serves_on(response: &Response<Incoming>) -> bool {
    let says_close = response.headers().get_all(header::CONNECTION).iter().any(|value| {
        let tokens = value.to_str().unwrap_or("close");
        tokens.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
    });
    response.version() == Version::HTTP_11 && !says_close
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
