//! Updates that administrators start (R9.1d).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::tree::id::{AgentId, DomainId};

/// Which agents are to update: those of domains, with all domains within, and those named; with nothing named, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "domains": [3], "out_of_date": true }))]
pub struct NewUpdate {
    /// All agents of these domains, and of those within.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainId>,
    /// These agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentId>,
    /// Of all of them, only those that have said what they have, and have something that is not current.
    #[serde(default)]
    pub out_of_date: bool,
    /// Needed where nothing is named and `out_of_date` is not said: that all agents update is seldom meant.
    #[serde(default)]
    pub all: bool,
}

/// An update that an administrator started, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": 7, "at": "2026-11-21T22:30:00Z", "over": false, "waiting": 120, "under_way": 250, "done": 80, "offline": 12, "gave_up": 0,
    "cancelled": 0
}))]
pub struct Update {
    /// Its number.
    pub id: u64,
    /// When it was started.
    pub at: Timestamp,
    /// Whether nobody is told of it any more: it was cancelled, or a day has passed.
    pub over: bool,
    /// Agents that are online and wait for their turn.
    pub waiting: u32,
    /// Agents that were told and have not reported.
    pub under_way: u32,
    /// Agents that have reported.
    pub done: u32,
    /// Agents that are told when they come online.
    pub offline: u32,
    /// Agents that did not report, were not online within a day, or left the agent tree.
    pub gave_up: u32,
    /// Agents that had not been told when it was cancelled.
    pub cancelled: u32,
}

/// Updates that administrators started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Updates {
    /// The newest first; ended ones are forgotten when there are a thousand.
    pub items: Vec<Update>,
}
