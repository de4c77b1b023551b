//! What was heard of each agent last, and until when it may take packages.
//!
//! Soft: a relay that starts anew has heard nothing. Reading takes no lock. Invariant: there are at most some more than agents in the
//! tree.

use papaya::HashMap;

use crate::policy::tree::Tree;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::check_in::Heard;

/// What was heard, by agent.
#[derive(Debug, Default)]
pub struct Seen(HashMap<AgentId, Heard>);

/// Agents that may have left the tree before they are forgotten: then all are looked at, which is not to be done for each that leaves.
const GONE_MAX: usize = 4096;

impl Seen {
    /// What was heard of an agent last.
    pub fn heard(&self, agent: &AgentId) -> Option<Heard> {
        self.0.pin().get(agent).cloned()
    }

    /// Looks at what was heard of an agent last, without copying it.
    pub fn look<T>(&self, agent: &AgentId, look: impl FnOnce(&Heard) -> T) -> Option<T> {
        self.0.pin().get(agent).map(look)
    }

    /// Whether an agent's permission is open. `now_secs` is monotonic.
    pub fn is_permitted(&self, agent: &AgentId, now_secs: u64) -> bool {
        self.0.pin().get(agent).is_some_and(|heard| now_secs < heard.permitted_until_secs)
    }

    /// How many were heard of.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers what was heard of an agent of this tree.
    pub(super) fn hear(&self, agent: &AgentId, heard: Heard, tree: &Tree) {
        let table = self.0.pin();
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
            versions: std::collections::BTreeMap::new(),
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
}
