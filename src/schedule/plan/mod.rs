//! What a schedule means in time (R9.2): the windows of a daily or weekly one, an agent's moment in each, the next update by
//! interval.
//!
//! Never asks the time and keeps nothing: whoever must not do something twice remembers the window's day. Invariants: windows of
//! one schedule never overlap; the same window, agent and seed have the same moment, on every machine and after every restart.
//!
//! - A window begins when the clocks of its zone show its start time. Where they skip it, it begins as much later as they skip; where
//!   they show it twice, the first time (RFC 5545 section 3.3.5). A day that a zone skips whole has no window.
//! - It is as long as it says in elapsed time, but ends where the next one begins: a day may have 23 hours.

pub mod zone;

use blake3::Hasher;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::{AgentSettingsTaken, IntervalMins, Schedule, Weekdays};

/// A window of a daily or weekly schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Occurrence {
    /// The day that it is named by, in the schedule's zone: the same after a restart and when a clock jumps.
    pub day: Date,
    /// Its first moment.
    pub starts: Timestamp,
    /// The moment after its last.
    pub ends: Timestamp,
}

/// Days before a moment on which a window that holds it can have begun, and as many after: a window has a day at most, and clocks
/// skip or repeat a day at most.
const DAYS_BESIDE: i32 = 2;

/// Days within which every schedule has a window: a week, and another where a zone skips its day.
const DAYS_AHEAD: i32 = 15;

/// Moments that are drawn from a whole window before one is drawn from what is left: as long as one is still to come, it does not
/// depend on when the agent came.
const DRAWS_MAX: u32 = 8;

/// Who missed its turn by interval updates within so much, spread by its id: after a power cut a fleet comes back at once.
const CATCH_UP: SignedDuration = SignedDuration::from_mins(10);

impl Occurrence {
    /// Whether a moment is within the window.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.starts <= at && at < self.ends
    }

    /// So much of it, in 2^64 parts.
    fn part(&self, share: u64) -> Timestamp {
        part(self.starts, self.ends, share)
    }
}

/// The window that holds a moment; `None` between windows, and for schedules without any.
pub fn occurrence_at(schedule: &Schedule, zone: &TimeZone, at: Timestamp) -> Option<Occurrence> {
    let windows = Windows::of(*schedule, zone)?;
    let today = zone.to_datetime(at).date();
    let mut near = (-DAYS_BESIDE..=DAYS_BESIDE).filter_map(|days| windows.on(later(today, days)?));
    near.find(|window| window.holds(at))
}

/// The first window that starts after a moment; `None` for schedules without windows.
pub fn next_occurrence(schedule: &Schedule, zone: &TimeZone, after: Timestamp) -> Option<Occurrence> {
    let windows = Windows::of(*schedule, zone)?;
    let today = zone.to_datetime(after).date();
    let mut ahead = (-DAYS_BESIDE..=DAYS_AHEAD).filter_map(|days| windows.on(later(today, days)?));
    ahead.find(|window| window.starts > after)
}

/// An agent's moment in a window: each is as likely as any other, and the next window has another. The seed is the relay's.
pub fn moment(occurrence: &Occurrence, agent: &AgentId, seed: u64) -> Timestamp {
    occurrence.part(drawn(occurrence, agent, seed, 0))
}

/// The moment of an agent that is there from a moment within the window on: each that is left is as likely as any other. An agent
/// that comes and goes keeps its moment until it has passed. `from` itself where nothing is left.
pub fn moment_in_rest(occurrence: &Occurrence, agent: &AgentId, seed: u64, from: Timestamp) -> Timestamp {
    let mut draws = (0..DRAWS_MAX).map(|nth| occurrence.part(drawn(occurrence, agent, seed, nth)));
    draws
        .find(|moment| *moment >= from)
        .unwrap_or_else(|| part(from, occurrence.ends.max(from), drawn(occurrence, agent, seed, DRAWS_MAX)))
}

/// When an agent that acts by itself updates next, always after `now`; `last` is when it last began to. Each agent has a phase of
/// its own, which never moves. One that missed its turn, or never updated, catches up within ten minutes; a clock that was put back
/// delays nothing by more than one interval.
pub fn next_by_interval(
    every: IntervalMins,
    agent: &AgentId,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    let every = SignedDuration::from_mins(every.mins().into());
    let next = next_in_phase(every, agent, now);
    let turn = next.saturating_sub(every).unwrap_or(Timestamp::MIN);
    if last.is_some_and(|last| last >= turn) { next } else { next_in_phase(every.min(CATCH_UP), agent, now) }
}

/// Whether an agent that updates by interval takes agent settings now, having last taken them then. *Once a day* counts the days of
/// the zone's calendar; a clock that was put back makes another day of it, so that none waits for a future that was a mistake.
pub fn settings_due(
    taken: AgentSettingsTaken,
    last_settings: Option<Timestamp>,
    zone: &TimeZone,
    now: Timestamp,
) -> bool {
    let day = |at| zone.to_datetime(at).date();
    match taken {
        AgentSettingsTaken::EachTime => true,
        AgentSettingsTaken::OnceADay => last_settings.is_none_or(|last| day(last) != day(now)),
    }
}

/// The windows of a schedule in a zone.
struct Windows<'a> {
    zone: &'a TimeZone,
    /// `None`: each day.
    days: Option<Weekdays>,
    at: Time,
    length: SignedDuration,
}

impl<'a> Windows<'a> {
    fn of(schedule: Schedule, zone: &'a TimeZone) -> Option<Self> {
        let (days, at, window_mins) = match schedule {
            Schedule::Interval { .. } => return None,
            Schedule::Daily { at, window_mins } => (None, at, window_mins),
            Schedule::Weekly { days, at, window_mins } => (Some(days), at, window_mins),
        };
        let length = SignedDuration::from_mins(window_mins.mins().into());
        Some(Self { zone, days, at: at.time(), length })
    }

    /// The window of a day, up to the next one. `None` where the schedule has none on it, or nothing is left of it.
    fn on(&self, day: Date) -> Option<Occurrence> {
        let starts = self.start_on(day)?;
        let mut ends = starts.checked_add(self.length).ok()?;
        for after in 1..=DAYS_BESIDE {
            let next = later(day, after).and_then(|day| self.start_on(day));
            ends = next.map_or(ends, |next| ends.min(next));
        }
        (starts < ends).then_some(Occurrence { day, starts, ends })
    }

    fn start_on(&self, day: Date) -> Option<Timestamp> {
        if self.days.is_some_and(|days| !days.holds(days_from_monday(day))) {
            return None;
        }
        let shown = |time| self.zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok();
        let midnight = shown(Time::midnight())?;
        if self.zone.to_datetime(midnight).date() != day {
            return None;
        }
        shown(self.at)
    }
}

fn days_from_monday(day: Date) -> u8 {
    day.weekday().to_monday_zero_offset().unsigned_abs()
}

fn later(day: Date, days: i32) -> Option<Date> {
    day.checked_add(days.days()).ok()
}

fn part(starts: Timestamp, ends: Timestamp, share: u64) -> Timestamp {
    let millis = ends.duration_since(starts).as_millis().max(0).unsigned_abs();
    let into = (millis * u128::from(share)) >> u64::BITS;
    let into = i64::try_from(into).expect("windows and intervals have fewer milliseconds");
    starts.saturating_add(SignedDuration::from_millis(into)).unwrap_or(starts)
}

/// The first moment after `now` that is the agent's in a grid of so wide steps from the epoch on.
fn next_in_phase(every: SignedDuration, agent: &AgentId, now: Timestamp) -> Timestamp {
    let phase = part(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + every, share(&[b"phase"], agent));
    let every_millis = i64::try_from(every.as_millis()).expect("an interval is a week at most");
    let since = (now.as_millisecond() - phase.as_millisecond()).rem_euclid(every_millis);
    let ahead = SignedDuration::from_millis(every_millis - since);
    // Whole milliseconds, so that a moment within one has the same next.
    let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    now.saturating_add(ahead).unwrap_or(Timestamp::MAX)
}

/// The nth place of an agent's in a window, in 2^64 parts.
fn drawn(occurrence: &Occurrence, agent: &AgentId, seed: u64, nth: u32) -> u64 {
    let day = occurrence.day;
    let day = [day.year().to_le_bytes(), [day.month().to_le_bytes()[0], day.day().to_le_bytes()[0]]].concat();
    share(&[b"moment", &seed.to_le_bytes(), &day, &nth.to_le_bytes()], agent)
}

/// A number that is as good as random for each agent. What stands before the id has the same length for all of a kind.
fn share(kind: &[&[u8]], agent: &AgentId) -> u64 {
    let mut hasher = Hasher::new();
    for part in kind.iter().copied().chain([agent.as_str().as_bytes()]) {
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests;
