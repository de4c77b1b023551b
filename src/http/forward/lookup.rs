//! GET and HEAD through the cache: what is kept, else the answer to a question that all who want the same share.
//!
//! Invariant: who was told of another's answer that is not for them asks for themselves, and waits for nobody again.

use std::sync::Arc;

use hyper::header::{IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use hyper::{Method, StatusCode};
use tokio::sync::oneshot;

use crate::http::forward::kept::Opened;
use crate::http::forward::pass::failed;
use crate::http::forward::status::{CacheStatus, Way};
use crate::http::forward::{Forward, Served};
use crate::http::respond::Failure;
use crate::relay::cache::answer::Answer;
use crate::relay::cache::arrival::Arriving;
use crate::relay::cache::reuse::{Reuse, Trouble, Why, reuse, stands_in};
use crate::relay::cache::shared::{Asked, Flight, Phase, Question, Told};
use crate::relay::cache::table::Found;
use crate::relay::cache::vary::selects;
use crate::relay::reach::ReachError;

/// What the cache has for a request.
enum Cached {
    /// This is the answer.
    Served(Box<Served>),
    /// What is kept must be asked about first.
    Asked(Arc<Answer>, Way),
    /// Nothing.
    Nothing(Way),
}

impl Forward<'_> {
    /// Serves a GET.
    pub(super) async fn get(&self) -> Served {
        if self.is_for_the_server() {
            return self.pass(None, Way::Bypass).await;
        }
        let (cached, flight) = self.found().await;
        let (kept, way) = match cached {
            Cached::Served(served) => return *served,
            _ if self.wants.has("only-if-cached") => return Err(Failure::NotKept),
            // Opened before it is asked about: its server's word may be that it is kept no more.
            Cached::Asked(answer, way) => (self.open(answer).await, way),
            Cached::Nothing(way) => (None, way),
        };
        let cache = &self.live.cache;
        if kept.is_none() && self.headers.contains_key(RANGE) {
            return self.of_what_comes(flight, Way::Partial).await;
        }
        if kept.is_none() && cache.is_passing(&self.key) {
            return self.own(cache.ask_alone(self.question(None, true)), None, way).await;
        }
        let about = kept.as_ref().map(|opened| &opened.answer);
        match flight.map_or_else(|| cache.ask(self.question(about, false)), Asked::Others) {
            Asked::Own(told) => self.own(told, kept, way).await,
            Asked::Others(flight) => self.others(&flight, kept, way).await,
        }
    }

    /// Serves a HEAD: from what is kept of GET, else as it is.
    pub(super) async fn head(&self) -> Served {
        if self.is_for_the_server() {
            return self.pass(None, Way::Bypass).await;
        }
        let (cached, flight) = self.found().await;
        match cached {
            Cached::Served(served) => *served,
            _ if self.wants.has("only-if-cached") => Err(Failure::NotKept),
            Cached::Nothing(way) => self.of_what_comes(flight, way).await,
            Cached::Asked(_, way) => self.pass(None, way).await,
        }
    }

    /// Serves what a question for the whole would not be begun for: a part, or a head. Where one is under way, of what it brings.
    async fn of_what_comes(&self, flight: Option<Arc<Flight>>, way: Way) -> Served {
        match flight {
            Some(flight) => self.others(&flight, None, way).await,
            None => self.pass(None, way).await,
        }
    }

    /// Whether a request has conditions that no cache may judge (RFC 9111 section 4.3.2).
    fn is_for_the_server(&self) -> bool {
        self.headers.contains_key(IF_MATCH) || self.headers.contains_key(IF_UNMODIFIED_SINCE)
    }

    /// What is kept, or a question that is under way. Where there is neither, what is kept is looked for once more: a question may have
    /// landed in between, and what it brought was kept before.
    async fn found(&self) -> (Cached, Option<Arc<Flight>>) {
        let cached = self.cached().await;
        if !matches!(cached, Cached::Nothing(_)) {
            return (cached, None);
        }
        match self.live.cache.under_way(&self.key) {
            Some(flight) => (cached, Some(flight)),
            None => (self.cached().await, None),
        }
    }

    async fn cached(&self) -> Cached {
        let cache = &self.live.cache;
        let answer = match cache.table().find(&self.key, &self.headers) {
            Found::Answer(answer) => answer,
            Found::Others => return Cached::Nothing(Way::VaryMiss),
            Found::Nothing => return Cached::Nothing(Way::UriMiss),
        };
        let reuse = reuse(&answer.head, &self.wants, cache.now());
        match reuse {
            Reuse::Asked(Why::Stale) => return Cached::Asked(answer, Way::Stale),
            Reuse::Asked(Why::Request) => return Cached::Asked(answer, Way::Request),
            Reuse::AsItIs | Reuse::Meanwhile => {}
        }
        let Some(served) = self.fresh(answer.clone(), CacheStatus::default()).await else {
            return Cached::Nothing(Way::UriMiss);
        };
        if reuse == Reuse::Meanwhile {
            // Nobody waits for it.
            let question = Question { interims: None, ..self.question(Some(&answer), false) };
            drop(cache.ask(question));
        }
        Cached::Served(Box::new(served))
    }

    fn question(&self, kept: Option<&Arc<Answer>>, as_it_is: bool) -> Question {
        Question {
            key: self.key.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            kept: kept.cloned(),
            as_it_is,
            interims: self.interims.clone(),
            passage: self.passage.clone(),
            reach: self.live.reach.clone(),
        }
    }

    /// What became of one's own question.
    async fn own(&self, told: oneshot::Receiver<Told>, kept: Option<Opened>, way: Way) -> Served {
        let status = CacheStatus::asked(way);
        let told = told.await;
        match (told, self.still(kept).await) {
            (Ok(Told::Kept(answer)), Some(opened)) => {
                let status = CacheStatus { said: Some(StatusCode::NOT_MODIFIED), ..status };
                self.confirmed(opened, &answer.head, status)
            }
            // What was asked about is damaged.
            (Ok(Told::Kept(_)), None) => self.pass(None, way).await,
            (Ok(Told::Arriving(arriving)), _) => self.arriving(arriving, status),
            (Ok(Told::Alone(response)), kept) => {
                if is_error(response.status())
                    && let Some(opened) = self.instead(kept, Trouble::Error)
                {
                    return self.kept(opened, status);
                }
                self.passed(*response, status)
            }
            (Ok(Told::Failed(error)), kept) => self.unreached(kept, error, status),
            (Err(_), _) => Err(stopping()),
        }
    }

    /// What became of another's.
    async fn others(&self, flight: &Flight, kept: Option<Opened>, way: Way) -> Served {
        let cache = &self.live.cache;
        let status = CacheStatus { collapsed: true, ..CacheStatus::asked(way) };
        let landed = flight.landed().await;
        let kept = self.still(kept).await;
        match landed {
            Phase::Kept(answer)
                if selects(&answer.selecting, &self.headers)
                    && reuse(&answer.head, &self.wants, cache.now()) == Reuse::AsItIs =>
            {
                if let Some(served) = self.fresh(answer, status).await {
                    return served;
                }
            }
            Phase::Arriving(arrival)
                if selects(&arrival.selecting, &self.headers)
                    && reuse(&arrival.head, &self.wants, cache.now()) == Reuse::AsItIs =>
            {
                return self.arriving(Arriving::new(arrival), status);
            }
            Phase::Alone(said) if is_error(said) => {
                if let Some(opened) = self.instead(kept, Trouble::Error) {
                    return self.kept(opened, status);
                }
            }
            Phase::Failed(error) => return self.unreached(kept, error, status),
            Phase::Asking => return Err(stopping()),
            Phase::Kept(_) | Phase::Arriving(_) | Phase::Alone(_) => drop(kept),
        }
        // By now something else may be kept, which this request selects or which it may ask about.
        let kept = match cache.table().find(&self.key, &self.headers) {
            Found::Answer(answer) => self.open(answer).await,
            Found::Others | Found::Nothing => None,
        };
        let part = kept.is_none() && self.headers.contains_key(RANGE);
        if part || self.request.method == Method::HEAD {
            return self.pass(None, way).await;
        }
        let as_it_is = kept.is_none() && cache.is_passing(&self.key);
        let question = self.question(kept.as_ref().map(|opened| &opened.answer), as_it_is);
        self.own(cache.ask_alone(question), kept, way).await
    }

    /// What is kept, in the place of an answer that cannot be had.
    fn unreached(&self, kept: Option<Opened>, error: Arc<ReachError>, status: CacheStatus) -> Served {
        if matches!(*error, ReachError::Refused(_)) {
            return Err(failed(error));
        }
        // Who answers nonsense was reached.
        let unconfirmed = kept.is_some() && !matches!(*error, ReachError::Wrong(_));
        match self.instead(kept, Trouble::Unreached) {
            Some(opened) => self.kept(opened, status),
            None if unconfirmed => Err(Failure::Unconfirmed(error)),
            None => Err(failed(error)),
        }
    }

    /// What is kept, where it may stand for an answer.
    fn instead(&self, kept: Option<Opened>, trouble: Trouble) -> Option<Opened> {
        kept.filter(|opened| stands_in(&opened.answer.head, &self.wants, trouble, self.live.cache.now()))
    }
}

/// Answers that a kept one may stand for (RFC 5861 section 4).
fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn stopping() -> Failure {
    Failure::Reach(Arc::new(ReachError::Broken("the relay is stopping".to_owned())))
}
