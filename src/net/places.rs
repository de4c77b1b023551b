//! The places for connections: so many for all workers together, and who must leave when a new one comes and none is free.
//!
//! Never knows a connection: each worker keeps the order of its own in [`idle`](crate::net::idle) and publishes since when its
//! first has been idle. Invariant: no more connections are served than there are places.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::base::clock::Clock;
use crate::base::seldom::Seldom;
use crate::base::tally::{Refused, Tally};
use crate::net::addresses::{Addresses, Counted};

/// From one asking for room to the next: whoever was asked may have begun to speak at that moment, or takes its time to part.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How many connections may take their time to part while somebody waits: their places come free a little later.
const PARTING_MAX: usize = 8;

/// How long the head of a request, or of what comes before it, may take before its connection counts as idle when room is
/// wanted and none is: two round trips over a bad line.
pub(super) const HEAD_GRACE_MS: u64 = 1000;

/// How long a connection that nothing was asked on counts as at work all the same: from its accept to its first byte, or from an
/// answer to the next request. Else agents whose requests are on their way would be sent away by those who come after them.
pub(super) const IDLE_GRACE_MS: u64 = 100;

/// What all workers share.
#[derive(Debug)]
pub struct Places {
    most: usize,
    free: Arc<Semaphore>,
    floors: Vec<Arc<Floor>>,
    addresses: Addresses,
    parting: AtomicUsize,
    pub(super) tally: Arc<Tally>,
    pub(super) clock: Arc<dyn Clock>,
    full: Seldom,
    refused: Seldom,
    failing: Seldom,
}

/// One worker's side of it, as the others see it.
#[derive(Debug)]
pub(super) struct Floor {
    /// Since when its first idle connection has been so, in milliseconds of the clock; [`NOBODY`] while none is.
    pub(super) idle_since_ms: AtomicU64,
    /// The same of connections that have sent a part of a head.
    pub(super) head_since_ms: AtomicU64,
    /// How many are to leave.
    pub(super) wanted: AtomicUsize,
    pub(super) asked: Notify,
}

/// In place of a time: there is no such connection.
pub(super) const NOBODY: u64 = u64::MAX;

impl Places {
    /// So many places, for so many workers.
    pub fn new(most: usize, workers: usize, tally: Arc<Tally>, clock: Arc<dyn Clock>) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            floors: (0..workers).map(|_| Arc::default()).collect(),
            addresses: Addresses::default(),
            parting: AtomicUsize::default(),
            tally,
            clock,
            full: Seldom::default(),
            refused: Seldom::default(),
            failing: Seldom::default(),
        }
    }

    /// Counts a connection of an address; `None` where the address has `most`, which is counted and told.
    pub fn count(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let counted = self.addresses.count(address, most);
        if counted.is_none() {
            self.tally.refused(Refused::Address);
            if let Some(count) = self.refused.note(self.clock.monotonic()) {
                warn!(%address, limit = most, count, "connections over limits.connections_per_address_max are closed");
            }
        }
        counted
    }

    /// Waits for a place. While none is free, whoever has been idle longest is asked to leave.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        if let Some(count) = self.full.note(self.clock.monotonic()) {
            warn!(
                connections_max = self.most,
                count, "all places are taken: the connection that has been idle longest makes room"
            );
        }
        let mut free = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            self.make_room();
            if let Ok(place) = tokio::time::timeout(ASK_AGAIN, free.as_mut()).await {
                return place.ok();
            }
        }
    }

    /// Notes that the system would not have another connection.
    pub(super) fn failed(&self, error: &io::Error) {
        if let Some(count) = self.failing.note(self.clock.monotonic()) {
            warn!(%error, count, "no connection can be accepted for the moment");
        }
        self.make_room();
    }

    /// Asks the worker whose connection has been idle longest to end it; where none is idle, one whose head is overdue.
    fn make_room(&self) {
        let now_ms = self.now_ms();
        let first = |since_ms: fn(&Floor) -> &AtomicU64| {
            let floors = self.floors.iter().map(|floor| (since_ms(floor).load(Ordering::Relaxed), floor));
            floors.min_by_key(|(since_ms, _)| *since_ms).filter(|(since_ms, _)| *since_ms != NOBODY)
        };
        let after = |grace_ms: u64, since_ms| {
            first(since_ms).filter(|(since_ms, _)| now_ms.saturating_sub(*since_ms) >= grace_ms)
        };
        let idle = after(IDLE_GRACE_MS, |floor| &floor.idle_since_ms);
        if let Some((_, floor)) = idle.or_else(|| after(HEAD_GRACE_MS, |floor| &floor.head_since_ms)) {
            floor.wanted.fetch_add(1, Ordering::Relaxed);
            floor.asked.notify_one();
        }
    }

    pub(super) fn floor(&self, worker: usize) -> Arc<Floor> {
        self.floors[worker].clone()
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(NOBODY - 1)
    }
}

/// A connection that takes its time to part, while it is held.
#[derive(Debug)]
pub struct Parting<'p>(&'p Places);

impl Places {
    /// Lets a connection that was told to go take its time, and asks another one meanwhile; `None` where enough do.
    pub(super) fn part(&self) -> Option<Parting<'_>> {
        let parting = Parting(self);
        if self.parting.fetch_add(1, Ordering::Relaxed) >= PARTING_MAX {
            return None;
        }
        self.make_room();
        Some(parting)
    }
}

impl Drop for Parting<'_> {
    fn drop(&mut self) {
        self.0.parting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            idle_since_ms: NOBODY.into(),
            head_since_ms: NOBODY.into(),
            wanted: AtomicUsize::new(0),
            asked: Notify::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::base::clock::SystemClock;

    use super::*;

    /// An hour after its start, for ever.
    #[derive(Debug)]
    struct HourLater;

    impl Clock for HourLater {
        fn wall(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_hours(1)
        }
    }

    fn asked(places: &Places) -> Vec<usize> {
        places.make_room();
        places.floors.iter().map(|floor| floor.wanted.swap(0, Ordering::Relaxed)).collect()
    }

    #[test]
    fn the_worker_whose_connection_has_been_idle_longest_is_asked() {
        let places = Places::new(1, 3, Arc::default(), Arc::new(HourLater));
        assert_eq!(asked(&places), [0, 0, 0]);
        places.floors[0].idle_since_ms.store(places.now_ms() - IDLE_GRACE_MS + 1, Ordering::Relaxed);
        assert_eq!(asked(&places), [0, 0, 0], "its request may be on its way");
        places.floors[0].idle_since_ms.store(NOBODY, Ordering::Relaxed);
        places.floors[2].head_since_ms.store(places.now_ms(), Ordering::Relaxed);
        assert_eq!(asked(&places), [0, 0, 0], "a head that has only begun may go on");
        places.floors[0].idle_since_ms.store(7, Ordering::Relaxed);
        places.floors[1].idle_since_ms.store(5, Ordering::Relaxed);
        assert_eq!(asked(&places), [0, 1, 0]);
        places.floors[1].idle_since_ms.store(NOBODY, Ordering::Relaxed);
        assert_eq!(asked(&places), [1, 0, 0]);
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_until_one_is_free() {
        let places = Places::new(1, 1, Arc::default(), Arc::new(SystemClock::default()));
        let held = places.place().await.unwrap();
        let mut waiting = std::pin::pin!(places.place());
        assert!(tokio::time::timeout(2 * ASK_AGAIN, waiting.as_mut()).await.is_err());
        drop(held);
        assert!(waiting.await.is_some());
    }
}
