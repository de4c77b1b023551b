//! Each rule of notices by itself.

use std::time::Duration;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};

use super::ground::{Ground, agent, daily, mins, of_generation};
use crate::schedule::notices::notice::{Holds, Limits, Notice, Progress, Reason};

fn hours(count: u64) -> Duration {
    mins(60 * count)
}

#[test]
fn a_generation_is_told_at_once_to_those_online_that_it_concerns_r9_1() {
    let mut ground = Ground::new(3);
    let off = Holds { schedule: None, told_of_generations: false };
    ground.agents.others.insert(agent(1), off);
    ground.generation(5, [0, 1, 3]);
    let told = ground.poll();
    let notice = Notice { number: 1, reason: of_generation(5), components: true, agent_settings: false };
    assert_eq!(told, [(agent(0), notice)], "1 is not to be told, 2 is not concerned, 3 is offline");
    ground.online(3);
    assert_eq!(ground.told(), [0usize; 0], "who comes later is not told");
    ground.report(0);
    assert_eq!(ground.pass(hours(24)), [], "who has reported is not told again");
}

#[test]
fn who_does_not_report_is_told_again_every_15_minutes_up_to_five_times_r9_4() {
    let mut ground = Ground::new(1);
    ground.generation(5, [0]);
    let from = ground.now.wall;
    let told = ground.pass(hours(24));
    let after: Vec<_> = told.iter().map(|(at, ..)| at.duration_since(from).as_mins()).collect();
    assert_eq!(after, [0, 15, 30, 45, 60, 75]);
    assert!(told.iter().all(|(.., notice)| *notice == told[0].2), "it is the same notice each time");
    assert_eq!((ground.notices.counts().under_way, ground.notices.counts().gave_up), (0, 1));
    ground.generation(6, [0]);
    assert_eq!(ground.told(), [0], "what comes later is another matter");
}

#[test]
fn no_more_are_under_way_than_there_are_places_and_a_report_frees_one_r9_4() {
    let mut ground = Ground::new(10);
    ground.limits.under_way_max = 4;
    ground.generation(5, 0..10);
    assert_eq!(ground.told(), [0, 1, 2, 3]);
    assert_eq!(ground.told(), [0usize; 0]);
    ground.report(2);
    assert_eq!(ground.told(), [4]);
    ground.offline(0);
    assert_eq!(ground.told(), [5], "who goes offline frees its place, too");
    ground.online(0);
    assert_eq!(ground.told(), [0usize; 0], "and has none when it is back");
    ground.report(1);
    assert_eq!(ground.told(), [0], "but comes before who had none");
    assert_eq!(ground.notices.counts().under_way, 4);
    ground.limits.under_way_max = 2;
    ground.report(3);
    assert_eq!(ground.told(), [0usize; 0], "with fewer places, nobody is told until there are fewer");
    let left = ground.pass(hours(24));
    let of_all = (6..10).all(|number| left.iter().any(|(_, told, _)| *told == agent(number)));
    assert!(of_all, "who never reports does not hold a place for ever");
}

#[test]
fn no_more_are_told_in_a_second_than_the_limit_says_r9_4() {
    let mut ground = Ground::new(25);
    ground.limits.per_sec = 10;
    let from = ground.now.wall;
    ground.generation(5, 0..25);
    let told = ground.pass(Duration::from_secs(10));
    let seconds: Vec<_> = told.iter().map(|(at, ..)| at.duration_since(from).as_secs()).collect();
    assert_eq!(seconds, [vec![0; 10], vec![1; 10], vec![2; 5]].concat());
    // Repeats are paced, and do not hold up what ends meanwhile.
    ground.limits.per_sec = 3;
    let again = ground.pass(mins(16));
    let most = again.iter().map(|(at, ..)| again.iter().filter(|(other, ..)| at == other).count()).max();
    assert_eq!((again.len(), most), (25, Some(3)));
}

#[test]
fn an_agent_is_told_once_in_its_window_and_on_the_next_day_again_r9_2() {
    let mut ground = Ground::new(50);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    let mut days = Vec::new();
    for _ in 0..3 {
        let told = ground.pass(hours(24));
        for (at, told, notice) in &told {
            let Reason::Schedule { day } = notice.reason else { panic!("{notice:?}") };
            assert!(notice.components && notice.agent_settings);
            let clock = at.to_zoned(jiff::tz::TimeZone::UTC);
            assert_eq!((clock.date(), clock.hour()), (day, 2));
            days.push((*told, day));
        }
        (0..50).for_each(|number| ground.report(number));
    }
    let before = days.len();
    days.sort_unstable();
    days.dedup();
    // Whoever was told early and did not report was told again within the window.
    assert!(before >= 150 && days.len() == 150);
}

#[test]
fn who_comes_inside_the_window_is_told_in_what_is_left_and_who_comes_later_is_not_r9_3() {
    let mut ground = Ground::new(0);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    ground.pass(hours(2) + mins(40));
    (0..20).for_each(|number| ground.online(number));
    let told = ground.pass(mins(20));
    let mut who: Vec<_> = told.iter().map(|(_, agent, _)| *agent).collect();
    who.sort_unstable();
    who.dedup();
    assert_eq!(who.len(), 20);
    ground.online(20);
    assert_eq!(ground.pass(hours(20)).iter().filter(|(_, told, _)| *told == agent(20)).count(), 0);
    assert!(ground.pass(hours(5)).iter().any(|(_, told, _)| *told == agent(20)));
}

#[test]
fn repeats_of_a_scheduled_notice_end_with_the_window_r9_2() {
    let mut ground = Ground::new(30);
    ground.agents.all.schedule = Some(daily("02:00", 20));
    let told = ground.pass(hours(12));
    let last = told.iter().map(|(at, ..)| *at).max().unwrap();
    assert!(last < "2026-03-02T02:20Z".parse().unwrap() && told.len() > 30);
    assert_eq!(ground.notices.counts().under_way, 0);
}

#[test]
fn who_was_told_in_a_window_and_stayed_away_is_told_in_it_anew_r9_3() {
    let mut ground = Ground::new(30);
    ground.agents.all.schedule = Some(daily("00:00", 1440));
    let first = loop {
        if let Some((_, first, _)) = ground.pass(mins(1)).first() {
            break first.as_str()[3..].parse().unwrap();
        }
    };
    let tells = |ground: &mut Ground, time| {
        let told = ground.pass(time).into_iter().filter(|(_, told, _)| *told == agent(first));
        told.map(|(.., notice)| notice.number).collect::<Vec<_>>()
    };
    ground.offline(first);
    ground.pass(mins(80));
    ground.online(first);
    assert_eq!(tells(&mut ground, mins(1)), [1], "back in time it is the same notice");
    ground.offline(first);
    ground.pass(mins(120));
    ground.online(first);
    let anew = loop {
        if let [anew, ..] = tells(&mut ground, mins(10))[..] {
            break anew;
        }
    };
    assert!(anew > 1);
    ground.report(first);
    ground.offline(first);
    ground.online(first);
    let left = "2026-03-03T00:00Z".parse::<Timestamp>().unwrap().duration_since(ground.now.wall);
    let left = tells(&mut ground, left.try_into().unwrap());
    assert_eq!(left, [0u64; 0], "who has reported is not told in the same window again");
}

#[test]
fn what_is_switched_off_counts_when_the_moment_comes_r9_2() {
    let mut ground = Ground::new(2);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    ground.pass(mins(1));
    let off = Holds { schedule: None, told_of_generations: true };
    ground.agents.others.insert(agent(0), off);
    let told = ground.pass(hours(12));
    assert!(told.iter().all(|(_, told, _)| *told == agent(1)) && !told.is_empty());
    // Switched on again, it is looked up when that is said.
    ground.agents.others.clear();
    ground.notices.agent_changed(&agent(0));
    let told = ground.pass(hours(24));
    assert!(told.iter().any(|(_, told, _)| *told == agent(0)));
}

#[test]
fn a_changed_schedule_counts_at_once_r9_2() {
    let mut ground = Ground::new(20);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    ground.pass(hours(1));
    ground.agents.all.schedule = Some(daily("05:00", 60));
    ground.notices.tree_changed();
    let told = ground.pass(hours(20));
    let within = "2026-03-02T05:00Z".parse().unwrap().."2026-03-02T06:00Z".parse().unwrap();
    assert!(told.iter().all(|(at, ..)| within.contains(at)) && told.len() >= 20);
}

#[test]
fn reasons_that_come_together_are_one_notice_and_those_that_come_later_wait_r9_1() {
    let mut ground = Ground::new(1);
    ground.generation(5, [0]);
    ground.generation(6, [0]);
    let start = ground.start([0]);
    let told = ground.poll();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.reason, Reason::Administrator { start });
    assert!(told[0].1.agent_settings);
    ground.generation(7, [0]);
    ground.generation(8, [0]);
    assert_eq!(ground.told(), [0usize; 0], "one at a time");
    ground.report(0);
    let then = ground.poll();
    assert_eq!((then[0].1.number, &then[0].1.reason), (2, &of_generation(8)), "of the newest alone");
    ground.report(0);
    assert!(ground.pass(hours(3)).is_empty());
}

#[test]
fn what_waits_and_what_is_under_way_outlives_a_restart_r9_4() {
    for compacted in [false, true] {
        let mut ground = Ground::new(6);
        ground.limits.under_way_max = 2;
        ground.generation(5, 0..5);
        let start = ground.start([5, 6]);
        let told = ground.poll();
        let numbers: Vec<_> = told.iter().map(|(agent, notice)| (*agent, notice.number)).collect();
        assert_eq!(numbers, [(agent(5), 1), (agent(0), 2)], "an administrator's comes first");
        ground.advance(mins(5));
        ground.restart(compacted);
        assert_eq!(ground.told(), [0usize; 0], "nobody is online yet");
        (0..7).for_each(|number| ground.online(number));
        let mut again = ground.poll();
        again.sort_by_key(|(agent, _)| *agent);
        let mut all = Vec::new();
        for (agent, notice) in again {
            all.push((agent, notice.number));
        }
        assert_eq!(
            all,
            [(agent(0), 2), (agent(5), 1)],
            "what was told before is told again, under its number"
        );
        ground.report(0);
        ground.report(5);
        let next = ground.poll();
        assert_eq!((next[0].0, next[0].1.number), (agent(6), 3));
        ground.report(6);
        let mut rest = vec![next[1].0];
        ground.report(1);
        for _ in 0..4 {
            let told = ground.told();
            for number in told {
                ground.report(number);
                rest.push(agent(number));
            }
        }
        assert_eq!(rest, [1, 2, 3, 4].map(agent));
        assert_eq!(ground.notices.progress(start).unwrap().done, 2);
    }
}

#[test]
fn who_waits_for_its_turn_may_be_away_for_some_minutes_only_r9_3() {
    let mut ground = Ground::new(3);
    ground.limits.under_way_max = 1;
    ground.generation(5, 0..3);
    assert_eq!(ground.told(), [0]);
    ground.offline(1);
    ground.offline(2);
    ground.pass(mins(14));
    ground.online(1);
    ground.pass(mins(2));
    ground.online(2);
    ground.report(0);
    assert_eq!(ground.told(), [1]);
    ground.report(1);
    assert_eq!(ground.told(), [0usize; 0]);
}

#[test]
fn a_jump_of_the_clock_tells_nobody_twice_and_leaves_nobody_out_r11_4() {
    let mut ground = Ground::new(40);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    ground.limits = Limits { repeats_max: 0, ..ground.limits };
    let mut told = ground.pass(hours(2) + mins(30));
    let half = told.len();
    assert!((5..35).contains(&half));
    // Back before the window, then through it once more.
    ground.jump(SignedDuration::from_hours(-1));
    told.extend(ground.pass(hours(3)));
    let mut who: Vec<_> = told.iter().map(|(_, agent, _)| *agent).collect();
    assert_eq!(who.len(), 40);
    who.sort_unstable();
    who.dedup();
    assert_eq!(who.len(), 40);
    // Into the window of a later day, and back: that day comes, and is not done again.
    ground.jump(SignedDuration::from_hours(46));
    let ahead = ground.pass(mins(5));
    ground.jump(SignedDuration::from_hours(-46));
    let later = ground.pass(hours(3 * 24));
    let days: Vec<_> =
        [ahead, later].concat().into_iter().map(|(_, agent, notice)| (notice.reason, agent)).collect();
    for day in [date(2026, 3, 3), date(2026, 3, 4)] {
        for number in 0..40 {
            let reason = Reason::Schedule { day };
            let count = days.iter().filter(|told| **told == (reason.clone(), agent(number))).count();
            assert_eq!(count, 1, "pc-{number} on {day}");
        }
    }
}

#[test]
fn who_leaves_the_agent_tree_is_told_nothing_and_forgotten() {
    let mut ground = Ground::new(3);
    ground.agents.all.schedule = Some(daily("02:00", 60));
    let start = ground.start([2, 9]);
    assert_eq!(ground.told(), [2]);
    ground.generation(5, [0, 1]);
    ground.agents.gone.extend([agent(0), agent(2), agent(9)]);
    assert_eq!(ground.told(), [1]);
    ground.report(1);
    ground.notices.tree_changed();
    let told = ground.pass(hours(12));
    assert!(told.iter().all(|(_, told, _)| *told == agent(1)));
    let progress = ground.notices.progress(start).unwrap();
    assert_eq!((progress.gave_up, progress.offline, progress.under_way), (2, 0, 0));
    assert_eq!(ground.notices.compacted().len(), 4, "a head, a tree, a start, and the agent that is left");
}

#[test]
fn records_that_were_lost_harm_nothing_else() {
    let mut ground = Ground::new(4);
    ground.agents.all.schedule = Some(daily("00:00", 60));
    let start = ground.start(0..3);
    ground.generation(5, 0..4);
    ground.pass(hours(1));
    ground.report(1);
    ground.cancel(start);
    let journal = ground.journal.clone();
    for lost in 0..journal.len() {
        let mut left = journal.clone();
        left.remove(lost);
        let mut notices = ground.replayed(&left);
        (0..4).for_each(|number| notices.online(&agent(number)));
        for _ in 0..200 {
            let step = notices.poll(&ground.agents, &ground.limits, ground.now);
            assert!(step.tell.len() <= 4);
            ground.advance(mins(1));
        }
        let progress = notices.progress(start).unwrap_or_default();
        let Progress { waiting, under_way, done, offline, gave_up, cancelled, .. } = progress;
        assert!(waiting + under_way + done + offline + gave_up + cancelled <= 3, "without line {lost}");
    }
}
