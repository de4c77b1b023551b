//! Bytes that are not a blob yet.
//!
//! A fill appends; readers follow through [`Staged::file`]; [`Store::commit`](crate::store::Store::commit) makes the file
//! a blob. Invariant: what is dropped uncommitted leaves nothing behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::store::blobs::BlobName;
use crate::store::disk;
use crate::store::index::IndexError;

/// A file under way, hashed while it is written.
#[derive(Debug)]
pub struct Staged {
    file: Arc<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    len: u64,
    committed: bool,
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
    /// The index said no.
    #[error("index: {0}")]
    Index(#[from] IndexError),
}

impl Staged {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = Arc::new(disk::create_new(&path)?);
        Ok(Self { file, path, hasher: blake3::Hasher::new(), len: 0, committed: false })
    }

    /// The file, for readers: bytes below what was appended never change, and it stays the same file as a blob.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How many bytes were appended.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes at the end. Blocks on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        disk::write_all_at(&self.file, bytes, self.len)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The one commit: length, sync, rename, sync of the folder. A blob of that name is replaced by the same bytes.
    pub(super) fn commit(mut self, blobs: &Path, expected: Option<u64>) -> Result<BlobName, CommitError> {
        if let Some(expected) = expected.filter(|expected| *expected != self.len) {
            return Err(CommitError::Size { staged: self.len, expected });
        }
        let name = BlobName { id: self.hasher.finalize().into(), size: self.len };
        let path = name.path(blobs);
        let folder = name.folder(blobs);
        if !folder.is_dir() {
            disk::create_private_folder(&folder)?;
            disk::sync_folder(blobs)?;
        }
        disk::sync(&self.file)?;
        disk::rename_synced(&self.path, &path)?;
        self.committed = true;
        Ok(name)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // A file that stays behind is removed at the next start.
            let _ = disk::remove_if_there(&self.path);
        }
    }
}
