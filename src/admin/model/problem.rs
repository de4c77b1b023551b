//! What went wrong (RFC 9457), and what a program needs to do better.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "there is no domain 7",
    "instance": "/api/v1/domains/7"
}))]
pub struct ProblemDetails {
    /// What kind of problem it is: `about:blank` where the status says all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// The path that was asked.
    pub instance: String,
    /// What a program needs to know of it.
    #[serde(flatten)]
    pub because: Because,
}

/// What a program needs to know of a problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Because {
    /// With 412: the changes that came between, the last one first, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangedSince>,
    /// With 412: the entity tag that holds now; nothing where the thing is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// With 409: what a widened scope would bring, and how to have it done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widening: Option<Widening>,
}

/// A change that came between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedSince {
    /// Its number.
    pub serial: u64,
    /// Who made it.
    pub who: String,
    /// When.
    pub at: Timestamp,
    /// What was done, in words.
    pub what: Vec<String>,
}

/// What it means that agents get the scope `all` (R6.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Widening {
    /// Agents that would have the scope `all` and do not have it.
    pub agents: u64,
    /// Bytes of programs and hot fixes that each of them may then take.
    pub bytes: u64,
    /// Both multiplied.
    pub total_bytes: u64,
    /// To be sent again in `confirm` with the same request, which is then done.
    pub confirm: String,
}
