//! What passed in each of the last minutes, made of the relay's counts: a day of them, in memory alone.
//!
//! Soft: a relay that starts anew has seen nothing. Invariant: the sum of all minutes is what the counts grew by since the first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::base::tally::{Outcome, Tally};
use crate::relay::resources::Resources;

/// Minutes that are kept: a day, which shows the rush of its mornings.
const MINUTES_MAX: usize = 24 * 60;

const MINUTE: Duration = Duration::from_mins(1);

/// The last minutes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Guards the minutes, the oldest first.
    minutes: Mutex<VecDeque<Minute>>,
}

/// What passed in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// When it ended, by the wall clock.
    pub at: Timestamp,
    /// What the counts grew by.
    pub counts: Counts,
}

/// Some of the relay's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Body bytes handed to agents.
    pub sent_bytes: u64,
    /// Body bytes received from upstreams.
    pub upstream_bytes: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that failed.
    pub failed: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Fills that became a blob.
    pub fills: u64,
}

impl Counts {
    /// The counts now.
    pub fn of(tally: &Tally) -> Self {
        Self {
            sent_bytes: tally.sent_bytes.value(),
            upstream_bytes: tally.upstream_bytes.value(),
            requests: Outcome::ALL.iter().map(|outcome| tally.requests(*outcome)).sum(),
            refused: tally.requests(Outcome::Refused),
            failed: tally.requests(Outcome::Failed),
            connections: tally.connections.value(),
            fills: tally.fills_completed.value(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes - before.sent_bytes,
            upstream_bytes: self.upstream_bytes - before.upstream_bytes,
            requests: self.requests - before.requests,
            refused: self.refused - before.refused,
            failed: self.failed - before.failed,
            connections: self.connections - before.connections,
            fills: self.fills - before.fills,
        }
    }
}

impl Traffic {
    /// The last so many minutes, the oldest first.
    pub fn last(&self, count: usize) -> Vec<Minute> {
        let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let from = minutes.len().saturating_sub(count);
        minutes.range(from..).copied().collect()
    }

    fn note(&self, minute: Minute) {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if minutes.len() >= MINUTES_MAX {
            minutes.pop_front();
        }
        minutes.push_back(minute);
    }
}

/// Notes each minute until the relay stops.
pub async fn run(resources: Arc<Resources>) {
    let mut beat = tokio::time::interval(MINUTE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    let mut before = Counts::of(&resources.tally);
    while resources.stop.run_until_cancelled(beat.tick()).await.is_some() {
        let now = Counts::of(&resources.tally);
        resources.traffic.note(Minute { at: resources.clock.wall(), counts: now.since(before) });
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_the_last_minutes_are_told_oldest_first() {
        let traffic = Traffic::default();
        let minute = |number: i64| Minute {
            at: Timestamp::from_second(number * 60).unwrap(),
            counts: Counts { requests: number.unsigned_abs(), ..Counts::default() },
        };
        for number in 0..2000 {
            traffic.note(minute(number));
        }
        assert_eq!(traffic.last(2), [minute(1998), minute(1999)]);
        assert_eq!(traffic.last(usize::MAX).len(), MINUTES_MAX);
    }

    #[test]
    fn a_minute_is_what_the_counts_grew_by() {
        let tally = Tally::default();
        tally.sent_bytes.add(5);
        let before = Counts::of(&tally);
        tally.sent_bytes.add(7);
        tally.request(Outcome::Refused);
        let counts = Counts::of(&tally).since(before);
        assert_eq!((counts.sent_bytes, counts.requests, counts.refused, counts.failed), (7, 1, 1, 0));
    }
}
