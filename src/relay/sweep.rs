//! Removes blobs that no kept generation names, after a generation was dropped.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use tracing::{info, warn};

use crate::relay::resources::Resources;
use crate::relay::tree::Tree;

/// Sweeps whenever it is asked to, until the relay stops.
pub async fn run(resources: Arc<Resources>, trees: Vec<Arc<Tree>>) {
    loop {
        tokio::select! {
            // A sweep that is wanted is done before the stop: the next start would not know of it.
            biased;
            () = resources.sweep_wanted.notified() => {}
            () = resources.stop.cancelled() => return,
        }
        let (resources, trees) = (resources.clone(), trees.clone());
        let swept = tokio::task::spawn_blocking(move || {
            let _naming = resources.naming.write().unwrap_or_else(PoisonError::into_inner);
            let mut named = HashSet::new();
            for tree in &trees {
                tree.named_blobs(&mut named);
            }
            match resources.store.sweep(|id| named.contains(id)) {
                Ok(freed) => info!(bytes = freed, "blobs that no kept generation names are removed"),
                Err(error) => warn!(%error, "blobs that no kept generation names could not all be removed"),
            }
            resources.swept.send_modify(|count| *count += 1);
        });
        // A sweep that died is tried again with the next one.
        let _ = swept.await;
    }
}
