//! One question to a server, from the request to the last byte of what is kept.
//!
//! A task of its own on the control runtime: it belongs to no agent, and goes on when who began it leaves. Invariant: an answer
//! is kept only when all of its bytes came, and its server said how many or that they were all.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::relay::cache::answer::{Answer, Head};
use crate::relay::cache::arrival::{Arrival, Piece};
use crate::relay::cache::gather::{Batch, Trailers, at_hand, gather};
use crate::relay::cache::hops::{Transfer, stripped, transfer};
use crate::relay::cache::renewal::{Fate, renewal};
use crate::relay::cache::shared::{Cache, Flight, Phase, Question, Told};
use crate::relay::cache::storable::{is_failure, is_storable};
use crate::relay::cache::underway::Share;
use crate::relay::cache::validate::{UNASKED, ask_about, can_ask_about, confirms};
use crate::relay::cache::vary::{Selecting, selecting};
use crate::relay::reach::ReachError;
use crate::store::staging::{CommitError, Staged};

/// Room that is reserved at first for an answer, however long it is said to be; it is doubled as it fills, so that a server that
/// trickles holds no more than twice what it sent.
const FIRST_BYTES: u64 = 1 << 20;

/// How far such an answer is fetched while nobody reads it.
const UNREAD_BYTES_MAX: u64 = 64 << 20;

/// What part of a quota all answers on their way may reserve: the rest is for the trees.
const QUOTA_PART: u64 = 2;

impl Cache {
    pub(super) fn begin(
        self: &Arc<Self>,
        question: Question,
        flight: Arc<Flight>,
    ) -> oneshot::Receiver<Told> {
        let (tell, told) = oneshot::channel();
        let stopped = self.resources.stop.clone().cancelled_owned();
        let fetch = Fetch { cache: self.clone(), question, flight };
        self.resources.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = fetch.run(tell) => {}
                    () = stopped => {}
                }
            },
            &self.resources.runtime,
        );
        told
    }
}

/// A question's task. Dropping it ends the question, so that nobody waits for a task that died.
struct Fetch {
    cache: Arc<Cache>,
    question: Question,
    flight: Arc<Flight>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.flight.end();
        self.cache.land(&self.question.key, &self.flight);
    }
}

/// A head that came, and whether anything of it may be kept.
struct Came {
    head: Head,
    selecting: Selecting,
    size: Option<u64>,
}

impl Fetch {
    async fn run(&self, tell: oneshot::Sender<Told>) {
        let told = match self.ask(self.question.kept.as_ref().map(|kept| &kept.head)).await {
            Ok((response, delay)) => self.answered(response, delay).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(Answered::Kept(own, for_all)) => {
                self.flight.tell(for_all.map_or(Phase::Alone(own.head.status), Phase::Kept));
                let _ = tell.send(Told::Kept(own));
            }
            Ok(Answered::Alone(response)) => {
                self.flight.tell(Phase::Alone(response.status()));
                self.cache.land(&self.question.key, &self.flight);
                let _ = tell.send(Told::Alone(response));
            }
            Ok(Answered::New(new)) => self.bring(*new, tell).await,
            Err(error) => self.failed(error, tell),
        }
    }

    fn failed(&self, error: ReachError, tell: oneshot::Sender<Told>) {
        let error = Arc::new(error);
        // Who hears of it and asks again asks anew.
        self.cache.land(&self.question.key, &self.flight);
        self.flight.tell(Phase::Failed(error.clone()));
        let _ = tell.send(Told::Failed(error));
    }

    /// The URL as the log has it: a query may hold what is nobody's business.
    fn place(&self) -> &str {
        self.question.key.split('?').next().unwrap_or_default()
    }

    fn is_overtaken(&self) -> bool {
        self.cache.is_overtaken(&self.question.key, &self.flight)
    }

    /// Sends the request, as one about what is kept where something is.
    async fn ask(&self, kept: Option<&Head>) -> Result<(Response<Incoming>, Duration), ReachError> {
        let question = &self.question;
        let mut headers = question.headers.clone();
        if !question.as_it_is {
            ask_about(&mut headers, kept);
        }
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.uri_mut() = question.uri.clone();
        *request.headers_mut() = headers;
        if let Some(interims) = question.interims.clone() {
            hyper::ext::on_informational(&mut request, move |said| {
                interims.tell(said.status(), said.headers());
            });
        }
        let resources = &self.cache.resources;
        resources.tally.upstream_requests.one();
        let asked = resources.clock.monotonic();
        let response = question.reach.request(&question.passage, request).await?;
        Ok((response, resources.clock.monotonic().saturating_sub(asked)))
    }

    async fn answered(&self, response: Response<Incoming>, delay: Duration) -> Result<Answered, ReachError> {
        let (question, cache) = (&self.question, &self.cache);
        if response.status() != StatusCode::NOT_MODIFIED || question.as_it_is {
            return Ok(self.judge(response, delay).await);
        }
        let Some(kept) = question.kept.as_ref().filter(|kept| can_ask_about(&kept.head)) else {
            return Err(ReachError::Wrong(UNASKED));
        };
        let said = stripped(response.headers());
        if confirms(&kept.head.headers, &said) {
            let renewal = renewal(&question.key, kept, &question.headers, &said, delay, cache.now());
            let own = Arc::new(kept.with_head(renewal.own));
            let for_all = match renewal.fate {
                Fate::Renewed(head) => {
                    let new = Arc::new(kept.with_head(head));
                    if !self.is_overtaken() {
                        cache.renew(&question.key, kept, new.clone());
                    }
                    Some(new)
                }
                Fate::Stays => None,
                Fate::Lost => {
                    cache.note_passing(&question.key, true);
                    cache.lose(&question.key, kept);
                    None
                }
            };
            return Ok(Answered::Kept(own, for_all));
        }
        // It speaks of a state that is not kept: the whole is asked for.
        let (response, delay) = self.ask(None).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Err(ReachError::Wrong(UNASKED));
        }
        Ok(self.judge(response, delay).await)
    }

    /// Whether a new answer may be kept, and has the room for it.
    async fn judge(&self, response: Response<Incoming>, delay: Duration) -> Answered {
        let (question, cache) = (&self.question, &self.cache);
        let status = response.status();
        let head = Head::new(status, stripped(response.headers()), delay, cache.now());
        let mut request = question.headers.clone();
        if !question.as_it_is {
            ask_about(&mut request, None);
        }
        let selecting = selecting(&head.headers, &question.headers);
        let storable = is_storable(&Method::GET, &request, status, &head.headers);
        cache.note_passing(&question.key, !storable && !is_failure(status));
        if let Some(kept) = question.kept.as_ref().filter(|_| !is_failure(status) && !question.as_it_is) {
            // What is newer stands in its place, or nothing does.
            cache.lose(&question.key, kept);
        }
        let selecting = selecting.filter(|_| storable && !self.is_overtaken());
        let Some(selecting) = selecting.filter(|_| is_framed(&response)) else {
            return Answered::Alone(Box::new(response));
        };
        let size = response.body().size_hint().exact();
        let came = Came { head, selecting, size };
        if came.head.is_too_long(&question.key, &came.selecting) {
            return Answered::Alone(Box::new(response));
        }
        match self.stage(size).await {
            Some((staged, share)) => Answered::New(Box::new((came, staged, share, response.into_body()))),
            None => Answered::Alone(Box::new(response)),
        }
    }

    /// How long one answer may be, and how much all that are on their way may reserve.
    fn bounds(&self) -> (u64, u64) {
        let bounds = self.cache.table().bounds();
        let quota = self.cache.resources.store.room().quota().unwrap_or(u64::MAX);
        (bounds.file_bytes_max.min(bounds.bytes_max), bounds.bytes_max.min(quota / QUOTA_PART))
    }

    /// A file for an answer of this size, where there is room for it.
    async fn stage(&self, size: Option<u64>) -> Option<(Staged, Share)> {
        let (largest, most) = self.bounds();
        let wanted = size.unwrap_or(0).max(1);
        if wanted > largest || self.cache.table().bounds().entries_max == 0 {
            return None;
        }
        let wanted = FIRST_BYTES.min(size.unwrap_or(largest));
        let mut share = self.cache.under_way.share();
        if !share.grow(wanted, most) {
            debug!(url = self.place(), "an answer is passed on and not kept: too much is on its way");
            return None;
        }
        let resources = &self.cache.resources;
        let room = resources.make_room(resources.store.room_for(None, wanted)).await;
        let store = resources.store.clone();
        let staged = match room {
            Ok(()) => blocking(move || store.stage(wanted)).await,
            Err(no_room) => Err(no_room.into()),
        };
        let staged = staged.inspect_err(|error| warn!(%error, "an answer is passed on and not kept")).ok()?;
        Some((staged, share))
    }

    /// Brings the bytes into the store, and tells who reads them.
    async fn bring(
        &self,
        (came, staged, mut share, mut body): (Came, Staged, Share, Incoming),
        tell: oneshot::Sender<Told>,
    ) {
        let Came { head, selecting, size } = came;
        let first = at_hand(&mut body).await;
        if let Some(Err(reason)) = first.ended {
            // Nobody was told of it yet: it is no answer at all.
            return self.failed(ReachError::Broken(reason), tell);
        }
        let (arrival, beyond, arriving) = Arrival::new(head, selecting, size, staged.file().clone());
        // Who breaks off says so, whatever ends this.
        let ending = Ending(arrival.clone());
        self.flight.tell(Phase::Arriving(arrival.clone()));
        // Who began it may have left.
        let _ = tell.send(Told::Arriving(arriving));
        debug!(url = self.place(), size, "an answer is on its way");
        let brought = tokio::select! {
            brought = self.pump(&arrival, staged, &mut share, first, &mut body) => brought,
            () = arrival.given_up() => Err("nobody has read it for too long".to_owned()),
        };
        match brought {
            Ok(Brought::All(staged, trailers)) => {
                if let Err(error) = self.keep(&arrival, *staged).await {
                    warn!(%error, "an answer is passed on and not kept");
                }
                drop(share);
                // Who has read it to its end finds it kept, and no question under way.
                self.cache.land(&self.question.key, &self.flight);
                arrival.complete(trailers);
            }
            Ok(Brought::Beyond(rest, ended)) => {
                arrival.go_beyond();
                self.cache.land(&self.question.key, &self.flight);
                self.pass(rest, ended, &mut body, &beyond).await;
                drop(share);
            }
            Err(reason) => {
                debug!(url = self.place(), reason, "an answer broke off");
                self.cache.land(&self.question.key, &self.flight);
                arrival.break_off(&reason);
            }
        }
        drop(ending);
    }

    async fn pump(
        &self,
        arrival: &Arc<Arrival>,
        mut staged: Staged,
        share: &mut Share,
        first: Batch,
        body: &mut Incoming,
    ) -> Result<Brought, String> {
        let mut first = Some(first).filter(|first| first.ended.is_some() || !first.pieces.is_empty());
        loop {
            let batch = match first.take() {
                Some(first) => first,
                None => gather(body, self.cache.silence()).await,
            };
            self.cache.resources.tally.upstream_bytes.add(batch.len());
            let written = staged.len() + batch.len();
            let pieces = batch.pieces.clone();
            let room = self.grow(&mut staged, share, written, arrival.size).await;
            let appended = room && {
                let work = move || {
                    let appended = pieces.iter().try_for_each(|piece| staged.append(piece));
                    Ok((staged, appended))
                };
                let (back, appended) = blocking(work).await.map_err(|error| error.to_string())?;
                staged = back;
                appended.inspect_err(|error| warn!(%error, "an answer is passed on and not kept")).is_ok()
            };
            if !appended {
                return Ok(Brought::Beyond(batch.pieces, batch.ended));
            }
            arrival.note_written(staged.len());
            match batch.ended {
                Some(Ok(trailers)) => return Ok(Brought::All(Box::new(staged), trailers)),
                Some(Err(reason)) => return Err(reason),
                None if arrival.size.is_none() && staged.len() > UNREAD_BYTES_MAX && !arrival.is_read() => {
                    return Err("nobody reads it, and nothing says how long it is".into());
                }
                None => {}
            }
        }
    }

    /// Has room for so many bytes in all; false where there is none, or they are too many.
    async fn grow(&self, staged: &mut Staged, share: &mut Share, bytes: u64, size: Option<u64>) -> bool {
        let (largest, most) = self.bounds();
        // A length that was said is the end of it, and was judged before.
        let largest = size.unwrap_or(largest);
        if bytes > largest {
            return false;
        }
        let wanted = bytes.max(FIRST_BYTES).checked_next_power_of_two().unwrap_or(bytes).min(largest);
        if !share.grow(wanted, most) {
            return false;
        }
        if staged.grow(wanted).is_ok() {
            return true;
        }
        let room = self.cache.resources.make_room(wanted).await;
        room.is_ok() && staged.grow(wanted).is_ok()
    }

    /// Makes the bytes a blob, and the answer one that is kept.
    async fn keep(&self, arrival: &Arc<Arrival>, staged: Staged) -> Result<(), CommitError> {
        let (cache, key, flight) = (self.cache.clone(), self.question.key.clone(), self.flight.clone());
        let arrival = arrival.clone();
        blocking(move || {
            let resources = &cache.resources;
            let _naming = resources.naming.read().unwrap_or_else(PoisonError::into_inner);
            let blob = resources.store.commit(staged, arrival.size, resources.clock.wall())?;
            let Arrival { head, selecting, .. } = &*arrival;
            let answer = Answer { head: head.clone(), selecting: selecting.clone(), blob };
            cache.table().put(&key, answer);
            // After it stands there: a change that comes later finds it.
            if cache.is_overtaken(&key, &flight) {
                cache.table().forget(&key);
            }
            cache.table().write();
            Ok(())
        })
        .await?;
        // What had to go for it is nobody's now.
        self.cache.resources.sweep_wanted.notify_one();
        Ok(())
    }

    /// Passes on what the store does not take.
    async fn pass(
        &self,
        rest: Vec<Bytes>,
        mut ended: Option<Result<Trailers, String>>,
        body: &mut Incoming,
        beyond: &mpsc::Sender<Piece>,
    ) {
        let mut pieces = rest;
        loop {
            for piece in pieces.drain(..) {
                if beyond.send(Piece::Bytes(piece)).await.is_err() {
                    return;
                }
            }
            if let Some(ended) = ended {
                let last = ended.map_or_else(|reason| Piece::Broken(reason.into()), Piece::End);
                let _ = beyond.send(last).await;
                return;
            }
            let batch = gather(body, self.cache.silence()).await;
            self.cache.resources.tally.upstream_bytes.add(batch.len());
            (pieces, ended) = (batch.pieces, batch.ended);
        }
    }
}

enum Answered {
    /// What was kept holds still: as who asked is told of it, and as all others are, where they may be.
    Kept(Arc<Answer>, Option<Arc<Answer>>),
    New(Box<(Came, Staged, Share, Incoming)>),
    Alone(Box<Response<Incoming>>),
}

enum Brought {
    All(Box<Staged>, Trailers),
    /// The store takes no more: what came and is not in it, and how it ended if it did.
    Beyond(Vec<Bytes>, Option<Result<Trailers, String>>),
}

/// Breaks an answer off that was not brought to its end.
struct Ending(Arc<Arrival>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.break_off("the relay is stopping");
    }
}

/// Whether the end of a body shows that none of it is missing.
fn is_framed(response: &Response<Incoming>) -> bool {
    match transfer(response.headers()) {
        Transfer::Chunked => !response.headers().contains_key(CONTENT_LENGTH),
        Transfer::Plain => {
            response.version() == Version::HTTP_2 || response.body().size_hint().exact().is_some()
        }
        Transfer::Unknown => false,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommitError> + Send + 'static,
) -> Result<T, CommitError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| Err(io::Error::other(died.to_string()).into()))
}
