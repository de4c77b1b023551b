//! What lets agents in and what they are handed: enrolments, address ranges, sources, settings files.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::base::blob::BlobId;
use crate::policy::sources::Entry;
use crate::policy::tree::file::FileName;
use crate::policy::tree::id::{DomainId, EnrolmentId};

/// An enrolment, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolment {
    /// Its id.
    pub id: EnrolmentId,
    /// The domain that agents join.
    pub domain: DomainId,
    /// How many agents it still lets in.
    pub left: u32,
    /// Until when.
    pub until: Timestamp,
}

/// An enrolment to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "id": "spring", "domain": 2, "agents": 50, "hours": 72 }))]
pub struct NewEnrolment {
    /// Its id; one is made where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EnrolmentId>,
    /// The domain that agents join.
    pub domain: DomainId,
    /// How many it lets in.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub agents: u32,
    /// For how many hours.
    #[schema(minimum = 1, maximum = 87_840)]
    pub hours: u32,
}

/// An enrolment that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeEnrolment {
    /// The enrolment.
    #[serde(flatten)]
    pub enrolment: Enrolment,
    /// What agents enrol with, which is told this once.
    pub token: String,
}

/// The addresses of agents that are known by nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "from": "10.0.0.0/8", "domain": 2 }))]
pub struct Range {
    /// A prefix.
    #[schema(value_type = String, max_length = 64)]
    pub from: IpNet,
    /// The domain of whoever calls from there.
    pub domain: DomainId,
}

/// Which range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichRange {
    /// The prefix.
    #[param(value_type = String, max_length = 64)]
    pub from: IpNet,
}

/// The customised list: where agents update from before they ask the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "entries": [
    { "range": "10.1.0.0-10.1.255.255", "source": { "url": "http://mirror.example/", "families": "both" } }
] }))]
pub struct Sources {
    /// Its entries, of which none reaches into another.
    #[schema(value_type = Vec<serde_json::Value>, max_items = 1024)]
    pub entries: Vec<Entry>,
}

/// A settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// The domain that it stands at; nothing at the root.
    pub domain: Option<DomainId>,
    /// Its name.
    pub name: FileName,
    /// Counted from 1, each time that its bytes change.
    pub version: u32,
    /// How many bytes it has.
    pub bytes: u64,
    /// The BLAKE3 hash of its bytes.
    #[schema(value_type = String)]
    pub hash: BlobId,
}
