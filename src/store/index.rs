//! Which blobs are there, when each was last used, and which components agents use: a view in sled, never an authority.
//!
//! A row of `blobs` is the hash, then size and time of last use in seconds, big-endian. A blob that was only listed counts as
//! last used when its file was made. The row that marks a closed index has what all blobs take on the disk, so that a start reads no
//! row of theirs.
//!
//! No type of sled leaves this file and [`answers`](crate::store::answers). Invariant: an index that was not closed is compared with the
//! names in `blobs/`, and one that sled cannot read is thrown away and made again from them.

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use thiserror::Error;
use tracing::{info, warn};

use crate::base::blob::BlobId;
use crate::base::tree::TreeName;
use crate::disk::Disk;
use crate::store::answers::Answers;
use crate::store::blobs::BlobName;
use crate::store::eviction::Candidate;
use crate::store::listing;
use crate::store::room::on_disk;

/// sled's cache, in bytes: a million blobs are listed in 160 MB whatever it is, look-ups are rare.
const CACHE_BYTES: u64 = 16 << 20;

/// How often sled writes out by itself, in milliseconds: what is lost is found again by listing.
const FLUSH_MS: u64 = 2_000;

const CLOSED: &[u8] = b"closed";

/// The open index.
#[derive(Debug)]
pub struct Index {
    disk: Disk,
    database: sled::Db,
    blobs: sled::Tree,
    used: sled::Tree,
    answers: Answers,
    /// What all blobs take on the disk, in bytes.
    blobs_on_disk: AtomicU64,
    /// Whether a change of it failed: then the next start makes it again.
    doubted: AtomicBool,
}

/// Why the index cannot be used.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The database failed.
    #[error("{0}")]
    Database(#[from] sled::Error),
    /// The disk failed under it.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The folder could not be listed or cleared.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl IndexError {
    fn panicked(path: &Path) -> Self {
        Self::Io { path: path.to_owned(), source: io::Error::other("sled panicked on its files") }
    }
}

impl Index {
    /// Opens the index in `path`; where it is missing, damaged or was not closed, brings it to the files in `blobs`.
    pub fn open(disk: Disk, path: &Path, blobs: &Path) -> Result<Self, IndexError> {
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_whole(disk.clone(), path, blobs)));
        match opened.unwrap_or_else(|_| Err(IndexError::panicked(path))) {
            Ok(index) => return Ok(index),
            Err(error) => warn!(%error, "the index is damaged: it is made again from the files"),
        }
        disk.remove_folder_if_there(path)
            .map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
        let index = Self::open_database(disk, path)?;
        index.bring_to(blobs)?;
        Ok(index)
    }

    /// Opens what is there and brings it up to the files. sled may panic on damaged ones; that counts as damage.
    fn open_whole(disk: Disk, path: &Path, blobs: &Path) -> Result<Self, IndexError> {
        let index = Self::open_database(disk, path)?;
        if let Some(bytes) = index.take_closed_mark()? {
            index.blobs_on_disk.store(bytes, Ordering::Relaxed);
            return Ok(index);
        }
        index.answers.set_doubted();
        if index.database.was_recovered() {
            info!("the index was not closed: it is compared with the files");
        }
        index.bring_to(blobs)?;
        Ok(index)
    }

    fn open_database(disk: Disk, path: &Path) -> Result<Self, IndexError> {
        let config =
            sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_MS));
        let database = config.open()?;
        let (blobs, used) = (database.open_tree("blobs")?, database.open_tree("used")?);
        let answers = Answers::new(disk.clone(), database.open_tree("answers")?);
        let (blobs_on_disk, doubted) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { disk, database, blobs, used, answers, blobs_on_disk, doubted })
    }

    /// What all blobs take on the disk, where the index was closed; from here on it counts as not closed until [`Index::close`].
    fn take_closed_mark(&self) -> Result<Option<u64>, IndexError> {
        self.disk.index("index open", || {
            let closed = self.database.remove(CLOSED)?;
            self.database.flush()?;
            // Programs before this one wrote no number.
            let listed = || self.blobs().fold(0, |sum: u64, blob| sum.saturating_add(on_disk(blob.size)));
            Ok(closed.map(|mark| number(&mark).unwrap_or_else(listed)))
        })
    }

    fn bring_to(&self, blobs: &Path) -> Result<(), IndexError> {
        let bytes = listing::bring(self, &self.disk, blobs)?;
        self.blobs_on_disk.store(bytes, Ordering::Relaxed);
        self.database.flush()?;
        Ok(())
    }

    /// Adds a blob that is used now; true where it was not there before.
    pub fn insert(&self, name: BlobName, used: Timestamp) -> Result<bool, IndexError> {
        let row = [name.size.to_be_bytes(), secs(used)].concat();
        self.changed("index insert", || {
            let before = self.blobs.insert(name.id.as_bytes(), row)?;
            self.blobs_on_disk.fetch_add(on_disk(name.size), Ordering::Relaxed);
            self.take_off(before.as_deref());
            Ok(before.is_none())
        })
    }

    /// Forgets a blob; true where it was there.
    pub fn remove(&self, id: BlobId) -> Result<bool, IndexError> {
        self.changed("index remove", || {
            let before = self.blobs.remove(id.as_bytes())?;
            self.take_off(before.as_deref());
            Ok(before.is_some())
        })
    }

    /// Counts a row no longer.
    fn take_off(&self, row: Option<&[u8]>) {
        let size = row.and_then(|row| number(row.get(..8)?));
        self.blobs_on_disk.fetch_sub(size.map_or(0, on_disk), Ordering::Relaxed);
    }

    /// Notes that a blob is used now. A lost note makes it go a little earlier, no more.
    pub fn note_use(&self, id: BlobId, used: Timestamp) {
        let _ = self.blobs.fetch_and_update(id.as_bytes(), |row| {
            let size = row?.get(..8)?;
            Some([size, &secs(used)].concat())
        });
    }

    /// Whether the blob is there. What sled cannot read counts as not there.
    pub fn holds(&self, name: BlobName) -> bool {
        let row = self.blobs.get(name.id.as_bytes()).ok().flatten();
        row.is_some_and(|row| row.get(..8) == Some(&name.size.to_be_bytes()))
    }

    /// All blobs, with their last use.
    pub fn blobs(&self) -> impl Iterator<Item = Candidate> {
        self.blobs_after(None)
    }

    /// The blobs whose names follow this one, in the order of their names.
    pub fn blobs_after(&self, after: Option<BlobId>) -> impl Iterator<Item = Candidate> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
        self.blobs.range::<[u8; 32], _>((from, Bound::Unbounded)).filter_map(|row| {
            let (id, row) = row.ok()?;
            candidate(&id, &row)
        })
    }

    /// The blobs whose names begin with this byte; a row that is none is damage.
    pub(super) fn rows_of(&self, first: u8) -> impl Iterator<Item = Result<Candidate, IndexError>> {
        self.blobs.scan_prefix([first]).map(|row| {
            let (id, row) = row?;
            candidate(&id, &row).ok_or_else(|| io::Error::other("a row is no blob's").into())
        })
    }

    /// What all blobs take on the disk, in bytes. Looks no row up.
    pub fn blobs_on_disk(&self) -> u64 {
        self.blobs_on_disk.load(Ordering::Relaxed)
    }

    /// What the index itself takes on the disk, in bytes.
    pub fn on_disk(&self) -> u64 {
        self.database.size_on_disk().map_or(0, on_disk)
    }

    /// Makes a change; where it fails, the next start lists the files.
    fn changed<T>(
        &self,
        what: &'static str,
        change: impl FnOnce() -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let changed = self.disk.index(what, change);
        if changed.is_err() {
            self.doubted.store(true, Ordering::Relaxed);
        }
        changed
    }

    /// Notes that agents of a tree use a component (R1.4, prefetch `used`). `what` names component and kind.
    pub fn note_used(&self, tree: &TreeName, what: &str) {
        // Lost notes cost a fetch on demand, no more.
        let _ = self.used.insert(used_key(tree, what), &[]);
    }

    /// Whether agents used it so far.
    pub fn is_used(&self, tree: &TreeName, what: &str) -> bool {
        self.used.contains_key(used_key(tree, what)).unwrap_or(false)
    }

    /// What the general cache keeps.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Writes everything out and marks the index as closed, unless a change of it failed.
    pub fn close(&self) {
        if self.doubted.load(Ordering::Relaxed) {
            return;
        }
        let closed: Result<usize, IndexError> = self.disk.index("index close", || {
            self.database.flush()?;
            self.database.insert(CLOSED, &self.blobs_on_disk().to_be_bytes())?;
            Ok(self.database.flush()?)
        });
        if let Err(error) = closed {
            warn!(%error, "the index could not be closed: the next start makes it again");
        }
    }
}

fn used_key(tree: &TreeName, what: &str) -> String {
    format!("{tree}/{what}")
}

/// What a row of a blob says; `None` where it is none.
fn candidate(id: &[u8], row: &[u8]) -> Option<Candidate> {
    let id: [u8; 32] = id.try_into().ok()?;
    let (size, used) = row.split_at_checked(8)?;
    Some(Candidate { id: id.into(), size: number(size)?, used_secs: number(used)? })
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// A time as a row has it; before 1970 it is 0.
fn secs(time: Timestamp) -> [u8; 8] {
    u64::try_from(time.as_second()).unwrap_or(0).to_be_bytes()
}
