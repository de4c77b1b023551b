//! Logins that failed, by address: who fails too often is not heard for a while.
//!
//! Secrets of 256 bits cannot be guessed; this keeps whoever tries from costing anybody else something, and tells a program with an old
//! token to stop. Never knows a secret. Invariant: the table has a bound, and nobody is kept out for longer than a window.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::base::address::normalised;

/// Failures of one address within a window: somebody who mistypes a token has done so a few times.
const FAILURES_MAX: u32 = 10;

/// For how long failures count, from the first one on.
const WINDOW: Duration = Duration::from_mins(1);

/// Addresses that are remembered; of more, the one that failed longest ago is forgotten.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not 0");

/// Who failed lately.
#[derive(Debug)]
pub(super) struct Failures {
    /// Guards the failures by address, of IPv6 by the /64: whoever has one has all of it.
    failed: Mutex<LruCache<IpAddr, Failed>>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    since: Duration,
    count: u32,
}

impl Default for Failures {
    fn default() -> Self {
        Self { failed: Mutex::new(LruCache::new(ADDRESSES_MAX)) }
    }
}

impl Failures {
    /// How long an address is not heard any more; `None` where it is. `now` is monotonic.
    pub(super) fn wait(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.peek(&site(address)).filter(|failed| failed.count >= FAILURES_MAX)?;
        (failed.since + WINDOW).checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// Notes that a login from an address failed. `now` is monotonic.
    pub(super) fn note(&self, address: IpAddr, now: Duration) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.get_or_insert_mut(site(address), || Failed { since: now, count: 0 });
        if now.saturating_sub(failed.since) >= WINDOW {
            *failed = Failed { since: now, count: 0 };
        }
        failed.count = failed.count.saturating_add(1);
    }
}

fn site(address: IpAddr) -> IpAddr {
    match normalised(address) {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_for_the_rest_of_a_window_and_nobody_else_does() {
        let failures = Failures::default();
        let at = Duration::from_secs;
        let (one, beside): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        for failure in 0..FAILURES_MAX {
            assert_eq!(failures.wait(one, at(100)), None, "{failure}");
            failures.note(one, at(100));
        }
        assert_eq!(failures.wait(one, at(110)), Some(at(50)));
        assert_eq!(failures.wait(beside, at(110)), Some(at(50)), "the same /64");
        assert_eq!(failures.wait("2001:db8:0:1::1".parse().unwrap(), at(110)), None);
        assert_eq!(failures.wait(one, at(160)), None);
        failures.note(one, at(160));
        assert_eq!(failures.wait(one, at(160)), None, "a new window");
    }

    #[test]
    fn the_table_has_a_bound() {
        let failures = Failures::default();
        for number in 0..10_000u32 {
            failures.note(std::net::Ipv4Addr::from_bits(number).into(), Duration::ZERO);
        }
        assert_eq!(failures.failed.lock().unwrap().len(), ADDRESSES_MAX.get());
    }
}
