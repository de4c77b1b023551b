//! What administrators and their programs ask a running relay: health, metrics, status, and the API (R11.1, R11.2).
//!
//! A request's way: `connections` (where it came from) -> [`problem::finish`] -> [`guard`] (is it meant for this listener?) ->
//! `routes` (which call) -> [`access`] (who asks, and is their role enough?) -> one handler -> JSON or text. What is asked and answered
//! stands in [`model`], which [`document`] makes the `OpenAPI` document of. Never serves agents. Invariant: nothing but what stands below
//! [`api`] changes what agents may have.

pub mod access;
pub mod api;
mod connections;
pub mod document;
mod failures;
pub mod guard;
pub mod health;
pub mod metrics;
pub mod model;
pub mod problem;
pub mod refresh;
mod routes;
pub mod scrub;
pub mod status;

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::Semaphore;
use tracing::error;

use crate::admin::api::{agent_tree, audit, events};
use crate::admin::failures::Failures;
use crate::base::tally::Tally;
use crate::net::tls::Tls;
use crate::relay::live::Live;
use crate::relay::resources::Resources;
use crate::schedule::notifier::Notifier;
use crate::state::tokens::Tokens;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct State {
    live: Arc<ArcSwap<Live>>,
    notifier: Arc<Notifier>,
    resources: Arc<Resources>,
    tokens: Arc<Tokens>,
    failures: Arc<Failures>,
    identity: Arc<serde_json::Value>,
    runtimes: Arc<[(String, RuntimeMetrics)]>,
    started: Duration,
    /// Agent trees that may be read at a time.
    readers: Arc<Semaphore>,
    /// Audit logs that may be read at a time.
    auditors: Arc<Semaphore>,
    /// Streams of events that may be read at a time.
    streams: Arc<Semaphore>,
    /// The document, once somebody has asked for it.
    document: Arc<OnceLock<Bytes>>,
}

impl State {
    /// `identity` is what the relay says of itself: process, addresses. `runtimes` are what its runtimes count, by name.
    pub fn new(
        live: Arc<ArcSwap<Live>>,
        notifier: Arc<Notifier>,
        resources: Arc<Resources>,
        tokens: Arc<Tokens>,
        identity: impl serde::Serialize,
        runtimes: Vec<(String, RuntimeMetrics)>,
    ) -> Self {
        let identity = serde_json::to_value(identity).unwrap_or_default();
        let started = resources.clock.monotonic();
        let readers = Arc::new(Semaphore::new(agent_tree::READERS_MAX));
        Self {
            live,
            notifier,
            resources,
            tokens,
            failures: Arc::default(),
            identity: Arc::new(identity),
            runtimes: runtimes.into(),
            started,
            readers,
            auditors: Arc::new(Semaphore::new(audit::READERS_MAX)),
            streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
            document: Arc::default(),
        }
    }

    fn tally(&self) -> &Tally {
        &self.resources.tally
    }
}

/// Serves one admin listener until the relay stops, with TLS where there is some.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, state: State) {
    let (stop, clock) = (state.resources.stop.clone(), state.resources.clock.clone());
    let (routes, _) = routes::all(&state);
    if let Err(error) = connections::serve(listener, tls, clock, routes.with_state(state), stop).await {
        error!(%error, "the admin listener is lost");
    }
}
