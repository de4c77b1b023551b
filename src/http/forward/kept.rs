//! An answer out of the cache, or on its way into it, for one request: its head, and the part of it that was asked for.
//!
//! Invariant: what is good as it is is opened only for its bytes; a head alone needs no disk.

use std::sync::Arc;

use hyper::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderMap, HeaderValue,
};
use hyper::{Method, Response, StatusCode, Version};
use tracing::warn;

use crate::base::range::ByteRange;
use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::conditional::{is_not_modified, range_holds};
use crate::http::forward::pass::{broken, outcome};
use crate::http::forward::status::CacheStatus;
use crate::http::forward::{Forward, Served};
use crate::http::part::range;
use crate::http::ranges::{Multipart, Wanted, content_range, wanted};
use crate::http::respond::Failure;
use crate::relay::cache::answer::{Answer, Head};
use crate::relay::cache::arrival::Arriving;
use crate::relay::content::Content;
use crate::relay::serve;

/// The type of parts whose answer has none.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A kept answer with its bytes: it can be given whatever becomes of it in the cache.
pub(super) struct Opened {
    pub(super) answer: Arc<Answer>,
    content: Content,
    /// The shelf's when it was opened.
    epoch: u64,
}

/// An answer as a request is to have it, but for its bytes.
struct Shown {
    response: Response<Body>,
    outcome: Outcome,
    /// Which are asked for; `None` where none are.
    bytes: Option<Bytes>,
}

/// Bytes of an answer.
enum Bytes {
    /// All, which are so many where that is known.
    All(Option<u64>),
    /// These parts of so many.
    Parts(Vec<ByteRange>, u64),
}

impl Forward<'_> {
    /// Opens a kept answer; `None` where that fails, and where its blob is lost: then it is kept no more.
    pub(super) async fn open(&self, answer: Arc<Answer>) -> Option<Opened> {
        let (cache, epoch) = (&self.live.cache, self.shelf.epoch());
        match serve::open(&cache.resources().store, self.shelf, answer.blob).await {
            Ok(Some(content)) => return Some(Opened { answer, content, epoch }),
            Ok(None) => cache.lose(&self.key, &answer),
            Err(error) => warn!(%error, "a kept answer could not be opened: its server is asked"),
        }
        None
    }

    /// The same after a wait: what was condemned meanwhile is opened anew.
    pub(super) async fn still(&self, opened: Option<Opened>) -> Option<Opened> {
        match opened {
            Some(opened) if opened.epoch != self.shelf.epoch() => self.open(opened.answer).await,
            opened => opened,
        }
    }

    /// A kept answer that is good as it is; `None` where it cannot be opened and has to be.
    pub(super) async fn fresh(&self, answer: Arc<Answer>, status: CacheStatus) -> Option<Served> {
        let shown = match self.show(&answer.head, Some(answer.blob.size), status) {
            Ok(shown) if shown.bytes.is_some() => shown,
            shown => return Some(shown.map(|shown| (shown.response, shown.outcome))),
        };
        let opened = self.open(answer).await?;
        Some(Ok(shown.with(opened.content)))
    }

    /// A kept answer.
    pub(super) fn kept(&self, opened: Opened, status: CacheStatus) -> Served {
        let Opened { answer, content, .. } = opened;
        Ok(self.show(&answer.head, Some(answer.blob.size), status)?.with(content))
    }

    /// The same with what its server says of it now.
    pub(super) fn confirmed(&self, opened: Opened, now: &Head, status: CacheStatus) -> Served {
        Ok(self.show(now, Some(opened.answer.blob.size), status)?.with(opened.content))
    }

    /// An answer that is on its way.
    pub(super) fn arriving(&self, arriving: Arriving, status: CacheStatus) -> Served {
        let arrival = arriving.arrival().clone();
        if let Some(reason) = arrival.broken() {
            return Err(broken(reason.to_string()));
        }
        let status = CacheStatus { said: Some(arrival.head.status), stored: !status.collapsed, ..status };
        Ok(self.show(&arrival.head, arrival.size, status)?.with(Content::Arriving(arriving)))
    }

    fn show(&self, head: &Head, size: Option<u64>, status: CacheStatus) -> Result<Shown, Failure> {
        let cache = &self.live.cache;
        let now = cache.now();
        let (age, request) = (head.age(now), &self.request.headers);
        let mut headers = head.headers.clone();
        // Who gets an answer that nobody asked for yet need not be told that it is new.
        if status.way.is_none() || age.as_secs() > 0 {
            headers.insert(AGE, age.as_secs().into());
        }
        cache.pseudonym().mark(&mut headers, Version::HTTP_11);
        status.with_ttl(head.lifetime(), age).write(&mut headers);
        let mut response = Response::new(Body::default());
        *response.status_mut() = head.status;
        let outcome = match status.way {
            None if head.status.is_success() => Outcome::Hit,
            _ => outcome(head.status),
        };
        let whole = head.status == StatusCode::OK;
        if whole && is_not_modified(request, head.etag(), head.changed()) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                headers.remove(name);
            }
            *response.headers_mut() = headers;
            return Ok(Shown { response, outcome: Outcome::NotModified, bytes: None });
        }
        let ranges = match (range(self.request), size) {
            (Some(range), Some(size))
                if whole && range_holds(request, head.etag(), head.last_modified(), now.wall) =>
            {
                wanted(range, size, self.live.limits.ranges_max)
            }
            _ => Wanted::Whole,
        };
        if let Some(size) = size.filter(|_| whole) {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            if ranges == Wanted::Unsatisfiable {
                return Err(Failure::Range(size));
            }
        }
        let bytes = match (ranges, size) {
            _ if self.request.method == Method::HEAD => None,
            (Wanted::Ranges(parts), Some(size)) => Some(Bytes::Parts(parts, size)),
            (_, size) => Some(Bytes::All(size)),
        };
        if let (None | Some(Bytes::All(_)), Some(size)) = (&bytes, size) {
            headers.insert(CONTENT_LENGTH, size.into());
        }
        *response.headers_mut() = headers;
        Ok(Shown { response, outcome, bytes })
    }
}

impl Shown {
    /// With the bytes that are asked for.
    fn with(self, content: Content) -> (Response<Body>, Outcome) {
        let Self { mut response, outcome, bytes } = self;
        *response.body_mut() = match bytes {
            None => Body::default(),
            Some(Bytes::All(Some(size))) => Body::run(content, ByteRange::whole(size)),
            Some(Bytes::All(None)) => Body::whole(content),
            Some(Bytes::Parts(parts, size)) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                partial(response.headers_mut(), content, &parts, size)
            }
        };
        (response, outcome)
    }
}

/// The body of a 206, and what its head says of it.
fn partial(headers: &mut HeaderMap, content: Content, parts: &[ByteRange], size: u64) -> Body {
    if let [range] = *parts {
        headers.insert(CONTENT_LENGTH, range.len().into());
        let value = HeaderValue::from_str(&content_range(range, size)).expect("digits are a header's value");
        headers.insert(CONTENT_RANGE, value);
        return Body::run(content, range);
    }
    let part_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(UNKNOWN_TYPE);
    let multipart = Multipart::new(parts, size, part_type, rand::random());
    headers.insert(CONTENT_TYPE, multipart.content_type);
    headers.insert(CONTENT_LENGTH, multipart.len.into());
    Body::runs(content, parts, multipart.heads, multipart.tail)
}
