//! Whether an answer may be kept (RFC 9111 section 3), by a cache that many agents share.
//!
//! Invariant: what is for one user is never kept.

use hyper::header::{AUTHORIZATION, ETAG, HeaderMap, LAST_MODIFIED, RANGE, SET_COOKIE};
use hyper::{Method, StatusCode};

use crate::relay::cache::directives::{Delta, Directives};
use crate::relay::cache::freshness::{explicit_lifetime, is_heuristic, lifetime};
use crate::relay::cache::vary::selecting;

/// Statuses whose meaning the cache knows: what `must-understand` asks for (section 5.2.2.3).
const UNDERSTOOD: [u16; 17] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 500, 503];

/// Answers to how something was asked, not to what for: parts, refreshed copies, refusals of a user or a range.
const NEVER: [u16; 6] = [206, 304, 401, 407, 416, 417];

/// The last status that is one (RFC 9110 section 15).
const LAST: u16 = 599;

/// Whether a status says that the server failed, as one does that is out of all ranges (RFC 9110 section 15).
pub fn is_failure(status: StatusCode) -> bool {
    status.as_u16() >= 500
}

/// Whether a status is one of an answer: no interim one, and none out of all ranges.
pub fn is_final(status: StatusCode) -> bool {
    (200..=LAST).contains(&status.as_u16())
}

/// Whether the answer to a request may be kept. It has a `Date`.
pub fn is_storable(method: &Method, request: &HeaderMap, status: StatusCode, headers: &HeaderMap) -> bool {
    let said = Directives::of(headers);
    let number = status.as_u16();
    if *method != Method::GET || request.contains_key(RANGE) || !is_final(status) || NEVER.contains(&number) {
        return false;
    }
    let understood = said.has("must-understand");
    if understood && !UNDERSTOOD.contains(&number) {
        return false;
    }
    // Who understands what `must-understand` asks for need not heed the `no-store` beside it.
    if Directives::of_request(request).has("no-store") || (said.has("no-store") && !understood) {
        return false;
    }
    if said.has("private") || selecting(headers, request).is_none() {
        return false;
    }
    // Section 3.5.
    let opened = || ["public", "must-revalidate", "s-maxage"].iter().any(|name| said.has(name));
    if request.contains_key(AUTHORIZATION) && !opened() {
        return false;
    }
    // Section 7.3 leaves cookies to their server. One that says nothing of caches has hardly thought of them.
    if headers.contains_key(SET_COOKIE) && !said.has("public") && !said.has("s-maxage") {
        return false;
    }
    let explicit = explicit_lifetime(headers, &said).is_some();
    (explicit || said.has("public") || is_heuristic(status)) && is_of_use(status, headers, &said)
}

/// Whether it will ever be given out again: it is fresh for a while, can be asked about, or may be given stale.
fn is_of_use(status: StatusCode, headers: &HeaderMap, said: &Directives) -> bool {
    let stale = ["stale-while-revalidate", "stale-if-error"];
    let can_be_asked_about = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let fresh = !said.has("no-cache") && !lifetime(status, headers, said).is_zero();
    fresh || can_be_asked_about || stale.iter().any(|name| matches!(said.delta(name), Delta::Of(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::cache::samples::{Lines, dated as headers};

    fn storable(status: u16, request: Lines<'_>, answer: Lines<'_>) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        is_storable(&Method::GET, &headers(request), status, &headers(answer))
    }

    #[test]
    fn kept_is_what_the_origin_allows_and_no_user_owns_r3_2() {
        let cc = |value| [("cache-control", value)];
        for (expected, status, request, answer) in [
            (true, 200, &[][..], &cc("max-age=60")[..]),
            (true, 200, &[], &[("etag", "\"a\"")]),
            (false, 200, &[], &[]),
            (false, 200, &[], &cc("max-age=0")),
            (true, 200, &[], &[("cache-control", "max-age=0"), ("etag", "\"a\"")]),
            (true, 200, &[], &[("cache-control", "no-cache"), ("etag", "\"a\"")]),
            (false, 200, &[], &cc("no-cache, max-age=60")),
            (false, 200, &[], &cc("no-store, max-age=60")),
            (false, 200, &[], &cc("private, max-age=60")),
            (false, 200, &[], &cc("private=\"x\", max-age=60")),
            (false, 200, &cc("no-store"), &cc("max-age=60")),
            (false, 200, &[("range", "bytes=0-1")], &cc("max-age=60")),
            (false, 206, &[], &cc("max-age=60")),
            (false, 304, &[], &cc("max-age=60")),
            (false, 401, &[], &cc("max-age=60")),
            (false, 200, &[], &[("cache-control", "max-age=60"), ("vary", "*")]),
            (true, 200, &[], &[("cache-control", "max-age=60"), ("vary", "accept")]),
        ] {
            assert_eq!(storable(status, request, answer), expected, "{status} {request:?} {answer:?}");
        }
        let post = is_storable(&Method::POST, &headers(&[]), StatusCode::OK, &headers(&cc("max-age=60")));
        assert!(!post);
    }

    #[test]
    fn answers_to_users_are_kept_only_where_their_server_says_so_r3_2() {
        for (expected, said) in [
            (false, "max-age=60"),
            (true, "max-age=60, public"),
            (true, "max-age=60, must-revalidate"),
            (true, "s-maxage=60"),
            (false, "max-age=60, proxy-revalidate"),
        ] {
            let (user, answer) = ([("authorization", "Basic eA==")], [("cache-control", said)]);
            assert_eq!(storable(200, &user, &answer), expected, "{said}");
        }
        let cookie = |said| storable(200, &[], &[("set-cookie", "a=b"), ("cache-control", said)]);
        assert!(!cookie("max-age=60") && cookie("public, max-age=60") && cookie("s-maxage=60"));
    }

    #[test]
    fn other_statuses_are_kept_when_something_says_for_how_long_r3_2() {
        let changed = ("last-modified", "Fri, 20 Nov 2026 12:00:00 GMT");
        let said = |value| ("cache-control", value);
        for (expected, status, answer) in [
            (true, 404, &[said("max-age=60")][..]),
            (true, 404, &[changed]),
            (false, 404, &[]),
            (false, 302, &[changed]),
            (true, 302, &[said("max-age=60")]),
            (true, 503, &[said("max-age=5")]),
            (false, 503, &[changed]),
            (true, 599, &[said("max-age=60")]),
            (false, 599, &[said("must-understand, max-age=60")]),
            (true, 200, &[said("must-understand, no-store, max-age=60")]),
            (false, 599, &[said("must-understand, no-store, max-age=60")]),
            (false, 600, &[said("max-age=60")]),
            (false, 999, &[said("public, max-age=60")]),
            (false, 199, &[said("max-age=60")]),
        ] {
            assert_eq!(storable(status, &[], answer), expected, "{status} {answer:?}");
        }
    }
}
