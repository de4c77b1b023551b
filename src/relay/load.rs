//! A tree's generations as a start finds them in the store.
//!
//! Never asks the upstream. Invariant: entries equal to those of older generations are shared with them.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::{error, warn};

use crate::base::tree::TreeName;
use crate::config::settings::TreeSettings;
use crate::manifest::catalogue::Catalogue;
use crate::manifest::server_ini::Manifest;
use crate::relay::entry::{Entry, Identity, State};
use crate::relay::generation::{Files, Generation, restore};
use crate::store::generations::{Record, Stored};
use crate::store::{Store, StoreError};

/// What a tree begins with.
pub(super) struct Loaded {
    /// The kept generations, the oldest first.
    pub(super) generations: Vec<Arc<Generation>>,
    /// A generation that was being fetched.
    pub(super) candidate: Option<Arc<Generation>>,
    /// Whether lines of the newest generation's journal are lost.
    pub(super) doubted: bool,
}

/// Reads what the store has of a tree; generations beyond the kept ones go. Blocks on the disk.
pub(super) fn load(settings: &TreeSettings, store: &Store) -> Result<Loaded, StoreError> {
    let name = &settings.name;
    let stored = store.stored_tree(name)?;
    let catalogue = settings.catalogue();
    let mut generations: Vec<Arc<Generation>> = Vec::new();
    let doubted = stored.published.last().is_some_and(|newest| newest.damaged);
    for found in stored.published {
        generations.extend(generation(name, found, &catalogue, &generations, store));
    }
    let candidate = stored.next.and_then(|found| generation(name, found, &catalogue, &generations, store));
    let kept = settings.keep_generations.max(1).min(generations.len());
    let dropped = generations.drain(..generations.len() - kept).next_back();
    if let Some(last) = dropped
        && let Err(error) = store.remove_generations(name, last.number())
    {
        warn!(tree = %name, %error, "old generations could not all be removed");
    }
    Ok(Loaded { generations, candidate, doubted })
}

/// The newest of these generations' entries that has this identity. That a file was absent is true of its generation
/// alone: such entries are not shared.
pub(super) fn shared(generations: &[Arc<Generation>], identity: &Identity) -> Option<Arc<Entry>> {
    let listed = generations.iter().rev().find_map(|generation| generation.listed(&identity.path))?;
    let same = listed.entry.identity() == identity && !matches!(**listed.entry.state(), State::Absent);
    same.then(|| listed.entry.clone())
}

/// Brings a stored generation into memory.
fn generation(
    tree: &TreeName,
    stored: Stored,
    catalogue: &Catalogue,
    older: &[Arc<Generation>],
    store: &Store,
) -> Option<Arc<Generation>> {
    let manifest = match Manifest::read(stored.manifest, catalogue) {
        Ok(manifest) => manifest,
        Err(reason) => {
            error!(%tree, generation = %stored.head.number, %reason, "a stored manifest cannot be read: left out");
            return None;
        }
    };
    let mut files = Files::signatures(tree, stored.head.number, &manifest, |_| None);
    // What the journal says last of each file: its blob, or that it is absent.
    let known: HashMap<_, _> = stored
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Held(held) => Some((&held.path, Some(held.blob))),
            Record::Absent { path } => Some((path, None)),
            Record::Generation(_) => None,
        })
        .collect();
    files.add_listings(tree, &manifest, |identity| {
        let same = |entry: &Arc<Entry>| match known.get(entry.path()) {
            Some(Some(blob)) => entry.held() == Some(*blob),
            Some(None) => false,
            None => entry.held().is_none(),
        };
        shared(older, &identity).filter(same).unwrap_or_else(|| Arc::new(Entry::new(identity, None)))
    });
    restore(&files, &stored.records, store);
    let (head, folder) = (stored.head, stored.folder);
    Some(Arc::new(Generation::new(tree.clone(), head, manifest, catalogue.clone(), files, folder)))
}
