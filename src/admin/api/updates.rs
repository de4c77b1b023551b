//! `/api/v1/updates`: an administrator has agents update (R9.1d): no privilege is needed, and who is offline is told when it comes.
//!
//! Never tells an agent itself: the notices do. Invariant: an update that was answered with its number is on the disk.

use std::collections::HashSet;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use tracing::info;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::blocking;
use crate::admin::api::current::{Current, Stale};
use crate::admin::document::{Busy, Failed, Missing};
use crate::admin::model::updates::{NewUpdate, Update, Updates};
use crate::admin::problem::Problem;
use crate::policy::tree::Tree;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::relay::live::Live;
use crate::schedule::notices::notice::{Progress, StartId};
use crate::schedule::notifier::NotifyError;

/// Domains and agents that a request names at most.
const NAMED_MAX: usize = 100_000;

/// The updates that administrators started, the newest first.
#[utoipa::path(get, path = "/api/v1/updates", tag = "updates", operation_id = "list_updates", responses(
    (status = 200, description = "The updates, the newest first.", body = Updates),
    Failed,
))]
pub async fn list(extract::State(state): extract::State<State>) -> Result<Json<Updates>, Problem> {
    let notifier = state.notifier.clone();
    let starts = blocking(move || notifier.starts()).await?;
    Ok(Json(Updates { items: starts.into_iter().map(|(start, progress)| told(start, progress)).collect() }))
}

/// One of them.
#[utoipa::path(get, path = "/api/v1/updates/{id}", tag = "updates", operation_id = "show_update",
    params(("id" = u64, Path, description = "The update's number.")),
    responses(
        (status = 200, description = "How far it has come.", body = Update),
        Missing,
        Failed,
    ))]
pub async fn show(
    extract::State(state): extract::State<State>,
    Path(id): Path<u64>,
) -> Result<Json<Update>, Problem> {
    progress(&state, StartId(id)).await.map(Json)
}

/// Has agents update, each once, as soon as it is online: components and agent settings, whatever the privileges are.
#[utoipa::path(post, path = "/api/v1/updates", tag = "updates", operation_id = "start_update", request_body = NewUpdate,
    responses(
        (status = 201, description = "The update has begun.", body = Update),
        Missing,
        Failed,
        Busy,
    ))]
pub async fn start(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(new): Json<NewUpdate>,
) -> Result<Response, Problem> {
    let live = state.live.load_full();
    let notifier = state.notifier.clone();
    let started = blocking(move || {
        let meant = meant(&live, &new)?;
        let count = meant.len();
        let start = notifier.start(meant).map_err(|error| refused(&error))?;
        Ok::<_, Problem>((start, count))
    });
    let (start, agents) = started.await??;
    info!(update = %start, agents, by = %asks.name, "an administrator has agents update");
    let update = progress(&state, start).await?;
    Ok((StatusCode::CREATED, Json(update)).into_response())
}

/// Cancels an update: who was not told yet is not; who was told goes on.
#[utoipa::path(delete, path = "/api/v1/updates/{id}", tag = "updates", operation_id = "cancel_update",
    params(("id" = u64, Path, description = "The update's number.")),
    responses(
        (status = 200, description = "What had come of it.", body = Update),
        Missing,
        Failed,
        Busy,
    ))]
pub async fn cancel(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<u64>,
) -> Result<Json<Update>, Problem> {
    let start = StartId(id);
    progress(&state, start).await?;
    let notifier = state.notifier.clone();
    blocking(move || notifier.cancel(start)).await?.map_err(|error| refused(&error))?;
    info!(update = %start, by = %asks.name, "an administrator has cancelled an update");
    progress(&state, start).await.map(Json)
}

async fn progress(state: &State, start: StartId) -> Result<Update, Problem> {
    let notifier = state.notifier.clone();
    let found = blocking(move || notifier.progress(start)).await?;
    let missing = || Problem::missing(format!("there is no update {start}, or it was forgotten"));
    found.map(|progress| told(start, progress)).ok_or_else(missing)
}

/// The agents that are meant.
fn meant(live: &Live, new: &NewUpdate) -> Result<Vec<AgentId>, Problem> {
    let NewUpdate { domains, agents, out_of_date, all } = new;
    if domains.len() + agents.len() > NAMED_MAX {
        return Err(Problem::unprocessable(format!("domains, agents: at most {NAMED_MAX} are allowed")));
    }
    let everybody = domains.is_empty() && agents.is_empty();
    if everybody && !out_of_date && !all {
        let reason = "name domains or agents, or say \"out_of_date\": true, or \"all\": true for every agent";
        return Err(Problem::unprocessable(reason));
    }
    if *all && !everybody {
        return Err(Problem::unprocessable("all: domains and agents are named, which are not all"));
    }
    let compiled = live.agents.state().current();
    let tree = compiled.tree();
    let within = within(tree, domains)?;
    let named: HashSet<_> = agents.iter().collect();
    if let Some(unknown) = agents.iter().find(|agent| tree.agent(agent).is_none()) {
        return Err(Problem::missing(format!("there is no agent '{unknown}'")));
    }
    let current = Current::of(live);
    let mut stale = Stale::new(&current);
    let seen = live.agents.seen();
    let meant = tree.agents().filter(|(id, agent)| {
        let is_named = everybody || within.contains(&agent.domain) || named.contains(id);
        is_named && !agent.is_revoked() && (!out_of_date || stale.has(&compiled, seen, id, agent))
    });
    Ok(meant.map(|(id, _)| *id).collect())
}

/// These domains, and all within them.
fn within(tree: &Tree, domains: &[DomainId]) -> Result<HashSet<DomainId>, Problem> {
    let mut all = HashSet::new();
    let mut open = Vec::new();
    for domain in domains {
        if tree.domain(*domain).is_none() {
            return Err(Problem::missing(format!("there is no domain {domain}")));
        }
        open.push(*domain);
    }
    while let Some(domain) = open.pop() {
        if all.insert(domain) {
            open.extend(tree.domains_in(Some(domain)).map(|(_, id)| id));
        }
    }
    Ok(all)
}

fn told(start: StartId, progress: Progress) -> Update {
    let Progress { at, over, waiting, under_way, done, offline, gave_up, cancelled } = progress;
    Update { id: start.0, at, over, waiting, under_way, done, offline, gave_up, cancelled }
}

fn refused(error: &NotifyError) -> Problem {
    match error {
        NotifyError::Starts(_) => Problem::busy(error.to_string()),
        NotifyError::Journal(_) => Problem::failed(error.to_string()),
    }
}
