//! All agents by id: the table that each decision looks into.
//!
//! Agents are spread over shards by a keyed hash, and the shards hang in a tree that copies share: a change copies the agents of
//! one shard, a decision looks at one place in memory behind the shards themselves. A hash trie of a library was measured first
//! (benches/RESULTS.md): twice the memory, and more than twice the time for an agent that no cache holds. Invariant: an agent is in
//! the shard that its hash says, once.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::Vector;

use crate::policy::tree::Agent;
use crate::policy::tree::id::AgentId;

/// Shards of a table without agents: a power of two, like any number of them.
const SHARDS_MIN: usize = 16;

/// Agents for each shard, on the average, above which there are twice as many shards: those of one shard are looked at one after
/// the other, and each shard has a pointer and a head of its own.
const SHARD_AGENTS_MAX: usize = 4;

type Shard = Arc<[(AgentId, Agent)]>;

/// All agents. A copy is cheap: it shares everything.
#[derive(Clone, Debug)]
pub(super) struct Agents {
    shards: Vector<Shard>,
    hasher: RandomState,
    count: usize,
}

impl Default for Agents {
    fn default() -> Self {
        let shards = std::iter::repeat_n(Shard::from([]), SHARDS_MIN).collect();
        Self { shards, hasher: RandomState::default(), count: 0 }
    }
}

impl Agents {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, id: &AgentId) -> Option<&Agent> {
        let shard = &self.shards[self.shard(id)];
        shard.iter().find(|(other, _)| other == id).map(|(_, agent)| agent)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(id, agent)| (id, agent)))
    }

    /// Puts an agent in the place of the one of this id, or takes that one away; gives the one that was there.
    pub(super) fn put(&mut self, id: &AgentId, agent: Option<Agent>) -> Option<Agent> {
        let at = self.shard(id);
        let shard = &self.shards[at];
        let before = shard.iter().find(|(other, _)| other == id).map(|(_, agent)| agent.clone());
        let others = shard.iter().filter(|(other, _)| other != id).cloned();
        self.count = self.count + usize::from(agent.is_some()) - usize::from(before.is_some());
        let shard = others.chain(agent.map(|agent| (*id, agent))).collect();
        self.shards.set(at, shard);
        if self.count > self.shards.len() * SHARD_AGENTS_MAX {
            self.spread();
        }
        before
    }

    /// Twice as many shards. That takes as long as making the table, and comes as seldom as its size doubles.
    fn spread(&mut self) {
        let count = self.shards.len() * 2;
        let mut agents: Vec<_> =
            self.iter().map(|(id, agent)| (self.shard_of(id, count), *id, agent.clone())).collect();
        // Shard by shard, so that each takes its memory once and beside the one before it.
        agents.sort_unstable_by_key(|(at, ..)| *at);
        let mut agents = agents.into_iter().peekable();
        let shard = |at| -> Shard {
            let of_it = std::iter::from_fn(|| agents.next_if(|(other, ..)| *other == at));
            of_it.map(|(_, id, agent)| (id, agent)).collect()
        };
        self.shards = (0..count).map(shard).collect();
    }

    fn shard(&self, id: &AgentId) -> usize {
        self.shard_of(id, self.shards.len())
    }

    /// Of so many, which are a power of two.
    fn shard_of(&self, id: &AgentId, shards: usize) -> usize {
        let mask = shards as u64 - 1;
        usize::try_from(self.hasher.hash_one(id) & mask).expect("there are fewer shards than that")
    }
}

/// Tables are equal where the same agents are in them, whatever shards they are in.
impl PartialEq for Agents {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().all(|(id, agent)| other.get(id) == Some(agent))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::tree::id::DomainId;

    fn agent(domain: u32) -> Agent {
        Agent { domain: DomainId::numbered(domain), values: None, keys: None }
    }

    proptest! {
        /// Few ids at first, then many: through several sizes of the table.
        #[test]
        fn a_table_of_agents_behaves_as_a_map(
            puts in prop::collection::vec((0u32..600, prop::option::weighted(0.8, 1u32..4)), 0..1200),
        ) {
            let (mut agents, mut model) = (Agents::default(), BTreeMap::new());
            let mut earlier = Vec::new();
            for (at, (number, domain)) in puts.into_iter().enumerate() {
                if at % 300 == 0 {
                    earlier.push((agents.clone(), model.clone()));
                }
                let id = AgentId::parse(&format!("a{number}")).unwrap();
                let expected = match domain {
                    Some(domain) => model.insert(id, agent(domain)),
                    None => model.remove(&id),
                };
                prop_assert_eq!(agents.put(&id, domain.map(agent)), expected);
                prop_assert_eq!(agents.get(&id), model.get(&id));
            }
            // Copies from before are as they were.
            earlier.push((agents, model));
            for (agents, model) in earlier {
                prop_assert_eq!(agents.len(), model.len());
                let all: BTreeMap<_, _> = agents.iter().map(|(id, agent)| (*id, agent.clone())).collect();
                prop_assert_eq!(all, model);
            }
        }
    }
}
