//! The agents of the tree as the relay meets them: what the tree says of them, and what they said themselves when they checked in.
//!
//! What the tree says is kept by [`state`](crate::state) and outlives everything; what agents say is soft, and gone with the relay
//! that heard it. Never decides: that is the policy's. Invariant: what is remembered of agents is bounded by how many the tree has.

pub mod check_in;
pub mod seen;

use std::sync::Arc;

use arc_swap::Guard;
use tokio::sync::watch;

use crate::policy::caller::Caller;
use crate::policy::decide::Permission;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::seen::Seen;
use crate::state::State;
use crate::state::record::Serial;

/// All agents, for whoever serves them.
#[derive(Debug)]
pub struct Agents {
    state: State,
    seen: Seen,
}

impl Agents {
    /// The agents of this tree, none of which was met.
    pub fn new(state: State) -> Self {
        Self { state, seen: Seen::default() }
    }

    /// What requests are decided by now. For a moment: who keeps it for long keeps others from letting it go.
    pub fn tree(&self) -> Guard<Arc<Compiled>> {
        self.state.live().load()
    }

    /// The agent tree, to be changed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Tells each change of the agent tree.
    pub fn changes(&self) -> watch::Receiver<Serial> {
        self.state.changes()
    }

    /// Whether an agent may take packages now; of who is none, that is not asked. `now_secs` is monotonic.
    pub fn permission(&self, caller: &Caller, now_secs: u64) -> Permission {
        let open = |agent: &AgentId| self.seen.is_permitted(agent, now_secs);
        if caller.agent().is_none_or(open) { Permission::Open } else { Permission::Closed }
    }

    /// What agents said.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}
