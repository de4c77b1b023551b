//! Domains of the agent tree.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::policy::scope::Scope;
use crate::policy::tree::id::{DomainId, DomainName};
use crate::policy::tree::setting::Values;

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": 2, "name": "North", "path": "Branches/North", "parent": 1, "domains": 0, "agents": 50, "agents_within": 50,
    "out_of_date": 3, "scope": "patterns-engines-drivers"
}))]
pub struct Domain {
    /// Its number, which it keeps.
    pub id: DomainId,
    /// Its name.
    pub name: DomainName,
    /// The names from below the root down to it.
    pub path: String,
    /// The domain that holds it; nothing right below the root.
    pub parent: Option<DomainId>,
    /// How many domains are right below it.
    pub domains: u64,
    /// How many agents belong to it.
    pub agents: u64,
    /// How many agents belong to it and the domains within it.
    pub agents_within: u64,
    /// How many of those may come in, and have told of something that is not current.
    pub out_of_date: u64,
    /// What its agents may update that have nothing else of their own.
    pub scope: Scope,
}

/// Which domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DomainsAsked {
    /// The one of this path alone, such as `Branches/North`.
    #[param(max_length = 2048)]
    pub path: Option<String>,
    /// This one and those within it.
    #[param(minimum = 1)]
    pub within: Option<u32>,
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// Where the page before ended, as it said in `next`.
    #[param(max_length = 512)]
    pub cursor: Option<String>,
}

/// A domain to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "North", "parent": 1, "settings": { "scope": "patterns" } }))]
pub struct NewDomain {
    /// Its name, which no domain beside it has.
    pub name: DomainName,
    /// The domain that is to hold it; nothing right below the root.
    #[serde(default)]
    pub parent: Option<DomainId>,
    /// What is set at it, in place of what the root has for future domains.
    #[serde(default)]
    pub settings: Values,
}

/// A domain's new name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "South" }))]
pub struct DomainChange {
    /// Its name.
    pub name: DomainName,
}

/// Where a domain is to stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": 3 }))]
pub struct MoveDomain {
    /// The domain that is to hold it; nothing right below the root.
    pub to: Option<DomainId>,
    /// What a widened scope was said to be confirmed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// What becomes of what a removed domain holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveDomain {
    /// Whether the domains and agents within it go with it; else it must hold nothing.
    #[serde(default)]
    pub with_all_within: bool,
}
