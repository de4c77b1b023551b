//! What administrators and their programs ask a running relay: health, metrics, status, refresh, scrub (R11.2), the agent tree.
//!
//! A request's way: [`guard`] (is it meant for this listener?) -> one handler -> JSON or text. Problems are RFC 9457.
//! Never serves agents. Invariant: nothing but [`agents`] changes what agents may have.

pub mod agents;
mod connections;
pub mod guard;
pub mod health;
pub mod metrics;
pub mod refresh;
pub mod respond;
pub mod scrub;
pub mod status;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::{get, post};
use tokio::runtime::RuntimeMetrics;
use tokio::sync::Semaphore;
use tracing::error;

use crate::base::tally::Tally;
use crate::relay::live::Live;
use crate::relay::resources::Resources;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct State {
    live: Arc<ArcSwap<Live>>,
    resources: Arc<Resources>,
    identity: Arc<serde_json::Value>,
    runtimes: Arc<[(String, RuntimeMetrics)]>,
    started: Duration,
    /// Agent trees that may be read at a time.
    readers: Arc<Semaphore>,
}

impl State {
    /// `identity` is what the relay says of itself: process, addresses. `runtimes` are what its runtimes count, by name.
    pub fn new(
        live: Arc<ArcSwap<Live>>,
        resources: Arc<Resources>,
        identity: impl serde::Serialize,
        runtimes: Vec<(String, RuntimeMetrics)>,
    ) -> Self {
        let identity = serde_json::to_value(identity).unwrap_or_default();
        let started = resources.clock.monotonic();
        let readers = Arc::new(Semaphore::new(agents::READERS_MAX));
        Self { live, resources, identity: Arc::new(identity), runtimes: runtimes.into(), started, readers }
    }

    fn tally(&self) -> &Tally {
        &self.resources.tally
    }
}

/// Serves one admin listener until the relay stops.
pub async fn serve(listener: TcpListener, state: State) {
    let stop = state.resources.stop.clone();
    let routes = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .route("/api/v1/status", get(status::show))
        .route("/api/v1/refresh", post(refresh::ask))
        .route("/api/v1/scrub", post(scrub::ask))
        .route("/api/v1/agents/tree", get(agents::show).post(agents::apply))
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .layer(axum::middleware::from_fn(guard::check))
        .with_state(state);
    if let Err(error) = connections::serve(listener, routes, stop).await {
        error!(%error, "the admin listener is lost");
    }
}
