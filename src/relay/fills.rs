//! The fills under way, for whoever asks what the relay is fetching.
//!
//! Never starts or ends one. Invariant: a fill is listed from when its task is made until it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::path::TreePath;
use crate::base::tree::TreeName;
use crate::relay::entry::Entry;
use crate::relay::fill::Fill;

/// The fills of all trees.
#[derive(Debug, Default)]
pub struct Fills {
    /// Guards the fills by the order in which they began: as many as files are asked for that are not there.
    under_way: Mutex<(u64, BTreeMap<u64, UnderWay>)>,
}

#[derive(Debug)]
struct UnderWay {
    tree: TreeName,
    entry: Arc<Entry>,
    fill: Arc<Fill>,
    since: Duration,
}

/// How far a fill is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose file it is.
    pub tree: TreeName,
    /// The file.
    pub path: TreePath,
    /// Its bytes, where they are known.
    pub bytes: Option<u64>,
    /// Those that have come.
    pub bytes_done: u64,
    /// When it began, by the monotonic clock.
    pub since: Duration,
}

/// Takes a fill from the list when it is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    fills: Arc<Fills>,
    number: u64,
}

impl Fills {
    /// Lists a fill. `since` is monotonic.
    pub(super) fn list(
        self: &Arc<Self>,
        tree: TreeName,
        entry: Arc<Entry>,
        fill: Arc<Fill>,
        since: Duration,
    ) -> Listed {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.0 += 1;
        let number = under_way.0;
        under_way.1.insert(number, UnderWay { tree, entry, fill, since });
        Listed { fills: self.clone(), number }
    }

    /// All of them, the one that began first first.
    pub fn all(&self) -> Vec<Told> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |UnderWay { tree, entry, fill, since }: &UnderWay| Told {
            tree: tree.clone(),
            path: entry.path().clone(),
            bytes: entry.size(),
            bytes_done: fill.watch().borrow().written.total(),
            since: *since,
        };
        under_way.1.values().map(told).collect()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut under_way = self.fills.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.1.remove(&self.number);
    }
}
