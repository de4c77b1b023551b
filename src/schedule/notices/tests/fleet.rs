//! What the machine does for a large fleet, counted by how often it asks what holds for an agent.

use std::cell::Cell;
use std::time::Duration;

use super::ground::{Ground, agent, daily, mins};
use crate::policy::tree::id::AgentId;
use crate::schedule::notices::notice::{Agents, Holds, Limits, Step};

const FLEET: usize = 100_000;

/// Counts the questions.
struct Counted<'a> {
    agents: &'a dyn Agents,
    asked: Cell<usize>,
}

impl Agents for Counted<'_> {
    fn holds(&self, agent: &AgentId) -> Option<Holds> {
        self.asked.set(self.asked.get() + 1);
        self.agents.holds(agent)
    }
}

fn poll(ground: &mut Ground) -> (Step, usize) {
    let counted = Counted { agents: &ground.agents, asked: Cell::new(0) };
    let step = ground.notices.poll(&counted, &ground.limits, ground.now);
    (step, counted.asked.get())
}

#[test]
fn what_a_look_does_depends_on_what_is_due_and_not_on_how_many_agents_there_are_r9_4() {
    let mut ground = Ground::new(FLEET);
    ground.is_checked = false;
    ground.agents.all.schedule = Some(daily("02:00", 240));
    ground.limits.under_way_max = 250;
    let (_, asked) = poll(&mut ground);
    assert_eq!(asked, FLEET, "each is asked once when it comes");
    assert_eq!(ground.notices.counts().planned, FLEET);
    ground.generation(1, 0..FLEET);
    let (step, asked) = poll(&mut ground);
    assert_eq!((step.tell.len(), step.records.len(), asked), (250, 250, 250));
    assert_eq!(poll(&mut ground).1, 0, "there is no place, and nobody is asked");
    for number in 0..200 {
        ground.notices.reported(&agent(number));
    }
    ground.advance(Duration::from_secs(1));
    let (step, asked) = poll(&mut ground);
    assert_eq!((step.tell.len(), asked), (200, 200));
    // In the window, those are looked at whose moment comes.
    ground.advance(mins(120));
    let (_, asked) = poll(&mut ground);
    assert!(asked <= 3 * 450, "{asked} were asked when the window began, most to repeat");
    ground.advance(mins(1));
    let (_, asked) = poll(&mut ground);
    let due = FLEET / 240;
    assert!((due / 2..due * 3).contains(&asked), "{asked} were asked in a minute in which {due} are due");
    ground.notices.tree_changed();
    let (_, asked) = poll(&mut ground);
    assert!((FLEET..4 * FLEET).contains(&asked), "a change of the tree is for all");
}

#[test]
fn a_fleet_that_is_told_one_after_the_other_is_told_whole_r9_4() {
    let count = FLEET / 10;
    let mut ground = Ground::new(count);
    ground.is_checked = false;
    ground.limits = Limits { under_way_max: 250, per_sec: 500, ..ground.limits };
    ground.generation(1, 0..count);
    let mut told = 0;
    let second = ground.now.mono.as_secs();
    while told < count {
        let (step, _) = poll(&mut ground);
        assert!(step.tell.len() <= 250);
        told += step.tell.len();
        for (agent, _) in step.tell {
            ground.notices.reported(&agent);
        }
        if let Some(next) = ground.notices.next(&ground.limits, ground.now) {
            ground.advance_to(next);
        }
    }
    assert_eq!(ground.now.mono.as_secs(), second + 19, "as fast as the pace allows, the first at once");
    assert_eq!(ground.notices.counts().told, count as u64);
}
