//! The one thread that changes the agent tree: it takes what waits, asks the tree, writes and syncs all of it at once, then
//! answers.
//!
//! Lock order: none is held. Invariants: a change is acknowledged after its record is synced, and becomes what requests are
//! decided by between the two; a group that cannot be written leaves the tree as it was.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::base::clock::Clock;
use crate::disk::Disk;
use crate::disk::journal::Journal;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::refused::Refused;
use crate::state::files::{self, Files};
use crate::state::load::Loaded;
use crate::state::record::{Author, Head, Line, Record, Serial, told};
use crate::state::{ChangeError, Done, Keep};

/// Changes that are written and synced together: as many as may wait, so that none waits for two syncs.
const GROUP_MAX: usize = super::WAITING_MAX;

/// Snapshots that are kept: where the newest is damaged, the other and the journals since give the same tree.
const SNAPSHOTS_KEPT: usize = 2;

/// What makes the actions of a transaction from the tree that they are for.
pub(super) type Plan = dyn FnOnce(&Tree) -> Result<Vec<Action>, Refused> + Send;

/// A change that somebody wants.
pub(super) struct Job {
    pub(super) author: Author,
    /// The change that must be the last one before it, if that matters.
    pub(super) last: Option<Serial>,
    pub(super) plan: Box<Plan>,
    /// Whoever asked may be gone: then nobody hears.
    pub(super) answer: oneshot::Sender<Result<Done, ChangeError>>,
}

/// What the thread has.
pub(super) struct Writer {
    disk: Disk,
    folder: PathBuf,
    keep: Keep,
    clock: Arc<dyn Clock>,
    /// The last change that is on the disk.
    serial: Serial,
    journal: Journal<Record>,
    /// The change after which the journal begins.
    begins_after: Serial,
    /// The length of the journal at which the next snapshot is tried.
    full_at: u64,
    shown: Shown,
    /// What all files but the journal that grows take.
    other_bytes: u64,
}

/// What everybody else sees of the agent tree.
pub(super) struct Shown {
    /// What requests are decided by.
    pub(super) live: Arc<ArcSwap<Compiled>>,
    /// The last change that is on the disk and decided by.
    pub(super) changed: watch::Sender<Serial>,
    /// What all files take.
    pub(super) bytes: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        folder: PathBuf,
        keep: Keep,
        clock: Arc<dyn Clock>,
        loaded: Loaded,
        shown: Shown,
    ) -> Self {
        let Loaded { serial, journal, begins_after, .. } = loaded;
        let full_at = keep.journal_bytes_max;
        let mut writer =
            Self { disk, folder, keep, clock, serial, journal, begins_after, full_at, shown, other_bytes: 0 };
        writer.add_up();
        writer
    }

    /// Makes changes until nobody can ask for any.
    pub(super) fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(first) = waiting.recv() {
            let more = waiting.try_iter().take(GROUP_MAX - 1);
            let group: Vec<_> = std::iter::once(first).chain(more).collect();
            self.make(group);
            if self.journal.len() >= self.full_at {
                self.begin_anew();
            }
        }
    }

    /// Makes the changes of a group, each on what those before it left; what the tree refuses leaves nothing.
    fn make(&mut self, group: Vec<Job>) {
        let before = self.shown.live.load_full();
        let mut tree = before.tree().clone();
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        let (mut serial, at) = (self.serial, self.clock.wall());
        for Job { author, last, plan, answer } in group {
            if last.is_some_and(|last| last != serial) {
                answers.push((answer, Err(ChangeError::Outrun(serial))));
                continue;
            }
            let changed = plan(&tree).and_then(|actions| Ok((tree.changed(&actions)?, told(&actions))));
            answers.push((
                answer,
                match changed {
                    Err(refused) => Err(refused.into()),
                    Ok((changed, _)) if changed.differences.is_empty() => Ok(None),
                    Ok((changed, what)) => {
                        serial = serial.next();
                        tree = changed.tree;
                        let group = self.serial.next();
                        let changed = changed.differences;
                        records.push(Record { serial, group, at, who: author, what, changed });
                        Ok(Some(records.len() - 1))
                    }
                },
            ));
        }
        if !records.is_empty() {
            if let Err(error) = self.journal.append(&records) {
                warn!(%error, changes = records.len(), "changes of the agent tree could not be written");
                // What was refused may have been refused for what a change before it did, which now is not there.
                let error = Arc::new(error);
                for (answer, _) in answers {
                    let _ = answer.send(Err(ChangeError::Disk(error.clone())));
                }
                return;
            }
            self.serial = serial;
            self.tell_bytes();
            let differences = records.iter().flat_map(|record| &record.changed);
            self.shown.live.store(before.after(tree, differences).into());
            self.shown.changed.send_replace(serial);
        }
        for (answer, made) in answers {
            let _ = answer.send(match made {
                Err(error) => Err(error),
                Ok(None) => Ok(Done { serial: None, differences: Vec::new() }),
                Ok(Some(at)) => {
                    let record: &mut Record = &mut records[at];
                    let differences = std::mem::take(&mut record.changed);
                    Ok(Done { serial: Some(record.serial), differences })
                }
            });
        }
    }

    /// Begins a new journal, and writes the tree as it is where the old one ends. What fails is tried again later: the journals
    /// that are there hold everything.
    fn begin_anew(&mut self) {
        match self.begin_journal().and_then(|()| self.write_snapshot()) {
            Ok(lines) => info!(changes = %self.serial, lines, "a snapshot of the agent tree is written"),
            Err(error) => {
                warn!(%error, "no snapshot of the agent tree could be written: the next start takes longer");
            }
        }
        self.full_at = self.journal.len() + self.keep.journal_bytes_max;
        if let Err(error) = self.remove_old() {
            warn!(%error, "old journals and snapshots of the agent tree could not be removed");
        }
        self.add_up();
    }

    /// Looks at what all files take.
    fn add_up(&mut self) {
        let journal = files::journal(&self.folder, self.begins_after);
        match files::bytes(&self.disk, &self.folder, &journal) {
            Ok(bytes) => self.other_bytes = bytes,
            Err(error) => warn!(%error, "it cannot be seen what the agent tree takes on the disk"),
        }
        self.tell_bytes();
    }

    fn tell_bytes(&self) {
        self.shown.bytes.store(self.other_bytes + self.journal.len(), Ordering::Relaxed);
    }

    /// The journal comes before the snapshot: one without its journal would look as if changes were lost.
    fn begin_journal(&mut self) -> io::Result<()> {
        if self.begins_after == self.serial {
            return Ok(());
        }
        let path = files::journal(&self.folder, self.serial);
        // One that could not be begun before holds nothing.
        self.disk.remove_if_there(&path)?;
        let journal = Journal::create(&self.disk, &path, &[]);
        let journal = journal.and_then(|journal| {
            self.disk.sync_folder(&self.folder)?;
            Ok(journal)
        });
        match journal {
            Ok(journal) => {
                self.journal = journal;
                self.begins_after = self.serial;
                Ok(())
            }
            Err(error) => {
                // Empty, it is passed over at the next start, if it is still there then.
                let _ = self.disk.remove_if_there(&path);
                Err(error)
            }
        }
    }

    fn write_snapshot(&self) -> io::Result<usize> {
        let live = self.shown.live.load_full();
        let tree = live.tree();
        let held: Vec<_> = tree.whole().map(Line::Holds).collect();
        let count = held.len();
        let last_domain = tree.last_domain();
        let head = Head { serial: self.serial, at: self.clock.wall(), last_domain, lines: count };
        let lines: Vec<_> = std::iter::once(Line::Snapshot(head)).chain(held).collect();
        let begun = files::begun_snapshot(&self.folder, self.serial);
        self.disk.remove_if_there(&begun)?;
        Journal::create(&self.disk, &begun, &lines)?;
        self.disk.rename_synced(&begun, &files::snapshot(&self.folder, self.serial))?;
        Ok(count)
    }

    /// Removes snapshots behind the newest, and of the journals behind them the oldest, where the audit log has grown too large.
    fn remove_old(&self) -> io::Result<()> {
        let files = Files::list(&self.disk, &self.folder)?;
        let Some(oldest) = files.snapshots.len().checked_sub(SNAPSHOTS_KEPT) else { return Ok(()) };
        for serial in &files.snapshots[..oldest] {
            self.disk.remove_if_there(&files::snapshot(&self.folder, *serial))?;
        }
        let needed = files.snapshots[oldest];
        let mut bytes = 0;
        for serial in files.journals.into_iter().rev().filter(|begins| *begins < needed) {
            let path = files::journal(&self.folder, serial);
            bytes += std::fs::metadata(&path)?.len();
            if bytes > self.keep.audit_bytes_max {
                self.disk.remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}
