//! Who must be up to date when the week ends.
//!
//! Says so from when machines were on and what their settings are, not from what they were told. Who was on too shortly for any
//! rule to be sure is let off.

use std::time::Duration;

use forebay::policy::tree::schedule::Schedule;
use forebay::schedule::notices::notice::{Agents, Progress};
use forebay::schedule::plan::next_occurrence;
use jiff::SignedDuration;

use super::fleet::Span;
use super::world::{END, HOUR, LAST, LAST_START, World};

/// Nobody waits longer for a place than this in the quiet days: there are fewer agents than places, times updates in an hour.
const SURELY: Duration = Duration::from_hours(2);

pub(super) fn check(world: &mut World) {
    for number in 0..world.machines.len() {
        let expected = reason(world, number);
        let machine = &world.machines[number];
        world.happened.expected_current += u64::from(expected.is_some());
        assert!(
            expected.is_none() || machine.has == world.generation,
            "{}: pc-{number} has {} and not {}, though {expected:?}: {machine:?}, {:?}",
            world.name,
            machine.has,
            world.generation,
            world.known.effective(&machine.id).values(),
        );
    }
    for (start, agents) in world.rules.starts() {
        let Progress { waiting, under_way, done, offline, gave_up, cancelled, .. } =
            world.notices.progress(start).unwrap();
        let all = waiting + under_way + done + offline + gave_up + cancelled;
        assert_eq!(all as usize, agents, "{}: each agent of start {start} is counted once", world.name);
    }
}

/// Why an agent must be up to date.
fn reason(world: &World, number: usize) -> Option<&'static str> {
    let machine = &world.machines[number];
    let effective = world.known.effective(&machine.id);
    let holds = world.known.holds(&machine.id).unwrap();
    let covers = |from: Duration, until: Duration| {
        until <= END && machine.spans.iter().any(|span| span.from <= from && until <= span.until)
    };
    // Who starts before the relay has the release takes the one before.
    let taken_at = world.taken_at;
    let late = |span: &&Span| span.from > taken_at && span.until >= span.from + SURELY;
    if *effective.update_on_generation() == true.into()
        && covers(LAST.saturating_sub(HOUR), LAST + SURELY + SURELY)
    {
        return Some("it was on when the generation appeared");
    }
    if machine.spans.iter().filter(late).any(|span| span.starts) {
        return Some("it was switched on later, and may update then");
    }
    if world.started_last && covers(LAST_START, LAST_START + SURELY) {
        return Some("an administrator had all update");
    }
    let (schedule, zone) = holds.schedule?;
    if let Schedule::Interval { every_mins, .. } = schedule {
        let every = Duration::from_mins(every_mins.mins().into());
        let is_on_for = |span: &Span| span.until.saturating_sub(span.from.max(taken_at)) >= every + HOUR;
        return machine.spans.iter().any(is_on_for).then_some("its interval passed");
    }
    let moment = |at: Duration| world.true_time() - SignedDuration::try_from(END.saturating_sub(at)).unwrap();
    let windows = std::iter::successors(next_occurrence(&schedule, &zone, moment(taken_at)), |window| {
        next_occurrence(&schedule, &zone, window.starts)
    });
    let mut whole = windows.take(3).map(|window| {
        let since =
            |at: jiff::Timestamp| at.duration_since(moment(taken_at)).try_into().unwrap_or(Duration::MAX);
        (taken_at.saturating_add(since(window.starts)), taken_at.saturating_add(since(window.ends)))
    });
    whole.any(|(starts, ends)| covers(starts, ends + HOUR)).then_some("it was on throughout a window")
}
