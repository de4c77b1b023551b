//! Preconditions (RFC 9110 section 13): whether a request gets its representation, nothing new, or a refusal.

use std::time::SystemTime;

use headers::{HeaderMapExt, IfModifiedSince, IfUnmodifiedSince};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE};

/// What the preconditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// 304: the agent has it.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 section 13.2.2, for a representation with this strong
/// entity tag and date.
pub fn evaluate(request: &HeaderMap, etag: &HeaderValue, modified: Option<SystemTime>) -> Verdict {
    if request.contains_key(IF_MATCH) {
        if !names(request, &IF_MATCH, |tag| tag == etag.as_bytes()) {
            return Verdict::Failed;
        }
    } else if let (Some(condition), Some(modified)) = (request.typed_get::<IfUnmodifiedSince>(), modified)
        && !condition.precondition_passes(modified)
    {
        return Verdict::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let weak = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes();
        if names(request, &IF_NONE_MATCH, weak) {
            return Verdict::NotModified;
        }
    } else if let (Some(condition), Some(modified)) = (request.typed_get::<IfModifiedSince>(), modified)
        && !condition.is_modified(modified)
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` still holds: there is no `If-Range`, or it names this very state (section 13.1.5): the strong entity
/// tag, or the date, to the second. Compared here rather than by the `headers` crate, which takes any later date as well.
pub fn range_holds(
    request: &HeaderMap,
    etag: &HeaderValue,
    modified: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    let mut conditions = request.get_all(IF_RANGE).iter();
    match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(condition), None) => {
            condition == etag || modified.is_some_and(|modified| names_date(condition, modified, now))
        }
        _ => false,
    }
}

/// A date vouches for a state only where it is at least a second older than the answer (section 8.8.2.2).
fn names_date(condition: &HeaderValue, modified: SystemTime, now: SystemTime) -> bool {
    let named = condition.to_str().ok().and_then(|date| httpdate::parse_http_date(date).ok());
    named == Some(modified) && now.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1)
}

/// Whether a list of entity tags names the one that `is_it` knows, or any by `*`. Compared here rather than by the `headers`
/// crate, which panics in debug builds on a tag with a space in it. The relay's own tags have no comma in them, so that what
/// stands between two commas is one of them or is not.
fn names(request: &HeaderMap, header: &HeaderName, is_it: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = request.get_all(header).iter().map(|value| value.as_bytes().trim_ascii());
    values.any(|value| value == b"*" || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(&is_it))
}
