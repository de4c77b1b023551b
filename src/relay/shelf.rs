//! What one data worker has at hand of the store: small blobs in memory, large ones open.
//!
//! Each worker owns a shelf, so that a hit takes no lock. Invariants: both halves are bounded, in bytes and in files; once a
//! blob is condemned, nothing that was put there before is given out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::Semaphore;

use crate::base::blob::BlobId;
use crate::base::limits::{COLD_READS_MAX, OPEN_BLOBS_MAX, SMALL_BLOBS_BYTES};
use crate::relay::content::Content;
use crate::store::blobs::{BlobName, OpenBlob};
use crate::store::quarantine::Condemned;

/// A worker's shelf; the least recently used goes first.
#[derive(Debug)]
pub struct Shelf {
    small: RefCell<LruCache<BlobId, Bytes>>,
    small_bytes: Cell<usize>,
    open: RefCell<LruCache<BlobId, OpenBlob>>,
    /// The blobs that are being opened; whoever opens one holds its value.
    opening: RefCell<HashMap<BlobId, Weak<Semaphore>>>,
    condemned: Arc<Condemned>,
    /// The epoch of what is condemned that all of it is of.
    epoch: Cell<u64>,
}

impl Shelf {
    /// An empty shelf of a store that condemns these.
    pub fn new(condemned: Arc<Condemned>) -> Self {
        let open_max = NonZeroUsize::new(OPEN_BLOBS_MAX).expect("the bound is not zero");
        Self {
            small: RefCell::new(LruCache::unbounded()),
            small_bytes: Cell::new(0),
            open: RefCell::new(LruCache::new(open_max)),
            opening: RefCell::default(),
            epoch: Cell::new(condemned.epoch()),
            condemned,
        }
    }

    /// The epoch that what is read from now on is of.
    pub fn epoch(&self) -> u64 {
        let epoch = self.condemned.epoch();
        if epoch != self.epoch.replace(epoch) {
            // Bad blobs are rare: to read the rest again is cheaper than to know which they are at each hit.
            self.small.borrow_mut().clear();
            self.small_bytes.set(0);
            self.open.borrow_mut().clear();
        }
        epoch
    }

    /// A blob, if it is at hand.
    pub fn find(&self, name: BlobName) -> Option<Content> {
        self.epoch();
        if let Some(bytes) = self.small.borrow_mut().get(&name.id) {
            return Some(Content::Bytes(bytes.clone()));
        }
        let mut open = self.open.borrow_mut();
        let blob = open.get(&name.id)?;
        if blob.is_whole() {
            return Some(Content::Blob(blob.clone()));
        }
        open.pop(&name.id);
        None
    }

    /// What those share who open the same blob at this moment: only some of them at once.
    pub fn turns(&self, name: BlobName) -> Arc<Semaphore> {
        let mut opening = self.opening.borrow_mut();
        if let Some(turns) = opening.get(&name.id).and_then(Weak::upgrade) {
            return turns;
        }
        opening.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(COLD_READS_MAX));
        opening.insert(name.id, Arc::downgrade(&turns));
        turns
    }

    /// Keeps a blob at hand that was read at an epoch; false where a blob was condemned since, which may be this one.
    pub fn put(&self, name: BlobName, content: &Content, epoch: u64) -> bool {
        if self.epoch() != epoch {
            return false;
        }
        match content {
            Content::Bytes(bytes) => self.put_small(name.id, bytes.clone()),
            Content::Blob(blob) => {
                self.open.borrow_mut().put(name.id, blob.clone());
            }
            Content::Fill(_) => {}
        }
        true
    }

    /// Lets open blobs go that were removed, or condemned: the disk frees their bytes only then.
    pub fn let_removed_go(&self) {
        self.epoch();
        let mut open = self.open.borrow_mut();
        let removed: Vec<_> = open.iter().filter(|(_, blob)| blob.is_removed()).map(|(id, _)| *id).collect();
        for id in removed {
            open.pop(&id);
        }
    }

    fn put_small(&self, id: BlobId, bytes: Bytes) {
        let mut small = self.small.borrow_mut();
        let mut total = self.small_bytes.get() + bytes.len();
        total -= small.put(id, bytes).map_or(0, |before| before.len());
        while total > SMALL_BLOBS_BYTES {
            let Some((_, oldest)) = small.pop_lru() else { break };
            total -= oldest.len();
        }
        self.small_bytes.set(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64, size: u64) -> BlobName {
        BlobName { id: BlobId::of(&number.to_le_bytes()), size }
    }

    #[test]
    fn small_blobs_stay_within_their_bytes_and_the_least_used_goes() {
        let shelf = Shelf::new(Arc::default());
        let bytes = Bytes::from(vec![7; 1 << 20]);
        let count = SMALL_BLOBS_BYTES as u64 >> 20;
        for number in 0..count {
            shelf.put(name(number, 1 << 20), &Content::Bytes(bytes.clone()), 0);
        }
        assert!(shelf.find(name(0, 1 << 20)).is_some());
        shelf.put(name(count, 1 << 20), &Content::Bytes(bytes), 0);
        assert_eq!(shelf.small_bytes.get(), SMALL_BLOBS_BYTES);
        assert!(shelf.find(name(0, 1 << 20)).is_some(), "used last");
        assert!(shelf.find(name(1, 1 << 20)).is_none(), "used least");
    }
}
