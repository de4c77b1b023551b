//! The plan against a clock that is looked at minute by minute, in every zone of the database; and how moments are spread.

use std::collections::BTreeSet;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;

const AGENTS: u32 = 10_000;

const BUCKETS: u32 = 20;

/// What 19 degrees of freedom exceed once in 10,000 times.
const CHI_SQUARE_MAX: f64 = 50.8;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn daily(at: &str, window_mins: u16) -> Schedule {
    serde_json::from_value(json!({ "kind": "daily", "at": at, "window_mins": window_mins })).unwrap()
}

fn weekly(days: &[&str], at: &str, window_mins: u16) -> Schedule {
    let schedule = json!({ "kind": "weekly", "days": days, "at": at, "window_mins": window_mins });
    serde_json::from_value(schedule).unwrap()
}

fn every(mins: u16) -> IntervalMins {
    mins.try_into().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn agents() -> impl Iterator<Item = AgentId> {
    (0..AGENTS).map(|number| AgentId::parse(&format!("pc-{number}")).unwrap())
}

fn mins(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

/// The windows that begin after a moment, in order.
fn windows(schedule: Schedule, zone: &TimeZone, after: Timestamp, count: usize) -> Vec<Occurrence> {
    let next = |window: &Occurrence| next_occurrence(&schedule, zone, window.starts);
    std::iter::successors(next_occurrence(&schedule, zone, after), next).take(count).collect()
}

/// Whether so many in each of equal parts are what chance gives.
fn is_even(shares: impl Iterator<Item = f64>) -> bool {
    let mut counts = [0u32; BUCKETS as usize];
    for share in shares {
        assert!((0.0..1.0).contains(&share), "{share}");
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below the number of buckets"
        )]
        let bucket = (share * f64::from(BUCKETS)) as usize;
        counts[bucket] += 1;
    }
    let expected = f64::from(AGENTS / BUCKETS);
    let off = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected);
    off.sum::<f64>() < CHI_SQUARE_MAX
}

fn share_of(window: &Occurrence, at: Timestamp) -> f64 {
    at.duration_since(window.starts).as_secs_f64() / window.ends.duration_since(window.starts).as_secs_f64()
}

/// The first minute at which a clock on the wall shows a time of a day, or has gone past it; looked for within a day and more on each
/// side. Where it skips the time, as much later as it skips.
fn by_looking(zone: &TimeZone, shown: DateTime) -> Option<Timestamp> {
    let noon = shown.date().at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    let mut minutes = (-40 * 60..40 * 60).map(|minute| noon + mins(minute));
    let existed = minutes.clone().step_by(15).any(|minute| zone.to_datetime(minute).date() == shown.date());
    // A few hours before it is sure to show something earlier, whatever the zone is.
    let near = minutes.find(|minute| zone.to_datetime(*minute + mins(3 * 60)) >= shown)?;
    let mut before = zone.to_datetime(near);
    for minute in 1..40 * 60 {
        let now = near + mins(minute);
        let after = zone.to_datetime(now);
        if after >= shown {
            let expected = before.checked_add(mins(1)).unwrap();
            return existed.then(|| now + shown.duration_since(expected));
        }
        before = after;
    }
    None
}

fn some_zone() -> impl Strategy<Value = TimeZone> {
    any::<Index>().prop_map(|index| {
        let database = TimeZoneDatabase::bundled();
        let names: Vec<_> = database.available().map(|name| name.as_str().to_owned()).collect();
        database.get(&names[index.index(names.len())]).unwrap()
    })
}

/// Days around a change of a zone's clocks, mostly; else any.
fn some_day() -> impl Strategy<Value = (TimeZone, Date)> {
    (some_zone(), 1975i16..2040, 0i32..366, -2i32..=2, 0u8..4).prop_map(|(zone, year, days, beside, any)| {
        let from = date(year, 1, 1).saturating_add(days.days());
        let moment = from.to_zoned(TimeZone::UTC).unwrap().timestamp();
        let changed = zone.following(moment).next().filter(|_| any > 0);
        let day = changed.map_or(from, |change| zone.to_datetime(change.timestamp()).date());
        // Later ones follow the rules of today: nothing is gained by them, and the calendar ends somewhere.
        let day = if day.year() < 2100 { day } else { from };
        (zone, day.saturating_add(beside.days()))
    })
}

fn some_schedule() -> impl Strategy<Value = Schedule> {
    let window = prop_oneof![1u16..=1440, Just(1440), Just(60)];
    // Clocks change in the night, so that is where most starts are.
    let start = prop_oneof![3 => 0u16..240, 1 => 0u16..1440, 1 => 1380u16..1440];
    let start = start.prop_map(|start| format!("{:02}:{:02}", start / 60, start % 60));
    let all = vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let days = prop::option::of(prop::sample::subsequence(all, 1..=7));
    (start, window, days).prop_map(|(start, window, days)| match days {
        Some(days) => weekly(&days, &start, window),
        None => daily(&start, window),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Each day of a week has the window that a clock on the wall gives it, and no other.
    #[test]
    fn windows_begin_when_the_clocks_of_the_zone_say_so_r9_2(
        (zone, day) in some_day(), schedule in some_schedule(),
    ) {
        let (days, start, window_mins) = match schedule {
            Schedule::Daily { at, window_mins } => (None, at, window_mins),
            Schedule::Weekly { days, at, window_mins } => (Some(days), at, window_mins),
            Schedule::Interval { .. } => unreachable!("none is made"),
        };
        let asked = |day: Date| days.is_none_or(|days| days.holds(days_from_monday(day)));
        let week: Vec<_> = (0..4).map(|days| day.saturating_add(days.days())).collect();
        let starts: Vec<_> = week
            .iter()
            .filter(|day| asked(**day))
            .filter_map(|day| Some((*day, by_looking(&zone, day.to_datetime(start.time()))?)))
            .collect();
        for (nth, (day, begins)) in starts.iter().enumerate() {
            let Some(found) = occurrence_at(&schedule, &zone, *begins) else {
                prop_assert!(false, "{day} has no window at {begins} in {zone:?}");
                continue;
            };
            prop_assert_eq!((found.day, found.starts), (*day, *begins));
            prop_assert_eq!(next_occurrence(&schedule, &zone, *begins - mins(1)).unwrap().day, *day);
            let whole = *begins + mins(window_mins.mins().into());
            if let Some((_, next)) = starts.get(nth + 1) {
                prop_assert_eq!(found.ends, whole.min(*next));
                prop_assert_eq!(next_occurrence(&schedule, &zone, *begins).unwrap().starts, *next);
            }
            prop_assert!(found.ends <= whole);
        }
    }

    /// Whoever asks at any moments gets windows that follow each other and do not overlap, whichever way its clock jumps.
    #[test]
    fn windows_never_overlap_and_each_moment_is_in_one_or_before_one_r9_2(
        (zone, day) in some_day(), schedule in some_schedule(), moments in prop::collection::vec(0i64..20 * 1440, 1..8),
    ) {
        let from = day.to_zoned(zone.clone()).unwrap().timestamp();
        let all = windows(schedule, &zone, from - mins(15 * 1440), 60);
        for pair in all.windows(2) {
            prop_assert!(pair[0].starts < pair[0].ends && pair[0].ends <= pair[1].starts, "{pair:?}");
            prop_assert!(pair[0].day < pair[1].day);
        }
        for moment in moments {
            let moment = from + mins(moment) + SignedDuration::from_secs(moment % 60);
            let holds = all.iter().find(|window| window.holds(moment));
            prop_assert_eq!(occurrence_at(&schedule, &zone, moment), holds.copied());
            let next = all.iter().find(|window| window.starts > moment);
            if next.is_some() {
                prop_assert_eq!(next_occurrence(&schedule, &zone, moment), next.copied());
            }
        }
    }

    #[test]
    fn a_moment_in_what_is_left_stays_until_it_has_passed_r9_3(number in 0usize..1000, froms in prop::collection::vec(0i64..3600, 1..20)) {
        let window = next_occurrence(&daily("02:00", 60), &TimeZone::UTC, at("2026-03-03T00:00Z")).unwrap();
        let agent = AgentId::parse(&format!("pc-{number}")).unwrap();
        let mut froms: Vec<_> = froms.into_iter().map(|secs| window.starts + SignedDuration::from_secs(secs)).collect();
        froms.sort_unstable();
        prop_assert_eq!(moment_in_rest(&window, &agent, 7, window.starts), moment(&window, &agent, 7));
        for pair in froms.windows(2) {
            let first = moment_in_rest(&window, &agent, 7, pair[0]);
            prop_assert!(pair[0] <= first && first < window.ends);
            let second = moment_in_rest(&window, &agent, 7, pair[1]);
            // Nearly at the end a moment may be drawn for each time anew.
            if pair[1] <= first && pair[1] < window.starts + mins(30) {
                prop_assert_eq!(first, second);
            }
        }
    }

    /// However its clock jumps, an agent updates again within an interval, and never twice for the same turn.
    #[test]
    fn an_interval_is_never_missed_nor_repeated_whichever_way_the_clock_jumps_r9_2(
        interval in 1u16..=10_080, jumps in prop::collection::vec(-20_000i64..20_000, 0..12),
    ) {
        let agent = AgentId::parse("pc-1").unwrap();
        let width = mins(interval.into());
        let mut now = at("2026-10-24T23:59:59.123456789Z");
        let mut last = None;
        for jump in jumps {
            let due = next_by_interval(every(interval), &agent, last, now);
            prop_assert!(now < due && due <= now + width);
            // Jumps of nothing are half of them: then the turns are one interval apart.
            let jumped = jump > 0;
            let after = next_by_interval(every(interval), &agent, Some(due), due);
            prop_assert!(after.duration_since(due) <= width);
            prop_assert_eq!(next_by_interval(every(interval), &agent, Some(after), after), after + width);
            last = Some(due);
            now = if jumped { due + mins(jump) - mins(10_000) } else { due };
        }
    }
}

#[test]
fn a_day_that_a_zone_leaves_out_has_no_window_r9_2() {
    let apia = zone("Pacific/Apia");
    let all = windows(daily("02:30", 1440), &apia, at("2011-12-28T12:30Z"), 3);
    let days: Vec<_> = all.iter().map(|window| window.day).collect();
    assert_eq!(days, [date(2011, 12, 29), date(2011, 12, 31), date(2012, 1, 1)]);
    assert_eq!(all[0].ends, all[1].starts);
    assert_eq!(all[1].starts.duration_since(all[0].starts), mins(1440));
    let fridays = windows(weekly(&["fri"], "02:30", 60), &apia, at("2011-12-24T00:00Z"), 1);
    assert_eq!(fridays[0].day, date(2012, 1, 6), "the one of 30 December never was");
}

#[test]
fn windows_follow_clocks_that_skip_and_repeat_r9_2() {
    let starts = |zone_name: &str, time: &str, after: &str| {
        let all = windows(daily(time, 60), &zone(zone_name), at(after), 2);
        all.iter().map(|window| (window.day.to_string(), window.starts.to_string())).collect::<Vec<_>>()
    };
    let expected = |all: &[(&str, &str)]| {
        all.iter().map(|(day, start)| ((*day).to_owned(), (*start).to_owned())).collect::<Vec<_>>()
    };
    // Skipped: 02:30 is shown as 03:30, in a daylight saving time of half an hour 02:15 as 02:45.
    let berlin = expected(&[("2026-03-29", "2026-03-29T01:30:00Z"), ("2026-03-30", "2026-03-30T00:30:00Z")]);
    assert_eq!(starts("Europe/Berlin", "02:30", "2026-03-28T12:00Z"), berlin);
    let lord_howe =
        expected(&[("2026-10-04", "2026-10-03T15:45:00Z"), ("2026-10-05", "2026-10-04T15:15:00Z")]);
    assert_eq!(starts("Australia/Lord_Howe", "02:15", "2026-10-03T00:00Z"), lord_howe);
    // Across midnight: the window is that of the day before.
    let nuuk = expected(&[("2024-03-30", "2024-03-31T01:30:00Z"), ("2024-03-31", "2024-04-01T00:30:00Z")]);
    assert_eq!(starts("America/Nuuk", "23:30", "2024-03-30T12:00Z"), nuuk);
    // Shown twice: the first counts, and the second is in no window once that one is over.
    let twice = expected(&[("2026-10-25", "2026-10-25T00:30:00Z"), ("2026-10-26", "2026-10-26T01:30:00Z")]);
    assert_eq!(starts("Europe/Berlin", "02:30", "2026-10-24T12:00Z"), twice);
    assert_eq!(occurrence_at(&daily("02:30", 60), &zone("Europe/Berlin"), at("2026-10-25T01:30Z")), None);
    let howe_twice =
        expected(&[("2026-04-05", "2026-04-04T14:45:00Z"), ("2026-04-06", "2026-04-05T15:15:00Z")]);
    assert_eq!(starts("Australia/Lord_Howe", "01:45", "2026-04-04T00:00Z"), howe_twice);
}

#[test]
fn a_window_of_a_day_ends_with_a_day_of_23_hours_and_at_the_turn_of_the_year_r9_2() {
    let berlin = zone("Europe/Berlin");
    let short = next_occurrence(&daily("00:00", 1440), &berlin, at("2026-03-28T22:59Z")).unwrap();
    assert_eq!(short.day, date(2026, 3, 29));
    assert_eq!(short.ends.duration_since(short.starts), mins(23 * 60));
    let long = next_occurrence(&daily("00:00", 1440), &berlin, at("2026-10-24T21:59Z")).unwrap();
    assert_eq!(long.ends.duration_since(long.starts), mins(1440), "an hour of that day is in no window");
    let eve = occurrence_at(&daily("23:30", 60), &TimeZone::UTC, at("2027-01-01T00:29:59Z")).unwrap();
    assert_eq!((eve.day, eve.ends), (date(2026, 12, 31), at("2027-01-01T00:30Z")));
    let leap = next_occurrence(&weekly(&["tue"], "12:00", 5), &TimeZone::UTC, at("2028-02-23T00:00Z"));
    assert_eq!(leap.unwrap().day, date(2028, 2, 29));
}

#[test]
fn intervals_and_the_ends_of_the_calendar_have_no_windows() {
    let last = Timestamp::MAX;
    assert_eq!(next_occurrence(&Schedule::default(), &TimeZone::UTC, at("2026-01-01T00:00Z")), None);
    assert_eq!(next_occurrence(&daily("00:00", 1440), &TimeZone::UTC, last), None);
    assert!(next_occurrence(&daily("00:00", 1440), &TimeZone::UTC, Timestamp::MIN).is_some());
    assert_eq!(next_by_interval(every(60), &agents().next().unwrap(), None, last), last);
}

#[test]
fn moments_are_spread_evenly_over_the_window_and_differ_from_window_to_window_r9_2() {
    let all = windows(daily("02:00", 240), &zone("Europe/Berlin"), at("2026-05-01T00:00Z"), 3);
    for (window, seed) in all.iter().zip([1, 2, 3]) {
        assert!(is_even(agents().map(|agent| share_of(window, moment(window, &agent, seed)))), "seed {seed}");
    }
    // An agent's place in the next window says nothing of its place in this one, nor does another relay's.
    let share = |nth: usize, seed, agent: &AgentId| share_of(&all[nth], moment(&all[nth], agent, seed));
    for (nth, seed) in [(1, 1), (0, 2)] {
        let moved = agents().map(|agent| (share(0, 1, &agent) - share(nth, seed, &agent) + 1.0) % 1.0);
        assert!(is_even(moved), "window {nth}, seed {seed}");
    }
    let once: Vec<_> = agents().map(|agent| moment(&all[0], &agent, 1)).collect();
    assert_eq!(once, agents().map(|agent| moment(&all[0], &agent, 1)).collect::<Vec<_>>());
    let whole_millis = once.iter().all(|moment| moment.subsec_nanosecond() % 1_000_000 == 0);
    assert!(whole_millis && once.iter().collect::<BTreeSet<_>>().len() > 9_000);
}

#[test]
fn moments_of_late_comers_are_spread_evenly_over_what_is_left_r9_3() {
    let window = next_occurrence(&daily("02:00", 240), &TimeZone::UTC, at("2026-05-01T00:00Z")).unwrap();
    // Also so near to the end that most are drawn from the rest itself.
    for left_mins in [200u32, 120, 5] {
        let from = window.ends - mins(left_mins.into());
        let rest = Occurrence { starts: from, ..window };
        let moments = || agents().map(|agent| moment_in_rest(&window, &agent, 11, from));
        assert!(is_even(moments().map(|moment| share_of(&rest, moment))), "{left_mins} left");
        let kept =
            agents().zip(moments()).filter(|(agent, given)| moment(&window, agent, 11) == *given).count();
        let stay = AGENTS * left_mins / 240;
        assert!(u32::try_from(kept).unwrap().abs_diff(stay) < 200, "{kept} keep their moment, {stay} could");
    }
    let agent = agents().next().unwrap();
    assert_eq!(moment_in_rest(&window, &agent, 11, window.ends), window.ends);
}

#[test]
fn a_fleet_that_updates_by_interval_is_spread_evenly_also_when_it_catches_up_r9_2() {
    let now = at("2026-07-01T10:00Z");
    for interval in [1, 60, 10_080] {
        let interval = every(interval);
        let due = |last: Option<Timestamp>| {
            agents().map(move |agent| next_by_interval(interval, &agent, last, now))
        };
        let shares = |width: SignedDuration, last| {
            due(last).map(move |due| 1.0 - due.duration_since(now).as_secs_f64() / width.as_secs_f64())
        };
        let width = mins(interval.mins().into());
        assert!(is_even(shares(width, Some(now))), "{interval:?}");
        assert!(is_even(shares(width.min(mins(10)), None)), "{interval:?}, and never before");
    }
    // Each agent's turns stay where they are: an hour apart, for who was there and for who was not.
    for agent in agents().take(50) {
        let first = next_by_interval(every(60), &agent, Some(now), now);
        assert_eq!(next_by_interval(every(60), &agent, Some(first), first), first + mins(60));
        let missed = first + mins(30);
        let caught_up = next_by_interval(every(60), &agent, Some(now), missed);
        assert!(missed < caught_up && caught_up <= missed + mins(10));
        assert_eq!(next_by_interval(every(60), &agent, Some(caught_up), caught_up), first + mins(60));
    }
}

#[test]
fn settings_are_taken_once_a_day_of_the_zone_r9_2() {
    let auckland = zone("Pacific/Auckland");
    let due = |taken, last: Option<&str>, now| settings_due(taken, last.map(at), &auckland, at(now));
    assert!(due(AgentSettingsTaken::EachTime, Some("2026-06-01T00:00Z"), "2026-06-01T00:01Z"));
    assert!(due(AgentSettingsTaken::OnceADay, None, "2026-06-01T00:01Z"));
    // It is noon there at midnight of UTC.
    assert!(!due(AgentSettingsTaken::OnceADay, Some("2026-06-01T00:00Z"), "2026-06-01T11:59:59Z"));
    assert!(due(AgentSettingsTaken::OnceADay, Some("2026-06-01T11:59:59Z"), "2026-06-01T12:00Z"));
    assert!(due(AgentSettingsTaken::OnceADay, Some("2027-06-01T00:00Z"), "2026-06-01T00:00Z"), "put back");
    // By the hour over a week with a change of the clocks.
    let hours = (0..7 * 24).map(|hour| at("2026-09-24T12:00Z") + mins(60 * hour));
    let taken = hours.fold((None, 0), |(last, count), now| {
        if settings_due(AgentSettingsTaken::OnceADay, last, &auckland, now) {
            (Some(now), count + 1)
        } else {
            (last, count)
        }
    });
    assert_eq!(taken.1, 8, "seven days, and the eighth begins an hour early");
}
