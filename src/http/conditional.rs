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
    // Names are in lower case.
    if !request.keys().any(|name| name.as_str().starts_with("if-")) {
        return Verdict::Proceed;
    }
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
        let weak = |tag: &[u8]| opaque(tag) == etag.as_bytes();
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

/// Whether an agent has what a cache would give it already (RFC 9111 section 4.3.2): of its preconditions a cache evaluates only
/// these. `modified` is when the answer was changed, or sent where that is not known.
pub fn is_not_modified(
    request: &HeaderMap,
    etag: Option<&HeaderValue>,
    modified: Option<SystemTime>,
) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let weak = |tag: &[u8]| etag.is_some_and(|etag| opaque(tag) == opaque(etag.as_bytes()));
        return names(request, &IF_NONE_MATCH, weak);
    }
    match (request.typed_get::<IfModifiedSince>(), modified) {
        (Some(condition), Some(modified)) => !condition.is_modified(modified),
        _ => false,
    }
}

/// Whether a `Range` still holds: there is no `If-Range`, or it names this very state (section 13.1.5): the strong entity
/// tag, or the date, to the second. Compared here rather than by the `headers` crate, which takes any later date as well.
pub fn range_holds(
    request: &HeaderMap,
    etag: Option<&HeaderValue>,
    modified: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    let mut conditions = request.get_all(IF_RANGE).iter();
    match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(condition), None) => {
            let strong = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
            strong == Some(condition) || modified.is_some_and(|modified| names_date(condition, modified, now))
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
/// crate, which panics in debug builds on a tag with a space in it.
fn names(request: &HeaderMap, header: &HeaderName, is_it: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = request.get_all(header).iter().map(|value| value.as_bytes().trim_ascii());
    values.any(|value| value == b"*" || elements(value).any(&is_it))
}

/// What stands between commas that are in no quotes.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let elements = value.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    elements.map(<[u8]>::trim_ascii)
}

/// A tag as weak comparison sees it (RFC 9110 section 8.8.3.2).
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value.as_bytes()).unwrap())])
    }

    #[test]
    fn foreign_tags_are_compared_whole_and_weakly_r3_2() {
        let not_modified = |asked: &str, etag: &str| {
            let etag = HeaderValue::from_bytes(etag.as_bytes()).unwrap();
            is_not_modified(&headers(IF_NONE_MATCH, asked), Some(&etag), None)
        };
        assert!(not_modified("\"x\", \"a,b\"", "\"a,b\"") && not_modified("W/\"a\"", "\"a\""));
        assert!(not_modified("\"a\"", "W/\"a\"") && not_modified("*", "\"a\""));
        assert!(
            !not_modified("\"a,b\"", "\"b\"")
                && !not_modified("\"a\"", "\"b\"")
                && !not_modified("", "\"a\"")
        );
        assert!(!is_not_modified(&headers(IF_NONE_MATCH, "\"a\""), None, None));
    }

    #[test]
    fn a_range_of_a_state_that_only_a_weak_tag_names_does_not_hold_r3_2() {
        let holds = |asked: &str, etag: Option<&str>| {
            let etag = etag.map(|etag| HeaderValue::from_str(etag).unwrap());
            range_holds(&headers(IF_RANGE, asked), etag.as_ref(), None, SystemTime::UNIX_EPOCH)
        };
        assert!(holds("\"a\"", Some("\"a\"")));
        assert!(
            !holds("W/\"a\"", Some("W/\"a\"")) && !holds("\"a\"", Some("W/\"a\"")) && !holds("\"a\"", None)
        );
    }
}
