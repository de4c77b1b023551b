//! A fill's main lane, from its first attempt to its commit.
//!
//! An *attempt* asks an origin, checks the head, appends what comes to the staged file, and tells readers how far it is; an
//! attempt that breaks resumes where it broke when a strong validator vouches for it, else the next one starts over and
//! compares what comes with what was staged. Where it meets what far lanes wrote under the same tag it stops, takes that over
//! and goes on behind it; under another tag, or none, it has them stopped and compares what they wrote too. At the end the
//! staged file is committed, the journals of all generations that name the entry get their record, and only then the entry
//! counts as held.
//!
//! Invariant: what is committed came as one state of the file: under one strong tag, or compared byte by byte.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use crate::base::intervals::Intervals;
use crate::base::limits::SIGNATURE_BYTES_MAX;
use crate::base::range::ByteRange;
use crate::base::validator::Validator;
use crate::relay::batch::{append, gather};
use crate::relay::crowds::Allowance;
use crate::relay::entry::{Entry, Prior};
use crate::relay::fill::{Fill, FillError};
use crate::relay::tree::Tree;
use crate::store::Store;
use crate::store::blobs::BlobName;
use crate::store::staging::{CommitError, Staged};
use crate::store::unfinished::Voucher;
use crate::upstream::{Answer, Kind, Part, Request, Transfer, Upstream, UpstreamError};

/// The first pause before asking again; it doubles, with jitter, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An attempt that brought so many bytes counts as a fresh start for the count of failures.
const PROGRESS_BYTES: u64 = 64 << 10;

/// How often a fill has room made for it before it fails: others may take it.
const ROOM_TRIES: usize = 4;

/// A fill's way from its first attempt to its commit.
pub(super) struct Attempts {
    tree: Arc<Tree>,
    entry: Arc<Entry>,
    /// Taken while another thread works on it.
    staged: Option<Staged>,
    /// What was held before, where its blob is still there.
    prior: Option<Prior>,
    /// Which origin, and what it said, vouches for all that is staged: its entity tag is strong.
    vouched: Option<Voucher>,
    /// What the first head said: agents were told it, so it stays when a later attempt's head differs.
    validator: Option<Validator>,
    allowance: Allowance,
}

/// How an attempt ended well.
pub(super) enum Fetched {
    /// All bytes are staged.
    Whole,
    /// The upstream says that what was held before still holds.
    Unchanged,
}

/// How an attempt ended without an error.
enum Step {
    /// There is nothing more to fetch.
    Over(Fetched),
    /// It came to where far lanes go on, or did.
    Met,
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

impl Attempts {
    /// Makes the staged file; nothing is asked yet.
    pub(super) async fn new(tree: Arc<Tree>, entry: Arc<Entry>) -> Result<Self, FillError> {
        let size_max = entry.identity().size.unwrap_or(SIGNATURE_BYTES_MAX);
        let mut tries = 1..ROOM_TRIES;
        let (staged, vouched, prior) = loop {
            let (store, prior, key) =
                (tree.resources.store.clone(), entry.prior().cloned(), entry.staging_key());
            let staged = blocking(move || {
                // A date has whole seconds, and another origin's file may be older: only a strong tag vouches for what
                // was held before. Where the blob is lost, that it is unchanged would help nobody.
                let prior =
                    prior.filter(|prior| prior.validator.strong().is_some() && has(&store, prior.blob));
                let (staged, vouched) = match key {
                    Some(key) => store.stage_as(key, size_max)?,
                    None => (store.stage(size_max)?, None),
                };
                Ok((staged, vouched, prior))
            });
            match staged.await {
                // What was made may be another fill's by now.
                Err(FillError::Store(CommitError::NoRoom(_))) if tries.next().is_some() => {
                    let made = tree
                        .resources
                        .make_room(tree.resources.store.room_for(entry.staging_key(), size_max))
                        .await;
                    made.map_err(|no_room| FillError::Store(no_room.into()))?;
                }
                staged => break staged?,
            }
        };
        Ok(Self {
            tree,
            entry,
            staged: Some(staged),
            prior,
            vouched,
            validator: None,
            allowance: Allowance::default(),
        })
    }

    /// What is staged so far.
    pub(super) fn staged(&self) -> Result<&Staged, FillError> {
        // It is missing only where a thread died with it.
        self.staged.as_ref().ok_or(FillError::Stopping)
    }

    /// The most bytes the file may have.
    fn size_max(&self) -> u64 {
        self.entry.identity().size.unwrap_or(SIGNATURE_BYTES_MAX)
    }

    /// Asks origins until all bytes are staged, or none is left to ask.
    pub(super) async fn fetch(&mut self, fill: &Fill) -> Result<Fetched, FillError> {
        let upstream = self.tree.upstream();
        let attempts_max = self.tree.resources.fill_attempts();
        let mut errors: Vec<Option<UpstreamError>> = (0..upstream.origins()).map(|_| None).collect();
        // The origin that gave the manifest: where it says that there is no such file, the others get one try each.
        let preferred = self.tree.preferred_origin() % upstream.origins();
        let (mut origin, mut failures, mut pause) = (preferred, 0, PAUSE);
        fill.lanes().plan().pass(self.staged()?.len());
        loop {
            if self.take_over(fill).await? {
                return Ok(Fetched::Whole);
            }
            let before = self.staged()?.len();
            let (error, passing) = match self.attempt(&upstream, origin, fill).await {
                Ok(Step::Over(fetched)) => return Ok(fetched),
                Ok(Step::Met) => continue,
                Err(Lost::Fill(error)) => return Err(error),
                Err(Lost::Resume(error)) => (error, true),
                Err(Lost::Origin(error)) => {
                    let passing = error.is_passing();
                    (error, passing)
                }
            };
            debug!(tree = %self.tree.name, path = %self.entry.path(), origin, %error, "attempt failed");
            let gained = self.staged()?.len() - before;
            let missing = matches!(errors[preferred], Some(UpstreamError::NotFound));
            if passing && (gained > 0 || !missing) {
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
                None if matches!(errors[preferred], Some(UpstreamError::NotFound)) => {
                    return Err(FillError::NotFound);
                }
                None => return Err(worst(errors)),
            }
        }
    }

    /// Takes over what far lanes wrote at the end of what is staged, as long as they bring it. True when all bytes are staged.
    async fn take_over(&mut self, fill: &Fill) -> Result<bool, FillError> {
        let lanes = fill.lanes();
        while let Some(voucher) = self.vouched.clone().filter(|voucher| lanes.plan().is_of(Some(voucher))) {
            let (written, followed) = {
                let plan = lanes.plan();
                (plan.written_at_front(), plan.is_followed())
            };
            if written > 0 {
                let noted = voucher.clone();
                let work =
                    move |staged: &mut Staged| staged.adopt(written).and_then(|()| staged.vouch(&noted));
                self.on_disk(work).await?;
                lanes.plan().pass(self.staged()?.len());
                self.vouch(self.staged()?.len(), Some(&voucher), fill);
            } else if followed {
                lanes.moved().await;
            } else {
                return Ok(self.entry.identity().size == Some(self.staged()?.len()));
            }
        }
        Ok(false)
    }

    async fn attempt(&mut self, upstream: &Upstream, origin: usize, fill: &Fill) -> Result<Step, Lost> {
        let entry = self.entry.clone();
        let staged = self.staged().map_err(Lost::Fill)?.len();
        let (vouched, prior) = (self.vouched.take(), self.prior.clone());
        let name = upstream.origin_name(origin);
        let preferred = self.tree.preferred_origin() % upstream.origins();
        let tag = vouched.as_ref().filter(|vouched| vouched.origin == name && staged > 0);
        let stop = fill.lanes().plan().stop_for(staged, tag);
        let part = match (tag.and_then(|vouched| vouched.validator.strong()), &prior) {
            (Some(tag), _) => {
                stop.map_or(Part::From(staged, tag), |stop| Part::Span(ByteRange::new(staged, stop), tag))
            }
            // The origin that gave the manifest gave what was held before; another's tag may stand for other bytes.
            (_, Some(prior)) if self.validator.is_none() && origin == preferred => {
                Part::UnlessStill(&prior.validator)
            }
            _ => Part::Whole,
        };
        let request = Request { path: entry.path().as_str(), part };
        let answer = match upstream.fetch(origin, request).await {
            Ok(Answer::Found(transfer)) => self.check_head(&transfer).map(|()| transfer),
            Ok(Answer::Unchanged) => return Ok(Step::Over(Fetched::Unchanged)),
            Ok(Answer::Head(_)) => Err(UpstreamError::Head("a head where bytes were asked for")),
            Err(error) => Err(error),
        };
        let transfer = match (answer, part) {
            (Ok(transfer), _) => transfer,
            (Err(error), Part::From(..) | Part::Span(..)) if !error.is_passing() => {
                return Err(Lost::Resume(error));
            }
            (Err(error), _) => {
                self.vouched = vouched;
                return Err(error.into());
            }
        };
        let validator = &transfer.head.validator;
        let voucher = validator.strong().map(|_| Voucher { origin: name, validator: validator.clone() });
        if self.validator.is_none() {
            self.validator = Some(validator.clone());
            entry.set_seen(validator.clone());
            fill.note_head();
        }
        if !fill.lanes().plan().is_of(voucher.as_ref()) {
            fill.lanes().halt().await;
        }
        self.take(transfer, voucher, fill).await
    }

    fn check_head(&self, transfer: &Transfer) -> Result<(), UpstreamError> {
        // No manifest says how long a signature is, so that a portal's page would pass for one.
        if self.entry.identity().size.is_none() && transfer.head.kind == Kind::Page {
            return Err(UpstreamError::Head("it is a page, not a signature"));
        }
        let Some(size) = transfer.head.size else { return Ok(()) };
        match self.entry.identity().size {
            Some(listed) if listed != size => {
                Err(UpstreamError::Head("its length is not the one that the manifest says"))
            }
            None if size > SIGNATURE_BYTES_MAX => Err(UpstreamError::Head("it is too long for a signature")),
            _ => Ok(()),
        }
    }

    /// Takes a transfer to its end, or to where far lanes go on: compares what was staged already, appends the rest.
    async fn take(
        &mut self,
        mut transfer: Transfer,
        voucher: Option<Voucher>,
        fill: &Fill,
    ) -> Result<Step, Lost> {
        let mut at = transfer.offset;
        let most = transfer.end.unwrap_or(u64::MAX).min(self.size_max());
        self.vouch(at, voucher.as_ref(), fill);
        loop {
            let batch = gather(&mut transfer).await;
            let came = at + batch.len();
            if came > most {
                return Err(UpstreamError::Head("it sends more bytes than the file has").into());
            }
            let (end, ahead) = fill.lanes().plan().claim_main(came, voucher.as_ref());
            self.write((batch.first(end - at), at, end), ahead, voucher.clone()).await?;
            at = end;
            self.vouch(at, voucher.as_ref(), fill);
            match batch.ended {
                _ if end < came || fill.lanes().plan().is_met(at, voucher.as_ref()) => return Ok(Step::Met),
                None => self.give_way(at, fill).await,
                Some(Ok(())) => return self.check_end(at, &transfer),
                Some(Err(UpstreamError::Changed)) => return Err(Lost::Fill(FillError::Changed)),
                // It broke after the last byte that it promised, or that the manifest says: no more can come.
                Some(Err(_)) if [transfer.end, self.entry.identity().size].contains(&Some(at)) => {
                    return self.check_end(at, &transfer);
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Gives way to crowds, where readers have all that has come so far: what is compared has still to be brought.
    async fn give_way(&mut self, at: u64, fill: &Fill) {
        if fill.written() == at {
            self.allowance.until_passed(&self.tree.resources.crowds, at).await;
        }
    }

    /// Notes what vouches for the staged bytes: the tag of a transfer that has come `at` so far, once all that was staged
    /// before came under the same tag or was compared. Before that, a resumed transfer could join two states of the file,
    /// and what an earlier fill left is no reader's; nor is anything new while far lanes' bytes wait to be compared.
    fn vouch(&mut self, at: u64, voucher: Option<&Voucher>, fill: &Fill) {
        let all = self.staged.as_ref().map(Staged::len).filter(|staged| *staged <= at);
        self.vouched = voucher.filter(|_| all.is_some()).cloned();
        if let Some(staged) = all
            && fill.lanes().vouch(voucher)
        {
            fill.note_written(ByteRange::whole(staged));
        }
    }

    fn check_end(&self, at: u64, transfer: &Transfer) -> Result<Step, Lost> {
        let size = self.entry.identity().size.or(transfer.head.size);
        match transfer.end.or(size) {
            Some(end) if at < end => Err(UpstreamError::Broken(format!("after {at} of {end} bytes")).into()),
            // It was asked for no more than the bytes up to those of a far lane.
            _ if size.is_some_and(|size| at < size) => Ok(Step::Met),
            // A signature that is shorter now than what came of it before.
            _ if at < self.staged().map_err(Lost::Fill)?.len() => Err(Lost::Fill(FillError::Changed)),
            _ => Ok(Step::Over(Fetched::Whole)),
        }
    }

    /// Writes bytes that stand from `at` to `end` in the file; what stands there already is compared instead.
    async fn write(
        &mut self,
        (pieces, at, end): (Vec<Bytes>, u64, u64),
        ahead: Intervals,
        voucher: Option<Voucher>,
    ) -> Result<(), Lost> {
        let work = move |staged: &mut Staged| {
            let same = append(staged, &ahead, &pieces, at)?;
            match voucher.filter(|_| same && staged.len() == end) {
                Some(voucher) => staged.vouch(&voucher).map(|()| same),
                None => Ok(same),
            }
        };
        if self.on_disk(work).await.map_err(Lost::Fill)? {
            Ok(())
        } else {
            Err(Lost::Fill(FillError::Changed))
        }
    }

    /// Works on the staged file on a thread that may wait for the disk.
    async fn on_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Staged) -> io::Result<T> + Send + 'static,
    ) -> Result<T, FillError> {
        let mut staged = self.staged.take().ok_or(FillError::Stopping)?;
        let (staged, done) = blocking(move || {
            let done = work(&mut staged);
            Ok((staged, done))
        })
        .await?;
        self.staged = Some(staged);
        done.map_err(|error| FillError::Store(error.into()))
    }

    /// Throws away what is staged: a later fill must not go on from it.
    pub(super) async fn discard(mut self) {
        if let Some(staged) = self.staged.take() {
            // That it stays behind does no harm: it is compared before it is used.
            let _ = blocking(move || {
                staged.discard();
                Ok(())
            })
            .await;
        }
    }

    /// Makes the staged file a blob and writes it into the journals; from then on the entry is held.
    pub(super) async fn commit(mut self, fetched: Fetched) -> Result<BlobName, FillError> {
        let staged = self.staged.take().ok_or(FillError::Stopping)?;
        let prior = self.prior.filter(|_| matches!(fetched, Fetched::Unchanged));
        let (tree, entry, validator) = (self.tree, self.entry, self.validator.unwrap_or_default());
        blocking(move || {
            let _naming = tree.resources.naming.read().unwrap_or_else(PoisonError::into_inner);
            let (blob, validator) = match prior {
                Some(prior) if has(&tree.resources.store, prior.blob) => (prior.blob, prior.validator),
                // It was lost since the upstream was asked, which is to be asked again, for the whole.
                Some(_) => return Ok(None),
                None => (
                    tree.resources.store.commit(
                        staged,
                        entry.identity().size,
                        tree.resources.clock.wall(),
                    )?,
                    validator,
                ),
            };
            tree.record_held(&entry, blob, &validator)?;
            entry.set_held(blob, validator);
            Ok(Some(blob))
        })
        .await?
        .ok_or(FillError::Changed)
    }
}

/// Whether a blob can be opened.
fn has(store: &Store, blob: BlobName) -> bool {
    store.blob(blob).is_ok_and(|blob| blob.is_some())
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
