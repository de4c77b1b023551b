//! One request and its answer.
//!
//! What is at hand is answered at once: most requests are, and such an answer is made without a future, which would take room and be
//! moved about for nothing. Whatever has to be waited for goes on as a future, from the same place. A request's way is in
//! [`http`](crate::http). Invariant: either way the same is decided, counted and logged, once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, LocalBoxFuture};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Uri, Version};
use tracing::error;

use crate::http::agents::{self, Call};
use crate::http::body::{Body, EndedBy};
use crate::http::caller::caller;
use crate::http::connect;
use crate::http::forward::{self, Meanwhile};
use crate::http::held::Held;
use crate::http::limited::{self, Admitted};
use crate::http::mirror::{self, Served};
use crate::http::onward::{Becomes, Onward};
use crate::http::outlet::{Files, Outlet};
use crate::http::record::{Record, shown};
use crate::http::respond::{Failure, failure, problem};
use crate::http::route::{Leave, Route, Routed, route};
use crate::http::speak::Agent;
use crate::http::turn::{Asking, Turn};
use crate::net::idle::Busy;
use crate::net::inserts::Inserts;
use crate::policy::caller::Caller;
use crate::relay::live::Live;
use crate::relay::serve::ServeError;

/// What a connection may do that one request has to itself.
#[derive(Debug)]
pub(super) struct Own {
    /// Become something else.
    pub(super) onward: Onward,
    /// Carry interim answers.
    pub(super) inserts: Rc<Inserts>,
    /// Take turns with others.
    pub(super) turn: Rc<Turn>,
}

/// An answer: there, or on its way.
pub(super) type Answer = Either<Ready<Answered>, LocalBoxFuture<'static, Answered>>;

type Answered = Result<Response<Body>, Infallible>;

/// Answers a request; `own` is what its connection may do for it, where it has one to itself.
pub(super) fn answer(
    agent: &Rc<Agent>,
    request: Request<Incoming>,
    busy: Busy,
    own: Option<&Rc<Own>>,
) -> Answer {
    let live = agent.worker.live.load_full();
    let (request, body) = request.into_parts();
    let (agent, own) = (agent.clone(), own.cloned());
    if request.method == Method::CONNECT {
        return Either::Right(Box::pin(async move {
            let onward = own.as_ref().map(|own| &own.onward);
            let answer = connect::answer(&agent, &request, &live, &busy, onward).await;
            Ok(answer.map(|body| body.busy(busy)))
        }));
    }
    let record = Record::begin(&agent.worker, live.log.access, agent.address, &request);
    let routed = route(&request, &live, agent.asked());
    let asking = own.as_ref().map(|own| own.turn.asked());
    let mut exchange = Exchange { agent, live, request, record, busy, own, asking };
    let routed = match routed {
        Ok(routed) => routed,
        Err(failed) => return exchange.answered(Err(failed)),
    };
    match exchange.served_at_once(&routed, &body) {
        Some(served) => exchange.answered(served),
        None => {
            if exchange.own.is_some() {
                exchange.request = detached(exchange.request);
            }
            Either::Right(Box::pin(exchange.answers(routed, body)))
        }
    }
}

/// A request that is being answered.
struct Exchange {
    agent: Rc<Agent>,
    live: Arc<Live>,
    request: Parts,
    record: Record,
    busy: Busy,
    own: Option<Rc<Own>>,
    asking: Option<Asking>,
}

/// How a failure is told.
#[derive(Clone, Copy)]
enum Speech {
    Text,
    /// To programs that speak the agents' API.
    Problem,
}

impl Exchange {
    /// Serves what the mirror has at hand; `None` where the request is for anything else, or has to wait.
    fn served_at_once(&mut self, routed: &Routed, body: &Incoming) -> Option<Served> {
        let Self { agent, live, request, record, .. } = self;
        if !matches!(routed.route, Route::Manifest(_) | Route::File(..)) || has_body(request, body) {
            return None;
        }
        let caller = match caller(agent, request, routed, live) {
            Ok(caller) => caller,
            Err(failed) => return Some(Err(failed)),
        };
        record.known_as(&caller);
        if caller.is_limited() {
            return None;
        }
        let served = match &routed.route {
            Route::Manifest(tree) => mirror::manifest(request, tree, &caller, live),
            Route::File(tree, path) => {
                let (shelf, now) = (&agent.worker.shelf, record.began());
                mirror::file_at_hand(request, tree, path, &caller, live, shelf, now)?
            }
            Route::Elsewhere(_) | Route::Tunnel(_) | Route::Agents(_) => return None,
        };
        Some(served.map(|(response, outcome)| (limited(agent, &caller, response), outcome)))
    }

    /// Serves it, however long that takes. What is not the mirror's has a place of its own in memory: each request of the mirror would
    /// take room for it.
    async fn served(&mut self, routed: Routed, body: Incoming) -> Served {
        let Self { agent, live, request, record, busy, own, .. } = self;
        if let Route::Agents(Call::Enrol) = routed.route {
            // Who enrols is nobody yet.
            return Box::pin(agents::serve(agent, None, request, body, &Call::Enrol, live)).await;
        }
        let mut caller = caller(agent, request, &routed, live)?;
        record.known_as(&caller);
        if caller.is_limited() && Box::pin(limited::admit(agent, &caller)).await? == Admitted::Late {
            // Who had to wait may be another one by now.
            caller = self::caller(agent, request, &routed, live)?;
        }
        let shelf = &agent.worker.shelf;
        let (response, outcome) = match routed.route {
            Route::Manifest(_) | Route::File(..) if has_body(request, &body) => Err(Failure::RequestBody),
            Route::Manifest(tree) => mirror::manifest(request, &tree, &caller, live),
            Route::File(tree, path) => mirror::file(request, &tree, &path, &caller, live, shelf, busy).await,
            Route::Elsewhere(elsewhere) => {
                if elsewhere.leave == Leave::Proxy {
                    record.toward(&elsewhere.url);
                }
                let meanwhile = Meanwhile { busy, inserts: own.as_ref().map(|own| &*own.inserts) };
                Box::pin(forward::serve(shelf, &caller, request, body, &elsewhere, live, meanwhile)).await
            }
            Route::Agents(call) => {
                // An agent that leaves while nothing is told gives up its place.
                busy.waits(call == Call::Events);
                Box::pin(agents::serve(agent, Some(&caller), request, body, &call, live)).await
            }
            // Another method has no tunnel.
            Route::Tunnel(_) => Err(Failure::Target),
        }?;
        Ok((limited(agent, &caller, response), outcome))
    }

    /// Answers with what was served at once.
    fn answered(self, served: Served) -> Answer {
        let (response, asking) = self.finished(served, Speech::Text);
        match asking.filter(|_| response.body().takes_turns()) {
            None => Either::Left(ready(Ok(response))),
            Some(asking) => Either::Right(Box::pin(async move {
                asking.let_others_in().await;
                Ok(response)
            })),
        }
    }

    /// Answers once it is served.
    async fn answers(mut self, routed: Routed, body: Incoming) -> Answered {
        let to_api = matches!(routed.route, Route::Agents(_));
        let mut served = self.served(routed, body).await;
        if let Some(own) = &self.own
            && let Ok((response, outcome)) = &mut served
            && let Some(events) = response.body_mut().take_events()
        {
            self.record.answered(response.status(), *outcome, Some(0));
            let head = std::mem::take(response).map(drop);
            own.onward.set(Becomes::Events(Held { head, events }.into()));
            drop((served, self));
            // Whoever takes the connection over answers.
            return std::future::pending().await;
        }
        let speech = if to_api { Speech::Problem } else { Speech::Text };
        let (response, asking) = self.finished(served, speech);
        if let Some(asking) = asking.filter(|_| response.body().takes_turns()) {
            asking.let_others_in().await;
        }
        Ok(response)
    }

    /// The answer as the connection sends it, and what lets others in before its first turn.
    fn finished(self, served: Served, speech: Speech) -> (Response<Body>, Option<Asking>) {
        let Self { agent, live, request, mut record, busy, own, asking } = self;
        let worker = &agent.worker;
        let (mut response, outcome) = served.unwrap_or_else(|failed| {
            if let Some(by) = failed.refused_by() {
                worker.tally.refused_by(by);
            }
            record.failed(&failed);
            if let Failure::Serve(ServeError::Store(error)) = &failed {
                error!(path = %shown(request.uri.path()), %error, "the store could not be read");
            }
            let answer = match speech {
                Speech::Text => failure(&failed),
                Speech::Problem => problem(&failed),
            };
            (answer, failed.outcome())
        });
        record.sent_by(agent.spans.clone());
        let body_bytes = response.body().size_hint().exact();
        record.answered(response.status(), outcome, body_bytes);
        if request.version == Version::HTTP_2 {
            response.headers_mut().remove(CONNECTION);
            // hyper leaves a HEAD's body out of HTTP/1 alone.
            if let Some(bytes) = body_bytes.filter(|bytes| *bytes > 0 && request.method == Method::HEAD) {
                response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
                *response.body_mut() = Body::default();
            }
        }
        busy.waits(false);
        let by_close = request.version == Version::HTTP_10;
        let ended_by = if by_close { EndedBy::Close } else { EndedBy::Framing };
        let files =
            agent.spans.as_ref().map(|spans| Files { spans: spans.clone(), by: spans.by(live.sendfile) });
        let turn = own.as_ref().map(|own| own.turn.clone());
        let outlet = Outlet { turn, buffers: worker.buffers.clone(), files };
        (response.map(|body| body.recorded(record).busy(busy).ended_by(ended_by).sent_by(outlet)), asking)
    }
}

/// A request's head with bytes of its own. What hyper read it from is read into again once nobody holds a part of it; else hyper takes
/// another 8 KiB at the next read, which is at once: it looks whether the agent leaves while its answer is waited for.
fn detached(mut request: Parts) -> Parts {
    for value in request.headers.values_mut() {
        if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = own;
        }
    }
    if let Ok(own) = Uri::try_from(request.uri.to_string()) {
        request.uri = own;
    }
    request
}

/// Whether there is a body: a file's request has none. Over HTTP/1 one is dropped unread where none belongs.
fn has_body(request: &Parts, body: &Incoming) -> bool {
    request.version == Version::HTTP_2 && !body.is_end_stream()
}

fn limited(agent: &Agent, caller: &Caller, response: Response<Body>) -> Response<Body> {
    response.map(|body| limited::body(agent, caller, body))
}
