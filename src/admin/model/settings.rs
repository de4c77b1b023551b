//! Settings at a node of the agent tree: what holds there, where it comes from, and how it is changed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::tree::id::DomainId;
use crate::policy::tree::setting::{Setting, Values};

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSettings {
    /// What is set at the node itself.
    pub own: Values,
    /// At the root: what domains start with that are made from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub future: Option<Values>,
    /// What holds, each setting with its source.
    pub effective: Vec<EffectiveSetting>,
}

/// What holds of one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "scope", "value": "patterns", "set_by": "domain", "domain": 2 }))]
pub struct EffectiveSetting {
    /// The setting.
    pub name: Setting,
    /// Its value.
    pub value: serde_json::Value,
    /// What set it.
    pub set_by: Source,
    /// The domain that did, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainId>,
}

/// What set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Nothing: it is the setting's default.
    Default,
    /// The root.
    Root,
    /// A domain.
    Domain,
    /// A domain, which started with what the root had for future domains.
    Future,
    /// The agent itself.
    Agent,
}

/// A change of settings at a domain or an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "set": { "scope": "patterns" }, "clear": ["time_zone"] }))]
pub struct SettingsChange {
    /// Settings that get a value.
    #[serde(default)]
    pub set: Values,
    /// Settings that lose theirs, so that what stands above holds again.
    #[serde(default)]
    pub clear: Vec<Setting>,
    /// What a widened scope was said to be confirmed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// A change of settings at the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "apply_to": "all", "set": { "scope": "patterns" } }))]
pub struct RootSettingsChange {
    /// Whom it reaches.
    pub apply_to: ApplyTo,
    /// Settings that get a value.
    #[serde(default)]
    pub set: Values,
    /// Settings that lose theirs.
    #[serde(default)]
    pub clear: Vec<Setting>,
    /// What a widened scope was said to be confirmed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// Whom a change at the root reaches (R5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApplyTo {
    /// All agents: values of these settings that stand below the root are cleared.
    All,
    /// Domains that are made later; all that is there stays as it is.
    Future,
}
