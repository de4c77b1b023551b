//! One request to an upstream URL, redirects followed, and its answer checked before a byte is believed.
//!
//! Invariant: bytes of a `206` are used only where `Content-Range` says exactly what was asked and the strong entity tag
//! is the one that was named (R2.3).

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use percent_encoding::utf8_percent_encode;
use url::Url;

use crate::base::causes::causes;
use crate::base::limits::REDIRECTS_MAX;
use crate::base::path::PATH_ESCAPED;
use crate::base::validator::Validator;
use crate::upstream::client::{Client, Host};
use crate::upstream::connect::ConnectError;
use crate::upstream::ways::{Way, WayError};
use crate::upstream::{Found, Head, Kind, Part, Request, Source, UpstreamError};

/// The body of an answer.
#[derive(Debug)]
pub struct HttpTransfer {
    body: Incoming,
}

impl HttpTransfer {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| UpstreamError::Broken(causes(&error)))?;
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

pub(super) async fn fetch(
    client: &Client,
    base: &Url,
    request: Request<'_>,
    way: &Way,
) -> Result<Found, UpstreamError> {
    let path = utf8_percent_encode(request.path, PATH_ESCAPED).to_string();
    let mut url = base.join(&path).map_err(|_| UpstreamError::Head("its base and the path give no URL"))?;
    for _ in 0..=REDIRECTS_MAX {
        let host = if url.host() == base.host() { Host::Home } else { Host::Away };
        let response = client.request(ask(&url, request.part)?, host, way).await;
        let response = response.map_err(unconnected)?;
        if !is_redirect(response.status()) {
            return read(response, request.part);
        }
        url = redirected(&url, response.headers())?;
    }
    Err(UpstreamError::Redirect("too often, or in a loop"))
}

fn ask(url: &Url, part: Part<'_>) -> Result<hyper::Request<Empty<Bytes>>, UpstreamError> {
    let mut ask = hyper::Request::builder()
        .uri(url.as_str())
        .header(header::USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT_ENCODING, "identity");
    match part {
        Part::Whole => {}
        Part::Head => ask = ask.method(Method::HEAD),
        Part::First => ask = ask.header(header::RANGE, "bytes=0-0"),
        Part::From(offset, tag) => {
            ask = ask.header(header::RANGE, format!("bytes={offset}-")).header(header::IF_RANGE, tag);
        }
        Part::Span(run, tag) => {
            let range = format!("bytes={}-{}", run.start(), run.end() - 1);
            ask = ask.header(header::RANGE, range).header(header::IF_RANGE, tag);
        }
        Part::UnlessStill(validator) => {
            if let Some(tag) = &validator.etag {
                ask = ask.header(header::IF_NONE_MATCH, tag);
            }
            if let Some(date) = &validator.last_modified {
                ask = ask.header(header::IF_MODIFIED_SINCE, date);
            }
        }
    }
    ask.body(Empty::new()).map_err(|_| UpstreamError::Head("the request cannot be written"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, UpstreamError> {
    let to = text(headers, &header::LOCATION).and_then(|location| from.join(location).ok());
    let to = to.ok_or(UpstreamError::Redirect("without a place to go"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(UpstreamError::Redirect("from https to http")),
        (_, "http" | "https") => Ok(to),
        _ => Err(UpstreamError::Redirect("to what is neither http nor https")),
    }
}

/// What a request that had no answer says of the upstream.
fn unconnected(error: WayError) -> UpstreamError {
    match error {
        WayError::Connect(ConnectError::Refused(refusal)) => UpstreamError::Refused(refusal),
        WayError::Connect(error) => UpstreamError::Connect(error.to_string()),
        WayError::Broken(reason) => UpstreamError::Connect(reason),
    }
}

fn read(response: Response<Incoming>, part: Part<'_>) -> Result<Found, UpstreamError> {
    let (head, body) = response.into_parts();
    let headers = &head.headers;
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(UpstreamError::Head("its bytes are encoded, though identity was asked for"));
    }
    let validator = validator(headers);
    let (length, kind) = (content_length(headers)?, kind(headers));
    match (head.status, part) {
        (StatusCode::OK, Part::Head | Part::First) => Ok(Found::Head(Head { size: length, validator, kind })),
        (StatusCode::PARTIAL_CONTENT, Part::First) => {
            Ok(Found::Head(Head { size: content_range(headers)?.2, validator, kind }))
        }
        (StatusCode::OK, _) => {
            let source = Source::Http(HttpTransfer { body });
            Ok(Found::Bytes { head: Head { size: length, validator, kind }, offset: 0, end: length, source })
        }
        (StatusCode::NOT_MODIFIED, Part::UnlessStill(_)) => Ok(Found::Unchanged),
        (StatusCode::PARTIAL_CONTENT, Part::From(offset, tag)) => partial(headers, body, offset, None, tag),
        (StatusCode::PARTIAL_CONTENT, Part::Span(run, tag)) => {
            partial(headers, body, run.start(), Some(run.end()), tag)
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Err(UpstreamError::NotFound),
        (status, _) if status.is_success() => {
            Err(UpstreamError::Head("its status is not what was asked for"))
        }
        (status, _) => Err(UpstreamError::Status(status.as_u16())),
    }
}

/// The answer to a request for the bytes from `offset` up to `until`, or to the end.
fn partial(
    headers: &HeaderMap,
    body: Incoming,
    offset: u64,
    until: Option<u64>,
    tag: &str,
) -> Result<Found, UpstreamError> {
    let (start, last, size) = content_range(headers)?;
    let end = last.checked_add(1).filter(|end| size.is_some_and(|size| *end <= size));
    if start != offset || end.is_none() || end != until.or(size) {
        return Err(UpstreamError::Head("its part is not the one that was asked for"));
    }
    if content_length(headers)?.is_some_and(|length| Some(length) != end.map(|end| end - start)) {
        return Err(UpstreamError::Head("its length and its range contradict each other"));
    }
    let validator = validator(headers);
    if validator.strong().is_some_and(|now| now != tag) {
        return Err(UpstreamError::Head("its part is of another state of the file"));
    }
    // A 206 may leave out what the client has already (RFC 9110 section 15.3.7).
    let validator = Validator { etag: Some(tag.to_owned()), ..validator };
    let source = Source::Http(HttpTransfer { body });
    Ok(Found::Bytes { head: Head { size, validator, kind: kind(headers) }, offset, end, source })
}

fn validator(headers: &HeaderMap) -> Validator {
    let owned = |name: &HeaderName| text(headers, name).map(str::to_owned);
    let tag = owned(&header::ETAG)
        .filter(|tag| tag.trim_start_matches("W/").starts_with('"') && tag.ends_with('"'));
    let date = owned(&header::LAST_MODIFIED).filter(|date| tag.is_some() || is_settled(date, headers));
    Validator { etag: tag, last_modified: date }
}

/// Whether a date of change says which state was sent: within the second of the answer the file may change again, and keep
/// its date (RFC 9110 section 8.8.2.2).
fn is_settled(last_modified: &str, headers: &HeaderMap) -> bool {
    let Some(sent) = text(headers, &header::DATE) else { return true };
    match (httpdate::parse_http_date(last_modified), httpdate::parse_http_date(sent)) {
        (Ok(changed), Ok(sent)) => changed < sent,
        _ => false,
    }
}

fn kind(headers: &HeaderMap) -> Kind {
    let media = text(headers, &header::CONTENT_TYPE).and_then(|value| value.split(';').next());
    match media.map(str::trim) {
        Some(media) if media.eq_ignore_ascii_case("text/html") => Kind::Page,
        _ => Kind::File,
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, UpstreamError> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or(UpstreamError::Head("its Content-Length is no number"))
}

/// Reads `bytes START-END/SIZE` (RFC 9110 section 14.4).
fn content_range(headers: &HeaderMap) -> Result<(u64, u64, Option<u64>), UpstreamError> {
    let read = || {
        let (range, size) = text(headers, &header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        (start <= end).then_some((start, end, size.parse().ok()))
    };
    read().ok_or(UpstreamError::Head("its Content-Range is missing or wrong"))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_https_for_http_nor_http_for_anything_else() {
        let go = |from: &str, to: &'static str| {
            let headers = HeaderMap::from_iter([(header::LOCATION, to.parse().unwrap())]);
            redirected(&Url::parse(from).unwrap(), &headers).map(String::from).ok()
        };
        let (plain, secure) = ("http://up.example/tree/a.zip", "https://up.example/tree/a.zip");
        assert_eq!(go(secure, "http://up.example/a.zip"), None);
        assert_eq!(go(secure, "//mirror.example/a.zip").as_deref(), Some("https://mirror.example/a.zip"));
        assert_eq!(go(plain, "https://up.example/a.zip").as_deref(), Some("https://up.example/a.zip"));
        assert_eq!(go(plain, "../b.zip").as_deref(), Some("http://up.example/b.zip"));
        for to in ["file:///etc/passwd", "ftp://up.example/a.zip", "gopher://up.example/"] {
            assert_eq!(go(plain, to), None, "{to}");
        }
    }
}
