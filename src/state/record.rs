//! The lines of journals and snapshots.
//!
//! Invariant: a journal's records are numbered one after the other, over all journals, from 1.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::tree::change::Action;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::DomainId;

/// The number of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub u64);

impl Serial {
    /// The number of the change after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who makes a change, as the audit log names it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Author(Arc<str>);

/// The text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an author is 1 to {AUTHOR_CHARS_MAX} characters, none of them a control character")]
pub struct AuthorError;

/// Characters of an author: a user, and where it came from.
const AUTHOR_CHARS_MAX: usize = 128;

impl Author {
    /// Reads an author.
    pub fn parse(text: &str) -> Result<Self, AuthorError> {
        let valid = (1..=AUTHOR_CHARS_MAX).contains(&text.chars().count());
        if valid && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(AuthorError) }
    }

    /// The author's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Author {
    type Error = AuthorError;

    fn try_from(text: String) -> Result<Self, AuthorError> {
        Self::parse(&text)
    }
}

/// A line of a journal: one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number.
    pub serial: Serial,
    /// The number of the first of those that were written and synced together: none of them was acknowledged before all
    /// were there.
    pub group: Serial,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Who.
    pub who: Author,
    /// What, in words for people.
    pub what: Vec<String>,
    /// What was before, and what is after.
    pub changed: Vec<Difference>,
}

/// Actions that a record tells in words: what all of them did stands in its differences.
const TOLD_MAX: usize = 16;

/// A transaction's actions in words.
pub(super) fn told(actions: &[Action]) -> Vec<String> {
    let mut told: Vec<_> = actions.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if let Some(more) = actions.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        told.push(format!("and {more} more"));
    }
    told
}

/// A line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// The first line.
    Snapshot(Head),
    /// What stands somewhere in the tree, as what differs from an empty one.
    Holds(Difference),
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The last change that is in it.
    pub serial: Serial,
    /// When it was written, by the wall clock.
    pub at: Timestamp,
    /// The highest number that a domain ever had.
    pub last_domain: Option<DomainId>,
    /// How many lines follow.
    pub lines: usize,
}
