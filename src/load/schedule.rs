//! Who is next: agents that arrive, and those that wait for their next request.
//!
//! Knows moments, not the clock. Invariant: no agent is given out before it is due, and those that are given out first were due first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::time::Duration;

use crate::load::agent::Agent;
use crate::load::arrival::Arrivals;
use crate::load::plan::Plan;

/// The schedule of one thread.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Peekable<PartOf>,
    waiting: BinaryHeap<Reverse<Waiting>>,
}

/// Which agents are a thread's: each `of`th, from `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0.
    pub index: u32,
    /// How many parts there are.
    pub of: u32,
}

/// Who was left when a run ended early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Agents that had something to do yet.
    pub agents: u64,
    /// Those of them whose request was due.
    pub due: u64,
    /// For how long the first of them had been waiting.
    pub longest: Duration,
}

/// An agent in the order of its moment, then of its number.
#[derive(Debug)]
struct Waiting(Agent);

/// The arrivals of a part.
#[derive(Debug)]
struct PartOf {
    arrivals: Arrivals,
    part: Part,
}

impl Schedule {
    /// The schedule of a part of the fleet.
    pub fn new(plan: &Plan, part: Part) -> Self {
        let arrivals = Arrivals::new(plan.arrival, plan.agents, plan.seed);
        Self { arrivals: PartOf { arrivals, part }.peekable(), waiting: BinaryHeap::new() }
    }

    /// Puts an agent back until it is due.
    pub fn wait(&mut self, agent: Agent) {
        self.waiting.push(Reverse(Waiting(agent)));
    }

    /// When somebody is due next; `None` when nobody is left.
    pub fn next_due(&mut self) -> Option<Duration> {
        let waiting = self.waiting.peek().map(|Reverse(Waiting(agent))| agent.due());
        let arrival = self.arrivals.peek().map(|(_, at)| *at);
        waiting.into_iter().chain(arrival).min()
    }

    /// Gives out the agent that was due first, if one is due now.
    pub fn take(&mut self, now: Duration, plan: &Plan) -> Option<Agent> {
        let due = self.next_due().filter(|due| *due <= now)?;
        // Of two with the same moment the one that is under way goes first: fewer are begun at once.
        if self.waiting.peek().is_some_and(|Reverse(Waiting(agent))| agent.due() == due) {
            return self.waiting.pop().map(|Reverse(Waiting(agent))| agent);
        }
        self.arrivals.next().map(|(number, at)| Agent::arrive(number, at, plan))
    }

    /// Who is left at this moment.
    pub fn left(self, now: Duration) -> Left {
        self.dues().fold(Left::default(), |left, (_, due)| left.and(Left::one(due, now)))
    }

    /// Who has a request to make yet, by number, and when it is due.
    pub fn dues(self) -> impl Iterator<Item = (u32, Duration)> {
        let waiting = self.waiting.into_iter().map(|Reverse(Waiting(agent))| (agent.number(), agent.due()));
        waiting.chain(self.arrivals)
    }
}

impl Left {
    /// One agent that is left.
    pub fn one(due: Duration, now: Duration) -> Self {
        Self { agents: 1, due: u64::from(due <= now), longest: now.saturating_sub(due) }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            agents: self.agents + other.agents,
            due: self.due + other.due,
            longest: self.longest.max(other.longest),
        }
    }
}

impl Iterator for PartOf {
    type Item = (u32, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let Part { index, of } = self.part;
        self.arrivals.find(|(number, _)| number % of == index)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |Self(agent): &Self| (agent.due(), agent.number());
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::arrival::Arrival;
    use crate::load::plan::samples::plan;
    use crate::load::wanted::{Taken, Then};

    proptest! {
        #[test]
        fn each_agent_is_given_out_when_due_and_in_order_and_nobody_is_lost_r12_1(
            agents in 0_u32..200, threads in 1_u32..5, seed in any::<u64>(), back in 0_u8..3,
        ) {
            let over = Duration::from_secs(10);
            let plan = Plan { agents, arrival: Arrival::Uniform { over }, seed, ..plan("full") };
            let mut seen = vec![0_u8; agents as usize];
            for index in 0..threads {
                let mut schedule = Schedule::new(&plan, Part { index, of: threads });
                let mut last = Duration::ZERO;
                while let Some(due) = schedule.next_due() {
                    let before = due.saturating_sub(Duration::from_nanos(1));
                    prop_assert!(due.is_zero() || schedule.take(before, &plan).is_none());
                    let mut agent = schedule.take(due, &plan).unwrap();
                    prop_assert_eq!(agent.due(), due);
                    prop_assert!(due >= last);
                    last = due;
                    let number = agent.number() as usize;
                    seen[number] += 1;
                    if seen[number] <= back {
                        let told = Taken::Failed { retry_after: Some(Duration::from_secs(u64::from(back))), status: Some(503) };
                        prop_assert_eq!(agent.took(told, due, &plan), Then::Waits);
                        schedule.wait(agent);
                    }
                }
                prop_assert_eq!(schedule.left(last), Left::default());
            }
            prop_assert!(seen.iter().all(|times| *times == back + 1));
        }
    }

    #[test]
    fn those_who_are_left_are_counted_with_the_longest_wait() {
        let over = Duration::from_secs(10);
        let plan = Plan { agents: 1000, arrival: Arrival::Uniform { over }, ..plan("full") };
        let schedule = Schedule::new(&plan, Part { index: 0, of: 1 });
        let left = schedule.left(over / 2);
        assert_eq!(left.agents, 1000);
        assert!((400..600).contains(&left.due), "{left:?}");
        assert!(left.longest > over / 3 && left.longest <= over / 2, "{left:?}");
    }

    #[test]
    fn a_waiting_place_takes_less_than_two_hundred_bytes() {
        assert!(size_of::<Reverse<Waiting>>() < 200, "{}", size_of::<Reverse<Waiting>>());
    }
}
