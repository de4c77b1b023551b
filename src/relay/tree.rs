//! One tree at run time: its settings, its upstream, what it shows, and what is being fetched for it.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::base::blob::BlobId;
use crate::base::tree::TreeName;
use crate::base::validator::Validator;
use crate::config::settings::TreeSettings;
use crate::manifest::catalogue::Catalogue;
use crate::relay::entry::Entry;
use crate::relay::generation::{Files, Generation};
use crate::relay::load::{Loaded, load};
use crate::relay::pins::Pins;
use crate::relay::refresh::Progress;
use crate::relay::resources::Resources;
use crate::relay::snapshot::{Published, Snapshot};
use crate::relay::standing::Standing;
use crate::relay::sweep::Kept;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::generations::{Held, Record};
use crate::upstream::Upstream;

/// A tree.
#[derive(Debug)]
pub struct Tree {
    /// Its name.
    pub name: TreeName,
    /// What it shares with others.
    pub resources: Arc<Resources>,
    /// Which agent is on which generation.
    pub pins: Pins,
    /// How it stands with its upstream.
    pub standing: Standing,
    settings: ArcSwap<TreeSettings>,
    upstream: ArcSwap<Upstream>,
    snapshot: ArcSwapOption<Snapshot>,
    /// Guards what is being fetched and not published yet.
    work: Mutex<Work>,
    preferred_origin: AtomicUsize,
    wanted: Notify,
    progress: watch::Sender<Progress>,
}

/// A generation on its way.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Signatures fetched for a manifest that has no folder yet.
    pub(super) pending: Option<Arc<Files>>,
    /// The generation whose payloads are being fetched.
    pub(super) candidate: Option<Arc<Generation>>,
}

impl Tree {
    /// Opens a tree with what the store has of it. Blocks on the disk.
    pub fn open(
        settings: TreeSettings,
        upstream: Upstream,
        resources: Arc<Resources>,
    ) -> Result<Arc<Self>, StoreError> {
        let Loaded { generations, candidate, doubted } = load(&settings, &resources.store)?;
        let name = settings.name.clone();
        // Blobs of what was dropped, now or by a relay that did not come to sweep.
        resources.sweep_wanted.notify_one();
        let published =
            generations.into_iter().rev().map(|generation| Arc::new(Published::new(generation, &settings)));
        let snapshot = Snapshot::new(published.collect());
        if let Some(snapshot) = &snapshot {
            let current = &snapshot.current().generation;
            info!(tree = %name, generation = %current.number(), kept = snapshot.published().len(), "served from the store");
        }
        let standing = Standing::new(resources.clock.clone(), doubted);
        Ok(Arc::new(Self {
            name,
            resources,
            standing,
            pins: Pins::default(),
            settings: ArcSwap::from_pointee(settings),
            upstream: ArcSwap::from_pointee(upstream),
            snapshot: ArcSwapOption::from_pointee(snapshot),
            work: Mutex::new(Work { pending: None, candidate }),
            preferred_origin: AtomicUsize::new(0),
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        }))
    }

    /// Its settings now.
    pub fn settings(&self) -> Arc<TreeSettings> {
        self.settings.load_full()
    }

    /// Its upstream now.
    pub fn upstream(&self) -> Arc<Upstream> {
        self.upstream.load_full()
    }

    /// What it shows now; `None` until the first generation is published.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Takes new settings: classes and views are made anew, generations beyond the kept ones go, and the next refresh
    /// asks the new upstream, if there is one. Blocks for as long as the manifests take to read.
    pub fn reload(&self, settings: TreeSettings, upstream: Option<Upstream>) {
        let settings = Arc::new(settings);
        let work = self.work();
        self.settings.store(settings.clone());
        if let Some(upstream) = upstream {
            self.upstream.store(Arc::new(upstream));
            self.preferred_origin.store(0, Ordering::Relaxed);
        }
        let snapshot = self.snapshot();
        let published = snapshot.iter().flat_map(|snapshot| snapshot.published());
        let dropped = self.show(&settings, published.map(|published| published.generation.clone()).collect());
        drop(work);
        self.remove(&dropped);
        self.refresh_wanted();
    }

    /// Forgets a candidate that would show nothing new.
    pub(super) fn forget_candidate(&self) {
        *self.work() = Work::default();
        self.standing.set_doubted(false);
        // What it alone named is nobody's now.
        self.resources.sweep_wanted.notify_one();
    }

    /// Whether a manifest is that of a kept generation older than the current one.
    pub(super) fn showed_before(&self, manifest: &[u8]) -> bool {
        let snapshot = self.snapshot();
        let older = snapshot.iter().flat_map(|snapshot| snapshot.published()).skip(1);
        older.into_iter().any(|older| older.generation.manifest().bytes() == manifest)
    }

    /// Asks for a refresh soon.
    pub fn refresh_wanted(&self) {
        self.wanted.notify_one();
    }

    /// Notes that the upstream no longer has a file. Where the current generation names it, a refresh is asked for, but not
    /// by every request that fails.
    pub(super) fn note_gone(&self, entry: &Arc<Entry>) {
        if !self.snapshot().is_some_and(|snapshot| snapshot.current().generation.names(entry)) {
            return;
        }
        self.standing.set_doubted(true);
        if self.standing.may_ask_for_gone() {
            self.refresh_wanted();
        }
    }

    /// Waits until a refresh is asked for.
    pub(super) async fn refresh_asked(&self) {
        self.wanted.notified().await;
    }

    /// How far the refresh is, or how the last one ended.
    pub fn progress(&self) -> &watch::Sender<Progress> {
        &self.progress
    }

    /// Where fills begin: the origin that gave the manifest.
    pub fn preferred_origin(&self) -> usize {
        self.preferred_origin.load(Ordering::Relaxed)
    }

    pub(super) fn prefer_origin(&self, origin: usize) {
        self.preferred_origin.store(origin, Ordering::Relaxed);
    }

    /// Notes that the upstream confirmed the current generation just now.
    pub(super) fn confirm(&self) {
        if self.standing.confirm() {
            info!(tree = %self.name, "the upstream is back");
        }
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into the journals of all generations that name the entry that it is held.
    pub(super) fn record_held(
        &self,
        entry: &Arc<Entry>,
        blob: BlobName,
        validator: &Validator,
    ) -> io::Result<()> {
        let record = Record::Held(Held { path: entry.path().clone(), blob, validator: validator.clone() });
        let candidate = self.work().candidate.clone();
        let snapshot = self.snapshot();
        let published = snapshot.iter().flat_map(|snapshot| snapshot.published());
        for generation in published.map(|published| &published.generation).chain(&candidate) {
            if generation.names(entry) {
                generation.record(std::slice::from_ref(&record))?;
            }
        }
        Ok(())
    }

    /// Makes the candidate the current generation; generations beyond the kept ones are dropped from the disk too.
    /// Blocks on the disk.
    pub(super) fn publish(&self, candidate: Arc<Generation>) -> io::Result<()> {
        candidate.folder().publish()?;
        let dropped = {
            let mut work = self.work();
            let snapshot = self.snapshot();
            let kept = snapshot.iter().flat_map(|snapshot| snapshot.published());
            let kept = kept.map(|published| published.generation.clone());
            *work = Work::default();
            self.standing.set_doubted(false);
            self.show(&self.settings(), [candidate].into_iter().chain(kept).collect())
        };
        self.remove(&dropped);
        Ok(())
    }

    /// Shows these generations, the newest first, as the settings want them; gives those beyond the kept ones. The caller
    /// holds [`Tree::work`], so that a reload and a refresh do not undo each other.
    fn show(&self, settings: &TreeSettings, mut generations: Vec<Arc<Generation>>) -> Vec<Arc<Generation>> {
        let dropped = generations.split_off(settings.keep_generations.max(1).min(generations.len()));
        let catalogue = settings.catalogue();
        let published = generations.into_iter().map(|generation| {
            let generation = classified(generation, &catalogue);
            Arc::new(Published::new(generation, settings))
        });
        self.snapshot.store(Snapshot::new(published.collect()).map(Arc::new));
        dropped
    }

    /// Removes dropped generations from the disk, with damaged ones that are older; the sweep follows.
    fn remove(&self, dropped: &[Arc<Generation>]) {
        let Some(last) = dropped.first() else { return };
        if let Err(error) = self.resources.store.remove_generations(&self.name, last.number()) {
            warn!(tree = %self.name, %error, "old generations could not all be removed: tried again with the next");
        }
        self.resources.sweep_wanted.notify_one();
    }

    /// The oldest kept generation, where it is not the current one.
    pub(super) fn oldest(&self) -> Option<Arc<Generation>> {
        let snapshot = self.snapshot()?;
        let (_, older) = snapshot.published().split_first()?;
        older.last().map(|published| published.generation.clone())
    }

    /// Drops the oldest kept generation, where it is not the current one.
    pub(super) fn drop_oldest(&self) {
        let work = self.work();
        let Some(snapshot) = self.snapshot() else { return };
        let mut kept: Vec<_> =
            snapshot.published().iter().map(|published| published.generation.clone()).collect();
        let dropped = if kept.len() > 1 { kept.pop() } else { None };
        self.show(&self.settings(), kept);
        drop(work);
        self.remove(dropped.as_slice());
    }

    /// Gives up what was fetched for a generation that no refresh is at work on; false where there is nothing.
    pub(super) fn drop_candidate(&self) -> bool {
        let mut work = self.work();
        if self.progress.borrow().running || (work.candidate.is_none() && work.pending.is_none()) {
            return false;
        }
        *work = Work::default();
        true
    }

    /// The blobs that the tree's generations name, those under way too.
    pub(super) fn named_blobs(&self, kept: Kept, named: &mut HashSet<BlobId>) {
        let work = self.work();
        let snapshot = self.snapshot();
        let count = if kept == Kept::Current { 1 } else { usize::MAX };
        let published = snapshot.iter().flat_map(|snapshot| snapshot.published().iter().take(count));
        let generations = published.map(|published| &published.generation);
        let begun = kept != Kept::Current || self.progress.borrow().running;
        let (candidate, pending) = (work.candidate.iter(), work.pending.iter());
        let files = generations.chain(candidate.filter(|_| begun)).flat_map(|generation| generation.files());
        let pending = pending.filter(|_| begun).flat_map(|pending| pending.iter());
        for listed in files.chain(pending) {
            // What was held before is of use only until the entry itself is held.
            let held = listed.entry.held();
            named.extend(held.or_else(|| Some(listed.entry.prior()?.blob)).map(|blob| blob.id));
        }
    }

    /// Notes that an agent uses an entry: what is used longest ago goes first (R1.8), and what was used is fetched ahead
    /// (prefetch `used`). `now` is monotonic.
    pub(super) fn note_used(&self, entry: &Arc<Entry>, now: Duration) {
        let Some(first) = entry.set_used(now) else { return };
        let (resources, name, entry) = (self.resources.clone(), self.name.clone(), entry.clone());
        self.resources.runtime.spawn_blocking(move || {
            let index = resources.store.index();
            if first {
                index.note_used(&name, &entry.usage());
            }
            if let Some(blob) = entry.held() {
                index.note_use(blob.id, resources.clock.wall());
            }
        });
    }
}

/// A generation with the classes of a catalogue.
fn classified(generation: Arc<Generation>, catalogue: &Catalogue) -> Arc<Generation> {
    if generation.catalogue() == catalogue {
        return generation;
    }
    match generation.reclassified(catalogue.clone()) {
        Ok(generation) => Arc::new(generation),
        Err(reason) => {
            error!(tree = %generation.tree(), generation = %generation.number(), %reason, "the catalogue cannot be used on a manifest: it keeps its classes");
            generation
        }
    }
}
