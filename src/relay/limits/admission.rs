//! One limit of requests: who may go on at once, who waits and for how long, and who is to come back when.
//!
//! A second's requests may come at once (the generic cell rate algorithm, ITU-T I.371). What comes beyond waits in a queue, which is no
//! list: each has its moment, so that the queue is as long as the last one's wait. Who finds it full is told when there will be room,
//! behind all who were told so before. Invariant: over any time, as many go on as the limit allows for that time, and a second's more.

use std::time::Duration;

/// The longest wait in the queue: a second's requests. Whoever would wait longer does so elsewhere than on a connection.
pub const WAIT_MAX: Duration = Duration::from_secs(1);

/// Requests of one limit that may wait, however many a second has: each holds its connection.
pub const QUEUE_MAX: u64 = 1000;

/// The longest that anybody is told to stay away: whoever floods the relay, and does not listen, does not keep others away for longer.
pub const AWAY_MAX: Duration = Duration::from_mins(2);

/// What a limit of requests has seen.
#[derive(Debug)]
pub struct Admission {
    per_sec: u64,
    /// When the next request would be due if they came one by one.
    due: Duration,
    /// The same behind all who were told to come back.
    told: Duration,
}

/// A request that may go on, once it has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits(pub Duration);

/// The queue is full; there will be room after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub Duration);

impl Admission {
    /// A limit that nobody has used.
    pub fn new(per_sec: u64) -> Self {
        Self { per_sec, due: Duration::ZERO, told: Duration::ZERO }
    }

    /// Makes it another limit, from now on.
    pub fn set(&mut self, per_sec: u64, now: Duration) {
        if self.per_sec != per_sec {
            // What was used or told was so at another rate.
            self.due = self.due.min(now + WAIT_MAX);
            self.told = Duration::ZERO;
            self.per_sec = per_sec;
        }
    }

    /// Whether a request may go on, and how long it waits; nothing is taken.
    pub fn look(&self, now: Duration) -> Result<Waits, Full> {
        let ahead = self.due.saturating_sub(now);
        let wait = ahead.saturating_sub(self.at_once());
        let queued = wait.as_nanos() / self.interval().as_nanos().max(1);
        if wait <= WAIT_MAX && queued <= u128::from(QUEUE_MAX) { Ok(Waits(wait)) } else { Err(Full(wait)) }
    }

    /// Takes the place that was looked at.
    pub fn enter(&mut self, now: Duration) {
        self.due = self.due.max(now) + self.interval();
    }

    /// Tells one who found it full when to come back.
    pub fn send_away(&mut self, now: Duration) -> Duration {
        let next = self.told.max(self.due).max(now) + self.interval();
        self.told = next.min(now + AWAY_MAX);
        self.told.saturating_sub(now)
    }

    /// Whether a new one would be the same.
    pub fn is_whole(&self, now: Duration) -> bool {
        self.due <= now && self.told <= now
    }

    fn interval(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.per_sec.max(1))
    }

    /// How far ahead of their moments requests may be that come all at once: a second's, the first of which is not ahead.
    fn at_once(&self) -> Duration {
        Duration::from_secs(1).saturating_sub(self.interval())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;
    use crate::relay::limits::spread;

    /// A naive queue: the moments at which requests went on.
    fn most_within(went_on: &[Duration], window: Duration) -> usize {
        let within =
            |first: &Duration| went_on.iter().filter(|at| *at >= first && **at < *first + window).count();
        went_on.iter().map(within).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn as_many_go_on_as_the_limit_allows_and_a_seconds_more_r10_1(
            per_sec in 1_u64..60, pauses_ms in prop::collection::vec(0_u64..120, 1..300),
        ) {
            let (mut admission, mut now) = (Admission::new(per_sec), Duration::from_secs(5));
            let mut went_on = Vec::new();
            for pause in pauses_ms {
                now += Duration::from_millis(pause);
                match admission.look(now) {
                    Ok(Waits(wait)) => {
                        prop_assert!(wait <= WAIT_MAX);
                        admission.enter(now);
                        went_on.push(now + wait);
                    }
                    Err(Full(room)) => prop_assert!(room > WAIT_MAX),
                }
            }
            prop_assert!(went_on.is_sorted(), "nobody is passed");
            for secs in [1, 3] {
                let most = usize::try_from(per_sec * (secs + 1)).unwrap();
                // An interval is a whole number of nanoseconds.
                prop_assert!(most_within(&went_on, Duration::from_secs(secs)) <= most + 1);
            }
        }
    }

    #[test]
    fn a_seconds_requests_go_on_a_seconds_more_wait_and_the_rest_are_told_one_after_the_other_r10_1() {
        let now = Duration::from_secs(5);
        let mut admission = Admission::new(10);
        let mut waits = Vec::new();
        while let Ok(Waits(wait)) = admission.look(now) {
            admission.enter(now);
            waits.push(wait.as_millis());
        }
        let queued = (1..=10).map(|number| number * 100);
        assert_eq!(waits, [0; 10].into_iter().chain(queued).collect::<Vec<_>>());
        let told: Vec<_> = (0..50).map(|_| admission.send_away(now).as_millis()).collect();
        assert_eq!((told[0], told[49]), (2100, 7000));
        let away = (0..10_000).map(|_| admission.send_away(now)).max().unwrap();
        assert_eq!(away, AWAY_MAX);
        assert!(admission.look(now + Duration::from_millis(100)).is_ok());
        assert!(!admission.is_whole(now + Duration::from_secs(3)) && admission.is_whole(now + AWAY_MAX));
    }

    #[test]
    fn a_fleet_that_keeps_to_what_it_is_told_is_served_at_the_limits_pace_r10_1() {
        let mut admission = Admission::new(20);
        // Who asks when, in milliseconds, and how often it did.
        let mut asking: BinaryHeap<_> = (0..1000).map(|number| Reverse((9000_u64, number, 1))).collect();
        let (mut served, mut most, mut random) = (Vec::new(), 0, 1_u32);
        while let Some(Reverse((at_ms, number, times))) = asking.pop() {
            let now = Duration::from_millis(at_ms);
            most = most.max(times);
            if let Ok(Waits(wait)) = admission.look(now) {
                admission.enter(now);
                served.push(now + wait);
            } else {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let secs = spread(admission.send_away(now), random);
                asking.push(Reverse((at_ms + 1000 * secs, number, times + 1)));
            }
        }
        // Fifty seconds' requests, spread over half as long again.
        let took = served.iter().max().unwrap().saturating_sub(Duration::from_secs(9));
        assert!(
            most <= 4 && took <= Duration::from_secs(90),
            "asked {most} times, the last served after {took:?}"
        );
    }

    #[test]
    fn the_queue_has_a_bound_however_many_a_second_has_r10_1() {
        let now = Duration::from_secs(5);
        let mut admission = Admission::new(100_000);
        let mut count = 0;
        while admission.look(now).is_ok() {
            admission.enter(now);
            count += 1;
        }
        assert_eq!(count, 100_000 + QUEUE_MAX);
        let mut endless = Admission::new(1 << 40);
        for _ in 0..1000 {
            assert_eq!(endless.look(now), Ok(Waits(Duration::ZERO)));
            endless.enter(now);
        }
    }
}
