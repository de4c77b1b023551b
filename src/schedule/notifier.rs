//! What tells agents: the machine of notices with its clock, its journal, and the streams that agents hold.
//!
//! ```text
//! streams (who came, went, reported) ┐
//! trees (a new generation)           ├> Notifier::step: machine -> journal (synced) -> streams (tell)
//! the agent tree (a change)          │
//! administrators (start, cancel)     ┘
//! ```
//!
//! Never decides who is told: that is the machine's, which knows from the journal what each tree showed last. Invariant: nobody is told of what is not in the journal, so that a relay that
//! starts anew knows of it; while the disk takes nothing, nobody is told.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use crate::base::blob::BlobId;
use crate::base::clock::Clock;
use crate::base::tree::{GenerationNumber, TreeName};
use crate::disk::Disk;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::Agents;
use crate::relay::refresh::Progress as Refreshing;
use crate::relay::resources::Resources;
use crate::relay::tree::Tree;
use crate::schedule::journal::Journal;
use crate::schedule::known::{Known, changed};
use crate::schedule::notices::machine::Notices;
use crate::schedule::notices::notice::{Counts, Limits, Notice, Now, Progress, StartId, StartsMax};
use crate::schedule::notices::record::Record;
use crate::schedule::notices::shown::Shown;
use crate::schedule::streams::{Presence, Streams};

/// How long nobody is told after the disk took nothing.
const DISK_AGAIN: Duration = Duration::from_secs(1);

/// Tells the agents of a relay.
#[derive(Debug)]
pub struct Notifier {
    agents: Arc<Agents>,
    streams: Arc<Streams>,
    clock: Arc<dyn Clock>,
    limits: ArcSwap<Limits>,
    /// The machine's figures as they were after its last step: whoever scrapes them waits for no disk.
    counts: ArcSwap<Counts>,
    /// Whoever holds it may wait for the disk, and so never within a task.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    notices: Notices,
    journal: Journal,
    /// What was decided and is not in the journal yet: the disk did not take it.
    unwritten: Vec<Record>,
    /// Who is to be told once it is.
    untold: Vec<(AgentId, Notice)>,
    /// Agents that are away from a moment on, unless they come back.
    leaving: BTreeSet<(Duration, AgentId)>,
    leaves_at: HashMap<AgentId, Duration, foldhash::fast::RandomState>,
    /// The generations that were looked at; none of any tree before the first look.
    looked_at: Option<HashMap<TreeName, GenerationNumber>>,
    /// The agent tree as it was looked at last.
    tree: Arc<Compiled>,
}

/// Why agents are not told.
#[derive(Debug, Error)]
pub enum NotifyError {
    /// Too many starts.
    #[error(transparent)]
    Starts(#[from] StartsMax),
    /// The journal.
    #[error("the journal of notices cannot be written: {0}")]
    Journal(#[from] io::Error),
}

impl Notifier {
    /// Opens the journal in a folder, and goes on where it ends. Blocks on the disk.
    pub fn open(
        disk: &Disk,
        folder: &Path,
        limits: Limits,
        agents: Arc<Agents>,
        streams: Arc<Streams>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (mut journal, records) = Journal::open(disk, folder)?;
        let now = Now { wall: clock.wall(), mono: clock.monotonic() };
        let notices = if records.is_empty() {
            let notices = Notices::new(rand::random());
            journal.rewrite(&notices.compacted())?;
            notices
        } else {
            Notices::replay(records, &limits, now)
        };
        // Agents that come back hear of what was under way.
        for (agent, notice) in notices.all_told() {
            streams.tell(agent, notice);
        }
        let tree = agents.state().current();
        let inner = Inner {
            notices,
            journal,
            unwritten: Vec::new(),
            untold: Vec::new(),
            leaving: BTreeSet::new(),
            leaves_at: HashMap::default(),
            looked_at: None,
            tree,
        };
        let counts = ArcSwap::from_pointee(inner.notices.counts());
        Ok(Self {
            agents,
            streams,
            clock,
            limits: ArcSwap::from_pointee(limits),
            counts,
            inner: inner.into(),
        })
    }

    /// The streams that agents hold.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Has other limits hold from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
        self.streams.look();
    }

    /// Has these agents update, as an administrator wants it; it is in the journal when this returns. Blocks on the disk.
    pub fn start(&self, agents: impl IntoIterator<Item = AgentId>) -> Result<StartId, NotifyError> {
        let mut inner = self.inner();
        let start = inner.notices.next_start();
        let records = inner.notices.start(start, agents, self.now())?;
        inner.unwritten.extend(records);
        // A start that cannot be written is not taken back: it is written, and told, once the disk takes it.
        inner.write()?;
        drop(inner);
        self.streams.look();
        Ok(start)
    }

    /// Has nobody told of a start who was not yet. Blocks on the disk.
    pub fn cancel(&self, start: StartId) -> Result<(), NotifyError> {
        let mut inner = self.inner();
        let records = inner.notices.cancel(start);
        inner.unwritten.extend(records);
        inner.write()?;
        drop(inner);
        self.streams.look();
        Ok(())
    }

    /// How far a start has come. Blocks while the journal is written.
    pub fn progress(&self, start: StartId) -> Option<Progress> {
        self.inner().notices.progress(start)
    }

    /// The starts that are remembered, the newest first. Blocks while the journal is written.
    pub fn starts(&self) -> Vec<(StartId, Progress)> {
        let inner = self.inner();
        let ids: Vec<_> = inner.notices.starts().collect();
        ids.into_iter().rev().filter_map(|start| Some((start, inner.notices.progress(start)?))).collect()
    }

    /// Figures, as of the last step. While the disk takes nothing, those count as told who are to be.
    pub fn counts(&self) -> Counts {
        **self.counts.load()
    }

    /// Does what is due; gives when there is more. Blocks on the disk.
    fn step(&self, trees: &[Arc<Tree>]) -> Option<Duration> {
        let limits = **self.limits.load();
        let now = self.now();
        let mut guard = self.inner();
        let inner = &mut *guard;
        self.hear(inner, now);
        self.look_at_agent_tree(inner);
        if inner.looked_at.is_none() {
            let records = inner.notices.keep_trees(|name| trees.iter().any(|tree| tree.name == *name));
            inner.unwritten.extend(records);
        }
        for tree in trees {
            self.look_at(inner, tree, now);
        }
        let known = Known { tree: &inner.tree, agents: &self.agents };
        let step = inner.notices.poll(&known, &limits, now);
        inner.unwritten.extend(step.records);
        inner.untold.extend(step.tell);
        self.counts.store(Arc::new(inner.notices.counts()));
        let settled: Vec<_> = inner.unwritten.iter().filter_map(ended_for).copied().collect();
        if let Err(error) = inner.write() {
            error!(%error, "nobody is told for the moment: the journal of notices cannot be written");
            return Some(now.mono + DISK_AGAIN);
        }
        for agent in settled.iter().filter(|agent| inner.notices.told(agent).is_none()) {
            self.streams.settled(agent);
        }
        for (agent, notice) in inner.untold.drain(..) {
            self.streams.tell(agent, notice);
        }
        let leaves = inner.leaving.first().map(|(at, _)| *at);
        [inner.notices.next(&limits, now), leaves].into_iter().flatten().min()
    }

    /// Takes in who came, went and reported.
    fn hear(&self, inner: &mut Inner, now: Now) {
        for (agent, heard) in self.streams.take_heard() {
            match heard.presence {
                Some(Presence::Here) => {
                    if let Some(at) = inner.leaves_at.remove(&agent) {
                        inner.leaving.remove(&(at, agent));
                    }
                    inner.notices.online(&agent);
                }
                Some(Presence::Away(at)) => {
                    if let Some(before) = inner.leaves_at.insert(agent, at) {
                        inner.leaving.remove(&(before, agent));
                    }
                    inner.leaving.insert((at, agent));
                }
                None => {}
            }
            if heard.reported {
                let records = inner.notices.reported(&agent);
                inner.unwritten.extend(records);
            }
            if heard.checked_in {
                inner.notices.agent_changed(&agent);
            }
        }
        while let Some((at, agent)) = inner.leaving.first().copied().filter(|(at, _)| *at <= now.mono) {
            inner.leaving.remove(&(at, agent));
            inner.leaves_at.remove(&agent);
            inner.notices.offline(&agent, now);
        }
    }

    /// Looks whether a tree has a new generation, and has those told whom it concerns (R9.1a); also one that came while the relay was down.
    fn look_at(&self, inner: &mut Inner, tree: &Arc<Tree>, now: Now) {
        let looked_at = inner.looked_at.get_or_insert_default();
        let Some(snapshot) = tree.snapshot() else { return };
        let current = snapshot.current();
        let number = current.generation.number();
        if looked_at.insert(tree.name.clone(), number) == Some(number) {
            return;
        }
        let shown = Shown::new(number, |scope| BlobId::of(&current.view(scope).bytes));
        let agents = if inner.notices.expects_agents_back(now) {
            inner
                .tree
                .tree()
                .agents()
                .filter(|(_, known)| !known.is_revoked())
                .map(|(agent, _)| *agent)
                .collect()
        } else {
            self.streams.listening()
        };
        let scope = |agent: &AgentId| inner.tree.agent(agent).map(|effective| *effective.scope());
        let agents = agents.into_iter().filter_map(|agent| Some((agent, scope(&agent)?)));
        let records = inner.notices.generation(&tree.name, shown, agents, now);
        let told = |record: &Record| match record {
            Record::Generation { agents, .. } => agents.len(),
            _ => 0,
        };
        let concerned: usize = records.iter().map(told).sum();
        if concerned > 0 {
            info!(tree = %tree.name, generation = number.0, agents = concerned, "agents are to be told of a new generation");
        }
        inner.unwritten.extend(records);
    }

    /// Looks whether the agent tree has changed, and for whom.
    fn look_at_agent_tree(&self, inner: &mut Inner) {
        let tree = self.agents.state().current();
        if Arc::ptr_eq(&tree, &inner.tree) {
            return;
        }
        let before = std::mem::replace(&mut inner.tree, tree.clone());
        inner.notices.tree_changed();
        let mut domains = HashMap::new();
        self.streams.settings_changed(|agent| changed(agent, &before, &tree, &mut domains));
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.wall(), mono: self.clock.monotonic() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        if self.journal.is_long() {
            self.journal.rewrite(&self.notices.compacted())?;
        } else {
            self.journal.append(&self.unwritten)?;
        }
        self.unwritten.clear();
        Ok(())
    }
}

/// Tells agents until the relay stops.
pub async fn run(notifier: Arc<Notifier>, trees: Vec<Arc<Tree>>, resources: Arc<Resources>) {
    let stop = resources.stop.clone();
    let mut changes = notifier.agents.changes();
    let mut refreshed: Vec<watch::Receiver<Refreshing>> =
        trees.iter().map(|tree| tree.progress().subscribe()).collect();
    let trees: Arc<[Arc<Tree>]> = trees.into();
    loop {
        let (own, looked_at) = (notifier.clone(), trees.clone());
        let Ok(next) = tokio::task::spawn_blocking(move || own.step(&looked_at)).await else { return };
        let in_so_long = next.map(|next| next.saturating_sub(notifier.clock.monotonic()));
        let due = async {
            match in_so_long {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let refreshes = refreshed.iter_mut().map(|tree| Box::pin(ended(tree)));
        let any_refresh = futures_util::future::select_all(refreshes);
        tokio::select! {
            () = stop.cancelled() => return,
            () = due => {}
            () = notifier.streams.heard() => {}
            changed = changes.changed() => if changed.is_err() { return },
            _ = any_refresh => {}
        }
    }
}

/// Waits until a refresh has ended.
async fn ended(tree: &mut watch::Receiver<Refreshing>) {
    let ended = tree.borrow_and_update().ended;
    // Its sender lives as long as the tree.
    let _ = tree.wait_for(|progress| progress.ended > ended).await;
}

/// The agent for whom a record may end what it was told.
fn ended_for(record: &Record) -> Option<&AgentId> {
    match record {
        Record::Reported { agent }
        | Record::GaveUp { agent }
        | Record::StayedAway { agent }
        | Record::Gone { agent } => Some(agent),
        _ => None,
    }
}
