//! The general cache itself: what is kept, and the one question to a server that all who want the same share.
//!
//! [`Cache::ask`] joins the question that is under way for a URL, or begins one as a task of its own (`relay/cache/fetch.rs`). A
//! URL whose answers turn out not to be for all is remembered for a while: nobody waits there for another's answer. Invariant: a
//! question that a change overtook tells nobody but those who asked it, and leaves nothing behind.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode, Uri};
use lru::LruCache;
use tokio::sync::{oneshot, watch};
use url::Url;

use crate::base::blob::BlobId;
use crate::policy::reach::Passage;
use crate::relay::cache::answer::{Answer, Now};
use crate::relay::cache::arrival::{Arrival, Arriving};
use crate::relay::cache::hops::Pseudonym;
use crate::relay::cache::interim::Interims;
use crate::relay::cache::table::Table;
use crate::relay::cache::underway::UnderWay;
use crate::relay::reach::{Reach, ReachError};
use crate::relay::resources::Resources;

/// Questions under way that others may join: as many as there are connections to speak of.
const FLIGHTS_MAX: usize = 10_000;

/// URLs remembered whose answers are not for all, 40 bytes each.
const PASSING_MAX: usize = 4096;

/// URLs remembered that an unsafe request changed, 40 bytes each: those of the questions under way.
const CHANGED_MAX: usize = 16_384;

/// How long that is remembered: a page that becomes cacheable is noticed soon.
const PASSING: Duration = Duration::from_mins(2);

/// The general cache of a relay.
#[derive(Debug)]
pub struct Cache {
    pub(super) resources: Arc<Resources>,
    pseudonym: Pseudonym,
    /// Guards the questions under way, by URL.
    flights: Mutex<HashMap<Arc<str>, Arc<Flight>>>,
    /// Guards the URLs whose answers are not for all, each with when that is forgotten.
    passing: Mutex<LruCache<BlobId, Duration>>,
    /// Guards the URLs that were changed, each with how many changes there were then.
    changed: Mutex<LruCache<BlobId, u64>>,
    changes: AtomicU64,
    silence_ms: AtomicU64,
    pub(super) under_way: UnderWay,
}

/// A question under way.
#[derive(Debug)]
pub struct Flight {
    phase: watch::Sender<Phase>,
    /// How many changes there were when it began.
    changes: u64,
}

/// How far a question is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// No answer yet.
    Asking,
    /// What was kept holds still.
    Kept(Arc<Answer>),
    /// An answer is on its way that may be kept.
    Arriving(Arc<Arrival>),
    /// The answer, which has this status, is for who asked alone.
    Alone(StatusCode),
    /// There is none.
    Failed(Arc<ReachError>),
}

/// A question.
#[derive(Debug)]
pub struct Question {
    /// The URL, without its fragment.
    pub key: Arc<str>,
    /// The same, for the request line.
    pub uri: Uri,
    /// The request's headers, without those of its connection; with the relay's mark.
    pub headers: HeaderMap,
    /// What is kept and asked about.
    pub kept: Option<Arc<Answer>>,
    /// Whether the request's own conditions and range go along: then its answer is for who asked.
    pub as_it_is: bool,
    /// Where what the server says before its answer is told.
    pub interims: Option<Interims>,
    /// The way there.
    pub passage: Passage,
    /// Who goes it.
    pub reach: Arc<Reach>,
}

/// What becomes of a question for who began it.
#[derive(Debug)]
pub enum Told {
    /// What was kept holds still.
    Kept(Arc<Answer>),
    /// The answer is on its way, and kept as it comes.
    Arriving(Arriving),
    /// The answer, which is not kept.
    Alone(Box<Response<Incoming>>),
    /// There is none.
    Failed(Arc<ReachError>),
}

/// Whose question it is.
#[derive(Debug)]
pub enum Asked {
    /// One's own: what becomes of it is told here.
    Own(oneshot::Receiver<Told>),
    /// Another's, that is under way.
    Others(Arc<Flight>),
}

impl Cache {
    /// A cache over what is kept. `bits` make its name on the way; `silence` is how long a server may send nothing.
    pub fn new(resources: Arc<Resources>, bits: u64, silence: Duration) -> Self {
        let bound = |most| NonZeroUsize::new(most).expect("the bound is not zero");
        let cache = Self {
            resources,
            pseudonym: Pseudonym::new(bits),
            flights: Mutex::default(),
            passing: Mutex::new(LruCache::new(bound(PASSING_MAX))),
            changed: Mutex::new(LruCache::new(bound(CHANGED_MAX))),
            changes: AtomicU64::new(0),
            silence_ms: AtomicU64::new(0),
            under_way: UnderWay::default(),
        };
        cache.set_silence(silence);
        cache
    }

    /// Its name on the way.
    pub fn pseudonym(&self) -> &Pseudonym {
        &self.pseudonym
    }

    /// What is kept.
    pub fn table(&self) -> &Arc<Table> {
        &self.resources.answers
    }

    /// What it shares with the trees.
    pub fn resources(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// How many bytes the answers on their way have reserved.
    pub fn reserved(&self) -> u64 {
        self.under_way.bytes()
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now { wall: self.resources.clock.wall().into(), monotonic: self.resources.clock.monotonic() }
    }

    /// How long a server may send nothing within an answer.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.load(Ordering::Relaxed))
    }

    /// Takes another one.
    pub fn set_silence(&self, silence: Duration) {
        let millis = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.silence_ms.store(millis, Ordering::Relaxed);
    }

    /// Whether answers to this URL were not for all, lately.
    pub fn is_passing(&self, key: &str) -> bool {
        let until = self.passing().get(&BlobId::of(key.as_bytes())).copied();
        until.is_some_and(|until| self.resources.clock.monotonic() < until)
    }

    /// Joins the question that is under way for the URL, or begins this one.
    pub fn ask(self: &Arc<Self>, question: Question) -> Asked {
        let flight = {
            let mut flights = self.flights();
            if let Some(flight) = flights.get(&question.key) {
                return Asked::Others(flight.clone());
            }
            let flight = self.flight();
            // Beyond the bound nobody joins.
            if flights.len() < FLIGHTS_MAX {
                flights.insert(question.key.clone(), flight.clone());
            }
            flight
        };
        Asked::Own(self.begin(question, flight))
    }

    /// The question that is under way for a URL.
    pub fn under_way(&self, key: &str) -> Option<Arc<Flight>> {
        self.flights().get(key).cloned()
    }

    /// Begins a question that nobody joins.
    pub fn ask_alone(self: &Arc<Self>, question: Question) -> oneshot::Receiver<Told> {
        self.begin(question, self.flight())
    }

    /// Notes that what a URL stands for has changed: what is kept of it goes, and what is on its way is not kept.
    pub fn overtake(&self, url: &Url) {
        let key = key(url);
        {
            // Counted and noted as one: whoever begins after it is not overtaken by it.
            let mut changed = self.changed();
            let number = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
            changed.put(BlobId::of(key.as_bytes()), number);
        }
        self.flights().remove(&*key);
        self.table().forget(&key);
        self.write();
    }

    /// Forgets an answer that cannot be given any more.
    pub fn lose(&self, key: &Arc<str>, answer: &Arc<Answer>) {
        self.table().lose(key, answer);
        self.write();
    }

    /// Keeps an answer with a newer head in place of one that is still there.
    pub fn renew(&self, key: &Arc<str>, old: &Arc<Answer>, new: Arc<Answer>) {
        self.table().renew(key, old, new);
        self.write();
    }

    /// Has the data folder follow the table.
    pub(super) fn write(&self) {
        if self.table().is_changed() {
            let table = self.table().clone();
            self.resources.tasks.spawn_blocking_on(move || table.write(), &self.resources.runtime);
        }
    }

    pub(super) fn note_passing(&self, key: &str, passing: bool) {
        let id = BlobId::of(key.as_bytes());
        if passing {
            self.passing().put(id, self.resources.clock.monotonic() + PASSING);
        } else {
            self.passing().pop(&id);
        }
    }

    /// Ends a question: nobody joins it any more.
    pub(super) fn land(&self, key: &str, flight: &Arc<Flight>) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|own| Arc::ptr_eq(own, flight)) {
            flights.remove(key);
        }
    }

    /// Whether a change came after a question: its answer is of a state that is gone.
    pub(super) fn is_overtaken(&self, key: &str, flight: &Flight) -> bool {
        let changed = self.changed().get(&BlobId::of(key.as_bytes())).copied();
        changed.is_some_and(|number| number > flight.changes)
    }

    fn flight(&self) -> Arc<Flight> {
        let changes = self.changes.load(Ordering::Relaxed);
        Arc::new(Flight { phase: watch::Sender::new(Phase::Asking), changes })
    }

    fn changed(&self) -> MutexGuard<'_, LruCache<BlobId, u64>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passing(&self) -> MutexGuard<'_, LruCache<BlobId, Duration>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Waits for what comes of it.
    pub async fn landed(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        let landed = phase.wait_for(|now| !matches!(now, Phase::Asking)).await;
        landed.map_or(Phase::Asking, |phase| phase.clone())
    }

    /// Tells what comes of it.
    pub(super) fn tell(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Tells that there is nothing, where nothing was told.
    pub(super) fn end(&self) {
        self.phase.send_if_modified(|phase| {
            let asking = matches!(phase, Phase::Asking);
            if asking {
                *phase = Phase::Failed(Arc::new(ReachError::Broken("the relay is stopping".into())));
            }
            asking
        });
    }
}

/// What answers to a URL are kept under.
pub fn key(url: &Url) -> Arc<str> {
    let mut url = url.clone();
    url.set_fragment(None);
    String::from(url).into()
}
