//! Removes what neither a kept generation nor the general cache names: at once where there is no quota, else when room is
//! needed (R1.8).
//!
//! One task does it, so that two who need room never count on the same bytes. In this order: blobs that nothing names, the
//! least recently used first; what is left of fills that ended; damaged files in quarantine; what the general cache keeps, the
//! least recently used first; what failed refreshes fetched; the oldest kept generations, never a current one. Invariant:
//! where all that would not be enough for who needs room, nothing is removed, and it is said how many bytes are missing.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::base::blob::BlobId;
use crate::relay::resources::Resources;
use crate::relay::tree::Tree;
use crate::store::StoreError;
use crate::store::room::NoRoom;

/// Who needs room, before the sweep has it made.
pub const WANTS_MAX: usize = 64;

/// What part of the quota is freed at a time, at least, where so much is not named.
const BATCH: u64 = 64;

/// Room that is needed.
#[derive(Debug)]
pub struct Want {
    bytes: u64,
    made: oneshot::Sender<Result<(), NoRoom>>,
}

impl Resources {
    /// Has room made for so many bytes, if there is none. Others may take it before the caller does.
    pub async fn make_room(&self, bytes: u64) -> Result<(), NoRoom> {
        let missing = self.store.room().missing(bytes);
        if missing == 0 {
            return Ok(());
        }
        let (made, room) = oneshot::channel();
        // A relay that stops makes no more room.
        self.room_wanted.send(Want { bytes, made }).await.map_err(|_| NoRoom { missing })?;
        room.await.map_err(|_| NoRoom { missing })?
    }
}

/// Sweeps and makes room whenever it is asked to, until the relay stops.
pub async fn run(resources: Arc<Resources>, trees: Vec<Arc<Tree>>, mut wants: mpsc::Receiver<Want>) {
    let sweep = Sweep { resources, trees };
    loop {
        let (bytes, made) = tokio::select! {
            // A sweep that is wanted is done before the stop: the next start would not know of it.
            biased;
            () = sweep.resources.sweep_wanted.notified() => (0, None),
            Some(want) = wants.recv() => (want.bytes, Some(want.made)),
            () = sweep.resources.stop.cancelled() => return,
        };
        let sweep = sweep.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let room = sweep.run(bytes);
            sweep.resources.swept.send_replace(Arc::new(sweep.named(Kept::All)));
            // Who wanted it may have gone.
            made.map(|made| made.send(room))
        });
        // A sweep that died is tried again with the next one.
        let _ = swept.await;
    }
}

#[derive(Clone)]
struct Sweep {
    resources: Arc<Resources>,
    trees: Vec<Arc<Tree>>,
}

impl Sweep {
    /// Makes room for so many bytes more. Blocks on the disk.
    fn run(&self, bytes: u64) -> Result<(), NoRoom> {
        // No blob may be committed and not yet named while names are looked up.
        let _naming = self.resources.naming.write().unwrap_or_else(PoisonError::into_inner);
        let room = self.resources.store.room();
        let missing = if room.quota().is_some() { room.missing(bytes) } else { u64::MAX };
        if missing == 0 {
            return Ok(());
        }
        let made = self.free(missing, bytes);
        match (room.missing(bytes), made) {
            (0, _) => Ok(()),
            (missing, made) => {
                if let Err(error) = made {
                    warn!(%error, "what no kept generation names could not all be removed");
                }
                Err(NoRoom { missing })
            }
        }
    }

    /// Frees what is missing to so many bytes more.
    fn free(&self, missing: u64, bytes: u64) -> Result<(), StoreError> {
        let store = &self.resources.store;
        // A sweep alone gets as near to a smaller quota as it can.
        if bytes > 0 && !self.may_reach(missing) {
            return Ok(());
        }
        let named = self.named(Kept::All);
        // Somewhat more than is missing: not every fill is to look through the index.
        let some = store.room().quota().unwrap_or(0) / BATCH;
        let freed = store.evict(|id| named.contains(id), missing.max(some));
        if freed > 0 {
            info!(bytes = freed, "blobs that no kept generation names are removed");
        }
        let Some(missing) = self.still(bytes) else { return Ok(()) };
        let parts = store.drop_parts(missing)?;
        if parts > 0 {
            info!(bytes = parts, "what was left of fetches that ended is removed to make room");
        }
        if let Some(missing) = self.still(bytes) {
            let dropped = store.drop_quarantined(missing)?;
            if dropped > 0 {
                info!(bytes = dropped, "damaged files are removed from the quarantine to make room");
            }
        }
        if let Some(missing) = self.still(bytes) {
            let generations = self.named(Kept::Generations);
            if self.resources.answers.shed(missing, &generations) > 0 {
                info!("answers of the general cache are forgotten to make room");
                let named = self.named(Kept::All);
                store.evict(|id| named.contains(id), missing);
                self.resources.answers.write();
            }
        }
        while let Some(missing) = self.still(bytes) {
            if !self.may_reach(missing) || !(self.drop_candidate() || self.drop_oldest()) {
                return Ok(());
            }
            let named = self.named(Kept::All);
            store.evict(|id| named.contains(id), missing);
        }
        Ok(())
    }

    /// Whether so many bytes can be freed at all; says so where not.
    fn may_reach(&self, missing: u64) -> bool {
        let current = self.named(Kept::Current);
        let enough = self.resources.store.evictable(|id| current.contains(id)) >= missing;
        if !enough {
            error!(missing, "the quota is too small for what the current generations name");
        }
        enough
    }

    /// How many bytes are missing still; `None` where there is no quota, or it is kept.
    fn still(&self, bytes: u64) -> Option<u64> {
        Some(self.resources.store.room().missing(bytes)).filter(|missing| *missing > 0)
    }

    /// Gives up what a refresh that failed has fetched; false where there is none.
    fn drop_candidate(&self) -> bool {
        let Some(tree) = self.trees.iter().find(|tree| tree.drop_candidate()) else { return false };
        warn!(tree = %tree.name, "what a failed refresh has fetched is given up: the quota has no room for it");
        true
    }

    /// Drops the oldest generation that is not its tree's current one; false where there is none.
    fn drop_oldest(&self) -> bool {
        let oldest = self.trees.iter().filter_map(|tree| Some((tree.oldest()?, tree)));
        let Some((generation, tree)) = oldest.min_by_key(|(generation, _)| generation.taken()) else {
            return false;
        };
        warn!(tree = %tree.name, generation = %generation.number(), "a kept generation is dropped: the quota has no room for it");
        tree.drop_oldest();
        true
    }

    fn named(&self, kept: Kept) -> HashSet<BlobId> {
        let mut named = HashSet::new();
        for tree in &self.trees {
            tree.named_blobs(kept, &mut named);
        }
        if kept == Kept::All {
            self.resources.answers.named_blobs(&mut named);
        }
        named
    }
}

/// Whose names count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All published generations', and the general cache's.
    All,
    /// All published generations'.
    Generations,
    /// The current generations' alone, and what a refresh is at work on.
    Current,
}
