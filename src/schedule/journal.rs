//! The journal of notices: what was decided, so that a relay that starts anew goes on where it was.
//!
//! ```text
//! data/notices/journal    a line for each decision, checksummed; written anew when most of it says nothing any more
//! ```
//!
//! Damaged lines are left out: at worst agents are told once more, or not at all until their next schedule. Invariant: what was
//! appended is on the disk when that returns.

use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::disk::Disk;
use crate::disk::journal::Journal as Lines;
use crate::schedule::notices::record::Record;

/// The journal of one data folder.
#[derive(Debug)]
pub struct Journal {
    disk: Disk,
    folder: PathBuf,
    lines: Lines<Record>,
    /// How long it was when it was written anew.
    compact_bytes: u64,
}

const FILE: &str = "journal";

const NEW: &str = "journal.new";

/// A journal is written anew once it is so many times as long as it must be, and longer than this.
const GROWS: u64 = 4;
const COMPACT_BYTES_MIN: u64 = 1 << 20;

impl Journal {
    /// Opens the journal of a folder, which is made where it is missing, and gives what it says. Blocks on the disk.
    pub fn open(disk: &Disk, folder: &Path) -> io::Result<(Self, Vec<Record>)> {
        disk.create_private_folder(folder)?;
        // A crash left it before it was the journal.
        disk.remove_if_there(&folder.join(NEW))?;
        let path = folder.join(FILE);
        let (lines, records) = match Lines::open(disk, &path)? {
            Some((lines, recovered)) => {
                if !recovered.damaged.is_empty() {
                    let damaged = recovered.damaged.len();
                    warn!(path = %path.display(), damaged, "damaged lines of the journal of notices are left out");
                }
                (lines, recovered.records)
            }
            None => {
                let lines = Lines::create(disk, &path, &[])?;
                disk.sync_folder(folder)?;
                (lines, Vec::new())
            }
        };
        let compact_bytes = lines.len();
        Ok((Self { disk: disk.clone(), folder: folder.to_owned(), lines, compact_bytes }, records))
    }

    /// Writes records down. Blocks on the disk.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.lines.append(records)
    }

    /// Whether most of it says nothing any more.
    pub fn is_long(&self) -> bool {
        self.lines.len() > (GROWS * self.compact_bytes).max(COMPACT_BYTES_MIN)
    }

    /// Puts these records in the place of all. Blocks on the disk.
    pub fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let new = self.folder.join(NEW);
        self.disk.remove_if_there(&new)?;
        let lines = Lines::create(&self.disk, &new, records)?;
        self.disk.rename_synced(&new, &self.folder.join(FILE))?;
        self.compact_bytes = lines.len();
        self.lines = lines;
        Ok(())
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.lines.len()
    }
}
