//! Which part of a representation an agent gets, and what its head says of it: all, some ranges, the head alone, nothing new.
//!
//! Never opens a file.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::base::range::ByteRange;
use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::conditional::{Verdict, evaluate, range_holds};
use crate::http::ranges::{self, Multipart, Wanted, content_range};
use crate::http::respond::Failure;
use crate::relay::content::Content;
use crate::relay::live::Live;
use crate::relay::serve::Representation;
use crate::relay::tree::Tree;

/// What an answer has at most, `Date` aside.
const HEADERS_MAX: usize = 8;

/// The unit of ranges.
const IN_BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// What an agent gets of a representation.
#[derive(Debug)]
pub enum Part {
    /// Nothing new.
    NotModified,
    /// The head alone.
    Head,
    /// All of it.
    Whole,
    /// Some ranges of it.
    Ranges(Vec<ByteRange>),
}

impl Part {
    /// What a request asks for.
    pub fn of(
        request: &Parts,
        tree: &Tree,
        representation: &Representation,
        live: &Live,
    ) -> Result<Self, Failure> {
        let headers = &request.headers;
        let Representation { size, etag, .. } = representation;
        let modified = representation.last_modified.as_ref().map(|(_, time)| *time);
        match evaluate(headers, etag, modified) {
            Verdict::Failed => return Err(Failure::Precondition),
            Verdict::NotModified => return Ok(Self::NotModified),
            Verdict::Proceed => {}
        }
        if request.method != Method::GET {
            return Ok(Self::Head);
        }
        let now = || tree.resources.clock.wall().into();
        let range = range(request).filter(|_| range_holds(headers, Some(etag), modified, now()));
        match range.map_or(Wanted::Whole, |range| ranges::wanted(range, *size, live.limits.ranges_max)) {
            Wanted::Whole => Ok(Self::Whole),
            Wanted::Ranges(ranges) => Ok(Self::Ranges(ranges)),
            Wanted::Unsatisfiable => Err(Failure::Range(*size)),
        }
    }

    /// Whether there are bytes after the head.
    pub fn has_bytes(&self) -> bool {
        matches!(self, Self::Whole | Self::Ranges(_))
    }

    /// How the request is counted.
    pub fn outcome(&self, representation: &Representation) -> Outcome {
        if matches!(self, Self::NotModified) { Outcome::NotModified } else { representation.outcome }
    }

    /// The answer: `content` is there where it has bytes, the headers are put where there is room for them.
    pub fn answer(
        self,
        representation: &Representation,
        content: Option<Content>,
        content_type: &HeaderValue,
        room: HeaderMap,
    ) -> Response<Body> {
        let size = representation.size;
        let mut headers = described(representation, room);
        if let Self::Head | Self::Whole = self {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
            headers.insert(header::CONTENT_LENGTH, representation.length.clone());
        }
        let (status, body) = match (self, content) {
            (Self::NotModified, _) => (StatusCode::NOT_MODIFIED, Body::default()),
            (Self::Whole, Some(content)) => (StatusCode::OK, Body::run(content, ByteRange::whole(size))),
            (Self::Ranges(ranges), Some(content)) => {
                (StatusCode::PARTIAL_CONTENT, partial(&mut headers, &ranges, content, size, content_type))
            }
            (Self::Head | Self::Whole | Self::Ranges(_), _) => (StatusCode::OK, Body::default()),
        };
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}

/// The headers that every answer about a representation has.
fn described(representation: &Representation, room: HeaderMap) -> HeaderMap {
    let mut headers = room;
    headers.reserve(HEADERS_MAX);
    headers.insert(header::ETAG, representation.etag.clone());
    headers.insert(header::ACCEPT_RANGES, IN_BYTES);
    if let Some((value, _)) = &representation.last_modified {
        headers.insert(header::LAST_MODIFIED, value.clone());
    }
    headers
}

/// The bytes of some ranges, and what the head says of them alone.
fn partial(
    headers: &mut HeaderMap,
    ranges: &[ByteRange],
    content: Content,
    size: u64,
    content_type: &HeaderValue,
) -> Body {
    if let [range] = *ranges {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
        headers.insert(header::CONTENT_LENGTH, range.len().into());
        let value = HeaderValue::from_str(&content_range(range, size)).expect("digits are a header's value");
        headers.insert(header::CONTENT_RANGE, value);
        return Body::run(content, range);
    }
    let part_type = content_type.to_str().expect("a type is of printable characters");
    let multipart = Multipart::new(ranges, size, part_type, rand::random());
    headers.insert(header::CONTENT_TYPE, multipart.content_type);
    headers.insert(header::CONTENT_LENGTH, multipart.len.into());
    Body::runs(content, ranges, multipart.heads, multipart.tail)
}

/// The request's `Range`, for GET alone (RFC 9110 section 14.2). Of several none counts: the field is no list.
pub fn range(request: &Parts) -> Option<&HeaderValue> {
    let mut ranges = request.headers.get_all(header::RANGE).iter();
    let only = ranges.next().filter(|_| ranges.next().is_none());
    only.filter(|_| request.method == Method::GET)
}
