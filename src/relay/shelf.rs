//! What one data worker has at hand of the store: small blobs in memory, large ones open.
//!
//! Each worker owns a shelf, so that a hit takes no lock. Invariants: both halves are bounded, in bytes and in files; once a
//! blob is condemned, nothing that was put there before is given out.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
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
            Content::Fill(_) | Content::Arriving(_) => {}
        }
        true
    }

    /// Lets go what no generation names any more, and open blobs that were removed: the disk frees their bytes only then.
    pub fn keep_named(&self, named: &HashSet<BlobId>) {
        self.epoch();
        let mut small = self.small.borrow_mut();
        let gone: Vec<_> = small.iter().map(|(id, _)| *id).filter(|id| !named.contains(id)).collect();
        let freed: usize = gone.iter().filter_map(|id| small.pop(id)).map(|bytes| bytes.len()).sum();
        self.small_bytes.set(self.small_bytes.get() - freed);
        let mut open = self.open.borrow_mut();
        let gone =
            open.iter().filter(|(id, blob)| !named.contains(id) || blob.is_removed()).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
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

    #[test]
    fn what_nobody_names_any_more_goes_and_its_bytes_are_counted_out() {
        let shelf = Shelf::new(Arc::default());
        for number in 0..10 {
            shelf.put(name(number, 1000), &Content::Bytes(Bytes::from(vec![7; 1000])), 0);
        }
        shelf.keep_named(&HashSet::from([name(3, 1000).id, name(99, 1000).id]));
        assert_eq!(shelf.small_bytes.get(), 1000);
        assert!(shelf.find(name(3, 1000)).is_some() && shelf.find(name(4, 1000)).is_none());
    }
}
