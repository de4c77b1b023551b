//! The last requests of agents that were refused, with the reason: what an administrator asks for first.
//!
//! In memory alone, and bounded; the access log has all of them. Invariant: refusals are numbered in the order in which they ended.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::policy::tree::id::AgentId;

/// Refusals that are kept: what a fleet with a wrong setting leaves in a minute.
const REFUSALS_MAX: usize = 1000;

/// Characters of a path that are kept.
const PATH_CHARS_MAX: usize = 200;

/// The last refusals.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Guards the refusals, the oldest first, and how many there were.
    kept: Mutex<(u64, VecDeque<Refusal>)>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Counted from 1 since the start; 0 until it is kept.
    pub number: u64,
    /// When it ended.
    pub at: Timestamp,
    /// Where the agent called from.
    pub from: SocketAddr,
    /// Which agent it was, where that was known.
    pub agent: Option<AgentId>,
    /// The method.
    pub method: Box<str>,
    /// The path without tokens, or a tunnel's destination.
    pub path: Box<str>,
    /// Why.
    pub reason: Box<str>,
}

impl Refusals {
    /// Keeps a refusal, and lets the oldest go.
    pub fn note(&self, mut refusal: Refusal) {
        if let Some((end, _)) = refusal.path.char_indices().nth(PATH_CHARS_MAX) {
            refusal.path = refusal.path[..end].into();
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        refusal.number = kept.0;
        if kept.1.len() >= REFUSALS_MAX {
            kept.1.pop_front();
        }
        kept.1.push_back(refusal);
    }

    /// The last ones that are like this, the last one first.
    pub fn last(&self, count_max: usize, is_like: impl Fn(&Refusal) -> bool) -> Vec<Refusal> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().rev().filter(|refusal| is_like(refusal)).take(count_max).cloned().collect()
    }
}

impl Refusal {
    /// Whether it is one of this path, as far as that was kept.
    pub fn is_of(&self, path: &str) -> bool {
        // A path with a token is kept without it, behind this.
        let own = self.path.strip_prefix("/t/.").unwrap_or(&self.path);
        own == path || (self.path.chars().count() == PATH_CHARS_MAX && path.starts_with(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusals_are_kept_with_their_numbers_and_no_more() {
        let refusals = Refusals::default();
        for _ in 0..1500 {
            refusals.note(Refusal {
                number: 0,
                at: Timestamp::UNIX_EPOCH,
                from: "192.0.2.1:1".parse().unwrap(),
                agent: None,
                method: "GET".into(),
                path: "\u{fc}".repeat(5000).into(),
                reason: "outside the scope".into(),
            });
        }
        let last = refusals.last(usize::MAX, |_| true);
        assert_eq!((last.len(), last[0].number, last[999].number), (REFUSALS_MAX, 1500, 501));
        assert_eq!(last[0].path.chars().count(), PATH_CHARS_MAX);
        assert_eq!(
            refusals.last(2, |refusal| refusal.number < 600).iter().map(|r| r.number).collect::<Vec<_>>(),
            [599, 598]
        );
    }
}
