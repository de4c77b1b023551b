//! The agent tree on the disk, and the one way to change it while agents are served by it; beside it what signs agents' certificates.
//!
//! ```text
//! data/agents/S.journal        the changes after change S, a line each: who, when, what, before, after
//! data/agents/S.snapshot       the tree after change S
//! data/agents/S.damaged        lines that were cut from a journal's end, with their damage, for people to look at
//! data/agents/S.snapshot.damaged   a snapshot that turned out to be damaged, the same
//! data/agents/files/HASH       the bytes of settings files
//! data/authority/              what signs agents' certificates: see [`authority`]
//! data/admin/                  the tokens of administrators: see [`tokens`]
//! ```
//!
//! The journals are the authority and the audit log; a snapshot saves playing them again. A change's way: [`State::change`] ->
//! [`writer`] (asked of the tree, written, synced together with those that wait with it) -> [`State::current`] -> answer.
//! Never decides what a change means: that is [`policy::tree`](crate::policy::tree). Invariant: what was acknowledged is on the
//! disk, and what is decided by is never ahead of it.

pub mod audit;
pub mod authority;
pub mod contents;
mod files;
pub mod load;
pub mod outline;
pub mod record;
pub mod signing_request;
pub mod tokens;
pub mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::base::clock::Clock;
use crate::disk::Disk;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::refused::Refused;
use crate::state::contents::Contents;
use crate::state::load::LoadError;
use crate::state::record::{Author, Serial};
use crate::state::writer::{Job, Plan, Shown, Writer};

/// Changes that may wait to be written. Each may hold as many actions as a transaction may, most hold one; a thousand that wait
/// for one disk are more than administrators and enrolment bring within the time of a sync.
pub const WAITING_MAX: usize = 1024;

/// How a state is kept; tests have less patience than administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// A journal of so many bytes is followed by a snapshot and a new one. Default: 16 MiB, which a start plays again in a
    /// fraction of a second, and more than a snapshot of 100,000 agents.
    pub journal_bytes_max: u64,
    /// Bytes of journals that are kept as audit log alone, behind the two newest snapshots. Default: 256 MiB, a million changes.
    pub audit_bytes_max: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { journal_bytes_max: 16 << 20, audit_bytes_max: 256 << 20 }
    }
}

/// The agent tree of one data folder, open for changes.
#[derive(Debug)]
pub struct State {
    disk: Disk,
    folder: PathBuf,
    live: Arc<ArcSwap<Compiled>>,
    /// `None` only while it is dropped: the writer ends when nobody can send any more.
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    changed: watch::Receiver<Serial>,
    contents: Contents,
    bytes: Arc<AtomicU64>,
}

/// A change that was made: it is on the disk, and what is decided from now on is decided by it.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its number; `None` where it changed nothing, and nothing was written.
    pub serial: Option<Serial>,
    /// What it changed.
    pub differences: Vec<Difference>,
}

/// Why a change was not made.
#[derive(Clone, Debug, Error)]
pub enum ChangeError {
    /// The tree does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was to be made right after a change that is not the last one any more.
    #[error("the agent tree has changed since: its last change is {0}")]
    Outrun(Serial),
    /// It could not be written, or waited with one that could not. After a restart it may be there all the same.
    #[error("the change could not be written: {0}")]
    Disk(#[source] Arc<io::Error>),
    /// Too many wait.
    #[error("{WAITING_MAX} changes wait to be written: try again later")]
    Busy,
    /// The relay stops.
    #[error("the relay stops: no more changes are made")]
    Stopped,
}

/// A change that waits to be written. It is made whether or not anybody waits for it.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Done, ChangeError>>);

impl Pending {
    /// Waits without blocking.
    pub async fn done(self) -> Result<Done, ChangeError> {
        self.0.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// Waits; blocks, and so never within a task.
    pub fn wait(self) -> Result<Done, ChangeError> {
        self.0.blocking_recv().unwrap_or(Err(ChangeError::Stopped))
    }
}

impl State {
    /// Opens the agent tree in this folder, or makes an empty one where there is none. Whoever calls holds the data folder's
    /// lock. Blocks on the disk.
    pub fn open(disk: &Disk, folder: &Path, keep: Keep, clock: Arc<dyn Clock>) -> Result<Self, LoadError> {
        let loaded = load::load(disk, folder)?;
        let contents =
            Contents::open(disk, folder, &loaded.tree).map_err(LoadError::io("read files of", folder))?;
        let live = Arc::new(ArcSwap::from_pointee(Compiled::new(loaded.tree.clone())));
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let (changed, changes) = watch::channel(loaded.serial);
        let bytes = Arc::new(AtomicU64::new(0));
        let shown = Shown { live: live.clone(), changed, bytes: bytes.clone() };
        let writer = Writer::new(disk.clone(), folder.to_owned(), keep, clock, loaded, shown);
        let thread = thread::Builder::new().name("state".into());
        let writer = thread.spawn(move || writer.run(&waiting)).map_err(LoadError::Thread)?;
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Ok(Self {
            disk,
            folder,
            live,
            jobs: Some(jobs),
            writer: Some(writer),
            changed: changes,
            contents,
            bytes,
        })
    }

    /// What requests are decided by now, and a change that is in it: the last one, but where another comes at this moment.
    pub fn current_after(&self) -> (Serial, Arc<Compiled>) {
        // A change is decided by before it is told: the other way round, one could be missing.
        let last = *self.changed.borrow();
        (last, self.current())
    }

    /// What requests are decided by now.
    pub fn current(&self) -> Arc<Compiled> {
        self.live.load_full()
    }

    /// The same, for whoever decides requests: each takes one and keeps it to its end.
    pub fn live(&self) -> &Arc<ArcSwap<Compiled>> {
        &self.live
    }

    /// Tells the last change that is on the disk and decided by, each time that there is one.
    pub fn changes(&self) -> watch::Receiver<Serial> {
        self.changed.clone()
    }

    /// How many bytes all of it takes on the disk; settings files count from the next snapshot on.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of settings files.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Makes a transaction of these actions.
    pub fn change(&self, author: Author, actions: Vec<Action>) -> Result<Pending, ChangeError> {
        self.plan(author, move |_| Ok(actions))
    }

    /// The same, where this is still the last change when it is made: else nothing is.
    pub fn change_after(
        &self,
        last: Serial,
        author: Author,
        actions: Vec<Action>,
    ) -> Result<Pending, ChangeError> {
        self.send(author, Some(last), Box::new(move |_| Ok(actions)))
    }

    /// Makes a transaction that is planned on the tree as it will be found: nothing comes between plan and change. Does not wait.
    pub fn plan(
        &self,
        author: Author,
        plan: impl FnOnce(&Tree) -> Result<Vec<Action>, Refused> + Send + 'static,
    ) -> Result<Pending, ChangeError> {
        self.send(author, None, Box::new(plan))
    }

    fn send(&self, author: Author, last: Option<Serial>, plan: Box<Plan>) -> Result<Pending, ChangeError> {
        let (answer, pending) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(ChangeError::Stopped)?;
        jobs.try_send(Job { author, last, plan, answer }).map_err(|error| match error {
            TrySendError::Full(_) => ChangeError::Busy,
            TrySendError::Disconnected(_) => ChangeError::Stopped,
        })?;
        Ok(Pending(pending))
    }
}

/// What waits is written before the writer ends.
impl Drop for State {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // One that panicked has said so, and has nothing left to write.
            let _ = writer.join();
        }
    }
}
