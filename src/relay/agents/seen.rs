//! What was heard of each agent last, and until when it may take packages.
//!
//! Soft: a relay that starts anew has heard nothing. Reading takes no lock. Invariant: there are at most some more than agents in the
//! tree, and of sets of versions at most twice as many as agents have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use papaya::{HashMap, HashSet};

use crate::policy::tree::Tree;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::check_in::{Heard, Versions};

/// What was heard, by agent.
#[derive(Debug, Default)]
pub struct Seen {
    agents: HashMap<AgentId, Heard, RandomState>,
    /// What agents have: a fleet has far fewer sets of versions than agents.
    sets: HashSet<Arc<Versions>>,
    /// How many sets there were when those that nobody has were forgotten last.
    sets_kept: AtomicUsize,
}

/// Agents that may have left the tree before they are forgotten: then all are looked at, which is not to be done for each that leaves.
const GONE_MAX: usize = 4096;

/// Sets of versions that there may be without looking which of them nobody has.
const SETS_MIN: usize = 1024;

impl Seen {
    /// What was heard of an agent last.
    pub fn heard(&self, agent: &AgentId) -> Option<Heard> {
        self.agents.pin().get(agent).cloned()
    }

    /// Looks at what was heard of an agent last, without copying it.
    pub fn look<T>(&self, agent: &AgentId, look: impl FnOnce(&Heard) -> T) -> Option<T> {
        self.agents.pin().get(agent).map(look)
    }

    /// Whether an agent's permission is open. `now_secs` is monotonic.
    pub fn is_permitted(&self, agent: &AgentId, now_secs: u64) -> bool {
        self.agents.pin().get(agent).is_some_and(|heard| now_secs < heard.permitted_until_secs)
    }

    /// How many were heard of.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// A set of versions, as all who have the same share it.
    pub(super) fn shared(&self, versions: Versions) -> Arc<Versions> {
        let sets = self.sets.pin();
        if let Some(known) = sets.get(&versions) {
            return known.clone();
        }
        if sets.len() >= 2 * self.sets_kept.load(Ordering::Relaxed).max(SETS_MIN) {
            sets.retain(|set| Arc::strong_count(set) > 1);
            self.sets_kept.store(sets.len(), Ordering::Relaxed);
        }
        let versions = Arc::new(versions);
        sets.insert(versions.clone());
        versions
    }

    /// Remembers what was heard of an agent of this tree.
    pub(super) fn hear(&self, agent: &AgentId, heard: Heard, tree: &Tree) {
        let table = self.agents.pin();
        table.insert(*agent, heard);
        if table.len() > tree.agent_count() + GONE_MAX {
            table.retain(|agent, _| tree.agent(agent).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::check_in::Why;
    use crate::policy::tree::value::Switch;

    #[test]
    fn a_permission_ends_and_agents_that_left_are_forgotten() {
        let seen = Seen::default();
        let heard = Heard {
            at: Timestamp::UNIX_EPOCH,
            from: [192, 0, 2, 1].into(),
            why: Why::Start,
            roaming: Switch::Off,
            schedule: Switch::On,
            versions: Arc::default(),
            since: Box::default(),
            denied: None,
            reported: None,
            permitted_until_secs: 100,
        };
        let tree = Tree::default();
        let agent = |number: usize| AgentId::parse(&format!("a{number}")).unwrap();
        seen.hear(&agent(0), heard.clone(), &tree);
        assert!(seen.is_permitted(&agent(0), 99) && !seen.is_permitted(&agent(0), 100));
        assert!(!seen.is_permitted(&agent(1), 0));
        for number in 1..=GONE_MAX {
            seen.hear(&agent(number), heard.clone(), &tree);
        }
        assert!(seen.is_empty(), "none of them is in the tree");
    }

    #[test]
    fn agents_that_have_the_same_share_it_and_what_nobody_has_is_forgotten() {
        let seen = Seen::default();
        let set = |number: usize| Versions::from([("P".into(), number.to_string().into())]);
        let kept: Vec<_> = (0..100).map(|number| seen.shared(set(number))).collect();
        assert!(
            kept.iter().zip(0..).all(|(set_kept, number)| Arc::ptr_eq(set_kept, &seen.shared(set(number))))
        );
        for number in 0..100 * SETS_MIN {
            seen.shared(set(number));
            assert!(seen.sets.len() <= 2 * SETS_MIN);
        }
        assert!(
            kept.iter().zip(0..).all(|(set_kept, number)| Arc::ptr_eq(set_kept, &seen.shared(set(number))))
        );
    }
}
