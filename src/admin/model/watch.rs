//! What the relay is doing: trees and what they hold, fills, traffic, refusals.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::manifest::catalogue::Class;
use crate::policy::tree::id::AgentId;

/// A kept generation of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Generation {
    /// The tree's name.
    pub tree: String,
    /// Its number.
    pub number: u64,
    /// When its manifest was taken.
    pub taken: Timestamp,
    /// Whether new agents get it.
    pub current: bool,
    /// How many files it names.
    pub files: u64,
    /// How many of them are in the store.
    pub files_held: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// The bytes that are in the store.
    pub bytes_held: u64,
    /// Increments that the upstream does not have.
    pub withheld: u64,
    /// Lines of the manifest that nobody knew.
    pub unknown: u64,
    /// Packages by class.
    pub classes: Vec<ClassSum>,
}

/// The packages of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassSum {
    /// The class.
    pub class: Class,
    /// How many.
    pub packages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A component of the current generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// The tree's name.
    pub tree: String,
    /// What the manifest calls it.
    pub component: String,
    /// Its class.
    pub class: Class,
    /// Its version.
    pub version: String,
    /// Where its package lies in the tree.
    pub path: String,
    /// The package's bytes.
    pub bytes: u64,
    /// Whether the package is in the store.
    pub held: bool,
    /// How many increments lead to it.
    pub increments: u64,
    /// Their bytes.
    pub increment_bytes: u64,
}

/// Components or generations of which tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TreeAsked {
    /// The tree's name; all trees where nothing is said.
    #[param(max_length = 64)]
    pub tree: Option<String>,
}

/// A fetch under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fill {
    /// The tree's name.
    pub tree: String,
    /// The file's path in it.
    pub path: String,
    /// Its bytes, where they are known.
    pub bytes: Option<u64>,
    /// Those that have come.
    pub bytes_done: u64,
    /// Since how many seconds it runs or waits for its turn.
    pub secs: u64,
}

/// What passed in a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Minute {
    /// When it ended.
    pub at: Timestamp,
    /// Body bytes handed to agents.
    pub sent_bytes: u64,
    /// Body bytes received from upstreams.
    pub upstream_bytes: u64,
    /// Agents' requests that ended.
    pub requests: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Agents' connections that were accepted.
    pub connections: u64,
    /// Fetches that became a file of the store.
    pub fills: u64,
}

/// How much of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrafficAsked {
    /// The last so many minutes; 60 where nothing is said.
    #[param(minimum = 1, maximum = 1440)]
    pub minutes: Option<u16>,
}

/// A request of an agent that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Counted from 1 since the relay started.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Where the agent called from.
    #[schema(value_type = String)]
    pub from: SocketAddr,
    /// Which agent it was, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The method.
    pub method: String,
    /// The path, or the destination of a tunnel.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Which refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RefusalsAsked {
    /// Those of this agent.
    #[param(max_length = 63)]
    pub agent: Option<String>,
    /// Those before this number.
    pub before: Option<u64>,
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
}
