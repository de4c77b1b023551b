//! The agents of the tree as the relay meets them: what the tree says of them, and what they said themselves when they checked in.
//!
//! What the tree says is kept by [`state`](crate::state) and outlives everything; what agents say is soft, and gone with the relay
//! that heard it. Never decides: that is the policy's. Invariant: what is remembered of agents is bounded by how many the tree has.

pub mod check_in;
pub mod enrol;
pub mod reports;
pub mod seen;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::Guard;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::disk::Disk;
use crate::policy::caller::Caller;
use crate::policy::decide::Permission;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::file::Content;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::enrol::AuthorityPlace;
use crate::relay::agents::reports::Reports;
use crate::relay::agents::seen::Seen;
use crate::state::State;
use crate::state::record::Serial;

/// All agents, for whoever serves them.
#[derive(Debug)]
pub struct Agents {
    state: Arc<State>,
    seen: Seen,
    reports: Reports,
    authority: Arc<AuthorityPlace>,
    /// Where what waits for the disk or for a signature is done.
    runtime: Handle,
}

impl Agents {
    /// The agents of this tree, none of which was met; what signs their certificates is in this folder, or made there when it is first
    /// needed.
    pub fn new(state: State, disk: Disk, authority: PathBuf, runtime: Handle) -> Self {
        let authority = AuthorityPlace { disk, folder: authority, opened: Mutex::default() };
        let (seen, reports) = (Seen::default(), Reports::default());
        Self { state: state.into(), seen, reports, authority: authority.into(), runtime }
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

    /// The bytes of a settings file.
    pub async fn content(&self, content: Content) -> io::Result<Vec<u8>> {
        let state = self.state.clone();
        let read = self.runtime.spawn_blocking(move || state.contents().read(&content));
        let bytes = read.await.map_err(io::Error::other)??;
        bytes.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the bytes of a settings file are gone"))
    }

    /// What agents said.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What they reported last.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }
}
