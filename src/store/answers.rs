//! What the general cache keeps besides blobs, a row for each answer: soft state beside the index.
//!
//! Never reads what a row says. Invariant: a row that is lost costs a request, and a row that was written before a relay ended
//! out of order is handed back as doubtful: what undid it may be lost.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::store::index::IndexError;

/// The rows, each named by a hash.
#[derive(Debug)]
pub struct Answers {
    disk: Disk,
    tree: sled::Tree,
    doubted: AtomicBool,
}

impl Answers {
    pub(super) fn new(disk: Disk, tree: sled::Tree) -> Self {
        Self { disk, tree, doubted: AtomicBool::new(false) }
    }

    /// Notes that the relay before did not end in order.
    pub(super) fn set_doubted(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether rows may be there that were undone.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Writes a row, or another one in its place. Blocks on the disk.
    pub fn put(&self, id: BlobId, row: &[u8]) -> Result<(), IndexError> {
        self.disk.index("answer put", || Ok(self.tree.insert(id.as_bytes(), row).map(|_| ())?))
    }

    /// Removes a row. Blocks on the disk.
    pub fn remove(&self, id: BlobId) -> Result<(), IndexError> {
        self.disk.index("answer remove", || Ok(self.tree.remove(id.as_bytes()).map(|_| ())?))
    }

    /// All rows that can be read. Blocks on the disk.
    pub fn rows(&self) -> impl Iterator<Item = (BlobId, Vec<u8>)> {
        self.tree.iter().filter_map(|row| {
            let (id, row) = row.ok()?;
            let id: [u8; 32] = (*id).try_into().ok()?;
            Some((id.into(), row.to_vec()))
        })
    }
}
