//! Reading the agent tree at the start: the newest whole snapshot, and the journals after it.
//!
//! A journal's end that a crash tore, or a last group that is damaged, was never acknowledged or cannot be told from one that
//! was not: it is cut, loudly. Damage before that is somebody's change: nothing starts until a person has said how to go on.
//! Invariant: what is loaded is what the records make of the snapshot, one after the other, none left out and none twice.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::{error, info, warn};

use crate::disk::Disk;
use crate::disk::journal::{Journal, Recovered};
use crate::policy::tree::Tree;
use crate::policy::tree::difference::Misfit;
use crate::state::files::{self, Files};
use crate::state::record::{Line, Record, Serial};

/// What was found.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The tree after the last change.
    pub(super) tree: Tree,
    /// The last change.
    pub(super) serial: Serial,
    /// The journal that the next change goes to.
    pub(super) journal: Journal<Record>,
    /// The change after which that journal begins.
    pub(super) begins_after: Serial,
}

/// Why the agent tree cannot be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file or folder could not be used.
    #[error("agent tree: {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A journal is damaged where changes were acknowledged.
    #[error("agent tree: {path} is damaged in line {line}, and changes come after it. Put the file back from a copy; or, to go on \
        without what was changed from that line on, keep its lines before that one alone (head -n {}) and move journals and \
        snapshots with numbers above {last} away", line - 1, path = path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The last change before it.
        last: Serial,
    },
    /// A line is whole and does not belong there.
    #[error("agent tree: line {line} of {path} {reason}. Put the file back from a copy; or, to go on without what was changed \
        from that line on, keep its lines before that one alone (head -n {}) and move journals and snapshots with numbers above \
        {last} away", line - 1, path = path.display())]
    Misplaced {
        /// The journal.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The last change before it.
        last: Serial,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing whole to begin with.
    #[error("agent tree: {path} has journals or snapshots, but no whole snapshot with the journal {missing} that goes on from \
        it. Put what is missing back from a copy; or, to begin with an empty tree, move the folder away", path = path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The journal that is looked for.
        missing: String,
    },
    /// The thread that writes cannot be started.
    #[error("agent tree: the thread that writes cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl LoadError {
    pub(super) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Reads the agent tree in a folder, or makes an empty one. Blocks on the disk.
pub(super) fn load(disk: &Disk, folder: &Path) -> Result<Loaded, LoadError> {
    disk.create_private_folder(folder).map_err(LoadError::io("make folder", folder))?;
    let files = Files::list(disk, folder).map_err(LoadError::io("list", folder))?;
    if files.journals.is_empty() && files.snapshots.is_empty() {
        let path = files::journal(folder, Serial(0));
        let made = Journal::create(disk, &path, &[]);
        let journal = made.and_then(|journal| disk.sync_folder(folder).map(|()| journal));
        let journal = journal.map_err(LoadError::io("make", &path))?;
        return Ok(Loaded { tree: Tree::default(), serial: Serial(0), journal, begins_after: Serial(0) });
    }
    for begun in &files.begun {
        disk.remove_if_there(begun).map_err(LoadError::io("remove", begun))?;
    }
    let Base { mut tree, serial: base, damaged } = base(disk, folder, &files)?;
    let mut serial = base;
    let mut last = None;
    let mut journals = VecDeque::new();
    for begins in files.journals.into_iter().filter(|begins| *begins >= base) {
        let path = files::journal(folder, begins);
        let read = Journal::<Record>::read(disk, &path).map_err(LoadError::io("read", &path))?;
        journals.extend(read.map(|read| (begins, path, read)));
    }
    while let Some((begins, path, read)) = journals.pop_front() {
        let is_last = journals.iter().all(|(_, _, later)| is_empty(later));
        if begins != serial {
            // A new journal that could not be begun: what it was for went on in the one before it.
            if is_last && is_empty(&read) {
                disk.remove_if_there(&path).map_err(LoadError::io("remove", &path))?;
                continue;
            }
            let missing = format!("{serial}.journal");
            return Err(LoadError::Missing { path: folder.to_owned(), missing });
        }
        let kept = kept(&path, read, serial, is_last)?;
        (tree, serial) = replay(tree, serial, &path, kept.records)?;
        last = Some((begins, path, kept.cut));
    }
    let Some((begins_after, path, cut)) = last else {
        let missing = format!("{base}.journal");
        return Err(LoadError::Missing { path: folder.to_owned(), missing });
    };
    let journal = open(disk, folder, &path, serial, cut)?;
    for snapshot in damaged {
        // It must not count as one of those that are kept.
        let aside = files::damaged_snapshot(folder, snapshot);
        let renamed = disk.rename_synced(&files::snapshot(folder, snapshot), &aside);
        renamed.map_err(LoadError::io("rename to", &aside))?;
    }
    info!(
        domains = tree.domain_count(),
        agents = tree.agent_count(),
        changes = %serial,
        snapshot = %base,
        "the agent tree is read"
    );
    Ok(Loaded { tree, serial, journal, begins_after })
}

/// What the journals go on from.
struct Base {
    tree: Tree,
    serial: Serial,
    /// Newer snapshots, which are damaged.
    damaged: Vec<Serial>,
}

/// The newest snapshot that is whole, or the empty tree from which the first journal goes on.
fn base(disk: &Disk, folder: &Path, files: &Files) -> Result<Base, LoadError> {
    let mut damaged = Vec::new();
    for serial in files.snapshots.iter().rev().copied() {
        let path = files::snapshot(folder, serial);
        if !files.journals.contains(&serial) {
            // Its journal was there before it, and held what came since: with another base, that would be lost in silence.
            let missing = format!("{serial}.journal");
            return Err(LoadError::Missing { path: folder.to_owned(), missing });
        }
        let read = Journal::<Line>::read(disk, &path).map_err(LoadError::io("read", &path))?;
        if let Some(tree) = read.and_then(|read| restored(read, serial)) {
            return Ok(Base { tree, serial, damaged });
        }
        damaged.push(serial);
        error!(
            path = %path.display(),
            "a snapshot of the agent tree is damaged: the one before it is taken, with the changes since"
        );
    }
    if files.journals.first() == Some(&Serial(0)) {
        return Ok(Base { tree: Tree::default(), serial: Serial(0), damaged });
    }
    let begins = files.journals.first().copied().unwrap_or_default();
    Err(LoadError::Missing { path: folder.to_owned(), missing: format!("{begins}.journal") })
}

/// The tree that a snapshot holds; `None` where it is damaged.
fn restored(read: Recovered<Line>, serial: Serial) -> Option<Tree> {
    if !read.damaged.is_empty() || read.torn_bytes > 0 {
        return None;
    }
    let mut lines = read.records.into_iter();
    let Line::Snapshot(head) = lines.next()? else { return None };
    if head.serial != serial || head.lines != lines.len() {
        return None;
    }
    let held = lines.map(|line| match line {
        Line::Holds(difference) => Some(difference),
        Line::Snapshot(_) => None,
    });
    let held = held.collect::<Option<Vec<_>>>()?;
    Tree::numbering_after(head.last_domain).replayed(held).ok()
}

/// What counts of a journal.
struct Kept {
    records: Vec<Record>,
    /// Where the journal ends, where lines with their end were damaged and go.
    cut: Option<u64>,
}

fn is_empty(read: &Recovered<Record>) -> bool {
    read.ends.is_empty() && read.torn_bytes == 0
}

/// Tells a damaged end, which only the last journal has, from damage in the middle.
fn kept(path: &Path, read: Recovered<Record>, before: Serial, is_last: bool) -> Result<Kept, LoadError> {
    let Recovered { mut records, damaged, ends, torn_bytes } = read;
    let bad = damaged.first().copied().or((torn_bytes > 0).then_some(ends.len() + 1));
    let Some(bad) = bad else { return Ok(Kept { records, cut: None }) };
    // Every line before the first bad one gave a record.
    let behind = records.split_off(bad - 1);
    let last = Serial(before.0 + records.len() as u64);
    // A group that stands at the end may have lost any of its lines: none was acknowledged when the disk stopped.
    let one_group =
        behind.iter().all(|record| record.group == behind[0].group && record.group <= last.next());
    if !is_last || !one_group {
        return Err(LoadError::Damaged { path: path.to_owned(), line: bad, last });
    }
    error!(
        path = %path.display(),
        line = bad,
        %last,
        lines = ends.len() + 1 - bad,
        torn_bytes,
        "the end of the agent tree's journal is damaged: it is cut after the last whole change"
    );
    let cut = (!damaged.is_empty()).then(|| if bad == 1 { 0 } else { ends[bad - 2] });
    Ok(Kept { records, cut })
}

fn replay(
    mut tree: Tree,
    mut serial: Serial,
    path: &Path,
    records: Vec<Record>,
) -> Result<(Tree, Serial), LoadError> {
    for (at, record) in records.into_iter().enumerate() {
        let misplaced =
            |reason| LoadError::Misplaced { path: path.to_owned(), line: at + 1, last: serial, reason };
        if record.serial != serial.next() {
            return Err(misplaced(format!("is change {}, where {} is due", record.serial, serial.next())));
        }
        tree = tree.replayed(record.changed).map_err(|misfit: Misfit| misplaced(format!("has {misfit}")))?;
        serial = record.serial;
    }
    Ok((tree, serial))
}

/// Opens the newest journal for what comes, without its damaged end, which is kept aside.
fn open(
    disk: &Disk,
    folder: &Path,
    path: &Path,
    last: Serial,
    cut: Option<u64>,
) -> Result<Journal<Record>, LoadError> {
    if let Some(cut) = cut {
        let text = disk.read(path).map_err(LoadError::io("read", path))?.unwrap_or_default();
        let aside = files::damaged(folder, last);
        let behind = usize::try_from(cut).ok().and_then(|cut| text.get(cut..)).unwrap_or_default();
        disk.write_whole(&aside, behind).map_err(LoadError::io("write", &aside))?;
        warn!(path = %aside.display(), "what was cut is kept here, for people to look at");
    }
    let opened = Journal::open(disk, path).map_err(LoadError::io("open", path))?;
    let gone = || LoadError::io("open", path)(io::ErrorKind::NotFound.into());
    let (mut journal, _) = opened.ok_or_else(gone)?;
    if let Some(cut) = cut {
        journal.cut(cut).map_err(LoadError::io("cut", path))?;
    }
    Ok(journal)
}
