//! Agents of the agent tree, and what was heard of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::base::tally::Went;
use crate::policy::check_in::Why;
use crate::policy::scope::Scope;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::keys::Standing;
use crate::policy::tree::setting::{Setting, Values};

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// The domain that it belongs to.
    pub domain: DomainId,
    /// That domain's path.
    pub path: String,
    /// What it may update.
    pub scope: Scope,
    /// Whether it may come in.
    pub standing: Standing,
    /// What it is known by: `secret`, `certificate`, both or neither.
    pub keys: Vec<KeyKind>,
    /// The settings that are set at it.
    pub own: Vec<Setting>,
    /// What was heard of it last; nothing where it has not checked in since the relay started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// How many components that it has told of, and may update, are not of the current version; nothing where it has told of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_date: Option<u32>,
}

/// What an agent is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// A secret.
    Secret,
    /// A certificate.
    Certificate,
}

/// What was heard of an agent last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// From where.
    #[schema(value_type = String)]
    pub from: IpAddr,
    /// Why it wanted to update.
    pub why: Why,
    /// Whether it declared itself roaming.
    pub roaming: bool,
    /// Whether its user has left scheduled updates on.
    pub schedule_enabled: bool,
    /// Why it might not update, where it might not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// How its last update went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// How an update went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// When it was told.
    pub at: Timestamp,
    /// How it went.
    pub went: Went,
    /// What the agent says of it.
    pub detail: String,
}

/// An agent with the versions that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentWhole {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// The versions that it has told of, by component.
    pub versions: BTreeMap<String, String>,
    /// Since when it has each of them: as it says, or when it first said so to this relay.
    pub since: BTreeMap<String, Timestamp>,
    /// Those of them that are not current.
    pub behind: Vec<Behind>,
}

/// A component that is not of the current version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Behind {
    /// The component.
    pub component: String,
    /// The version that the agent has.
    pub has: String,
    /// The current version; of several trees, one for each.
    pub current: Vec<String>,
}

/// Which agents, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AgentsAsked {
    /// Those of this domain itself.
    #[param(minimum = 1)]
    pub domain: Option<u32>,
    /// Those of this domain and the domains within it.
    #[param(minimum = 1)]
    pub within: Option<u32>,
    /// Those that may update this.
    pub scope: Option<Scope>,
    /// Those of this standing.
    pub standing: Option<Standing>,
    /// Those with this in their id.
    #[param(max_length = 63)]
    pub text: Option<String>,
    /// Those that have told of this component.
    #[param(max_length = 128)]
    pub component: Option<String>,
    /// Those that have this version: of the component, where one is named, else of any.
    #[param(max_length = 128)]
    pub version: Option<String>,
    /// Those that are out of date, or those that have told of versions and are not.
    pub out_of_date: Option<bool>,
    /// Those that were heard of at this moment or later.
    pub seen_after: Option<Timestamp>,
    /// Those that were not heard of since this moment.
    pub seen_before: Option<Timestamp>,
    /// In which order: `id` where nothing is said. With a `-` in front, the last one first; agents that were never seen come first in
    /// the order of `seen`.
    pub sort: Option<Sort>,
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// Where the page before ended, as it said in `next`.
    #[param(max_length = 512)]
    pub cursor: Option<String>,
}

/// An order of agents; among equals, their ids say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Sort {
    /// By id.
    #[default]
    #[serde(rename = "id")]
    Id,
    /// The one heard of longest ago first.
    #[serde(rename = "seen")]
    Seen,
    /// The one heard of last first.
    #[serde(rename = "-seen")]
    SeenLast,
    /// By domain, in the order in which they were made.
    #[serde(rename = "domain")]
    Domain,
    /// The one with the most components out of date first.
    #[serde(rename = "-out_of_date")]
    OutOfDate,
}

/// An agent to be brought into the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "id": "pc-0421", "domain": 2 }))]
pub struct NewAgent {
    /// Its id.
    pub id: AgentId,
    /// The domain that it belongs to.
    pub domain: DomainId,
    /// What is set at it.
    #[serde(default)]
    pub settings: Values,
}

/// Where an agent is to belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": 3 }))]
pub struct MoveAgent {
    /// The domain.
    pub to: DomainId,
    /// What a widened scope was said to be confirmed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}
