//! Who administers: tokens, and whoever is asking.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::administrator::{Role, TokenName};

/// Who is asking, as the relay knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "alice", "role": "operator", "known_by": "token" }))]
pub struct Me {
    /// The token's name, or the name in the certificate.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What they are known by.
    pub known_by: KnownBy,
}

/// What somebody is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KnownBy {
    /// A bearer token.
    Token,
    /// A client certificate.
    Certificate,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its name.
    pub name: TokenName,
    /// What its owner may do.
    pub role: Role,
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// The moment from which on it counts no more; nothing where it counts until it is revoked.
    pub until: Option<Timestamp>,
}

/// All tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// By name.
    pub items: Vec<Token>,
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "alice", "role": "operator", "days": 365 }))]
pub struct NewToken {
    /// Its name: 1 to 63 of a-z, 0-9, '.', '-', '_' and ':', beginning with a letter or digit.
    pub name: TokenName,
    /// What its owner may do.
    pub role: Role,
    /// Days until it counts no more; where nothing is said, it counts until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3660)]
    pub days: Option<u16>,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "alice", "role": "operator", "token": "alice~0123456789abcdef..." }))]
pub struct MadeToken {
    /// Its name.
    pub name: TokenName,
    /// What its owner may do.
    pub role: Role,
    /// The token itself, which is told this once.
    pub token: String,
}
