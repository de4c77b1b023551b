//! Addresses of upstreams that failed a while ago: they are attempted after all others.
//!
//! Never rules an address out. Invariant: it is bounded, in addresses and in how long one is remembered.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::base::clock::Clock;

/// How long an address stays behind: a line that is down is mostly down for minutes, and one that is back is found by then.
pub const BEHIND: Duration = Duration::from_mins(5);

/// Addresses remembered; the one that failed longest ago goes first.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// The addresses that failed.
#[derive(Debug)]
pub struct Failed {
    clock: Arc<dyn Clock>,
    /// Guards when each address last failed.
    at: Mutex<LruCache<SocketAddr, Duration>>,
}

impl Failed {
    /// None has failed yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, at: Mutex::new(LruCache::new(ADDRESSES_MAX)) }
    }

    /// Notes that an address failed.
    pub fn note(&self, address: SocketAddr) {
        let now = self.clock.monotonic();
        self.at.lock().unwrap_or_else(PoisonError::into_inner).put(address, now);
    }

    /// Notes that an address gave an answer.
    pub fn forget(&self, address: SocketAddr) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).pop(&address);
    }

    /// Whether an address is to be attempted after others.
    pub fn is_behind(&self, address: SocketAddr) -> bool {
        let now = self.clock.monotonic();
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.peek(&address).is_some_and(|at| now.saturating_sub(*at) < BEHIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hands;

    #[test]
    fn an_address_is_behind_for_a_while_or_until_it_answers_r4_3() {
        let clock = Arc::new(Hands::default());
        let failed = Failed::new(clock.clone());
        let [one, other]: [SocketAddr; 2] =
            ["192.0.2.1:80", "192.0.2.1:443"].map(|text| text.parse().unwrap());
        failed.note(one);
        assert!(failed.is_behind(one) && !failed.is_behind(other), "a port is a server of its own");
        clock.passes(BEHIND.checked_sub(Duration::from_secs(1)).unwrap());
        assert!(failed.is_behind(one));
        clock.passes(Duration::from_secs(1));
        assert!(!failed.is_behind(one));
        failed.note(one);
        failed.forget(one);
        assert!(!failed.is_behind(one));
    }

    #[test]
    fn addresses_without_end_push_out_the_oldest() {
        let failed = Failed::new(Arc::new(Hands::default()));
        let address = |number: u16| SocketAddr::from(([192, 0, 2, 1], number));
        for number in 0..=1024 {
            failed.note(address(number));
        }
        assert!(
            !failed.is_behind(address(0)) && failed.is_behind(address(1)) && failed.is_behind(address(1024))
        );
    }
}
