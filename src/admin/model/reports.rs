//! What agents reported of their updates.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::base::tally::Went;
use crate::policy::tree::id::AgentId;

/// What an agent reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentReport {
    /// Counted from 1 since the relay started.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Where the agent called from.
    #[schema(value_type = String)]
    pub from: IpAddr,
    /// The agent.
    pub agent: AgentId,
    /// How its update went.
    pub result: Went,
    /// What the agent says of it.
    pub detail: String,
    /// The URL that it updated from, without user, query and token, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The bytes that it took, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The seconds that it took, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs: Option<u64>,
}

/// Which reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportsAsked {
    /// Those of this agent.
    #[param(max_length = 63)]
    pub agent: Option<String>,
    /// Those of updates that went so.
    pub result: Option<Went>,
    /// Those before this number.
    pub before: Option<u64>,
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
}
