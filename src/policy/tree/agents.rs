//! All agents by id: the table that each decision looks into.
//!
//! Agents are spread over shards by a keyed hash, and the shards hang in a tree that copies share: a change copies the agents of
//! one shard, a decision looks at one place in memory behind the shards themselves. A hash trie of a library was measured first
//! (`benches/tree.rs`): three times the memory, and twice the time for an agent that no cache holds. Invariant: an agent is in
//! the shard that its hash says, once.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use imbl::Vector;

use crate::policy::tree::Agent;
use crate::policy::tree::id::AgentId;

/// Shards: three agents in each where there are 100,000, thirty where there are as many as there may be. An empty table takes
/// 256 KiB.
const SHARDS: usize = 1 << 15;

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
        let empty: Shard = Arc::new([]);
        let shards = std::iter::repeat_n(empty, SHARDS).collect();
        Self { shards, hasher: RandomState::new(), count: 0 }
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
        before
    }

    fn shard(&self, id: &AgentId) -> usize {
        usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).expect("there are fewer shards than that")
    }
}

/// Tables are equal where the same agents are in them, whatever shards they are in.
impl PartialEq for Agents {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().all(|(id, agent)| other.get(id) == Some(agent))
    }
}
