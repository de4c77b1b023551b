//! Administrators' starts (R9.1d).

use std::time::Duration;

use jiff::SignedDuration;

use super::ground::{Ground, agent, mins};
use crate::schedule::notices::notice::{Progress, STARTS_MAX, StartId};

fn hours(count: u64) -> Duration {
    mins(60 * count)
}

#[test]
fn a_start_needs_no_setting_waits_for_who_is_offline_and_tells_how_far_it_is_r9_1() {
    let mut ground = Ground::new(3);
    ground.agents.all.told_of_generations = false;
    ground.limits.under_way_max = 2;
    let start = ground.start(0..5);
    assert_eq!(ground.told(), [0, 1]);
    let at = ground.now.wall;
    let progress = Progress { at, under_way: 2, waiting: 1, offline: 2, ..Progress::default() };
    assert_eq!(ground.notices.progress(start), Some(progress));
    ground.report(0);
    ground.online(3);
    assert_eq!(ground.told(), [2]);
    ground.offline(1);
    assert_eq!(ground.told(), [3]);
    let progress = Progress { at, done: 1, under_way: 2, offline: 2, ..Progress::default() };
    assert_eq!(ground.notices.progress(start), Some(progress));
    ground.cancel(start);
    let progress = ground.notices.progress(start).unwrap();
    assert_eq!((progress.over, progress.cancelled, progress.under_way, progress.offline), (true, 1, 2, 1));
    ground.online(1);
    ground.online(4);
    ground.report(2);
    assert!(ground.pass(hours(25)).is_empty(), "nobody is told again of what was cancelled");
    let progress = ground.notices.progress(start).unwrap();
    assert_eq!((progress.done, progress.gave_up, progress.cancelled), (2, 2, 1));
    assert_eq!(ground.notices.progress(StartId(99)), None);
}

#[test]
fn a_start_ends_after_a_day_also_over_a_restart_and_when_the_clock_jumps_r9_1() {
    let mut ground = Ground::new(0);
    let start = ground.start([0]);
    ground.pass(hours(20));
    ground.restart(true);
    ground.jump(SignedDuration::from_hours(1000));
    ground.pass(hours(3));
    assert_eq!(ground.notices.progress(start).unwrap().offline, 1);
    ground.pass(hours(2));
    let progress = ground.notices.progress(start).unwrap();
    assert_eq!((progress.offline, progress.gave_up, progress.over), (0, 1, true));
    ground.online(0);
    assert!(ground.pass(hours(1)).is_empty());
}

#[test]
fn starts_have_a_bound_and_the_oldest_ended_one_goes_first() {
    let mut ground = Ground::new(1);
    ground.is_checked = false;
    let first = ground.start([0]);
    ground.start([]);
    for _ in 2..=STARTS_MAX {
        ground.start([5]);
    }
    assert_eq!(ground.notices.starts().take(2).collect::<Vec<_>>(), [first, StartId(3)]);
    let full = ground.notices.start(ground.notices.next_start(), [agent(5)], ground.now);
    assert!(full.is_err());
}
