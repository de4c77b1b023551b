//! The files of the agent tree: their names, and which of them are there.
//!
//! Never opens one. Invariant: a name that is no journal's or snapshot's is left alone.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::state::record::Serial;

/// Which files are there, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) snapshots: Vec<Serial>,
    pub(super) journals: Vec<Serial>,
    /// Snapshots and damaged ends that were being written when the relay ended.
    pub(super) begun: Vec<PathBuf>,
}

impl Files {
    pub(super) fn list(disk: &Disk, folder: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        for entry in disk.list(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((number, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Ok(serial) = number.parse().map(Serial) else { continue };
            match kind {
                "snapshot" => files.snapshots.push(serial),
                "journal" => files.journals.push(serial),
                "snapshot.new" | "damaged.new" => files.begun.push(entry.path()),
                _ => {}
            }
        }
        files.snapshots.sort_unstable();
        files.journals.sort_unstable();
        Ok(files)
    }
}

/// Bytes of all files in a folder and those within it, apart from a journal that grows.
pub(super) fn bytes(disk: &Disk, folder: &Path, but: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in disk.list(folder)? {
        let entry = entry?;
        let path = entry.path();
        sum += if entry.file_type()?.is_dir() {
            bytes(disk, &path, but)?
        } else if path == but {
            0
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

/// The journal of the changes after this one.
pub(super) fn journal(folder: &Path, after: Serial) -> PathBuf {
    folder.join(format!("{after}.journal"))
}

/// The tree after this change.
pub(super) fn snapshot(folder: &Path, of: Serial) -> PathBuf {
    folder.join(format!("{of}.snapshot"))
}

/// A snapshot that is being written.
pub(super) fn begun_snapshot(folder: &Path, of: Serial) -> PathBuf {
    folder.join(format!("{of}.snapshot.new"))
}

/// What was cut from a journal's end after this change.
pub(super) fn damaged(folder: &Path, after: Serial) -> PathBuf {
    folder.join(format!("{after}.damaged"))
}

/// A snapshot that turned out to be damaged.
pub(super) fn damaged_snapshot(folder: &Path, of: Serial) -> PathBuf {
    folder.join(format!("{of}.snapshot.damaged"))
}
