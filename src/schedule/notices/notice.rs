//! What is said to the machine of notices, and by it.
//!
//! Never decides anything. Invariant: the number of a notice is never used for another one, also after a restart.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::tree::{GenerationNumber, TreeName};
use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::Schedule;
use crate::schedule::notices::record::Record;

/// The number of an administrator's start, counted from 1; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartId(pub u64);

/// Why an agent is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reason {
    /// A tree has a new generation (R9.1a).
    Generation {
        /// Which tree.
        tree: TreeName,
        /// Its generation.
        number: GenerationNumber,
    },
    /// Its moment in a window has come (R9.2).
    Schedule {
        /// The window's day.
        day: Date,
    },
    /// An administrator has it update (R9.1d): the first of those who do.
    Administrator {
        /// The start.
        start: StartId,
    },
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number, which grows. A notice that is told again has the same.
    pub number: u64,
    /// The strongest of its reasons: an administrator's start, then its schedule, then a generation.
    pub reason: Reason,
    /// Whether it is about components.
    pub components: bool,
    /// Whether it is about agent settings.
    pub agent_settings: bool,
}

/// What holds for one agent as far as notices go.
#[derive(Clone, Debug)]
pub struct Holds {
    /// Its schedule and the zone of that; `None` where it has none that runs: it is off, or its user switched it off.
    pub schedule: Option<(Schedule, TimeZone)>,
    /// Whether it is told of generations.
    pub told_of_generations: bool,
}

/// The agents as the agent tree has them, asked each time anew: what is changed counts at once.
pub trait Agents {
    /// What holds for an agent; `None` for one that is not in the tree or was shut out.
    fn holds(&self, agent: &AgentId) -> Option<Holds>;
}

/// How many are told, and how often (R9.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Agents under way at once.
    pub under_way_max: u32,
    /// Agents told within any second; 0 counts as 1.
    pub per_sec: u32,
    /// After how long an agent that has not reported is told again.
    pub repeat_after: Duration,
    /// How often, after the first time.
    pub repeats_max: u8,
}

/// A moment, by both clocks. Schedules go by the wall clock; pacing and repeats by the other, which never jumps (R11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock.
    pub wall: Timestamp,
    /// Since some fixed moment.
    pub mono: Duration,
}

/// What is to be done: the records are written down first, then the agents are told.
#[derive(Debug, Default)]
pub struct Step {
    /// What was decided.
    pub records: Vec<Record>,
    /// Whom to tell, and what.
    pub tell: Vec<(AgentId, Notice)>,
}

/// How far an administrator's start has come, in agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When it was started, by the wall clock.
    pub at: Timestamp,
    /// Whether nobody is told of it any more: it was cancelled, or a day has passed.
    pub over: bool,
    /// Online, and waiting for a place.
    pub waiting: u32,
    /// Told.
    pub under_way: u32,
    /// They have reported.
    pub done: u32,
    /// They are told when they come online.
    pub offline: u32,
    /// They did not report, were not online within a day, or left the agent tree.
    pub gave_up: u32,
    /// They had not been told when it was cancelled.
    pub cancelled: u32,
}

/// Figures for metrics: what is, and what was since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Agents online.
    pub online: usize,
    /// Agents that wait for a place.
    pub waiting: usize,
    /// Agents under way.
    pub under_way: u32,
    /// Agents that have a moment in a window.
    pub planned: usize,
    /// Agents told, first times and repeats.
    pub told: u64,
    /// The repeats among them.
    pub repeated: u64,
    /// Notices that ended with a report.
    pub reported: u64,
    /// Notices that were given up.
    pub gave_up: u64,
}

/// There are too many starts that have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{STARTS_MAX} starts are under way already: cancel some, or wait for their end")]
pub struct StartsMax;

/// Starts that are remembered, ended ones too: their progress can be asked for. A day, after which each ends, has as many minutes.
pub const STARTS_MAX: usize = 1000;

impl Limits {
    /// For how long an agent may be told of the same notice: until the last repeat would be followed by another.
    pub(super) fn repeated_for(&self) -> Duration {
        self.repeat_after.saturating_mul(u32::from(self.repeats_max) + 1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { under_way_max: 250, per_sec: 50, repeat_after: Duration::from_mins(15), repeats_max: 5 }
    }
}

impl fmt::Display for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
