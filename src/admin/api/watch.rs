//! What the relay is doing: generations, components, fills under way, traffic, refusals (R11.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Query;
use axum::{Json, extract};

use crate::admin::State;
use crate::admin::api::{blocking, page};
use crate::admin::document::{Missing, Unprocessable};
use crate::admin::model::page::Page;
use crate::admin::model::watch::{
    ClassSum, Component, Fill, Generation, Minute, Refusal, RefusalsAsked, TrafficAsked, TreeAsked,
};
use crate::admin::problem::Problem;
use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::Kind;
use crate::policy::tree::id::AgentId;
use crate::relay::live::Live;
use crate::relay::tree::Tree;
use crate::relay::{generation, refusals, traffic};

/// Minutes that are told where nothing is said.
const MINUTES: u16 = 60;

const MINUTES_MAX: u16 = 1440;

/// The kept generations, the newest of each tree first.
#[utoipa::path(get, path = "/api/v1/generations", tag = "trees", operation_id = "list_generations", params(TreeAsked), responses(
    (status = 200, description = "The generations.", body = Page<Generation>),
    Missing,
))]
pub async fn generations(
    extract::State(state): extract::State<State>,
    Query(asked): Query<TreeAsked>,
) -> Result<Json<Page<Generation>>, Problem> {
    let trees = trees(&state.live.load(), asked.tree.as_deref())?;
    blocking(move || {
        let mut items = Vec::new();
        for tree in trees {
            let snapshot = tree.snapshot();
            let published = snapshot.iter().flat_map(|snapshot| snapshot.published());
            items.extend(published.enumerate().map(|(at, one)| generation(&one.generation, at == 0)));
        }
        all(items)
    })
    .await
}

/// The components of the current generations, with their packages and increments.
#[utoipa::path(get, path = "/api/v1/components", tag = "trees", operation_id = "list_components", params(TreeAsked), responses(
    (status = 200, description = "The components.", body = Page<Component>),
    Missing,
))]
pub async fn components(
    extract::State(state): extract::State<State>,
    Query(asked): Query<TreeAsked>,
) -> Result<Json<Page<Component>>, Problem> {
    let trees = trees(&state.live.load(), asked.tree.as_deref())?;
    blocking(move || all(trees.iter().flat_map(|tree| parts(tree)).collect())).await
}

/// The fetches under way, the one that began first first.
#[utoipa::path(get, path = "/api/v1/fills", tag = "trees", operation_id = "list_fills", responses(
    (status = 200, description = "The fetches.", body = Page<Fill>),
))]
pub async fn fills(extract::State(state): extract::State<State>) -> Json<Page<Fill>> {
    let now = state.resources.clock.monotonic();
    let told = state.resources.fills.all().into_iter().map(|fill| Fill {
        tree: fill.tree.to_string(),
        path: fill.path.to_string(),
        bytes: fill.bytes,
        bytes_done: fill.bytes_done,
        secs: now.saturating_sub(fill.since).as_secs(),
    });
    all(told.collect())
}

/// What passed in the last minutes, the oldest first; a day is kept, in memory alone.
#[utoipa::path(get, path = "/api/v1/traffic", tag = "relay", operation_id = "show_traffic", params(TrafficAsked), responses(
    (status = 200, description = "A line for each minute.", body = Page<Minute>),
    Unprocessable,
))]
pub async fn traffic(
    extract::State(state): extract::State<State>,
    Query(asked): Query<TrafficAsked>,
) -> Result<Json<Page<Minute>>, Problem> {
    let minutes = asked.minutes.unwrap_or(MINUTES);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(Problem::unprocessable(format!("minutes: 1 to {MINUTES_MAX} are allowed")));
    }
    let told = |traffic::Minute { at, counts }| Minute {
        at,
        sent_bytes: counts.sent_bytes,
        upstream_bytes: counts.upstream_bytes,
        requests: counts.requests,
        refused: counts.refused,
        failed: counts.failed,
        connections: counts.connections,
        fills: counts.fills,
    };
    Ok(all(state.resources.traffic.last(minutes.into()).into_iter().map(told).collect()))
}

/// The last requests of agents that were refused, the last one first; a thousand are kept, in memory alone.
#[utoipa::path(get, path = "/api/v1/refusals", tag = "audit", operation_id = "list_refusals", params(RefusalsAsked), responses(
    (status = 200, description = "The refusals.", body = Page<Refusal>),
    Unprocessable,
))]
pub async fn refusals(
    extract::State(state): extract::State<State>,
    Query(asked): Query<RefusalsAsked>,
) -> Result<Json<Page<Refusal>>, Problem> {
    let limit = page::limit(asked.limit)?;
    let is_like = |refusal: &refusals::Refusal| {
        let agent = refusal.agent.as_ref().map(AgentId::as_str);
        asked.before.is_none_or(|before| refusal.number < before)
            && asked.agent.as_deref().is_none_or(|wanted| agent == Some(wanted))
    };
    let mut found = state.resources.refusals.last(limit + 1, is_like);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.number.to_string());
    Ok(Json(Page { items: found.into_iter().map(refusal).collect(), next, total: None }))
}

/// A refusal as it is told.
pub(super) fn refusal(kept: refusals::Refusal) -> Refusal {
    Refusal {
        number: kept.number,
        at: kept.at,
        from: kept.from,
        agent: kept.agent,
        method: kept.method.into(),
        path: kept.path.into(),
        reason: kept.reason.into(),
    }
}

fn all<T>(items: Vec<T>) -> Json<Page<T>> {
    let total = Some(items.len() as u64);
    Json(Page { items, next: None, total })
}

fn trees(live: &Live, wanted: Option<&str>) -> Result<Vec<Arc<Tree>>, Problem> {
    let meant = live.trees.iter().filter(|(_, tree)| wanted.is_none_or(|name| name == tree.name.as_str()));
    let meant: Vec<_> = meant.map(|(_, tree)| tree.clone()).collect();
    if meant.is_empty() {
        let names: Vec<_> = live.trees.iter().map(|(_, tree)| tree.name.as_str()).collect();
        return Err(Problem::missing(format!("there is no such tree; there are: {}", names.join(", "))));
    }
    Ok(meant)
}

fn generation(generation: &generation::Generation, current: bool) -> Generation {
    let held = || generation.files().filter_map(|listed| listed.entry.held());
    let classes = Class::ALL.map(|class| {
        let listings = generation.manifest().listings().iter();
        let packages = listings.filter(|listing| listing.class == class && listing.kind == Kind::Package);
        let (count, bytes) = packages
            .fold((0, 0u64), |(count, bytes), listing| (count + 1, bytes.saturating_add(listing.size)));
        ClassSum { class, packages: count, bytes }
    });
    Generation {
        tree: generation.tree().to_string(),
        number: generation.number().0,
        taken: generation.taken(),
        current,
        files: generation.files().count() as u64,
        files_held: held().count() as u64,
        bytes: generation.files().filter_map(|listed| listed.entry.size()).fold(0, u64::saturating_add),
        bytes_held: held().map(|blob| blob.size).fold(0, u64::saturating_add),
        withheld: generation.withheld() as u64,
        unknown: generation.manifest().unknown().len() as u64,
        classes: classes.to_vec(),
    }
}

fn parts(tree: &Tree) -> Vec<Component> {
    let Some(snapshot) = tree.snapshot() else { return Vec::new() };
    let generation = &snapshot.current().generation;
    let mut increments: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let listings = generation.manifest().listings();
    for listing in listings.iter().filter(|listing| listing.kind == Kind::Increment) {
        let sum = increments.entry(&listing.component).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(listing.size));
    }
    let packages = listings.iter().filter(|listing| listing.kind == Kind::Package);
    let told = packages.map(|listing| {
        let (count, bytes) = increments.get(&*listing.component).copied().unwrap_or_default();
        Component {
            tree: tree.name.to_string(),
            component: listing.component.to_string(),
            class: listing.class,
            version: listing.version.to_string(),
            path: listing.path.to_string(),
            bytes: listing.size,
            held: generation.listed(&listing.path).is_some_and(|listed| listed.entry.held().is_some()),
            increments: count,
            increment_bytes: bytes,
        }
    });
    told.collect()
}
