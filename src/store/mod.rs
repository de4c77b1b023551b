//! The content-addressed store: immutable blobs named by their hash, and what is known of each generation.
//!
//! ```text
//! data/FORMAT                  the number of this layout; a newer one is refused
//! data/lock                    held by the one relay that uses the folder; holds its process id
//! data/blobs/ab/HASH.SIZE      immutable; ab are the first two digits of HASH (BLAKE3), SIZE is in bytes
//! data/staging/                fills under way, and those that a later one can go on from: see `unfinished`
//! data/trees/TREE/N/           generation N: `manifest` as the upstream sent it, `journal` of what is held
//! data/trees/TREE/N.next/      a generation that is being fetched and not visible yet
//! data/trees/TREE/N.new/       the same, while its manifest and the first records of its journal are written
//! data/agents/                 the agent tree: see `state`, which this part never touches
//! data/authority/              what signs agents' certificates: see `state` too
//! data/admin/                  the tokens of administrators: see `state` too
//! data/index/                  sled: a view of blobs/, made again from the names there when it is missing or damaged, and compared
//!                              with them when it was not closed; and what the general cache keeps, which is fetched again
//!                              where it is lost
//! data/quarantine/             blobs that turned out to be damaged, under their names; the newest few, for people to look at
//! data/scrub.json              where the scrubber is, and what its last pass found
//! ```
//!
//! A blob's way: [`Store::stage`] -> [`staging::Staged::append`] (hash while writing) -> [`Store::commit`] (size
//! checked, synced, renamed, indexed, folder synced). Invariant: there is no other way into `blobs/`.

pub mod answers;
pub mod blobs;
pub mod eviction;
mod folder;
pub mod format;
pub mod generations;
pub mod index;
mod listing;
pub mod quarantine;
pub mod room;
pub mod scrub;
pub mod staging;
pub mod unfinished;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use thiserror::Error;
use tracing::warn;

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::store::blobs::{BlobName, OpenBlob};
use crate::store::folder::Lock;
use crate::store::format::FORMAT;
use crate::store::index::{Index, IndexError};
use crate::store::quarantine::Condemned;
use crate::store::room::{Room, Taken, on_disk};
use crate::store::staging::{CommitError, Staged};
use crate::store::unfinished::{Parts, Voucher};

/// What the folders take, in bytes: 256 of blobs, and some more.
const FOLDERS_ON_DISK: u64 = 320 * 4096;

/// Blobs that cannot be removed, after which one eviction tries no more: the disk lets nothing go.
const STUCK_MAX: usize = 16;

/// The store of one data folder, locked for this process.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    root: PathBuf,
    index: Index,
    room: Room,
    /// What the index takes, as far as it was looked up.
    index_taken: Mutex<Taken>,
    staged: AtomicU64,
    parts: Parts,
    condemned: Arc<Condemned>,
    /// Held, never read; let go last.
    _lock: Lock,
}

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder could not be used.
    #[error("data folder: {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the lock.
    #[error("data folder {path} is in use by another relay (process {owner})", path = path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// The process id that the other relay wrote down, or `unknown`.
        owner: String,
    },
    /// Something else stands there.
    #[error("data folder {path} is a file, not a folder: name an empty or a new folder", path = path.display())]
    NotFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The folder holds other things.
    #[error("{path} is no data folder of a relay: it is not empty and has no FORMAT file; name an empty or a new folder",
        path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Written in another layout.
    #[error("data folder {path} has format '{found}', this program reads 1 to {FORMAT}: use the program that wrote it, or another folder",
        path = path.display())]
    Format {
        /// The data folder.
        path: PathBuf,
        /// What stands in its FORMAT file.
        found: String,
    },
    /// The index cannot be made.
    #[error("data folder: index: {0}")]
    Index(#[from] IndexError),
}

impl StoreError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Store {
    /// Opens a data folder, or makes one where there is none or an empty one. Reads no blob.
    pub fn open(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        let lock = folder::take(&disk, root)?;
        format::bring_up(&disk, root)?;
        for name in ["blobs", "staging", "trees"] {
            let folder = root.join(name);
            disk.create_private_folder(&folder).map_err(StoreError::io("make folder", &folder))?;
        }
        let blobs = root.join("blobs");
        blobs::make_folders(&disk, &blobs).map_err(StoreError::io("make folders", &blobs))?;
        let staging = root.join("staging");
        let room = Room::default();
        let parts = Parts::open(&disk, &room, &staging).map_err(StoreError::io("tidy folder", &staging))?;
        let index = Index::open(disk.clone(), &root.join("index"), &blobs)?;
        room.note(index.blobs_on_disk() + FOLDERS_ON_DISK).keep();
        let index_taken = Mutex::new(room.note(index.on_disk()));
        let kept = quarantine::on_disk_in(&disk, root).map_err(StoreError::io("list quarantine of", root))?;
        room.note(kept).keep();
        Ok(Self {
            disk,
            root: root.to_owned(),
            index,
            room,
            index_taken,
            staged: AtomicU64::new(0),
            parts,
            condemned: Arc::default(),
            _lock: lock,
        })
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The view of what is stored.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How many bytes the folder takes, and its quota.
    pub fn room(&self) -> &Room {
        // The index grows by itself: what it takes is looked up whenever somebody wants to know what is left.
        self.index_taken.lock().unwrap_or_else(PoisonError::into_inner).set(self.index.on_disk());
        &self.room
    }

    /// An empty file that up to `size_max` bytes may be appended to. Blocks on the disk.
    pub fn stage(&self, size_max: u64) -> Result<Staged, CommitError> {
        let taken = self.room().reserve(on_disk(size_max))?;
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("staging").join(format!("{number}.part"));
        Ok(Staged::create(self.disk.clone(), path, taken)?)
    }

    /// A file that bytes of what this key names may be appended to, with those that an earlier fill left and what vouches
    /// for them. While another fill has the key, it is an empty file as of [`Store::stage`]. Blocks on the disk.
    pub fn stage_as(&self, key: BlobId, size_max: u64) -> Result<(Staged, Option<Voucher>), CommitError> {
        // What the index takes by now counts.
        self.room();
        match self.parts.claim(key, size_max)? {
            Some(claim) => Ok(Staged::claimed(self.disk.clone(), claim)?),
            None => Ok((self.stage(size_max)?, None)),
        }
    }

    /// How many bytes more a fill of what this key names will take on the disk: less where it is under way, or where some of it
    /// is there.
    pub fn room_for(&self, key: Option<BlobId>, size_max: u64) -> u64 {
        key.map_or_else(|| unfinished::room_for_part(size_max), |key| self.parts.room_for(key, size_max))
    }

    /// Makes staged bytes a blob that is used now; they must be `size` bytes when that is known. Blocks on the disk.
    pub fn commit(&self, staged: Staged, size: Option<u64>, now: Timestamp) -> Result<BlobName, CommitError> {
        let blobs = self.root.join("blobs");
        let (name, mut taken) = staged.commit(&blobs, size)?;
        self.condemned.replaced(name.id);
        // A change that failed has the index made again at the next start: until then the blob counts once too often.
        let new = self.index.insert(name, now).unwrap_or_else(|error| {
            warn!(%error, "the index could not be changed: the next start makes it again");
            true
        });
        if new {
            taken.set(on_disk(name.size));
            taken.keep();
        }
        // Last, so that a file which is there but may not outlive a power cut is known and counted all the same.
        self.disk.sync_folder(&name.folder(&blobs))?;
        Ok(name)
    }

    /// Opens a blob; `None` when it is not there, is damaged or has not the size that its name says. Blocks on the disk.
    pub fn blob(&self, name: BlobName) -> io::Result<Option<OpenBlob>> {
        OpenBlob::open(&self.disk, &self.root.join("blobs"), name, &self.condemned)
    }

    /// Which blobs turned out to be damaged.
    pub fn condemned(&self) -> &Arc<Condemned> {
        &self.condemned
    }

    /// Whether the blob is there: the index says so, or its file does, which the index then learns. Blocks on the disk.
    pub fn holds(&self, name: BlobName) -> bool {
        if !self.condemned.bars(name.id) && self.index.holds(name) {
            return true;
        }
        let there = matches!(self.blob(name), Ok(Some(_)));
        if there && matches!(self.index.insert(name, Timestamp::UNIX_EPOCH), Ok(true)) {
            self.room.note(on_disk(name.size)).keep();
        }
        there
    }

    /// Removes blobs that `named` does not want, the least recently used first, until so many bytes are free or none is
    /// left. One that the disk does not let go stays, and others go in its place. Blocks on the disk; gives how many bytes
    /// are free then.
    pub fn evict(&self, mut named: impl FnMut(&BlobId) -> bool, missing: u64) -> u64 {
        let (mut freed, mut stuck) = (0u64, HashSet::new());
        loop {
            let before = stuck.len();
            let free = self.index.blobs().filter(|blob| !stuck.contains(&blob.id) && !named(&blob.id));
            for candidate in eviction::choose(free, missing - freed) {
                match self.remove(candidate.name()) {
                    Ok(()) => freed = freed.saturating_add(on_disk(candidate.size)),
                    Err(error) => {
                        if stuck.is_empty() {
                            warn!(blob = %candidate.id, %error, "a blob cannot be removed: others are in its place");
                        }
                        stuck.insert(candidate.id);
                    }
                }
                if stuck.len() >= STUCK_MAX {
                    return freed;
                }
            }
            if stuck.len() == before || freed >= missing {
                return freed;
            }
        }
    }

    /// What [`Store::evict`] could free at most, in bytes, with what is left of fills that ended and the quarantine.
    pub fn evictable(&self, mut named: impl FnMut(&BlobId) -> bool) -> u64 {
        let blobs = self.index.blobs().filter(|blob| !named(&blob.id)).map(|blob| on_disk(blob.size));
        let quarantined = quarantine::on_disk_in(&self.disk, &self.root).unwrap_or(0);
        blobs.fold(self.parts.left_on_disk() + quarantined, u64::saturating_add)
    }

    /// Removes what is left of fills that ended, until so many bytes are free. Blocks on the disk; gives how many are.
    pub fn drop_parts(&self, missing: u64) -> Result<u64, StoreError> {
        self.parts.drop_left(missing).map_err(StoreError::io("clear", &self.root.join("staging")))
    }

    /// The file goes first: a row without a file is a blob that is fetched again, a file without a row would be room that
    /// nobody knows of.
    fn remove(&self, name: BlobName) -> Result<(), StoreError> {
        let path = name.path(&self.root.join("blobs"));
        self.disk.remove_if_there(&path).map_err(StoreError::io("remove", &path))?;
        if self.index.remove(name.id)? {
            self.room.give_back(on_disk(name.size));
        }
        Ok(())
    }

    /// Writes the index out and marks it whole, so that the next start need not rebuild it.
    pub fn close(&self) {
        self.index.close();
    }
}

/// Also a relay that did not get as far as serving leaves a whole index behind.
impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
