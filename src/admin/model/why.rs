//! Why an agent gets a file or does not: what the relay would answer now, and how that comes about.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::model::watch::Refusal;
use crate::policy::tree::id::AgentId;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyAsked {
    /// A path of the relay, such as `/activeupdate/server.ini`; a path within its only tree; a URL, as agents name it that use the relay
    /// as their proxy; or HOST:PORT, for a tunnel. Without escapes.
    #[param(max_length = 2048)]
    pub path: String,
}

/// What an agent would be answered now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "agent": "pc-1", "path": "/activeupdate/pattern/vsapi329.zip", "verdict": "served",
    "steps": [{ "about": "store", "says": "the file is in the store", "passes": true }], "refusals": []
}))]
pub struct Why {
    /// The agent.
    pub agent: AgentId,
    /// The path of the relay, or the place elsewhere, that is meant.
    pub path: String,
    /// What a request would come to.
    pub verdict: Verdict,
    /// How that comes about, in the order in which it is decided.
    pub steps: Vec<Step>,
    /// The last requests for the same that were refused, the last one first: the agent's own, and those that came from where it was
    /// last heard of and showed nobody.
    pub refusals: Vec<Refusal>,
}

/// What a request would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The agent gets it.
    Served,
    /// The agent gets it as it is fetched, if the upstream has it.
    Fetched,
    /// The relay asks another server, or takes the agent there.
    Forwarded,
    /// The policy refuses (401, 403).
    Refused,
    /// There is nothing of this name (404).
    Missing,
    /// The tree has no generation yet (503).
    NotReady,
    /// It could not be fetched a moment ago (5xx).
    Failed,
}

/// One thing that the verdict follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// What it is about.
    pub about: About,
    /// What is so, in words.
    pub says: String,
    /// Whether the request gets past it.
    pub passes: bool,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Who the agent is, and what it is known by.
    Agent,
    /// What was heard of it last, and whether it may take packages.
    CheckIn,
    /// Its scope, and what set that.
    Scope,
    /// What slows it down, where something does.
    Limits,
    /// What the path names.
    Path,
    /// In which generation.
    Generation,
    /// What the policy says.
    Policy,
    /// Whether the relay has it.
    Store,
}
