//! Bytes that are not a blob yet.
//!
//! A fill appends; readers follow through [`Staged::file`]; [`Store::commit`](crate::store::Store::commit) makes the file
//! a blob. Invariant: what is dropped uncommitted leaves nothing behind but bytes that a later fill can go on from.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::store::blobs::BlobName;
use crate::store::disk::Disk;
use crate::store::room::{NoRoom, Taken};
use crate::store::unfinished::{Claim, Resumed, Voucher};

/// A file under way, hashed while it is written.
#[derive(Debug)]
pub struct Staged {
    disk: Disk,
    file: Arc<File>,
    place: Place,
    hasher: blake3::Hasher,
    committed: bool,
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
        let staged = Self {
            disk,
            file: Arc::new(file),
            place: Place::Keyed(Box::new(claim)),
            hasher,
            committed: false,
        };
        Ok((staged, voucher))
    }

    /// The file, for readers: bytes below what was appended never change, and it stays the same file as a blob.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How many bytes were appended.
    pub fn len(&self) -> u64 {
        self.hasher.count()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes bytes at the end. Blocks on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_all_at(&self.file, bytes, self.len())?;
        self.hasher.update(bytes);
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
