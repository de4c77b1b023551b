//! The one fetch that brings a file in, however many agents ask for it (R2).
//!
//! [`Tree::fill`] joins the entry's fill or starts one as a task of its own. The task goes through *attempts*: ask an
//! origin, check the head, append what comes to the staged file, and tell readers how far it is; an attempt that breaks
//! resumes where it broke when a strong validator vouches for it, else starts over and compares what comes with what was
//! staged. At the end the staged file is committed, the journals of all generations that name the entry get their record,
//! and only then the entry counts as held.
//!
//! Invariant: bytes below what [`Progress::written`] says never change while the fill runs; bytes that turn out to be of
//! another state of the file end it as [`FillError::Changed`], and its readers with it.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::base::intervals::Intervals;
use crate::base::limits::{FILL_BATCH_BYTES, SIGNATURE_BYTES_MAX};
use crate::base::range::ByteRange;
use crate::base::validator::Validator;
use crate::relay::entry::{Entry, Filling, Prior};
use crate::relay::tree::Tree;
use crate::store::blobs::{BlobName, read_exact};
use crate::store::staging::{CommitError, Staged};
use crate::upstream::{Answer, Part, Request, Transfer, Upstream, UpstreamError};

/// The first pause before asking again; it doubles, with jitter, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An attempt that brought so many bytes counts as a fresh start for the count of failures.
const PROGRESS_BYTES: u64 = 64 << 10;

/// How long an upstream's refusal is remembered: agents that ask meanwhile are told of it without another request.
const FAILURE: Duration = Duration::from_secs(10);

/// How often a file may change under its fills before the fill is given up until it is asked for again.
const CHANGES_MAX: usize = 3;

/// A fetch under way, shared by all who wait for it.
#[derive(Debug)]
pub struct Fill {
    progress: watch::Sender<Progress>,
    file: OnceLock<Arc<File>>,
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
    fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound => true,
            Self::Upstream(error) => !error.is_passing(),
            Self::Changed | Self::Store(_) | Self::Stopping => false,
        }
    }
}

impl Fill {
    fn new() -> Arc<Self> {
        Arc::new(Self { progress: watch::Sender::new(Progress::default()), file: OnceLock::new() })
    }

    /// A fill that is over.
    fn failed(error: Arc<FillError>) -> Arc<Self> {
        let progress = Progress { phase: Phase::Failed(error), ..Progress::default() };
        Arc::new(Self { progress: watch::Sender::new(progress), file: OnceLock::new() })
    }

    /// A view of how far it is that can wait for more.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The file that the bytes are in; there is one as soon as anything is written.
    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.get()
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

    /// Waits until the upstream's head is known, or the fill is over.
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
            let fill = Fill::new();
            *filling = Filling::Running(fill.clone());
            fill
        };
        self.start(entry.clone(), fill.clone(), 0);
        Some(fill)
    }

    fn start(self: &Arc<Self>, entry: Arc<Entry>, fill: Arc<Fill>, changes: usize) {
        let stopped = self.resources.stop.clone().cancelled_owned();
        let mut task = Task { tree: self.clone(), entry, fill, changes, over: false };
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
        let mut run = Run::new(self.clone(), entry.clone()).await?;
        // Nobody reads the file before bytes are written, and it is set but once.
        let _ = fill.file.set(run.staged()?.file().clone());
        let fetched = run.attempts(fill).await?;
        run.commit(fetched).await
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
                        let fill = Fill::new();
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
                    self.refresh_wanted();
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

/// A fill's way from its first attempt to its commit.
struct Run {
    tree: Arc<Tree>,
    entry: Arc<Entry>,
    /// Taken while a blocking thread writes to it.
    staged: Option<Staged>,
    /// What was held before, where its blob is still there.
    prior: Option<Prior>,
    /// What vouches for all that is staged.
    vouched: Option<Voucher>,
    /// What the first head said: agents were told it, so it stays when a later attempt's head differs.
    validator: Option<Validator>,
}

/// An origin and the strong entity tag that it gave.
type Voucher = (usize, String);

/// How an attempt ended well.
enum Fetched {
    /// All bytes are staged.
    Whole,
    /// The upstream says that what was held before still holds.
    Unchanged,
}

/// Why an attempt ended.
enum Lost {
    /// Another attempt may help.
    Origin(UpstreamError),
    /// The origin could not resume; it is asked for the whole file.
    Resume(UpstreamError),
    /// None can.
    Fill(FillError),
}

impl From<UpstreamError> for Lost {
    fn from(error: UpstreamError) -> Self {
        Self::Origin(error)
    }
}

impl Run {
    async fn new(tree: Arc<Tree>, entry: Arc<Entry>) -> Result<Self, FillError> {
        let (store, prior) = (tree.resources.store.clone(), entry.prior().cloned());
        let (staged, prior) = blocking(move || {
            // Where the blob is lost, that it is unchanged would help nobody.
            let prior = prior.filter(|prior| store.blob(prior.blob).is_ok_and(|blob| blob.is_some()));
            Ok((store.stage()?, prior))
        })
        .await?;
        Ok(Self { tree, entry, staged: Some(staged), prior, vouched: None, validator: None })
    }

    fn staged(&self) -> Result<&Staged, FillError> {
        // It is missing only where a blocking thread died with it.
        self.staged.as_ref().ok_or(FillError::Stopping)
    }

    /// The most bytes the file may have.
    fn size_max(&self) -> u64 {
        self.entry.identity().size.unwrap_or(SIGNATURE_BYTES_MAX)
    }

    async fn attempts(&mut self, fill: &Fill) -> Result<Fetched, FillError> {
        let upstream = self.tree.upstream();
        let attempts_max = self.tree.resources.fill_attempts();
        let mut errors: Vec<Option<UpstreamError>> = (0..upstream.origins()).map(|_| None).collect();
        let (mut origin, mut failures, mut pause) = (self.tree.preferred_origin(), 0, PAUSE);
        loop {
            origin %= upstream.origins();
            let before = self.staged()?.len();
            let (error, passing) = match self.attempt(&upstream, origin, fill).await {
                Ok(fetched) => return Ok(fetched),
                Err(Lost::Fill(error)) => return Err(error),
                Err(Lost::Resume(error)) => (error, true),
                Err(Lost::Origin(error)) => {
                    let passing = error.is_passing();
                    (error, passing)
                }
            };
            debug!(tree = %self.tree.name, path = %self.entry.path(), origin, %error, "attempt failed");
            let gained = self.staged()?.len() - before;
            if passing {
                failures = if gained >= PROGRESS_BYTES { 1 } else { failures + 1 };
                if failures >= attempts_max {
                    return Err(FillError::Upstream(error));
                }
                tokio::time::sleep(jittered(pause)).await;
                pause = if gained > 0 { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
                if gained > 0 {
                    continue;
                }
            } else {
                errors[origin] = Some(error);
            }
            // The next origin that has not ruled itself out.
            let mut others = (1..=upstream.origins()).map(|step| (origin + step) % upstream.origins());
            match others.find(|other| errors[*other].is_none()) {
                Some(other) => origin = other,
                None => return Err(worst(errors)),
            }
        }
    }

    async fn attempt(&mut self, upstream: &Upstream, origin: usize, fill: &Fill) -> Result<Fetched, Lost> {
        let entry = self.entry.clone();
        let staged = self.staged().map_err(Lost::Fill)?.len();
        let (vouched, prior) = (self.vouched.take(), self.prior.clone());
        let part = match (&vouched, &prior) {
            (Some((by, tag)), _) if *by == origin && staged > 0 => Part::From(staged, tag),
            (_, Some(prior)) if self.validator.is_none() && !prior.validator.is_none() => {
                Part::UnlessStill(&prior.validator)
            }
            _ => Part::Whole,
        };
        let request = Request { path: entry.path().as_str(), part };
        let answer = match upstream.fetch(origin, request).await {
            Ok(Answer::Found(transfer)) => self.check_head(&transfer).map(|()| transfer),
            Ok(Answer::Unchanged) => return Ok(Fetched::Unchanged),
            Ok(Answer::Head(_)) => Err(UpstreamError::Head("a head where bytes were asked for")),
            Err(error) => Err(error),
        };
        let transfer = match (answer, part) {
            (Ok(transfer), _) => transfer,
            (Err(error), Part::From(..)) if !error.is_passing() => return Err(Lost::Resume(error)),
            (Err(error), _) => {
                self.vouched = vouched;
                return Err(error.into());
            }
        };
        let validator = &transfer.head.validator;
        let voucher = validator.strong().map(|tag| (origin, tag.to_owned()));
        if self.validator.is_none() {
            self.validator = Some(validator.clone());
            entry.set_seen(validator.clone());
            fill.progress.send_modify(|progress| progress.head = true);
        }
        self.take(transfer, voucher, fill).await?;
        Ok(Fetched::Whole)
    }

    fn check_head(&self, transfer: &Transfer) -> Result<(), UpstreamError> {
        let Some(size) = transfer.head.size else { return Ok(()) };
        match self.entry.identity().size {
            Some(listed) if listed != size => {
                Err(UpstreamError::Head("its length is not the one that the manifest says"))
            }
            None if size > SIGNATURE_BYTES_MAX => Err(UpstreamError::Head("it is too long for a signature")),
            _ => Ok(()),
        }
    }

    /// Takes a transfer to its end: compares what was staged already, appends the rest.
    async fn take(
        &mut self,
        mut transfer: Transfer,
        voucher: Option<Voucher>,
        fill: &Fill,
    ) -> Result<(), Lost> {
        let mut at = transfer.offset;
        self.vouch(at, voucher.as_ref());
        let mut batch = Vec::new();
        loop {
            // Gather what is there without waiting; write when the upstream pauses or the batch is full.
            let chunk = tokio::select! {
                biased;
                chunk = transfer.chunk() => Some(chunk),
                () = std::future::ready(()), if !batch.is_empty() => None,
            };
            let ended = match chunk {
                Some(Ok(Some(bytes))) => {
                    batch.push(bytes);
                    if batch.iter().map(Bytes::len).sum::<usize>() < FILL_BATCH_BYTES {
                        continue;
                    }
                    None
                }
                Some(Ok(None)) => Some(Ok(())),
                Some(Err(error)) => Some(Err(error)),
                None => None,
            };
            at = self.write(std::mem::take(&mut batch), at, fill).await?;
            self.vouch(at, voucher.as_ref());
            match ended {
                None => {}
                Some(Ok(())) => return self.check_end(at, &transfer),
                Some(Err(UpstreamError::Changed)) => return Err(Lost::Fill(FillError::Changed)),
                // It broke after the last byte that the manifest promises: no more can come.
                Some(Err(_)) if self.entry.identity().size == Some(at) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Notes what vouches for the staged bytes: the tag of a transfer that has come `at` so far, once all that was staged
    /// before came under the same tag or was compared. Before that, a resumed transfer could join two states of the file.
    fn vouch(&mut self, at: u64, voucher: Option<&Voucher>) {
        let all = self.staged.as_ref().is_some_and(|staged| staged.len() <= at);
        self.vouched = voucher.filter(|_| all).cloned();
    }

    fn check_end(&self, at: u64, transfer: &Transfer) -> Result<(), Lost> {
        match self.entry.identity().size.or(transfer.head.size) {
            Some(size) if at < size => {
                Err(UpstreamError::Broken(format!("after {at} of {size} bytes")).into())
            }
            // A signature that is shorter now than what came of it before.
            _ if at < self.staged().map_err(Lost::Fill)?.len() => Err(Lost::Fill(FillError::Changed)),
            _ => Ok(()),
        }
    }

    /// Writes a batch that stands at `at` in the file; gives where the next one stands.
    async fn write(&mut self, batch: Vec<Bytes>, at: u64, fill: &Fill) -> Result<u64, Lost> {
        let end = at + batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if end > self.size_max() {
            return Err(UpstreamError::Head("it sends more bytes than the file has").into());
        }
        let mut staged = self.staged.take().ok_or(Lost::Fill(FillError::Stopping))?;
        let before = staged.len();
        let (staged, written) = blocking(move || {
            let written = write_batch(&mut staged, &batch, at);
            Ok((staged, written))
        })
        .await
        .map_err(Lost::Fill)?;
        let after = staged.len();
        self.staged = Some(staged);
        match written {
            Ok(true) => {}
            Ok(false) => return Err(Lost::Fill(FillError::Changed)),
            Err(error) => return Err(Lost::Fill(FillError::Store(error.into()))),
        }
        if after > before {
            fill.progress.send_modify(|progress| progress.written.insert(ByteRange::new(before, after)));
        }
        Ok(end)
    }

    /// Makes the staged file a blob and writes it into the journals; from then on the entry is held.
    async fn commit(mut self, fetched: Fetched) -> Result<BlobName, FillError> {
        let staged = self.staged.take().ok_or(FillError::Stopping)?;
        let prior = self.prior.filter(|_| matches!(fetched, Fetched::Unchanged));
        let (tree, entry, validator) = (self.tree, self.entry, self.validator.unwrap_or_default());
        blocking(move || {
            let _naming = tree.resources.naming.read().unwrap_or_else(PoisonError::into_inner);
            let (blob, validator) = match prior {
                Some(prior) => (prior.blob, prior.validator),
                None => (tree.resources.store.commit(staged, entry.identity().size)?, validator),
            };
            tree.record_held(&entry, blob, &validator)?;
            entry.set_held(blob, validator);
            Ok(blob)
        })
        .await
    }
}

/// Appends a batch; what stands below the staged end is compared instead. False where it differs.
fn write_batch(staged: &mut Staged, batch: &[Bytes], mut at: u64) -> io::Result<bool> {
    for bytes in batch {
        let known = usize::try_from(staged.len().saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        if known > 0 && read_exact(staged.file(), known, at)? != bytes[..known] {
            return Ok(false);
        }
        staged.append(&bytes[known..])?;
        at += bytes.len() as u64;
    }
    Ok(true)
}

/// The error that says most: one that is not "not found", else that.
fn worst(errors: Vec<Option<UpstreamError>>) -> FillError {
    let told = errors.into_iter().flatten().find(|error| !matches!(error, UpstreamError::NotFound));
    told.map_or(FillError::NotFound, FillError::Upstream)
}

/// Between half of a pause and all of it, so that many fills do not ask again at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommitError> + Send + 'static,
) -> Result<T, FillError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(FillError::Store),
        Err(died) if died.is_panic() => {
            Err(FillError::Store(io::Error::other("the thread that wrote to it died").into()))
        }
        Err(_) => Err(FillError::Stopping),
    }
}
