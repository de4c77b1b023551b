//! Enrolments: what lets agents join a domain by themselves, so many of them, until a moment.
//!
//! Never asks the time: who enrols says when it is. Invariant: an enrolment lets no more agents in than it was made for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::secret::SecretHash;
use crate::policy::tree::id::DomainId;

/// Enrolments at a time: several for each of the domains that the figures are for.
pub const ENROLMENTS_MAX: usize = 10_000;

/// An enrolment; it is shown as a token of its id and secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The domain that agents join.
    pub domain: DomainId,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// How many agents it still lets in.
    pub left: u32,
    /// Until when.
    pub until: Timestamp,
}

impl Enrolment {
    /// Whether it lets nobody in any more, since its moment has passed.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }
}
