//! The records of notices: what is decided and must outlive a restart.
//!
//! They are written down before anybody is told. Invariant: a record says which agents it is about, so that it means the same
//! whatever the agent tree has become.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::tree::{GenerationNumber, TreeName};
use crate::policy::tree::id::AgentId;
use crate::schedule::notices::ledger::{Lasting, Reasons, Started};
use crate::schedule::notices::notice::StartId;
use crate::schedule::notices::shown::Shown;

/// Agents that one record names: a line of a journal stays below 64 KiB or so.
pub(super) const NAMED_MAX: usize = 1000;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// What a journal begins with.
    Head {
        /// What the moments of agents in windows are drawn by.
        seed: u64,
        /// The highest number that a notice ever had.
        last_notice: u64,
        /// The highest number that a start ever had.
        last_start: StartId,
    },
    /// These agents, online now or expected back, are to be told of a generation, and of no older one of any tree.
    Generation {
        /// The tree.
        tree: TreeName,
        /// Its generation.
        number: GenerationNumber,
        /// Who.
        agents: Vec<AgentId>,
    },
    /// A tree shows this from now on, and whom that concerns is told: the records before this one say so.
    Shows {
        /// The tree.
        tree: TreeName,
        /// Its generation.
        shown: Shown,
    },
    /// A tree is there no longer.
    TreeGone {
        /// Which.
        tree: TreeName,
    },
    /// An administrator has these agents update; there may be several records of one start.
    Start {
        /// Its number.
        start: StartId,
        /// When, by the wall clock.
        at: Timestamp,
        /// Who.
        agents: Vec<AgentId>,
    },
    /// An administrator has cancelled a start: who was not told yet is not.
    Cancelled {
        /// Which.
        start: StartId,
    },
    /// A day has passed: who was not told yet is not.
    Ended {
        /// Which.
        start: StartId,
    },
    /// A start's progress is not kept any more.
    Forgotten {
        /// Which.
        start: StartId,
    },
    /// An agent is told of what still holds of all that it waited for; it waits for nothing then.
    Told {
        /// Who.
        agent: AgentId,
        /// The notice.
        notice: u64,
        /// When, by the wall clock.
        at: Timestamp,
        /// Why.
        reasons: Reasons,
    },
    /// An agent is told once more, of what still holds.
    Again {
        /// Who.
        agent: AgentId,
        /// When, by the wall clock.
        at: Timestamp,
        /// Why.
        reasons: Reasons,
    },
    /// The update of an agent that was told has ended, however.
    Reported {
        /// Who.
        agent: AgentId,
    },
    /// It is not waited for an agent's report any more.
    GaveUp {
        /// Who.
        agent: AgentId,
    },
    /// An agent that was told went offline and was not back in time; it may be told in the same window anew.
    StayedAway {
        /// Who.
        agent: AgentId,
    },
    /// An agent is not told of the generation that it waits for: its settings say so, or it stayed away.
    Lapsed {
        /// Who.
        agent: AgentId,
    },
    /// An agent has left the agent tree.
    Gone {
        /// Who.
        agent: AgentId,
    },
    /// How it stands with an agent, in the place of all records before.
    Agent {
        /// Who.
        agent: AgentId,
        /// How.
        holds: Box<Lasting>,
    },
    /// How it stands with a start, in the place of all records before.
    Started {
        /// Which.
        start: StartId,
        /// How.
        holds: Started,
    },
}
