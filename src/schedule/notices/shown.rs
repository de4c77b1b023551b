//! What a tree showed each scope in the generation that agents were told of last.
//!
//! Never holds a manifest: what names its bytes is enough to see that something else is shown. Invariant: what is not known of a scope counts
//! as something else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::blob::BlobId;
use crate::base::tree::GenerationNumber;
use crate::policy::scope::Scope;

/// A generation of a tree, as the scopes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Which.
    pub number: GenerationNumber,
    /// The hash of the manifest that each scope is shown.
    views: BTreeMap<Scope, BlobId>,
}

impl Shown {
    /// A generation, with the hash of what each scope is shown of it.
    pub fn new(number: GenerationNumber, view: impl Fn(Scope) -> BlobId) -> Self {
        Self { number, views: Scope::ALL.iter().map(|scope| (*scope, view(*scope))).collect() }
    }

    /// Whether a scope sees the same in both.
    pub(super) fn is_same_for(&self, other: &Self, scope: Scope) -> bool {
        let both = self.views.get(&scope).zip(other.views.get(&scope));
        both.is_some_and(|(one, other)| one == other)
    }
}
