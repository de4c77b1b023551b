//! What was seen of being told: notices, and the streams on which they came.
//!
//! Knows no clock. Invariant: an agent is counted as told once, however often it was.

use std::fmt::{self, Write as _};
use std::time::Duration;

use indicatif::HumanCount;
use serde_json::{Value, json};

use crate::load::plan::{Plan, Streams};

/// The figures of being told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Agents that were told.
    pub agents: u64,
    /// Notices that were new to who heard them.
    pub notices: u64,
    /// Notices that were heard once more.
    pub repeated: u64,
    /// When the first agent was told, and when the last one was for the first time, from the start of the run.
    pub between: Option<(Duration, Duration)>,
    /// Agents whose stream was opened.
    pub opened: u64,
    /// Streams that ended after they had been opened.
    pub lost: u64,
    /// Streams that were opened for an agent that had had one.
    pub again: u64,
    /// Streams that said what is none. These are errors.
    pub wrong: u64,
    /// Polls that were answered, but for each agent's first.
    pub polls: u64,
    /// Connections that were made for streams.
    pub connections: u64,
}

impl Told {
    /// Counts an agent that is told for the first time, at this moment.
    pub fn note_agent(&mut self, at: Duration) {
        self.agents += 1;
        self.between = Some(self.between.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    }

    /// Adds the figures of another part.
    pub fn add(&mut self, other: &Self) {
        let Self { agents, notices, repeated, between, opened, lost, again, wrong, polls, connections } =
            other;
        self.agents += agents;
        self.notices += notices;
        self.repeated += repeated;
        self.opened += opened;
        self.lost += lost;
        self.again += again;
        self.wrong += wrong;
        self.polls += polls;
        self.connections += connections;
        self.between = match (self.between, *between) {
            (Some(own), Some(others)) => Some((own.0.min(others.0), own.1.max(others.1))),
            (own, others) => own.or(others),
        };
    }

    /// How long it took from the first agent that was told to the last.
    pub fn spread(&self) -> Duration {
        self.between.map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first))
    }

    /// Agents of a plan that were never told.
    pub fn never(&self, plan: &Plan) -> u64 {
        u64::from(plan.agents).saturating_sub(self.agents)
    }

    /// What programs are told of notices. Times are in seconds.
    pub fn notices_value(&self, plan: &Plan) -> Value {
        json!({
            "agents": self.agents,
            "never": self.never(plan),
            "notices": self.notices,
            "repeated": self.repeated,
            "spread_secs": self.spread().as_secs_f64(),
        })
    }

    /// What programs are told of streams.
    pub fn streams_value(&self, plan: &Plan) -> Value {
        json!({
            "over": plan.streams.name(),
            "opened": self.opened,
            "lost": self.lost,
            "again": self.again,
            "wrong": self.wrong,
            "polls": self.polls,
            "connections": self.connections,
        })
    }

    /// The rows of a table for people; `time` shows a time.
    pub(in crate::load) fn rows(
        &self,
        text: &mut String,
        plan: &Plan,
        time: impl Fn(Duration) -> String,
    ) -> fmt::Result {
        let Self { agents, repeated, opened, lost, again, wrong, polls, connections, .. } = self;
        let count = |number: &u64| HumanCount(*number);
        writeln!(
            text,
            "told         {} agents within {}, {} never, {} notices repeated",
            count(agents),
            time(self.spread()),
            count(&self.never(plan)),
            count(repeated),
        )?;
        write!(text, "streams      {} over {}", count(opened), plan.streams.name())?;
        match plan.streams {
            Streams::Polls => {
                writeln!(text, ", {} polls, {} connections made", count(polls), count(connections))
            }
            Streams::Own | Streams::Shared { .. } => writeln!(
                text,
                ", {} connections made; {} lost, {} made again, {} wrong",
                count(connections),
                count(lost),
                count(again),
                count(wrong),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::samples::plan;

    #[test]
    fn the_time_until_all_are_told_counts_over_all_parts() {
        let secs = Duration::from_secs;
        let (mut one, mut other) = (Told::default(), Told::default());
        one.note_agent(secs(5));
        other.note_agent(secs(9));
        other.note_agent(secs(7));
        let mut both = Told::default();
        both.add(&one);
        both.add(&other);
        assert_eq!((both.agents, both.spread(), both.never(&plan("full"))), (3, secs(4), 7));
        let mut text = String::new();
        both.rows(&mut text, &plan("full"), |time| format!("{time:?}")).unwrap();
        assert!(text.starts_with("told         3 agents within 4s, 7 never, 0 notices repeated\n"), "{text}");
    }
}
