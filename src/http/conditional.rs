//! Preconditions (RFC 9110 section 13): whether a request gets its representation, nothing new, or a refusal.

use std::time::SystemTime;

use headers::{ETag, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfUnmodifiedSince};
use hyper::header::{HeaderMap, HeaderValue, IF_RANGE};

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
    let etag = entity_tag(etag);
    if let Some(condition) = request.typed_get::<IfMatch>() {
        if !condition.precondition_passes(&etag) {
            return Verdict::Failed;
        }
    } else if let (Some(condition), Some(modified)) = (request.typed_get::<IfUnmodifiedSince>(), modified)
        && !condition.precondition_passes(modified)
    {
        return Verdict::Failed;
    }
    if let Some(condition) = request.typed_get::<IfNoneMatch>() {
        if !condition.precondition_passes(&etag) {
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

fn entity_tag(value: &HeaderValue) -> ETag {
    let text = value.to_str().ok().and_then(|text| text.parse().ok());
    text.expect("the relay's own entity tags are well-formed")
}
