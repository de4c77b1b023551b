//! The scrubber at work on one pass: what it looks at, in which pace, and what it does about what is bad.
//!
//! Invariant: no bytes are read before those read so far were rested for.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::relay::mend::{Lost, Mend};
use crate::relay::resources::Resources;
use crate::relay::scrub::{Mode, Rate};
use crate::relay::tree::Tree;
use crate::store::blobs::BlobName;
use crate::store::eviction::Candidate;
use crate::store::quarantine::Removal;
use crate::store::scrub::{Bookmark, Found, Look, OPEN_COST_BYTES, Pace, Pass, Suspect};

/// Between two notes of how far a pass is: a crash costs it no more than this.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// Names taken from the index at a time.
const BATCH: usize = 256;

/// Why a pass went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It looked at everything.
    Whole,
    /// Something else is wanted first: an administrator's pass, none at all, or the relay's end.
    Interrupted,
}

/// The scrubber at work.
pub(super) struct Runner {
    resources: Arc<Resources>,
    trees: Vec<Arc<Tree>>,
    mends: mpsc::Sender<Mend>,
    bookmark: Bookmark,
    mode: Mode,
    pace: Pace,
    /// Bytes read for which it has not rested yet: what is found is acted on before.
    owed: u64,
    /// When the bookmark was kept last.
    kept: Duration,
}

impl Runner {
    /// One that has not begun.
    pub(super) fn new(
        resources: Arc<Resources>,
        trees: Vec<Arc<Tree>>,
        bookmark: Bookmark,
        mends: mpsc::Sender<Mend>,
    ) -> Self {
        Self {
            resources,
            trees,
            mends,
            bookmark,
            mode: Mode::Background,
            pace: Pace::default(),
            owed: 0,
            kept: Duration::ZERO,
        }
    }

    /// Where it is.
    pub(super) fn bookmark(&self) -> &Bookmark {
        &self.bookmark
    }

    /// One pass, or the rest of one.
    pub(super) async fn scrub(&mut self, mode: Mode) {
        self.mode = mode;
        let now = self.resources.clock.wall();
        let kept = self.bookmark.pass.take().filter(|_| mode == Mode::Background);
        let goes_on = kept.is_some();
        self.bookmark.pass = Some(kept.unwrap_or_else(|| Pass::begin(now)));
        let store = self.resources.store.clone();
        let total = blocking(move || {
            Ok(store.index().blobs().fold((0, 0), |(blobs, bytes), name| (blobs + 1, bytes + name.size)))
        });
        let (blobs, bytes) = total.await.unwrap_or_default();
        info!(blobs, bytes, goes_on, asked = mode != Mode::Background, "scrubbing: stored files are checked");
        self.resources.scrubber.progress.send_modify(|progress| {
            (progress.blobs, progress.bytes) = (blobs, bytes);
            progress.pass.clone_from(&self.bookmark.pass);
        });
        let mut end = self.pass().await;
        if end == End::Whole && !self.finish() {
            end = End::Interrupted;
        }
        if end == End::Interrupted {
            self.resources.scrubber.progress.send_modify(|progress| progress.pass = None);
        }
        self.keep_bookmark().await;
    }

    async fn pass(&mut self) -> End {
        loop {
            let (store, after) = (self.resources.store.clone(), self.pass_now().after);
            let names = blocking(move || {
                Ok(store.index().blobs_after(after).take(BATCH).map(Candidate::name).collect::<Vec<_>>())
            });
            let names = names.await.unwrap_or_default();
            if names.is_empty() {
                return if self.is_interrupted() { End::Interrupted } else { End::Whole };
            }
            for name in names {
                if self.check(name).await.is_break() {
                    return End::Interrupted;
                }
                let pass = self.bookmark.pass.clone();
                self.resources.scrubber.progress.send_modify(|progress| progress.pass = pass);
                if self.resources.clock.monotonic() >= self.kept + BOOKMARK_EVERY {
                    self.keep_bookmark().await;
                }
            }
        }
    }

    /// Looks at one blob, until it is known what it is or something else is wanted.
    async fn check(&mut self, name: BlobName) -> ControlFlow<()> {
        let tally = self.resources.tally.clone();
        let mut taken = Removal::Replaced;
        while taken == Removal::Replaced {
            self.rest().await?;
            let store = self.resources.store.clone();
            let mut look = blocking(move || store.look(name)).await;
            self.owed += OPEN_COST_BYTES;
            while let Ok(Look::More(check)) = look {
                self.rest().await?;
                let before = check.done();
                look = blocking(move || check.go_on()).await;
                let done = match &look {
                    Ok(Look::More(check)) => check.done(),
                    _ => name.size,
                };
                tally.scrubbed_bytes.add(done - before);
                self.owed += done - before;
            }
            taken = match look {
                Ok(Look::Bad(suspect)) => self.take_out(suspect).await,
                Ok(_) => {
                    self.pass_now().count(name, None);
                    break;
                }
                Err(error) => {
                    warn!(blob = %name.id, %error, "a blob could not be checked");
                    self.pass_now().skip(name);
                    return ControlFlow::Continue(());
                }
            };
        }
        if taken != Removal::Swept {
            tally.scrubbed_blobs.one();
        }
        ControlFlow::Continue(())
    }

    /// Takes a bad blob out, says so, and has it fetched anew.
    async fn take_out(&mut self, suspect: Suspect) -> Removal {
        let (name, flaw) = (suspect.name, suspect.flaw.to_string());
        let (resources, trees) = (self.resources.clone(), self.trees.clone());
        let taken = blocking(move || Ok(take_out(&resources, &trees, &suspect))).await;
        let lost = match taken {
            Ok((Removal::Out, lost)) => lost,
            Ok((Removal::Swept, _)) => {
                self.pass_now().pass_by(name);
                return Removal::Swept;
            }
            Ok((Removal::Replaced, _)) => return Removal::Replaced,
            Err(error) => {
                error!(blob = %name.id, %error, "a damaged blob could not be taken out");
                Vec::new()
            }
        };
        let files: BTreeSet<_> =
            lost.iter().map(|lost| format!("{}/{}", lost.tree.name, lost.entry.path())).collect();
        let files: Vec<_> = files.into_iter().collect();
        error!(blob = %name.id, size = name.size, files = %files.join(", "), "a stored file is damaged: {flaw}; it is served no more");
        self.resources.tally.bad_blobs.one();
        self.resources.swept.send_modify(|_| {});
        self.pass_now().count(name, Some(Found { blob: name.id, size: name.size, flaw, files }));
        if !lost.is_empty() && self.mends.try_send(Mend { blob: name, lost }).is_err() {
            warn!(blob = %name.id, "too many files wait to be fetched anew: this one is when an agent asks for it");
        }
        self.keep_bookmark().await;
        Removal::Out
    }

    /// Notes that the pass is whole; false where an administrator asked for another one meanwhile.
    fn finish(&mut self) -> bool {
        let scrubber = &self.resources.scrubber;
        let mut wanted = scrubber.wanted();
        if wanted.asked.is_some() && self.mode == Mode::Background {
            return false;
        }
        // Who asked during an administrator's pass was told that this one will do.
        wanted.asked = None;
        let mut pass = self.bookmark.pass.take().unwrap_or_default();
        pass.ended = Some(self.resources.clock.wall());
        let (blobs, bytes, bad, skipped) = (pass.blobs, pass.bytes, pass.bad, pass.skipped);
        info!(blobs, bytes, bad, skipped, "scrubbing: all stored files were checked");
        self.bookmark.last = Some(pass);
        scrubber.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.pass = None;
            progress.last.clone_from(&self.bookmark.last);
        });
        true
    }

    /// Rests as the pace wants it after what was read.
    async fn rest(&mut self) -> ControlFlow<()> {
        let (bytes, rate) = (std::mem::take(&mut self.owed), self.rate());
        let until = Instant::now() + self.pace.rest(self.resources.clock.monotonic(), bytes, rate);
        loop {
            if self.is_interrupted() {
                return ControlFlow::Break(());
            }
            if self.rate() != rate {
                self.pace = Pace::default();
                return ControlFlow::Continue(());
            }
            tokio::select! {
                () = self.resources.scrubber.wake.notified() => {}
                () = self.resources.stop.cancelled() => {}
                () = tokio::time::sleep_until(until) => return ControlFlow::Continue(()),
            }
        }
    }

    fn rate(&self) -> Rate {
        match self.mode {
            Mode::Asked(rate) => rate,
            Mode::Background => Some(self.resources.scrubber.wanted().settings.bytes_per_sec),
        }
    }

    /// Whether something else is wanted than to go on.
    fn is_interrupted(&mut self) -> bool {
        let mut wanted = self.resources.scrubber.wanted();
        let other = match self.mode {
            Mode::Background => wanted.asked.is_some() || wanted.settings.every_days == 0,
            Mode::Asked(_) => {
                if let Some(rate) = wanted.asked.take() {
                    self.mode = Mode::Asked(rate);
                }
                false
            }
        };
        other || self.resources.stop.is_cancelled()
    }

    async fn keep_bookmark(&mut self) {
        self.kept = self.resources.clock.monotonic();
        let (store, bookmark) = (self.resources.store.clone(), self.bookmark.clone());
        if let Err(error) = blocking(move || store.keep_bookmark(&bookmark).map_err(io::Error::other)).await {
            warn!(%error, "how far scrubbing is could not be written down");
        }
    }

    fn pass_now(&mut self) -> &mut Pass {
        self.bookmark.pass.get_or_insert_default()
    }
}

/// Takes a blob out of the store and from all entries that hold it, between commits and sweeps.
fn take_out(resources: &Resources, trees: &[Arc<Tree>], suspect: &Suspect) -> (Removal, Vec<Lost>) {
    let _naming = resources.naming.write().unwrap_or_else(PoisonError::into_inner);
    let taken = resources.store.quarantine(suspect);
    let lost = match taken {
        Removal::Out => trees.iter().flat_map(|tree| tree.lose(suspect.name)).collect(),
        Removal::Replaced | Removal::Swept => Vec::new(),
    };
    (taken, lost)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| io::Error::other(error.to_string()))?
}
