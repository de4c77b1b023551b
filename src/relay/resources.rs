//! What all trees of a relay share: the store, the runtime, the clock, and the bounds of fetching.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::blob::BlobId;
use crate::base::clock::Clock;
use crate::base::tally::Tally;
use crate::relay::cache::table::Table;
use crate::relay::crowds::Crowds;
use crate::relay::fills::Fills;
use crate::relay::limits::Limits;
use crate::relay::refusals::Refusals;
use crate::relay::scrub::Scrubber;
use crate::relay::sweep::Want;
use crate::relay::traffic::Traffic;
use crate::store::Store;

/// What all trees share.
#[derive(Debug)]
pub struct Resources {
    /// The store.
    pub store: Arc<Store>,
    /// The relay's counts.
    pub tally: Arc<Tally>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The control runtime: fills and refreshes run here, never on a data worker.
    pub runtime: Handle,
    /// The tasks on it that must end before the store is closed.
    pub tasks: TaskTracker,
    /// Tells those tasks to end.
    pub stop: CancellationToken,
    /// Fills that may run at once.
    pub fill_slots: Semaphore,
    /// How often a fill asks again before it fails.
    pub fill_attempts: AtomicU32,
    /// Far lanes that a fill may have at once.
    pub far_lanes: AtomicUsize,
    /// How long an agent waits for a fill's first byte, in milliseconds.
    pub fill_wait_ms: AtomicU64,
    /// Files that a refresh fetches at once.
    pub prefetch_at_once: AtomicUsize,
    /// Held for reading from a blob's commit until a journal names it, for writing while unnamed blobs are removed, or a damaged one is.
    pub naming: RwLock<()>,
    /// Wakes the sweep: a generation was dropped, or the quota is another.
    pub sweep_wanted: Notify,
    /// Asks the sweep for room.
    pub room_wanted: mpsc::Sender<Want>,
    /// What the general cache keeps.
    pub answers: Arc<Table>,
    /// What the generations named at the last sweep: whoever has blobs at hand lets the others go. Told again whenever a blob
    /// is taken out.
    pub swept: watch::Sender<Arc<HashSet<BlobId>>>,
    /// The fills under way.
    pub fills: Arc<Fills>,
    /// The crowds that have their first bytes.
    pub crowds: Arc<Crowds>,
    /// What passed in the last minutes.
    pub traffic: Traffic,
    /// The last requests that were refused.
    pub refusals: Arc<Refusals>,
    /// What is left of agents' and domains' limits.
    pub limits: Arc<Limits>,
    /// What the scrubber is asked to do, and how far it is.
    pub scrubber: Scrubber,
}

impl Resources {
    /// How often a fill asks again before it fails.
    pub fn fill_attempts(&self) -> u32 {
        self.fill_attempts.load(Ordering::Relaxed)
    }

    /// Far lanes that a fill may have at once.
    pub fn far_lanes(&self) -> usize {
        self.far_lanes.load(Ordering::Relaxed)
    }

    /// How long an agent waits for a fill's first byte.
    pub fn fill_wait(&self) -> Duration {
        Duration::from_millis(self.fill_wait_ms.load(Ordering::Relaxed))
    }

    /// Files that a refresh fetches at once.
    pub fn prefetch_at_once(&self) -> usize {
        self.prefetch_at_once.load(Ordering::Relaxed).max(1)
    }
}
