//! `GET /api/v1/status`: what a relay is doing, for `forebay status` and for programs.

use axum::Json;
use axum::extract;
use serde::Serialize;

use crate::admin::State;
use crate::base::tally::{Outcome, Tally};
use crate::relay::refresh::Progress;
use crate::relay::scrub;
use crate::relay::tree::Tree;

/// A relay at one moment. Times are in seconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    uptime_secs: u64,
    #[serde(flatten)]
    identity: serde_json::Value,
    data: String,
    /// What the data folder takes; fills under way count whole.
    taken_bytes: u64,
    quota_bytes: Option<u64>,
    trees: Vec<TreeStatus>,
    agents: AgentsStatus,
    requests: serde_json::Map<String, serde_json::Value>,
    counts: Counts,
    scrub: scrub::Progress,
}

/// The agents of the agent tree.
#[derive(Debug, Serialize)]
pub struct AgentsStatus {
    known: usize,
    domains: usize,
    ranges: usize,
    enrolments: usize,
    /// Those that checked in since the start.
    heard: usize,
    /// Packages that agents took without a permission, where that is recorded alone (R8).
    unpermitted: u64,
    /// What the relay cannot hold anybody to (R8).
    not_enforced: &'static str,
}

/// Who checks in can be held to it, and nobody else.
const NOT_ENFORCED: &str =
    "agents known by their address alone are told what holds and not held to check-ins";

/// One tree.
#[derive(Debug, Serialize)]
pub struct TreeStatus {
    name: String,
    path: String,
    upstream: Vec<String>,
    upstream_down: bool,
    /// Since the upstream last confirmed the current generation.
    unconfirmed_secs: u64,
    /// `None` until the first generation is published.
    generation: Option<GenerationStatus>,
    kept: usize,
    /// What the quota is short of for the upstream's generation.
    missing_bytes: u64,
    refresh: Progress,
}

/// The generation that new agents get.
#[derive(Debug, Serialize)]
pub struct GenerationStatus {
    number: u64,
    taken: String,
    files: usize,
    files_held: usize,
    bytes: u64,
    bytes_held: u64,
    withheld: usize,
    unknown: usize,
}

/// The relay's counts since its start.
#[derive(Debug, Serialize)]
pub struct Counts {
    sent_bytes: u64,
    upstream_bytes: u64,
    upstream_requests: u64,
    fills_now: u64,
    fills_completed: u64,
    fills_failed: u64,
    connections_now: u64,
    connections: u64,
}

/// What the relay is doing.
#[utoipa::path(get, path = "/api/v1/status", tag = "relay", operation_id = "show_status", responses(
    (status = 200, description = "The relay at one moment: addresses, trees, counts.", body = serde_json::Value),
))]
pub async fn show(extract::State(state): extract::State<State>) -> Json<Status> {
    let tally = state.tally();
    let requests =
        Outcome::ALL.iter().map(|outcome| (outcome.name().to_owned(), tally.requests(*outcome).into()));
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_secs: state.resources.clock.monotonic().saturating_sub(state.started).as_secs(),
        identity: (*state.identity).clone(),
        data: state.resources.store.root().display().to_string(),
        taken_bytes: state.resources.store.room().taken(),
        quota_bytes: state.resources.store.room().quota(),
        trees: state.live.load().trees.iter().map(|(base, tree)| tree_status(base, tree)).collect(),
        agents: agents_status(&state),
        requests: requests.collect(),
        counts: counts(tally),
        scrub: state.resources.scrubber.progress().borrow().clone(),
    })
}

fn agents_status(state: &State) -> AgentsStatus {
    let live = state.live.load();
    let compiled = live.agents.tree();
    let tree = compiled.tree();
    AgentsStatus {
        known: tree.agent_count(),
        domains: tree.domain_count(),
        ranges: tree.ranges().count(),
        enrolments: tree.enrolments().count(),
        heard: live.agents.seen().len(),
        unpermitted: state.tally().unpermitted.value(),
        not_enforced: NOT_ENFORCED,
    }
}

fn tree_status(base: &str, tree: &Tree) -> TreeStatus {
    let upstream = tree.upstream();
    let snapshot = tree.snapshot();
    let current = snapshot.as_ref().map(|snapshot| &snapshot.current().generation);
    TreeStatus {
        name: tree.name.to_string(),
        path: base.to_owned(),
        upstream: (0..upstream.origins()).map(|origin| upstream.origin_name(origin)).collect(),
        upstream_down: tree.standing.is_upstream_down(),
        unconfirmed_secs: tree.standing.unconfirmed_secs(),
        generation: current.map(|current| {
            let held = || current.files().filter_map(|listed| listed.entry.held());
            GenerationStatus {
                number: current.number().0,
                taken: format!("{:.0}", current.taken()),
                files: current.files().count(),
                files_held: held().count(),
                bytes: current.files().filter_map(|listed| listed.entry.size()).fold(0, u64::saturating_add),
                bytes_held: held().map(|blob| blob.size).sum(),
                withheld: current.withheld(),
                unknown: current.manifest().unknown().len(),
            }
        }),
        kept: snapshot.as_ref().map_or(0, |snapshot| snapshot.published().len()),
        missing_bytes: tree.standing.missing_bytes(),
        refresh: tree.progress().borrow().clone(),
    }
}

fn counts(tally: &Tally) -> Counts {
    Counts {
        sent_bytes: tally.sent_bytes.value(),
        upstream_bytes: tally.upstream_bytes.value(),
        upstream_requests: tally.upstream_requests.value(),
        fills_now: tally.fills_now.value(),
        fills_completed: tally.fills_completed.value(),
        fills_failed: tally.fills_failed.value(),
        connections_now: tally.connections_now.value(),
        connections: tally.connections.value(),
    }
}
