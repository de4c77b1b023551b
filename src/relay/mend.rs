//! Fetches anew what the scrubber took out, where the prefetch rule had it; the rest waits for an agent to ask.
//!
//! One fill after the other. A blob that several entries name is fetched once, and the others have it back when the same
//! bytes came. What the upstream does not give now is tried again later. Invariant: an entry has its blob back only after a
//! commit of that very blob.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::settings::Prefetch;
use crate::relay::entry::{Entry, Filling, Role, State};
use crate::relay::resources::Resources;
use crate::relay::tree::Tree;
use crate::store::blobs::BlobName;

/// Blobs that wait to be fetched anew: a disk with more is failing, and its files come when agents ask for them.
pub const MENDS_MAX: usize = 1024;

/// Before what could not be had is tried again.
const RETRY: Duration = Duration::from_mins(5);

/// A blob that was taken out, and who named it.
#[derive(Debug)]
pub struct Mend {
    /// The blob.
    pub blob: BlobName,
    /// The entries that held it.
    pub lost: Vec<Lost>,
}

/// An entry that lost its blob.
#[derive(Debug)]
pub struct Lost {
    /// Its tree.
    pub tree: Arc<Tree>,
    /// The entry.
    pub entry: Arc<Entry>,
    /// What is left of it.
    pub left: Arc<State>,
}

/// Fetches what is sent until the relay stops.
pub async fn run(resources: Arc<Resources>, mut mends: mpsc::Receiver<Mend>) {
    let mut waiting = Vec::new();
    loop {
        let tried = tokio::select! {
            () = resources.stop.cancelled() => return,
            Some(mend) = mends.recv(), if waiting.len() < MENDS_MAX => vec![mend],
            () = tokio::time::sleep(RETRY), if !waiting.is_empty() => std::mem::take(&mut waiting),
        };
        for mend in tried {
            if !mend.fetch(&resources).await {
                waiting.push(mend);
            }
        }
    }
}

impl Mend {
    /// Has the blob fetched by the first entry that can; false where the upstream should be asked again later.
    async fn fetch(&self, resources: &Arc<Resources>) -> bool {
        let mut again = false;
        for Lost { tree, entry, .. } in self.lost.iter().filter(|lost| lost.is_wanted()) {
            entry.forget_failure();
            let Some(fill) = tree.fill(entry) else { continue };
            match fill.finished().await {
                Ok(blob) if blob == self.blob => {
                    info!(tree = %tree.name, path = %entry.path(), blob = %blob.id, "a damaged file was fetched anew");
                    self.share(resources).await;
                    return true;
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(tree = %tree.name, path = %entry.path(), %error, "a damaged file could not be fetched anew");
                    again |= !resources.stop.is_cancelled();
                }
            }
        }
        !again
    }

    /// Gives the blob back to the entries that nothing else was learnt of since.
    async fn share(&self, resources: &Arc<Resources>) {
        let (resources, blob) = (resources.clone(), self.blob);
        let lost: Vec<_> = self.lost.iter().map(|lost| (lost.entry.clone(), lost.left.clone())).collect();
        let shared = tokio::task::spawn_blocking(move || {
            // As a commit: nothing is taken out or swept meanwhile.
            let _naming = resources.naming.read().unwrap_or_else(PoisonError::into_inner);
            if resources.store.holds(blob) {
                for (entry, left) in &lost {
                    give_back(entry, left, blob);
                }
            }
        });
        // Where the thread died they are fetched one by one.
        let _ = shared.await;
    }
}

/// A fill that is under way brings the entry its bytes itself: its head would take back what is given here.
fn give_back(entry: &Entry, left: &Arc<State>, blob: BlobName) {
    let filling = entry.filling();
    if !matches!(*filling, Filling::Running(_)) {
        entry.set_found(left, blob);
    }
}

impl Lost {
    /// Whether a kept generation names the entry and the prefetch rule has it.
    fn is_wanted(&self) -> bool {
        let (tree, entry) = (&self.tree, &self.entry);
        let rule = match tree.settings().prefetch {
            Prefetch::All => true,
            Prefetch::Used => tree.resources.store.index().is_used(&tree.name, &entry.usage()),
            Prefetch::None => false,
        };
        (rule || entry.identity().role == Role::Signature) && entry.held().is_none() && tree.names(entry)
    }
}

impl Tree {
    /// Has all entries that hold a blob fall back; gives them. The caller keeps commits away meanwhile.
    pub(super) fn lose(self: &Arc<Self>, blob: BlobName) -> Vec<Lost> {
        let lose = |entry: Arc<Entry>| {
            let state = entry.state().clone();
            matches!(&*state, State::Held(held, _) if held.id == blob.id).then_some(())?;
            let left = entry.set_lost(&state)?;
            Some(Lost { tree: self.clone(), entry, left })
        };
        self.entries().into_iter().filter_map(lose).collect()
    }

    fn names(&self, entry: &Arc<Entry>) -> bool {
        self.entries().iter().any(|named| Arc::ptr_eq(named, entry))
    }

    /// The entries of all generations, those under way too; one that several share stands there for each.
    fn entries(&self) -> Vec<Arc<Entry>> {
        let work = self.work();
        let snapshot = self.snapshot();
        let published = snapshot.iter().flat_map(|snapshot| snapshot.published());
        let generations = published.map(|published| &published.generation).chain(&work.candidate);
        let files = generations.flat_map(|generation| generation.files());
        let pending = work.pending.iter().flat_map(|pending| pending.iter());
        files.chain(pending).map(|listed| listed.entry.clone()).collect()
    }
}
