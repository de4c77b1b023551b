//! Who administers the relay: what a token of theirs is called, and what its role allows.
//!
//! Never knows a secret, nor who is calling. Invariant: a role may do all that the roles below it may.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::tree::id::{ID_BYTES_MAX, is_id};

/// What somebody may do on the admin listener, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but what settings files hold.
    Viewer,
    /// Also change the agent tree, and start what the relay does by itself otherwise: a refresh, a scrub.
    Operator,
    /// Also say who administers, and replace the whole agent tree.
    Administrator,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// The role's name in settings, the API and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an administrator's token, spelled as agents' ids are. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenName(Arc<str>);

/// The text is no token's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a token's name is 1 to {ID_BYTES_MAX} of a-z, 0-9, '.', '-', '_' and ':', beginning with a letter or digit"
)]
pub struct TokenNameError;

impl TokenName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, TokenNameError> {
        if is_id(text) { Ok(Self(text.into())) } else { Err(TokenNameError) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenName {
    type Error = TokenNameError;

    fn try_from(text: String) -> Result<Self, TokenNameError> {
        Self::parse(&text)
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_holds_those_below_it_and_has_one_name() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert_eq!(TokenName::parse("alice").unwrap().as_str(), "alice");
        for text in ["", "Alice", "-a", "a b", "a~b", &"a".repeat(64)] {
            assert!(TokenName::parse(text).is_err(), "{text:?}");
        }
    }
}
