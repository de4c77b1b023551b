//! The windows near a moment, worked out once for all agents that share a schedule and a zone.
//!
//! Invariant: what is kept is what the plan would say for the moment that is asked for.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::policy::tree::schedule::Schedule;
use crate::schedule::plan::{Occurrence, next_occurrence, occurrence_at};

/// Schedules that are kept at once: more than domains usually have between them; all are dropped where there are more.
const KEPT_MAX: usize = 4096;

/// The windows of schedules.
#[derive(Debug, Default)]
pub(super) struct Windows {
    kept: HashMap<Schedule, Vec<(TimeZone, Near)>, RandomState>,
    count: usize,
}

/// The windows near a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Near {
    /// The window that holds it.
    pub(super) current: Option<Occurrence>,
    /// The first that starts after it.
    pub(super) next: Option<Occurrence>,
    from: Timestamp,
    until: Timestamp,
}

impl Near {
    fn at(schedule: Schedule, zone: &TimeZone, at: Timestamp) -> Self {
        let current = occurrence_at(&schedule, zone, at);
        let next = next_occurrence(&schedule, zone, at);
        let until = current.map(|window| window.ends).into_iter().chain(next.map(|window| window.starts));
        Self { current, next, from: at, until: until.min().unwrap_or(Timestamp::MAX) }
    }

    fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

impl Windows {
    /// The windows near a moment; none of a schedule by interval.
    pub(super) fn near(&mut self, schedule: Schedule, zone: &TimeZone, at: Timestamp) -> Near {
        if matches!(schedule, Schedule::Interval { .. }) {
            return Near { current: None, next: None, from: at, until: at };
        }
        if self.count >= KEPT_MAX {
            self.kept.clear();
            self.count = 0;
        }
        let of_schedule = self.kept.entry(schedule).or_default();
        match of_schedule.iter_mut().find(|(other, _)| other == zone) {
            Some((_, near)) => {
                if !near.holds(at) {
                    *near = Near::at(schedule, zone, at);
                }
                *near
            }
            None => {
                let near = Near::at(schedule, zone, at);
                of_schedule.push((zone.clone(), near));
                self.count += 1;
                near
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_the_plan_says(asked in prop::collection::vec((0usize..3, 0usize..2, 0i64..400), 1..60)) {
            let schedules = [("02:00", 120), ("23:30", 60), ("00:00", 1440)].map(|(at, mins)| {
                let schedule = serde_json::json!({ "kind": "daily", "at": at, "window_mins": mins });
                serde_json::from_value::<Schedule>(schedule).unwrap()
            });
            let zones = [TimeZone::UTC, TimeZone::get("Europe/Berlin").unwrap()];
            let mut windows = Windows::default();
            let from: Timestamp = "2026-10-24T00:00Z".parse().unwrap();
            for (schedule, zone, quarters) in asked {
                let (schedule, zone) = (&schedules[schedule], &zones[zone]);
                let at = from + SignedDuration::from_mins(15 * quarters);
                let near = windows.near(*schedule, zone, at);
                prop_assert_eq!(near.current, occurrence_at(schedule, zone, at));
                prop_assert_eq!(near.next, next_occurrence(schedule, zone, at));
            }
            prop_assert!(windows.count <= 6);
        }
    }
}
