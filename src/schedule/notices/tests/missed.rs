//! Generations that come while the relay is down, or just after its start (R9.1a).

use super::ground::{Ground, agent, mins, of_generation};
use crate::policy::scope::Scope;
use crate::schedule::notices::machine::Notices;

/// The agents that are told once they come, one after the other.
fn come(ground: &mut Ground, agents: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut all = Vec::new();
    for number in agents {
        ground.online(number);
        all.extend(ground.told());
    }
    all
}

#[test]
fn a_generation_that_came_while_the_relay_was_down_is_told_to_who_is_back_in_time_r9_1() {
    for compacted in [false, true] {
        let mut ground = Ground::new(5);
        ground.generation(5, 0..5);
        assert_eq!(ground.told(), [0, 1, 2, 3, 4]);
        (0..5).for_each(|number| ground.report(number));
        ground.restart(compacted);
        ground.generation(6, [0, 1, 3, 4]);
        assert_eq!(ground.told(), [0usize; 0], "nobody is online yet");
        assert_eq!(come(&mut ground, [0, 2]), [0], "2 is not concerned");
        ground.pass(mins(14));
        ground.report(0);
        assert_eq!(come(&mut ground, [3]), [3]);
        // A relay that dies once more has not forgotten who waits.
        ground.restart(compacted);
        ground.generation(6, 0..5);
        assert_eq!(come(&mut ground, [0, 1, 2]), [1], "0 has reported, 2 is not concerned");
        ground.pass(mins(16));
        assert_eq!(come(&mut ground, [4]), [0usize; 0], "it stayed away");
        assert_eq!(ground.notices.ledger().notice(&agent(1)).unwrap().reason, of_generation(6));
    }
}

#[test]
fn a_generation_of_the_first_minutes_is_for_who_is_not_back_yet_too_and_a_later_one_is_not_r9_1() {
    let mut ground = Ground::new(3);
    ground.restart(false);
    ground.online(0);
    ground.advance(mins(14));
    ground.generation(6, 0..3);
    assert_eq!(ground.told(), [0]);
    assert_eq!(come(&mut ground, [1]), [1]);
    ground.advance(mins(1));
    ground.generation(7, 0..3);
    assert_eq!(come(&mut ground, [2]), [2], "of the one before, for which it is back in time");
    assert_eq!(ground.notices.ledger().notice(&agent(2)).unwrap().reason, of_generation(6));
}

#[test]
fn only_those_are_concerned_whose_scope_sees_something_else_r9_1() {
    let [patterns, engines, all] = Scope::ALL;
    let agents = [(0, patterns), (1, engines), (2, all)];
    for is_restarted in [false, true] {
        let mut ground = Ground::new(3);
        if is_restarted {
            ground.restart(false);
        }
        ground.shows(1, [0, 1, 1], agents);
        ground.shows(2, [0, 1, 2], agents);
        assert_eq!(come(&mut ground, 0..3), [1, 2]);
        let of = |number| ground.notices.told(&agent(number)).unwrap().reason;
        assert_eq!((of(1), of(2)), (of_generation(1), of_generation(2)));
    }
}

#[test]
fn what_is_the_same_under_another_number_or_another_under_the_same_is_nobodys_r9_1() {
    let mut ground = Ground::new(1);
    ground.generation(5, [0]);
    assert_eq!(ground.told(), [0]);
    ground.report(0);
    // Made again under the next number, as where a file was damaged.
    ground.shows(6, [5; 3], [(0, Scope::All)]);
    // What scopes see may change with the settings.
    ground.restart(false);
    ground.shows(6, [9; 3], [(0, Scope::All)]);
    assert_eq!(come(&mut ground, [0]), [0usize; 0]);
    ground.shows(7, [9; 3], [(0, Scope::All)]);
    assert_eq!(ground.told(), [0usize; 0], "it sees what it saw last");
    ground.generation(8, [0]);
    assert_eq!(ground.told(), [0]);
}

#[test]
fn what_a_tree_shows_first_is_nobodys_and_a_tree_that_is_gone_is_forgotten_r9_1() {
    let mut ground = Ground::new(1);
    // A journal of before there were such records, or a data folder of its first start.
    ground.notices = Notices::new(7);
    ground.journal.clear();
    ground.write(&ground.notices.compacted());
    ground.generation(5, [0]);
    assert_eq!(come(&mut ground, [0]), [0usize; 0]);
    ground.restart(true);
    ground.generation(6, [0]);
    assert_eq!(come(&mut ground, [0]), [0]);
    let records = ground.notices.keep_trees(|_| true);
    assert_eq!(records, []);
    let records = ground.notices.keep_trees(|_| false);
    ground.write(&records);
    ground.report(0);
    assert_eq!(ground.notices.compacted().len(), 1, "a head");
}

#[test]
fn a_crash_before_the_last_of_its_records_tells_agents_once_more_and_never_less_r9_1() {
    let mut ground = Ground::new(0);
    ground.restart(false);
    ground.generation(6, [0, 1]);
    let whole = ground.journal.clone();
    for cut in [1, 2] {
        ground.journal.clone_from(&whole);
        ground.journal.truncate(whole.len() - cut);
        ground.restart(false);
        ground.generation(6, [0, 1]);
        assert_eq!(come(&mut ground, [0, 1]), [0, 1]);
        assert_eq!(come(&mut ground, [0, 1]), [0usize; 0]);
    }
}
