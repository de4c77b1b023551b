//! How old an answer is, and how long it is fresh (RFC 9111 section 4.2), for a cache that many agents share.
//!
//! Knows no clock: moments are passed in. Invariant: what an origin says in two ways that differ is stale at once.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{AGE, DATE, EXPIRES, HeaderMap, HeaderName, LAST_MODIFIED};

use crate::relay::cache::directives::{Delta, Directives};

/// Statuses whose answers may be kept though nothing says for how long (RFC 9110 section 15.1). 206 is one, and is never kept.
const HEURISTIC: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414];

/// Of the time since a file was last changed, what part it is taken for fresh where nothing else is said: the tenth that
/// RFC 9111 section 4.2.2 calls typical.
const HEURISTIC_PART: u32 = 10;

/// The most that is guessed: a day.
const HEURISTIC_MAX: Duration = Duration::from_hours(24);

/// When an answer was asked for and came.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// How long it took from the request to the head.
    pub delay: Duration,
    /// When the head came, by the wall clock.
    pub received: SystemTime,
}

/// How old an answer is when it comes (section 4.2.3): by its `Date`, or by what caches on the way say, whichever is more.
pub fn initial_age(headers: &HeaderMap, exchange: Exchange) -> Duration {
    let apparent = date(headers, &DATE).and_then(|sent| exchange.received.duration_since(sent).ok());
    let said = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u32>().ok());
    let said = Duration::from_secs(said.unwrap_or(0).into()) + exchange.delay;
    apparent.unwrap_or_default().max(said)
}

/// For how long an answer is fresh from its making on (section 4.2.1). It has a `Date`.
pub fn lifetime(status: StatusCode, headers: &HeaderMap, said: &Directives) -> Duration {
    explicit_lifetime(headers, said).unwrap_or_else(|| guessed_lifetime(status, headers, said))
}

/// What the origin says; `None` where it says nothing.
pub fn explicit_lifetime(headers: &HeaderMap, said: &Directives) -> Option<Duration> {
    for name in ["s-maxage", "max-age"] {
        match said.delta(name) {
            Delta::Absent => {}
            Delta::Of(lifetime) => return Some(lifetime),
            Delta::Wrong => return Some(Duration::ZERO),
        }
    }
    let mut expires = headers.get_all(EXPIRES).iter();
    let first = expires.next()?;
    if expires.any(|other| other != first) {
        return Some(Duration::ZERO);
    }
    // `Expires: 0` and other nonsense means that it has expired (section 5.3).
    let ends = date(headers, &EXPIRES).zip(date(headers, &DATE));
    Some(ends.and_then(|(end, sent)| end.duration_since(sent).ok()).unwrap_or_default())
}

fn guessed_lifetime(status: StatusCode, headers: &HeaderMap, said: &Directives) -> Duration {
    if !HEURISTIC.contains(&status.as_u16()) && !said.has("public") {
        return Duration::ZERO;
    }
    let (Some(changed), Some(sent)) = (date(headers, &LAST_MODIFIED), date(headers, &DATE)) else {
        return Duration::ZERO;
    };
    (sent.duration_since(changed).unwrap_or_default() / HEURISTIC_PART).min(HEURISTIC_MAX)
}

/// Whether answers of this status may be kept though nothing says for how long.
pub fn is_heuristic(status: StatusCode) -> bool {
    HEURISTIC.contains(&status.as_u16())
}

/// The date in a field, in any of the three forms (RFC 9110 section 5.6.7).
pub fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::cache::samples::{Lines, NOW, dated as headers};

    fn secs(lines: Lines<'_>, status: u16) -> u64 {
        let headers = headers(lines);
        lifetime(StatusCode::from_u16(status).unwrap(), &headers, &Directives::of(&headers)).as_secs()
    }

    #[test]
    fn s_maxage_goes_before_max_age_before_expires_before_a_guess_r3_2() {
        let expires = ("expires", "Sat, 21 Nov 2026 12:01:40 GMT");
        let changed = ("last-modified", "Fri, 20 Nov 2026 12:00:00 GMT");
        assert_eq!(secs(&[("cache-control", "max-age=5, s-maxage=7"), expires, changed], 200), 7);
        assert_eq!(secs(&[("cache-control", "max-age=5"), expires, changed], 200), 5);
        assert_eq!(secs(&[expires, changed], 200), 100);
        assert_eq!(secs(&[changed], 200), 8640);
        assert_eq!(secs(&[changed], 404), 8640);
        assert_eq!(secs(&[changed], 302), 0, "no status to guess for");
        assert_eq!(secs(&[changed, ("cache-control", "public")], 302), 8640);
        assert_eq!(secs(&[("last-modified", "Sat, 21 Nov 2020 12:00:00 GMT")], 200), 24 * 3600);
        assert_eq!(secs(&[], 200), 0);
    }

    #[test]
    fn what_is_wrong_or_said_twice_is_stale_r3_2() {
        for lines in [
            &[("cache-control", "max-age=x"), ("expires", "Sat, 21 Nov 2026 13:00:00 GMT")][..],
            &[("cache-control", "max-age=1, max-age=100")],
            &[("cache-control", "s-maxage=, max-age=100")],
            &[("expires", "0")],
            &[("expires", "-1"), ("last-modified", "Fri, 20 Nov 2026 12:00:00 GMT")],
            &[("expires", "Sat, 21 Nov 2026 11:00:00 GMT")],
            &[("expires", "Sat, 21 Nov 2026 13:00:00 GMT"), ("expires", "Sat, 21 Nov 2026 14:00:00 GMT")],
        ] {
            assert_eq!(secs(lines, 200), 0, "{lines:?}");
        }
    }

    #[test]
    fn the_age_is_the_most_that_anything_says_r3_2() {
        let received = httpdate::parse_http_date(NOW).unwrap() + Duration::from_secs(10);
        let age = |lines: Lines<'_>, delay| {
            let exchange = Exchange { delay: Duration::from_secs(delay), received };
            initial_age(&headers(lines), exchange).as_secs()
        };
        assert_eq!(age(&[], 0), 10);
        assert_eq!(age(&[("age", "60")], 5), 65);
        assert_eq!(age(&[("age", "3")], 2), 10);
        assert_eq!(age(&[("age", "-60")], 0), 10, "no number");
        assert_eq!(age(&[("age", "99999999999")], 0), 10);
    }
}
