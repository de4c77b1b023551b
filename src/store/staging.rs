//! Bytes that are not a blob yet.
//!
//! A fill appends; what comes out of order is written by [`Ahead`], and adopted when all before it is there; readers follow
//! through [`Staged::file`]; [`Store::commit`](crate::store::Store::commit) makes the file a blob. Invariant: what is dropped
//! uncommitted leaves nothing behind but bytes that a later fill can go on from.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Semaphore;

use crate::base::limits::{COLD_READS_MAX, SMALL_BLOB_BYTES_MAX};
use crate::disk::Disk;
use crate::disk::mapping::Mapping;
use crate::store::blobs::{BlobName, read_exact};
use crate::store::room::{NoRoom, Taken, on_disk};
use crate::store::unfinished::{Claim, Resumed, Voucher};

/// Bytes that are read back at once to be adopted.
const ADOPT_BYTES: usize = 1 << 20;

/// A file under way, hashed while it is written.
#[derive(Debug)]
pub struct Staged {
    disk: Disk,
    file: Arc<File>,
    place: Place,
    hasher: blake3::Hasher,
    committed: bool,
}

/// A staged file as readers have it: they are told elsewhere which of its bytes are there.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The file.
    pub file: Arc<File>,
    /// The same as a mapping, where one is worth it.
    pub mapping: Option<Mapping>,
    /// Who reads it from the disk for a connection that sends files holds one of these.
    pub turns: Arc<Semaphore>,
}

/// Writes ahead of what is appended. Whose bytes stand where is its caller's to see to: nothing may be written to what was
/// appended or adopted.
#[derive(Clone, Debug)]
pub struct Ahead {
    disk: Disk,
    file: Arc<File>,
}

impl Ahead {
    /// Writes bytes at an offset. Blocks on the disk.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write_all_at(&self.file, bytes, offset)
    }
}

/// Where staged bytes lie, and so whether they may outlive their fill.
#[derive(Debug)]
enum Place {
    /// Under a key: a later fill may go on from the last checkpoint.
    Keyed(Box<Claim>),
    /// Under a number: gone with their fill.
    Numbered(PathBuf, Taken),
}

/// Why staged bytes did not become a blob.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The bytes are not as many as they must be.
    #[error("{staged} bytes came, {expected} were expected")]
    Size {
        /// How many bytes were staged.
        staged: u64,
        /// How many there must be.
        expected: u64,
    },
    /// The disk said no.
    #[error("disk: {0}")]
    Io(#[from] io::Error),
    /// The quota does.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl Staged {
    pub(super) fn create(disk: Disk, path: PathBuf, taken: Taken) -> io::Result<Self> {
        let file = Arc::new(disk.create_new(&path)?);
        Ok(Self {
            disk,
            file,
            place: Place::Numbered(path, taken),
            hasher: blake3::Hasher::new(),
            committed: false,
        })
    }

    /// Goes on from what an earlier fill left under a key, with what vouches for it; else begins there.
    pub(super) fn claimed(disk: Disk, mut claim: Claim) -> io::Result<(Self, Option<Voucher>)> {
        let (file, hasher, voucher) = match claim.resume()? {
            Some(Resumed { file, hasher, voucher }) => (file, hasher, Some(voucher)),
            None => (disk.create_new(claim.part())?, blake3::Hasher::new(), None),
        };
        let file = Arc::new(file);
        claim.goes_on_in(&file);
        let staged = Self { disk, file, place: Place::Keyed(Box::new(claim)), hasher, committed: false };
        Ok((staged, voucher))
    }

    /// The file for readers, which will have so many bytes where that is known: one mapping for all of them.
    pub fn shown(&self, size: Option<u64>) -> Shown {
        let large = size.filter(|size| *size > SMALL_BLOB_BYTES_MAX);
        Shown {
            file: self.file.clone(),
            mapping: large.and_then(|size| Mapping::of(&self.disk, &self.file, size)),
            turns: Arc::new(Semaphore::new(COLD_READS_MAX)),
        }
    }

    /// The file: bytes below what was appended never change, and it stays the same file as a blob.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// What writes ahead of what is appended.
    pub fn ahead(&self) -> Ahead {
        Ahead { disk: self.disk.clone(), file: self.file.clone() }
    }

    /// How many bytes were appended or adopted.
    pub fn len(&self) -> u64 {
        self.hasher.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reserves room for so many bytes in all, where it is not known at first how many will come. What has a key has its room.
    pub fn grow(&mut self, size_max: u64) -> Result<(), NoRoom> {
        match &mut self.place {
            Place::Numbered(_, taken) => taken.grow(on_disk(size_max)),
            Place::Keyed(_) => Ok(()),
        }
    }

    /// Writes bytes at the end. Blocks on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_all_at(&self.file, bytes, self.len())?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Counts bytes in that were written ahead and now follow what is there: they are hashed as they stand in the file. Blocks
    /// on the disk.
    pub fn adopt(&mut self, len: u64) -> io::Result<()> {
        let end = self.len() + len;
        while self.len() < end {
            let piece = usize::try_from(end - self.len()).unwrap_or(usize::MAX).min(ADOPT_BYTES);
            self.hasher.update(&read_exact(&self.file, piece, self.len())?);
        }
        Ok(())
    }

    /// Notes what vouches for all that was appended; now and then makes it outlive a crash. Blocks on the disk.
    pub fn vouch(&mut self, voucher: &Voucher) -> io::Result<()> {
        match &mut self.place {
            Place::Keyed(claim) => claim.checkpoint(&self.file, &self.hasher, voucher),
            Place::Numbered(..) => Ok(()),
        }
    }

    /// Lets nobody go on from these bytes: they are of a state of the file that is gone.
    pub fn discard(mut self) {
        if let Place::Keyed(claim) = &mut self.place {
            // What stays behind is compared before it is used, or thrown away when it has waited for too long.
            let _ = claim.remove();
        }
    }

    /// The one commit: length, sync, rename; the store syncs the folder. A blob of that name is replaced by the same bytes.
    /// Gives the room that was reserved, too.
    pub(super) fn commit(
        mut self,
        blobs: &Path,
        expected: Option<u64>,
    ) -> Result<(BlobName, Taken), CommitError> {
        if let Some(expected) = expected.filter(|expected| *expected != self.len()) {
            let staged = self.len();
            self.discard();
            return Err(CommitError::Size { staged, expected });
        }
        let name = BlobName { id: self.hasher.finalize().into(), size: self.len() };
        self.disk.sync(&self.file)?;
        self.disk.rename(self.path(), &name.path(blobs))?;
        self.committed = true;
        let taken = match &mut self.place {
            Place::Keyed(claim) => claim.committed(),
            Place::Numbered(_, taken) => taken.take(),
        };
        Ok((name, taken))
    }

    fn path(&self) -> &Path {
        match &self.place {
            Place::Keyed(claim) => claim.part(),
            Place::Numbered(path, _) => path,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let kept = matches!(&self.place, Place::Keyed(claim) if claim.can_resume());
        if !self.committed && !kept {
            // A file that stays behind is removed at the next start.
            let _ = self.disk.remove_if_there(self.path());
        }
    }
}
