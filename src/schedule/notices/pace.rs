//! How many agents were told within the last second.
//!
//! Invariant: in no second, wherever it begins, more are told than the limit says.

use std::collections::VecDeque;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Tellings so near to each other are counted as one batch, so that a second has a bounded number of them.
const BATCH: Duration = Duration::from_millis(10);

/// The tellings of the last second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    batches: VecDeque<Batch>,
    told: u32,
}

#[derive(Debug)]
struct Batch {
    first: Duration,
    last: Duration,
    count: u32,
}

impl Pace {
    /// Whether another agent may be told now.
    pub(super) fn has_room(&mut self, per_sec: u32, now: Duration) -> bool {
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.last + SECOND <= now) {
            self.told -= batch.count;
        }
        self.told < per_sec.max(1)
    }

    /// Counts an agent that is told now.
    pub(super) fn count(&mut self, now: Duration) {
        self.told += 1;
        match self.batches.back_mut().filter(|batch| now < batch.first + BATCH) {
            Some(batch) => (batch.last, batch.count) = (now, batch.count + 1),
            None => self.batches.push_back(Batch { first: now, last: now, count: 1 }),
        }
    }

    /// When another agent may be told, as far as is known now.
    pub(super) fn room_at(&self, per_sec: u32, now: Duration) -> Duration {
        let mut told = self.told;
        for batch in &self.batches {
            if told < per_sec.max(1) {
                break;
            }
            told -= batch.count;
            if told < per_sec.max(1) {
                return now.max(batch.last + SECOND);
            }
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_second_has_more_than_the_limit_and_each_gets_near_it_r9_4(
            per_sec in 0u32..300, waits in prop::collection::vec(0u64..400, 1..200),
        ) {
            let (mut pace, mut told, mut now) = (Pace::default(), Vec::new(), Duration::ZERO);
            for (nth, wait) in waits.iter().enumerate() {
                now += Duration::from_millis(*wait);
                // Now and then no more are wanted than some.
                let mut wanted = if nth % 3 == 0 { 7 } else { 1000 };
                while wanted > 0 && pace.has_room(per_sec, now) {
                    pace.count(now);
                    told.push(now);
                    wanted -= 1;
                }
                let free = pace.room_at(per_sec, now);
                if wanted > 0 {
                    prop_assert!(now < free && free <= now + SECOND);
                    prop_assert!(pace.has_room(per_sec, free), "no room at {free:?}");
                    now = free;
                } else if pace.has_room(per_sec, now) {
                    prop_assert_eq!(free, now);
                }
            }
            // As many as may be told later than the first of them by less than a second.
            let within = |first: usize| told[first..].partition_point(|at| *at < told[first] + SECOND);
            prop_assert!((0..told.len()).all(|first| within(first) <= per_sec.max(1) as usize));
            prop_assert!(pace.batches.len() <= 102);
        }
    }
}
