//! Whether a kept answer may be given to a request, and how (RFC 9111 sections 4.2.4 and 5.2, RFC 5861).
//!
//! Invariant: what its server wants asked about first is never given unasked, whatever the agent would take.

use std::time::Duration;

use crate::relay::cache::answer::{Head, Now};
use crate::relay::cache::directives::{Delta, Directives};

/// For how long an answer is given out, once stale, while its server cannot be reached and nothing forbids it: a week, so that
/// an upstream's bad days pass unnoticed.
const DISCONNECTED_MAX: Duration = Duration::from_hours(7 * 24);

/// How a kept answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As it is: it is fresh for this request, or stale and the agent takes it so.
    AsItIs,
    /// As it is, and its server is asked about it meanwhile.
    Meanwhile,
    /// Only when its server was asked about it.
    Asked(Why),
}

/// Why a server is asked though an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The answer is stale, or always to be asked about.
    Stale,
    /// The request wants it so.
    Request,
}

/// What keeps a server from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not reached, or breaks off.
    Unreached,
    /// It answers with an error: 500, 502, 503 or 504 (RFC 5861 section 4).
    Error,
}

/// Decides for a request with these directives.
pub fn reuse(head: &Head, request: &Directives, now: Now) -> Reuse {
    let said = head.directives();
    let (age, lifetime) = (head.age(now), head.lifetime());
    let fresh = lifetime > age && !head.doubted && !said.has("no-cache");
    if request.has("no-cache") || is_less(request.delta("max-age"), age) {
        return Reuse::Asked(if fresh { Why::Request } else { Why::Stale });
    }
    if fresh {
        let left = lifetime.saturating_sub(age);
        return match request.delta("min-fresh") {
            Delta::Of(wanted) if left < wanted => Reuse::Asked(Why::Request),
            Delta::Wrong => Reuse::Asked(Why::Request),
            _ => Reuse::AsItIs,
        };
    }
    if head.doubted || must_be_asked(&said) || request.delta("min-fresh") != Delta::Absent {
        return Reuse::Asked(Why::Stale);
    }
    let over = age.saturating_sub(lifetime);
    let taken_so = match request.delta("max-stale") {
        Delta::Of(most) => over <= most,
        _ => request.is_bare("max-stale"),
    };
    match said.delta("stale-while-revalidate") {
        _ if taken_so => Reuse::AsItIs,
        Delta::Of(most) if over <= most => Reuse::Meanwhile,
        _ => Reuse::Asked(Why::Stale),
    }
}

/// Whether a kept answer may stand for one that could not be had.
pub fn stands_in(head: &Head, request: &Directives, trouble: Trouble, now: Now) -> bool {
    let said = head.directives();
    let over = head.age(now).saturating_sub(head.lifetime());
    if head.doubted || must_be_asked(&said) || request.has("no-cache") {
        return false;
    }
    let allowed = |directives: &Directives| matches!(directives.delta("stale-if-error"), Delta::Of(most) if over <= most);
    match trouble {
        // Whoever limits it means that.
        _ if allowed(&said) || allowed(request) => true,
        Trouble::Unreached => said.delta("stale-if-error") == Delta::Absent && over <= DISCONNECTED_MAX,
        Trouble::Error => false,
    }
}

/// Whether a stale answer may be given to nobody (sections 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10).
fn must_be_asked(said: &Directives) -> bool {
    ["must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"].iter().any(|name| said.has(name))
}

/// Whether a limit is less than an age; one that cannot be read is less than any.
fn is_less(limit: Delta, age: Duration) -> bool {
    match limit {
        Delta::Absent => false,
        Delta::Of(most) => age > most,
        Delta::Wrong => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use hyper::StatusCode;
    use hyper::header::{CACHE_CONTROL, HeaderMap};

    use super::*;

    const START: Now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::from_secs(1000) };

    fn after(secs: u64) -> Now {
        Now { monotonic: START.monotonic + Duration::from_secs(secs), ..START }
    }

    fn headers(said: &str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, said.parse().unwrap())])
    }

    fn answer(said: &str) -> Head {
        Head::new(StatusCode::OK, headers(said), Duration::ZERO, START)
    }

    fn of(said: &str, request: &str, secs: u64) -> Reuse {
        reuse(&answer(said), &Directives::of(&headers(request)), after(secs))
    }

    #[test]
    fn requests_narrow_and_widen_what_they_take_r3_2() {
        use Reuse::{AsItIs, Asked};
        let (stale, request) = (Asked(Why::Stale), Asked(Why::Request));
        for (said, asked, secs, expected) in [
            ("max-age=60", "", 59, AsItIs),
            ("max-age=60", "", 60, stale),
            ("max-age=60", "no-cache", 0, request),
            ("max-age=60", "max-age=10", 10, AsItIs),
            ("max-age=60", "max-age=10", 11, request),
            ("max-age=60", "max-age=0", 1, request),
            ("max-age=60", "max-age=x", 0, request),
            ("max-age=60", "min-fresh=20", 40, AsItIs),
            ("max-age=60", "min-fresh=21", 40, request),
            ("max-age=60", "max-stale", 1000, AsItIs),
            ("max-age=60", "max-stale=10", 70, AsItIs),
            ("max-age=60", "max-stale=10", 71, stale),
            ("max-age=60", "max-stale=x", 70, stale),
            ("max-age=60", "max-stale=10, max-age=65", 70, stale),
            ("no-cache, max-age=60", "", 0, stale),
        ] {
            assert_eq!(of(said, asked, secs), expected, "{said} / {asked} after {secs} s");
        }
    }

    #[test]
    fn what_its_server_wants_asked_about_is_never_given_stale_r3_2() {
        for said in ["must-revalidate, max-age=60", "proxy-revalidate, max-age=60", "s-maxage=60", "no-cache"]
        {
            let said = format!("{said}, stale-while-revalidate=1000, stale-if-error=1000");
            assert_eq!(of(&said, "max-stale", 61), Reuse::Asked(Why::Stale), "{said}");
            for trouble in [Trouble::Error, Trouble::Unreached] {
                let stands = stands_in(&answer(&said), &Directives::default(), trouble, after(61));
                assert!(!stands, "{said}");
            }
        }
        assert_eq!(of("proxy-revalidate, max-age=60", "", 59), Reuse::AsItIs);
        let mut doubted = answer("max-age=60");
        doubted.doubted = true;
        let request = Directives::of(&headers("max-stale"));
        assert_eq!(reuse(&doubted, &request, after(1)), Reuse::Asked(Why::Stale));
    }

    #[test]
    fn stale_answers_bridge_a_question_or_an_error_for_as_long_as_is_said_r3_2() {
        let said = "max-age=60, stale-while-revalidate=30";
        assert_eq!(of(said, "", 90), Reuse::Meanwhile);
        assert_eq!(of(said, "", 91), Reuse::Asked(Why::Stale));
        assert_eq!(of(said, "max-age=70", 80), Reuse::Asked(Why::Stale));
        let stands = |said: &str, request: &str, trouble, secs| {
            stands_in(&answer(said), &Directives::of(&headers(request)), trouble, after(secs))
        };
        assert!(stands("max-age=60, stale-if-error=30", "", Trouble::Error, 90));
        assert!(!stands("max-age=60, stale-if-error=30", "", Trouble::Error, 91));
        assert!(!stands("max-age=60, stale-if-error=30", "", Trouble::Unreached, 91));
        assert!(!stands("max-age=60", "", Trouble::Error, 61));
        assert!(stands("max-age=60", "stale-if-error=5", Trouble::Error, 65));
        assert!(stands("max-age=60", "", Trouble::Unreached, 3600));
        assert!(!stands("max-age=60", "", Trouble::Unreached, 61 + 8 * 24 * 3600));
        assert!(!stands("max-age=60", "no-cache", Trouble::Unreached, 61));
    }
}
