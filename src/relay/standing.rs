//! How a tree stands with its upstream: when that last confirmed what is shown, and what is known to be wrong.
//!
//! Never acts on it. Invariant: reading it takes no lock; requests do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::clock::Clock;

/// How a tree stands.
#[derive(Debug)]
pub struct Standing {
    clock: Arc<dyn Clock>,
    /// Monotonic seconds, counted from 1; 0 is never.
    confirmed_secs: AtomicU64,
    gone_secs: AtomicU64,
    upstream_down: AtomicBool,
    doubted: AtomicBool,
    missing_bytes: AtomicU64,
}

impl Standing {
    /// That of a tree which has just been opened; its current generation may have turned out not to be whole.
    pub(super) fn new(clock: Arc<dyn Clock>, doubted: bool) -> Self {
        Self {
            clock,
            confirmed_secs: AtomicU64::new(0),
            gone_secs: AtomicU64::new(0),
            upstream_down: AtomicBool::new(false),
            doubted: AtomicBool::new(doubted),
            missing_bytes: AtomicU64::new(0),
        }
    }

    /// Notes that the upstream confirmed the current generation just now; true where it was down before.
    pub(super) fn confirm(&self) -> bool {
        self.confirmed_secs.store(self.now_secs(), Ordering::Relaxed);
        self.upstream_down.swap(false, Ordering::Relaxed)
    }

    /// Seconds since the upstream last confirmed the current generation: since the start, where it has not yet.
    pub fn unconfirmed_secs(&self) -> u64 {
        self.now_secs() - self.confirmed_secs.load(Ordering::Relaxed).max(1)
    }

    /// Notes that the upstream could not be asked; what is stored is still served (R1.6).
    pub(super) fn note_upstream_down(&self) {
        self.upstream_down.store(true, Ordering::Relaxed);
    }

    /// Whether the last refresh could not ask the upstream.
    pub fn is_upstream_down(&self) -> bool {
        self.upstream_down.load(Ordering::Relaxed)
    }

    /// Notes whether the current generation may name what the relay neither has nor can fetch.
    pub(super) fn set_doubted(&self, doubted: bool) {
        self.doubted.store(doubted, Ordering::Relaxed);
    }

    /// Whether it may.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Whether a refresh is to be asked for because a file is gone: not by every request that fails.
    pub(super) fn may_ask_for_gone(&self) -> bool {
        let (now, asked) = (self.now_secs(), self.gone_secs.load(Ordering::Relaxed));
        let may = asked == 0 || now >= asked + GONE_SECS;
        if may {
            self.gone_secs.store(now, Ordering::Relaxed);
        }
        may
    }

    /// Notes how many bytes the last refresh was missing; 0 where it was none.
    pub(super) fn note_missing(&self, bytes: u64) {
        self.missing_bytes.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes beyond the quota the upstream's generation needs (R1.8); 0 where it fits.
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes.load(Ordering::Relaxed)
    }

    fn now_secs(&self) -> u64 {
        self.clock.monotonic().as_secs() + 1
    }
}

/// Between two refreshes that files ask for which are gone: agents repeat such requests for as long as they like.
const GONE_SECS: u64 = 60;
