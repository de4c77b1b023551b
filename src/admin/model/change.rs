//! Changes of the agent tree: several as one transaction, and what was changed, by whom.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::model::settings::ApplyTo;
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::setting::{Setting, Values};

/// Several actions, done whole or not at all, each on what those before it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "actions": [{ "do": "move_agents", "agents": ["pc-1", "pc-2"], "to": 2 }] }))]
pub struct Transaction {
    /// The actions, in their order.
    #[schema(min_items = 1, max_items = 1000)]
    pub actions: Vec<Act>,
    /// What a widened scope was said to be confirmed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// An action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Changes settings at the root.
    SetRoot {
        /// Whom it reaches.
        apply_to: ApplyTo,
        /// Settings that get a value.
        #[serde(default)]
        set: Values,
        /// Settings that lose theirs.
        #[serde(default)]
        clear: Vec<Setting>,
    },
    /// Changes settings at domains and agents.
    Set {
        /// The domains.
        #[serde(default)]
        domains: Vec<DomainId>,
        /// The agents.
        #[serde(default)]
        agents: Vec<AgentId>,
        /// Settings that get a value.
        #[serde(default)]
        set: Values,
        /// Settings that lose theirs.
        #[serde(default)]
        clear: Vec<Setting>,
    },
    /// Makes a domain. Those made later in the same transaction may name it: domains are numbered one after the other.
    AddDomain {
        /// Its name.
        name: DomainName,
        /// The domain that holds it; nothing right below the root.
        #[serde(default)]
        parent: Option<DomainId>,
        /// What is set at it.
        #[serde(default)]
        settings: Values,
    },
    /// Gives a domain another name.
    RenameDomain {
        /// The domain.
        domain: DomainId,
        /// Its new name.
        name: DomainName,
    },
    /// Moves domains, with all within them.
    MoveDomains {
        /// The domains.
        domains: Vec<DomainId>,
        /// The domain that holds them then; nothing right below the root.
        to: Option<DomainId>,
    },
    /// Removes a domain.
    RemoveDomain {
        /// The domain.
        domain: DomainId,
        /// Whether the domains and agents within it go with it; else it must hold nothing.
        #[serde(default)]
        with_all_within: bool,
    },
    /// Brings an agent into the tree.
    AddAgent {
        /// Its id.
        agent: AgentId,
        /// The domain that it belongs to.
        domain: DomainId,
        /// What is set at it.
        #[serde(default)]
        settings: Values,
    },
    /// Moves agents.
    MoveAgents {
        /// The agents.
        agents: Vec<AgentId>,
        /// The domain that they belong to then.
        to: DomainId,
    },
    /// Takes agents out of the tree.
    RemoveAgents {
        /// The agents.
        agents: Vec<AgentId>,
    },
    /// Shuts agents out.
    Revoke {
        /// The agents.
        agents: Vec<AgentId>,
    },
    /// Lets agents that were shut out enrol again.
    Readmit {
        /// The agents.
        agents: Vec<AgentId>,
    },
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Made {
    /// Its number; nothing where all was so already.
    pub serial: Option<u64>,
    /// How many things it changed.
    pub changed: u64,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Its number.
    pub serial: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What was done, in words.
    pub what: Vec<String>,
    /// How many things it changed.
    pub changed: u64,
    /// What was before and what is after, of the first hundred of them.
    pub differences: Vec<serde_json::Value>,
}

/// Which part of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditAsked {
    /// Changes before this one; a page gives the number for the next one as its `next`.
    pub before: Option<u64>,
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
}
