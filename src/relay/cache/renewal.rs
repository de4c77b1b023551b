//! What a server's word on a kept answer makes of it: one for all, one for who asked, or none (RFC 9111 sections 3 and 4.3).
//!
//! A 304, or a HEAD's 200, answers one agent, and its head may be for that agent. Invariant: a head that could not have been
//! kept with a new answer is never kept with an old one, and no cookie gets into what is kept.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, SET_COOKIE};

use crate::relay::cache::answer::{Answer, Head, Now};
use crate::relay::cache::directives::Directives;
use crate::relay::cache::storable::is_storable;
use crate::relay::cache::validate::{ask_about, renewed};
use crate::relay::cache::vary::selecting;

/// A kept answer after its server's word.
#[derive(Debug)]
pub struct Renewal {
    /// The head for who asked.
    pub own: Head,
    /// What becomes of what is kept.
    pub fate: Fate,
}

/// What becomes of what is kept.
#[derive(Debug)]
pub enum Fate {
    /// It has this head from now on.
    Renewed(Head),
    /// It stays as it is: what was said is for who asked.
    Stays,
    /// It goes: its server does not want it kept, or it is selected by something else now.
    Lost,
}

/// Judges what a server said of a kept answer to a request with these headers.
pub fn renewal(
    key: &str,
    kept: &Answer,
    request: &HeaderMap,
    said: &HeaderMap,
    delay: Duration,
    now: Now,
) -> Renewal {
    let head = |said: &HeaderMap| Head::new(kept.head.status, renewed(&kept.head.headers, said), delay, now);
    let own = head(said);
    let mut asked = request.clone();
    // The conditions and the part are for the cache to answer.
    ask_about(&mut asked, None);
    let directives = Directives::of(said);
    let fate = if is_storable(&Method::GET, &asked, own.status, &own.headers) {
        // Fields that it varies by from now on had no say in who got it.
        if selecting(&own.headers, request).as_ref() == Some(&kept.selecting) {
            let mut for_all = said.clone();
            for_all.remove(SET_COOKIE);
            let head = head(&for_all);
            if head.is_too_long(key, &kept.selecting) { Fate::Stays } else { Fate::Renewed(head) }
        } else {
            Fate::Lost
        }
    } else if directives.has("private") || directives.has("no-store") {
        Fate::Lost
    } else {
        Fate::Stays
    };
    Renewal { own, fate }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use hyper::StatusCode;

    use super::*;
    use crate::base::blob::BlobId;
    use crate::relay::cache::samples::{Lines, headers};
    use crate::store::blobs::BlobName;

    const NOW: Now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };

    fn told(request: Lines<'_>, said: Lines<'_>) -> Renewal {
        let kept = headers(&[("cache-control", "max-age=60"), ("etag", "\"x\""), ("x-old", "1")]);
        let head = Head::new(StatusCode::OK, kept, Duration::ZERO, NOW);
        let blob = BlobName { id: BlobId::of(b"x"), size: 1 };
        let kept = Answer { head, selecting: Vec::new(), blob };
        renewal("http://a/", &kept, &headers(request), &headers(said), Duration::ZERO, NOW)
    }

    #[test]
    fn a_head_that_is_for_one_renews_nothing_for_others_r3_2() {
        for (expected, request, said) in [
            ("renewed", &[][..], &[("x-new", "1")][..]),
            ("renewed", &[("range", "bytes=0-1"), ("if-none-match", "\"y\"")], &[]),
            ("renewed", &[("authorization", "Basic eA==")], &[("cache-control", "public, max-age=9")]),
            ("stays", &[("authorization", "Basic eA==")], &[]),
            ("stays", &[("cache-control", "no-store")], &[]),
            ("stays", &[], &[("set-cookie", "a=b")]),
            ("lost", &[], &[("cache-control", "private")]),
            ("lost", &[], &[("cache-control", "no-store, max-age=60"), ("set-cookie", "a=b")]),
            ("lost", &[], &[("vary", "cookie")]),
        ] {
            let renewal = told(request, said);
            let found = match renewal.fate {
                Fate::Renewed(_) => "renewed",
                Fate::Stays => "stays",
                Fate::Lost => "lost",
            };
            assert_eq!(found, expected, "{request:?} {said:?}");
            for (name, value) in said {
                assert_eq!(renewal.own.headers.get(*name).unwrap(), value, "who asked is told all");
            }
        }
    }

    #[test]
    fn a_head_that_is_too_long_to_be_kept_renews_nothing_r3_2() {
        let long: &'static str = "x".repeat(2 << 10).leak();
        assert!(matches!(told(&[], &[("x-long", long)]).fate, Fate::Stays));
        assert!(matches!(told(&[], &[("x-long", &long[..1 << 10])]).fate, Fate::Renewed(_)));
    }

    #[test]
    fn a_cookie_is_for_who_asked_though_the_rest_renews_r3_2() {
        let renewal = told(&[], &[("cache-control", "public, max-age=9"), ("set-cookie", "a=b")]);
        assert_eq!(renewal.own.headers.get(SET_COOKIE).unwrap(), "a=b");
        let Fate::Renewed(head) = renewal.fate else { panic!("{renewal:?}") };
        assert!(!head.headers.contains_key(SET_COOKIE));
        assert_eq!(head.headers.get("cache-control").unwrap(), "public, max-age=9");
    }
}
