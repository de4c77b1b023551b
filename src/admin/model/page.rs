//! Lists that are given page by page.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Some of a list, and how to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Those of this page.
    pub items: Vec<T>,
    /// What is sent as `cursor` for the next page; nothing where this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many there are in all, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// How many at most; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// Where the page before ended, as it said in `next`.
    #[param(max_length = 512)]
    pub cursor: Option<String>,
}
