//! Asking a server whether a kept answer still holds, and what its word changes (RFC 9111 sections 3.2, 4.3 and 4.4).
//!
//! Invariant: an answer is renewed only by a 304, or a HEAD's 200, that is about the state which is kept.

use hyper::StatusCode;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, LOCATION, RANGE,
};
use url::Url;

use crate::relay::cache::answer::Head;

/// What a request asks of one state; the cache asks for itself, and answers these from what it gets.
const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE];

/// What describes the bytes that are kept, which a 304 does not bring: it stays.
const OF_THE_BYTES: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE];

/// Makes a request one for the whole, unless it is still what is kept.
pub fn ask_about(request: &mut HeaderMap, kept: Option<&Head>) {
    for name in CONDITIONS {
        request.remove(name);
    }
    let Some(kept) = kept else { return };
    if let Some(tag) = kept.etag() {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(changed) = kept.headers.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, changed.clone());
    }
}

/// What is wrong with a 304 that nobody asked for: it stands for nothing.
pub const UNASKED: &str = "it answers 304 to a request without conditions";

/// Whether a request may be answered by 304 (RFC 9110 sections 13.1.2 and 13.1.3).
pub fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether there is anything to ask a server by.
pub fn can_ask_about(kept: &Head) -> bool {
    kept.headers.contains_key(ETAG) || kept.headers.contains_key(LAST_MODIFIED)
}

/// Whether a 304 is about what is kept, and asked about by all its validators (section 4.3.4).
pub fn confirms(kept: &HeaderMap, said: &HeaderMap) -> bool {
    let (own, tag) = (kept.get(ETAG), said.get(ETAG));
    match (own, tag) {
        (Some(own), Some(tag)) => weak(own) == weak(tag) && (is_weak(tag) || !is_weak(own)),
        (None, Some(_)) => false,
        (_, None) => said.get(LAST_MODIFIED).is_none_or(|changed| kept.get(LAST_MODIFIED) == Some(changed)),
    }
}

/// Whether a HEAD's 200 is about what is kept (section 4.3.5).
pub fn describes(kept: &HeaderMap, kept_size: u64, said: &HeaderMap) -> bool {
    let same = |name: &HeaderName| said.get(name).is_none_or(|value| kept.get(name) == Some(value));
    let length =
        said.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == kept_size.to_string().as_bytes());
    same(&ETAG) && same(&LAST_MODIFIED) && length
}

/// The headers of what is kept, renewed: each field that was said takes the place of the old one (section 3.2).
pub fn renewed(kept: &HeaderMap, said: &HeaderMap) -> HeaderMap {
    let mut headers = kept.clone();
    for name in said.keys().filter(|name| !OF_THE_BYTES.contains(name)) {
        headers.remove(name);
        for value in said.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// What an unsafe request's success makes doubtful: its own URL, and those of the same origin that its answer names (section
/// 4.4).
pub fn made_doubtful(url: &Url, status: StatusCode, headers: &HeaderMap) -> Vec<Url> {
    if !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let named = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| {
        let named = url.join(headers.get(name)?.to_str().ok()?).ok()?;
        (named.origin() == url.origin()).then_some(named)
    });
    [url.clone()].into_iter().chain(named).collect()
}

fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}

fn weak(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::cache::samples::headers;

    #[test]
    fn a_304_confirms_the_state_that_it_names_and_no_other_r3_2() {
        let (strong, soft) = (&[("etag", "\"a\"")][..], &[("etag", "W/\"a\"")][..]);
        let dated = &[("last-modified", "x")][..];
        for (expected, kept, said) in [
            (true, strong, strong),
            (true, strong, &[][..]),
            (true, strong, soft),
            (true, soft, soft),
            (false, soft, strong),
            (false, strong, &[("etag", "\"b\"")]),
            (false, dated, strong),
            (true, dated, dated),
            (false, dated, &[("last-modified", "y")]),
            (true, dated, &[]),
        ] {
            assert_eq!(confirms(&headers(kept), &headers(said)), expected, "{kept:?} {said:?}");
        }
    }

    #[test]
    fn what_is_said_anew_takes_the_old_ones_place_and_the_bytes_keep_theirs_r3_2() {
        let kept = headers(&[("link", "<a>"), ("link", "<b>"), ("content-type", "x/y"), ("x", "1")]);
        let said = headers(&[("link", "<c>"), ("content-type", "a/b"), ("y", "2"), ("y", "3")]);
        let expected =
            headers(&[("link", "<c>"), ("content-type", "x/y"), ("x", "1"), ("y", "2"), ("y", "3")]);
        assert_eq!(renewed(&kept, &said), expected);
    }

    #[test]
    fn a_head_of_another_state_describes_nothing_that_is_kept_r3_2() {
        let kept = headers(&[("etag", "\"a\""), ("last-modified", "x")]);
        assert!(describes(&kept, 7, &headers(&[("etag", "\"a\""), ("content-length", "7")])));
        assert!(!describes(&kept, 7, &headers(&[("content-length", "8")])));
        assert!(!describes(&kept, 7, &headers(&[("etag", "\"b\"")])));
        assert!(!describes(&kept, 7, &headers(&[("last-modified", "y")])));
    }

    #[test]
    fn doubt_falls_on_urls_of_the_same_origin_after_a_success_r3_2() {
        let url = Url::parse("http://a.example/x/y?z").unwrap();
        let named = headers(&[("location", "../b"), ("content-location", "http://b.example/c")]);
        let of = |status: u16| made_doubtful(&url, StatusCode::from_u16(status).unwrap(), &named);
        assert_eq!(of(201), [url.clone(), Url::parse("http://a.example/b").unwrap()]);
        assert_eq!(of(303).len(), 2);
        assert!(of(404).is_empty() && of(500).is_empty());
    }
}
