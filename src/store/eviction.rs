//! Which blobs go when room is needed: a pure choice among those that nothing names (R1.8).
//!
//! Invariant: what goes is a prefix of the order of last use, and no longer than it must be.

use std::collections::BinaryHeap;

use crate::base::blob::BlobId;
use crate::store::blobs::BlobName;
use crate::store::room::on_disk;

/// A blob that may go. The order is that of going: the least recently used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// When it was last used, in seconds of the wall clock.
    pub used_secs: u64,
    /// Its hash, which decides among those of one second.
    pub id: BlobId,
    /// How many bytes it has.
    pub size: u64,
}

impl Candidate {
    /// Its name.
    pub fn name(self) -> BlobName {
        BlobName { id: self.id, size: self.size }
    }
}

/// The least recently used candidates that free so many bytes together, or all of them; in no order.
pub fn choose(candidates: impl Iterator<Item = Candidate>, missing: u64) -> Vec<Candidate> {
    let mut chosen: BinaryHeap<Candidate> = BinaryHeap::new();
    let mut freed = 0u64;
    for candidate in candidates {
        freed = freed.saturating_add(on_disk(candidate.size));
        chosen.push(candidate);
        // The one used last stays where the others suffice: so only what goes is held in memory.
        while let Some(last) = chosen.peek()
            && freed - on_disk(last.size) >= missing
        {
            freed -= on_disk(last.size);
            chosen.pop();
        }
    }
    chosen.into_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_recently_used_go_and_no_more_than_must_r1_8(
            rows in prop::collection::vec((0u64..20, 0u64..200_000), 0..40), missing in 0u64..2_000_000,
        ) {
            let candidates: Vec<_> = rows.iter().enumerate().map(|(index, (used_secs, size))| Candidate {
                used_secs: *used_secs,
                id: BlobId::of(&index.to_le_bytes()),
                size: *size,
            }).collect();
            let mut model = candidates.clone();
            model.sort();
            let mut freed = 0;
            // Files without bytes free nothing: they go only with what comes after them.
            model.retain(|candidate| {
                let goes = freed < missing;
                freed += on_disk(candidate.size);
                goes
            });
            let mut chosen = choose(candidates.into_iter(), missing);
            chosen.sort();
            prop_assert_eq!(chosen, model);
        }
    }
}
