//! The one fetch that brings a file in, however many agents ask for it (R2).
//!
//! [`Tree::fill`] joins the entry's fill or starts one as a task of its own, which drives its main lane (`relay/attempts.rs`)
//! and its far lanes (`relay/lanes.rs`), and then tells all who wait how it ended. The entry's state is set before its fill is
//! taken away, so that nobody starts a second one in between.
//!
//! Invariant: bytes that [`Progress::written`] names never change while the fill runs; bytes that turn out to be of
//! another state of the file end it as [`FillError::Changed`], and its readers with it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::base::intervals::Intervals;
use crate::base::range::ByteRange;
use crate::relay::attempts::Attempts;
use crate::relay::entry::{Entry, Filling};
use crate::relay::fills::Listed;
use crate::relay::lanes::{Driver, Lanes};
use crate::relay::tree::Tree;
use crate::store::blobs::BlobName;
use crate::store::room::NoRoom;
use crate::store::staging::{CommitError, Shown};
use crate::upstream::UpstreamError;

/// How long an upstream's refusal is remembered: agents that ask meanwhile are told of it without another request.
const FAILURE: Duration = Duration::from_secs(10);

/// How long readers are not told of a head alone: the bytes behind it mostly come in a moment, and who waits is woken once for both.
const HEAD_ALONE: Duration = Duration::from_millis(5);

/// How often a file may change under its fills before the fill is given up until it is asked for again.
const CHANGES_MAX: usize = 3;

/// A fetch under way, shared by all who wait for it.
#[derive(Debug)]
pub struct Fill {
    progress: watch::Sender<Progress>,
    /// Wakes who tells readers of a head alone.
    head: Notify,
    shown: OnceLock<Shown>,
    lanes: Lanes,
}

/// How far a fill is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The upstream's head, once it is known: from then on the entry has its stamp.
    pub head: bool,
    /// Which bytes readers may read.
    pub written: Intervals,
    /// Whether it goes on.
    pub phase: Phase,
}

/// Whether a fill goes on.
#[derive(Clone, Debug, Default)]
pub enum Phase {
    /// It does.
    #[default]
    Running,
    /// All bytes came, were checked, and are a blob.
    Complete(BlobName),
    /// It ended without.
    Failed(Arc<FillError>),
}

/// Why a fill ended without a blob.
#[derive(Debug, Error)]
pub enum FillError {
    /// No origin has the file.
    #[error("the upstream has no such file")]
    NotFound,
    /// The origins gave errors, the last of which is told.
    #[error("{0}")]
    Upstream(UpstreamError),
    /// What was staged is of an older state of the file.
    #[error("the file changed at the upstream while it was fetched")]
    Changed,
    /// The store could not take it.
    #[error("store: {0}")]
    Store(CommitError),
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

impl FillError {
    /// Whether asking again at once would bring the same error, and cost the upstream a request.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound => true,
            Self::Upstream(error) => !error.is_passing(),
            // Room is looked for in the whole of the index: not for each request of a fleet.
            Self::Store(_) => self.no_room().is_some(),
            Self::Changed | Self::Stopping => false,
        }
    }

    /// What the quota is missing, where that is the reason.
    pub(super) fn no_room(&self) -> Option<NoRoom> {
        match self {
            Self::Store(CommitError::NoRoom(no_room)) => Some(*no_room),
            _ => None,
        }
    }
}

impl Fill {
    fn new(size: Option<u64>, lanes_max: usize) -> Arc<Self> {
        Arc::new(Self::at(Progress::default(), Lanes::new(size, lanes_max)))
    }

    /// A fill that is over.
    fn failed(error: Arc<FillError>) -> Arc<Self> {
        let progress = Progress { phase: Phase::Failed(error), ..Progress::default() };
        Arc::new(Self::at(progress, Lanes::new(None, 0)))
    }

    fn at(progress: Progress, lanes: Lanes) -> Self {
        let (progress, head) = (watch::Sender::new(progress), Notify::new());
        Self { progress, head, shown: OnceLock::new(), lanes }
    }

    /// Notes that the entry has its stamp. Readers who wait are told with the first bytes, or in a moment.
    pub(super) fn note_head(&self) {
        self.progress.send_if_modified(|progress| {
            progress.head = true;
            false
        });
        self.head.notify_one();
    }

    /// Tells readers that the entry has its stamp, where the bytes behind it keep them waiting.
    async fn tell_head(&self) -> Infallible {
        self.head.notified().await;
        tokio::time::sleep(HEAD_ALONE).await;
        self.progress.send_if_modified(|progress| progress.written.total() == 0);
        pending().await
    }

    /// Tells readers that bytes are there.
    pub(super) fn note_written(&self, range: ByteRange) {
        if !range.is_empty() {
            self.progress.send_modify(|progress| progress.written.insert(range));
        }
    }

    /// How many bytes readers may read from the start on.
    pub(super) fn written(&self) -> u64 {
        self.progress.borrow().written.run_from(0)
    }

    /// A view of how far it is that can wait for more.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The file that the bytes are in; there is one as soon as anything is written.
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.get()
    }

    /// Where its bytes come from.
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Waits for its end.
    pub async fn finished(&self) -> Result<BlobName, Arc<FillError>> {
        let mut progress = self.watch();
        let ended = progress.wait_for(|now| !matches!(now.phase, Phase::Running)).await;
        match ended.map(|now| now.phase.clone()) {
            Ok(Phase::Complete(blob)) => Ok(blob),
            Ok(Phase::Failed(error)) => Err(error),
            Ok(Phase::Running) | Err(_) => Err(Arc::new(FillError::Stopping)),
        }
    }

    /// Whether the upstream's head is known, and the fill not over.
    pub(super) fn has_begun(&self) -> bool {
        let now = self.progress.borrow();
        now.head && matches!(now.phase, Phase::Running)
    }

    /// Waits until the upstream's head is known and its bytes have had a moment to come, or the fill is over.
    pub async fn begun(&self) -> Result<(), Arc<FillError>> {
        let mut progress = self.watch();
        let known = progress.wait_for(|now| now.head || !matches!(now.phase, Phase::Running)).await;
        match known.map(|now| now.phase.clone()) {
            Ok(Phase::Running | Phase::Complete(_)) => Ok(()),
            Ok(Phase::Failed(error)) => Err(error),
            Err(_) => Err(Arc::new(FillError::Stopping)),
        }
    }
}

impl Tree {
    /// Joins the fill of an entry, or starts it. `None` when the entry is held by now.
    pub fn fill(self: &Arc<Self>, entry: &Arc<Entry>) -> Option<Arc<Fill>> {
        let fill = {
            let mut filling = entry.filling();
            if let Filling::Running(fill) = &*filling {
                return Some(fill.clone());
            }
            if entry.held().is_some() {
                return None;
            }
            if let Filling::Failed(error, until) = &*filling
                && self.resources.clock.monotonic() < *until
            {
                return Some(Fill::failed(error.clone()));
            }
            let fill = self.new_fill(entry);
            *filling = Filling::Running(fill.clone());
            fill
        };
        self.start(entry.clone(), fill.clone(), 0);
        Some(fill)
    }

    fn new_fill(&self, entry: &Entry) -> Arc<Fill> {
        Fill::new(entry.identity().size, self.resources.far_lanes())
    }

    fn start(self: &Arc<Self>, entry: Arc<Entry>, fill: Arc<Fill>, changes: usize) {
        let stopped = self.resources.stop.clone().cancelled_owned();
        let since = self.resources.clock.monotonic();
        let listed = self.resources.fills.list(self.name.clone(), entry.clone(), fill.clone(), since);
        let mut task = Task { tree: self.clone(), entry, fill, changes, over: false, _listed: listed };
        self.resources.tasks.spawn_on(
            async move {
                let ended = tokio::select! {
                    ended = task.tree.run_fill(&task.entry, &task.fill) => ended,
                    () = stopped => Err(FillError::Stopping),
                };
                task.end(ended);
            },
            &self.resources.runtime,
        );
    }

    async fn run_fill(self: &Arc<Self>, entry: &Arc<Entry>, fill: &Fill) -> Result<BlobName, FillError> {
        let _slot = self.resources.fill_slots.acquire().await.map_err(|_| FillError::Stopping)?;
        let _now = self.resources.tally.fills_now.hold();
        self.resources.tally.fills_begun.one();
        debug!(tree = %self.name, path = %entry.path(), "fill begins");
        let mut attempts = Attempts::new(self.clone(), entry.clone()).await?;
        // Nobody reads the file before bytes are written, and it is set but once.
        let _ = fill.shown.set(attempts.staged()?.shown(entry.identity().size));
        let ahead = attempts.staged()?.ahead();
        let far = Driver { tree: self, entry, fill, ahead };
        let mut far = std::pin::pin!(far.run());
        let fetched = tokio::select! {
            fetched = attempts.fetch(fill) => fetched,
            () = &mut far => Err(FillError::Stopping),
            never = fill.tell_head() => match never {},
        };
        // Nobody may write to the file any more when it becomes a blob, or is gone on with by the next fill.
        fill.lanes.close();
        far.await;
        match fetched {
            Ok(fetched) => attempts.commit(fetched).await,
            Err(error) => {
                // What a passing error left may be gone on with; a full disk wants its room back.
                if !matches!(&error, FillError::Upstream(passing) if passing.is_passing()) {
                    attempts.discard().await;
                }
                Err(error)
            }
        }
    }

    /// The entry's state is set before the fill is taken away, so that nobody starts a second one in between.
    fn end_fill(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        fill: &Arc<Fill>,
        ended: Result<BlobName, FillError>,
        changes: usize,
    ) {
        let tally = &self.resources.tally;
        let (mut filling, mut again) = (Filling::None, None);
        let phase = match ended {
            Ok(blob) => {
                tally.fills_completed.one();
                debug!(tree = %self.name, path = %entry.path(), size = blob.size, blob = %blob.id, "fill complete");
                Phase::Complete(blob)
            }
            Err(error) => {
                tally.fills_failed.one();
                warn!(tree = %self.name, path = %entry.path(), %error, "fill failed");
                let error = Arc::new(error);
                match &*error {
                    FillError::Changed if changes < CHANGES_MAX => {
                        let fill = self.new_fill(entry);
                        filling = Filling::Running(fill.clone());
                        again = Some(fill);
                    }
                    lasting if lasting.is_lasting() => {
                        let until = self.resources.clock.monotonic() + FAILURE;
                        filling = Filling::Failed(error.clone(), until);
                    }
                    _ => {}
                }
                if matches!(*error, FillError::NotFound) {
                    self.note_gone(entry);
                }
                Phase::Failed(error)
            }
        };
        *entry.filling() = filling;
        // Without the lock: a task that cannot be started any more ends here.
        if let Some(again) = again {
            self.start(entry.clone(), again, changes + 1);
        }
        fill.progress.send_modify(|progress| progress.phase = phase);
    }
}

/// A fill's task. Dropping it ends the fill, so that readers never wait for a task that died.
struct Task {
    tree: Arc<Tree>,
    entry: Arc<Entry>,
    fill: Arc<Fill>,
    /// How often the file changed under the fills before this one.
    changes: usize,
    over: bool,
    _listed: Listed,
}

impl Task {
    fn end(&mut self, ended: Result<BlobName, FillError>) {
        if !self.over {
            self.over = true;
            self.tree.end_fill(&self.entry, &self.fill, ended, self.changes);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end(Err(FillError::Stopping));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use tokio::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_once_for_a_head_and_the_first_bytes_r2_2() {
        let (fill, woken) = (Fill::new(Some(10), 0), Arc::new(Woken::default()));
        let (waker, mut begun) = (woken.clone().into(), Box::pin(fill.begun()));
        let mut cx = Context::from_waker(&waker);
        assert!(begun.as_mut().poll(&mut cx).is_pending());
        fill.note_head();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        fill.note_written(ByteRange::whole(4));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(begun.as_mut().poll(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_of_a_head_alone_in_a_moment_r2_2() {
        let (fill, since) = (Fill::new(Some(10), 0), Instant::now());
        let reader = fill.clone();
        let waits = tokio::spawn(async move { reader.begun().await.map(|()| since.elapsed()) });
        tokio::task::yield_now().await;
        fill.note_head();
        tokio::select! {
            waited = waits => assert_eq!(waited.unwrap().unwrap(), HEAD_ALONE),
            never = fill.tell_head() => match never {},
            () = tokio::time::sleep(Duration::from_mins(1)) => panic!("nobody was told"),
        }
    }
}
