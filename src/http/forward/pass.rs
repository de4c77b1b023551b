//! Requests whose answers are for who asked: other methods, bodies, parts of what is not kept.
//!
//! Invariant: an unsafe request that succeeds leaves nothing in the cache that it may have changed.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, DATE, EXPECT, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::Notify;

use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::forward::status::{CacheStatus, Way};
use crate::http::forward::{Forward, Served};
use crate::http::passing::{Passing, Sending};
use crate::http::respond::Failure;
use crate::relay::cache::hops::{Transfer, stripped, told_length, transfer};
use crate::relay::cache::renewal::{Fate, renewal};
use crate::relay::cache::storable::is_failure;
use crate::relay::cache::table::Found;
use crate::relay::cache::validate::{UNASKED, describes, is_conditional, made_doubtful};
use crate::relay::reach::{Outgoing, ReachError};

/// Methods that change nothing (RFC 9110 section 9.2.1); of others it is not known.
const SAFE: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

impl Forward<'_> {
    /// Passes a request on as it is, and its answer back.
    pub(super) async fn pass(&self, body: Option<Incoming>, way: Way) -> Served {
        let (response, delay) = self.send(body).await?;
        if !SAFE.contains(&self.request.method) {
            for url in made_doubtful(self.url, response.status(), response.headers()) {
                self.live.cache.overtake(&url);
            }
        }
        if self.request.method == Method::HEAD {
            self.note_head(&response, delay);
        }
        self.passed(response, CacheStatus::asked(way))
    }

    /// An answer as it came, on its way to the agent.
    pub(super) fn passed(&self, response: Response<Incoming>, status: CacheStatus) -> Served {
        let (head, body) = response.into_parts();
        let headless = self.request.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
        let transfer = transfer(&head.headers);
        let wrong = if transfer != Transfer::Plain && head.headers.contains_key(CONTENT_LENGTH) {
            Some("it says in two ways how long it is")
        } else if transfer == Transfer::Unknown && !headless {
            Some("its bytes are coded for the way in more than chunks")
        } else if head.status == StatusCode::NOT_MODIFIED && !is_conditional(&self.headers) {
            Some(UNASKED)
        } else {
            head.status.is_informational().then_some("it changes protocols unasked")
        };
        if let Some(what) = wrong {
            return Err(Failure::Reach(Arc::new(ReachError::Wrong(what))));
        }
        let cache = &self.live.cache;
        let mut headers = stripped(&head.headers);
        if let Some(length) = told_length(&head.headers).filter(|_| headless) {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if !headers.contains_key(DATE) {
            let now = httpdate::fmt_http_date(cache.now().wall);
            headers.insert(DATE, HeaderValue::from_str(&now).expect("a date is a header's value"));
        }
        cache.pseudonym().mark(&mut headers, head.version);
        CacheStatus { said: Some(head.status), ..status }.write(&mut headers);
        let body = if body.is_end_stream() {
            Body::default()
        } else {
            let mut passing = Passing::new(body, cache.silence());
            passing.look().map_err(|error| broken(error.to_string()))?;
            Body::passing(passing)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok((response, outcome(head.status)))
    }

    async fn send(
        &self,
        body: Option<Incoming>,
    ) -> Result<(Response<Incoming>, std::time::Duration), Failure> {
        let limits = &self.live.limits;
        let word = self.request.version != Version::HTTP_10 && self.headers.contains_key(EXPECT);
        let word = word.then(|| Arc::new(Notify::new()));
        let body = match body.filter(|body| !body.is_end_stream()) {
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Some(body) => Sending::new(Passing::new(body, limits.stall_timeout), word.clone()).boxed_unsync(),
        };
        let mut request: Request<Outgoing> = Request::new(body);
        *request.method_mut() = self.request.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        let interims = self.interims.clone();
        hyper::ext::on_informational(&mut request, move |said| match (said.status(), &word, &interims) {
            (StatusCode::CONTINUE, Some(word), _) => word.notify_one(),
            (status, _, Some(interims)) => interims.tell(status, said.headers()),
            _ => {}
        });
        let resources = self.live.cache.resources();
        resources.tally.upstream_requests.one();
        let asked = resources.clock.monotonic();
        let answer = self.live.reach.request(&self.passage, request).await;
        let answer = answer.map_err(|error| failed(Arc::new(error)))?;
        Ok((answer, resources.clock.monotonic().saturating_sub(asked)))
    }

    /// Lets what is kept follow what a HEAD says of it (RFC 9111 section 4.3.5).
    fn note_head(&self, response: &Response<Incoming>, delay: std::time::Duration) {
        let cache = &self.live.cache;
        if response.status() != StatusCode::OK || self.headers.contains_key(IF_NONE_MATCH) {
            return;
        }
        let Found::Answer(kept) = cache.table().find(&self.key, &self.headers) else { return };
        if kept.head.status != StatusCode::OK {
            return;
        }
        if !describes(&kept.head.headers, kept.blob.size, response.headers()) {
            return cache.lose(&self.key, &kept);
        }
        let said = stripped(response.headers());
        match renewal(&self.key, &kept, &self.headers, &said, delay, cache.now()).fate {
            Fate::Renewed(head) => cache.renew(&self.key, &kept, Arc::new(kept.with_head(head))),
            Fate::Stays => {}
            Fate::Lost => cache.lose(&self.key, &kept),
        }
    }
}

/// An answer that broke off before the agent had its head.
pub(super) fn broken(reason: String) -> Failure {
    Failure::Reach(Arc::new(ReachError::Broken(reason)))
}

/// Why there is no answer: a refusal is the policy's.
pub(super) fn failed(error: Arc<ReachError>) -> Failure {
    match &*error {
        ReachError::Refused(refusal) => Failure::Refused(refusal.clone()),
        _ => Failure::Reach(error),
    }
}

/// How an answer of another server is counted.
pub(super) fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::NOT_MODIFIED => Outcome::NotModified,
        StatusCode::NOT_FOUND => Outcome::NotFound,
        status if is_failure(status) => Outcome::Failed,
        status if status.is_client_error() => Outcome::BadRequest,
        _ => Outcome::Miss,
    }
}
