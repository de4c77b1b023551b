//! `/api/v1/domains`: the domains of the agent tree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{Seen, Thing, make};
use crate::admin::api::current::out_of_date;
use crate::admin::api::{blocking, page};
use crate::admin::document::{Changed, Changes, Conflict, IfMatch, Missing, OfDomain, Unmade, Unprocessable};
use crate::admin::model::change::Made;
use crate::admin::model::domains::{Domain, DomainChange, DomainsAsked, MoveDomain, NewDomain, RemoveDomain};
use crate::admin::model::page::Page;
use crate::admin::problem::Problem;
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::Tree;
use crate::policy::tree::change::{Action, Below};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::DomainId;
use crate::relay::live::Live;
use crate::state::Done;

/// All domains, or some of them, in the order in which they were made.
#[utoipa::path(get, path = "/api/v1/domains", tag = "domains", operation_id = "list_domains", params(DomainsAsked), responses(
    (status = 200, description = "The domains.", body = Page<Domain>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(asked): Query<DomainsAsked>,
) -> Result<Json<Page<Domain>>, Problem> {
    let limit = page::limit(asked.limit)?;
    let after = page::after::<u32>(asked.cursor.as_deref())?;
    let path = asked.path.as_deref().map(DomainPath::parse).transpose();
    let path = path.map_err(|error| Problem::unprocessable(format!("path: {error}")))?;
    let within = asked.within.map(numbered).transpose()?;
    let live = state.live.load_full();
    blocking(move || {
        let tree = live.agents.state().current();
        let known = tree.tree();
        let mut ids: Vec<DomainId> = match (path, within) {
            (Some(path), _) => found(known, &path).into_iter().collect(),
            (None, Some(within)) if known.domain(within).is_some() => known.domains_within(within),
            (None, Some(_)) => Vec::new(),
            (None, None) => known.domains().map(|(id, _)| id).collect(),
        };
        ids.sort_unstable();
        let total = ids.len() as u64;
        ids.retain(|id| after.is_none_or(|after| id.number() > after));
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next = ids.last().filter(|_| more).and_then(|last| page::next(&last.number()));
        let items = told(&live, &tree, &ids);
        Json(Page { items, next, total: Some(total) })
    })
    .await
}

/// One domain.
#[utoipa::path(get, path = "/api/v1/domains/{domain}", tag = "domains", operation_id = "show_domain",
    params(OfDomain),
    responses(
        (status = 200, description = "The domain.", body = Domain, headers(("ETag" = String, description = "For If-Match."))),
        Missing,
    ))]
pub async fn show(
    extract::State(state): extract::State<State>,
    Path(domain): Path<DomainId>,
) -> Result<Response, Problem> {
    let found = one(&state, domain).await?;
    let (found, tree) = found.ok_or_else(|| missing(domain))?;
    let head = HeaderMap::from_iter(Thing::domain(domain).field(tree.tree()));
    Ok((head, Json(found)).into_response())
}

/// Makes a domain.
#[utoipa::path(post, path = "/api/v1/domains", tag = "domains", operation_id = "add_domain", request_body = NewDomain, responses(
    (status = 201, description = "The domain.", body = Domain, headers(
        ("Location" = String, description = "Its path."), ("ETag" = String, description = "For If-Match."))),
    Missing, Conflict, Unmade,
))]
pub async fn add(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(new): Json<NewDomain>,
) -> Result<Response, Problem> {
    let plan = move |tree: &Tree| {
        let NewDomain { name, parent, settings } = new.clone();
        Ok(vec![Action::AddDomain { domain: tree.next_domain(), name, parent, values: settings }])
    };
    let done = make(&state, &asks, None, None, plan).await?;
    let made = done.differences.iter().find_map(|difference| match difference {
        Difference::Domain { id, before: None, after: Some(_) } => Some(*id),
        _ => None,
    });
    let made = made.ok_or_else(|| Problem::failed("the domain was made and cannot be found"))?;
    let (told, tree) = one(&state, made).await?.ok_or_else(|| missing(made))?;
    let mut head = HeaderMap::from_iter(Thing::domain(made).field(tree.tree()));
    if let Ok(at) = HeaderValue::try_from(format!("/api/v1/domains/{made}")) {
        head.insert(header::LOCATION, at);
    }
    Ok((StatusCode::CREATED, head, Json(told)).into_response())
}

/// Gives a domain another name.
#[utoipa::path(patch, path = "/api/v1/domains/{domain}", tag = "domains", operation_id = "rename_domain", request_body = DomainChange,
    params(OfDomain, IfMatch), responses(Changes, Missing, Conflict, Changed))]
pub async fn rename(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(domain): Path<DomainId>,
    headers: HeaderMap,
    Json(change): Json<DomainChange>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::domain(domain), &headers)?;
    let plan = move |_: &Tree| Ok(vec![Action::RenameDomain { domain, name: change.name.clone() }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), None, plan).await?)))
}

/// Moves a domain, with all within it.
#[utoipa::path(post, path = "/api/v1/domains/{domain}/move", tag = "domains", operation_id = "move_domain", request_body = MoveDomain,
    params(OfDomain, IfMatch), responses(Changes, Missing, Conflict, Changed))]
pub async fn shift(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(domain): Path<DomainId>,
    headers: HeaderMap,
    Json(change): Json<MoveDomain>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::domain(domain), &headers)?;
    let plan = move |_: &Tree| Ok(vec![Action::MoveDomains { domains: vec![domain], to: change.to }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), change.confirm, plan).await?)))
}

/// Removes a domain.
#[utoipa::path(
    delete,
    path = "/api/v1/domains/{domain}",
    tag = "domains",
    operation_id = "remove_domain",
    params(RemoveDomain, OfDomain, IfMatch),
    responses(Changes, Missing, Conflict, Changed)
)]
pub async fn remove(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(domain): Path<DomainId>,
    Query(how): Query<RemoveDomain>,
    headers: HeaderMap,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::domain(domain), &headers)?;
    let below = if how.with_all_within { Below::Removed } else { Below::MustBeEmpty };
    let plan = move |_: &Tree| Ok(vec![Action::RemoveDomain { domain, below }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), None, plan).await?)))
}

/// What a change did, as it is told.
pub(super) fn made(done: &Done) -> Made {
    Made { serial: done.serial.map(|serial| serial.0), changed: done.differences.len() as u64 }
}

/// A domain's number as it stands in a query.
pub(super) fn numbered(number: u32) -> Result<DomainId, Problem> {
    DomainId::try_from(number).map_err(|error| Problem::unprocessable(error.to_string()))
}

fn missing(domain: DomainId) -> Problem {
    Problem::missing(format!("there is no domain {domain}"))
}

fn found(tree: &Tree, path: &DomainPath) -> Option<DomainId> {
    path.names().try_fold(None, |parent, name| tree.domain_named(parent, name).map(Some)).flatten()
}

/// One domain, with the agent tree that it stands in.
async fn one(state: &State, id: DomainId) -> Result<Option<(Domain, Arc<Compiled>)>, Problem> {
    let live = state.live.load_full();
    blocking(move || {
        let tree = live.agents.state().current();
        Some((told(&live, &tree, &[id]).pop()?, tree))
    })
    .await
}

/// Those of these domains that there are.
fn told(live: &Live, tree: &Compiled, ids: &[DomainId]) -> Vec<Domain> {
    let known = tree.tree();
    let there = ids.iter().filter(|id| known.domain(**id).is_some());
    let meant: HashSet<_> = there.flat_map(|id| known.domains_within(*id)).collect();
    let counts = out_of_date(live, tree, |domain| meant.contains(&domain));
    ids.iter().filter_map(|id| told_one(tree, &counts, *id)).collect()
}

fn told_one(tree: &Compiled, out_of_date: &HashMap<DomainId, u64>, id: DomainId) -> Option<Domain> {
    let known = tree.tree();
    let domain = known.domain(id)?;
    let within = known.domains_within(id);
    Some(Domain {
        id,
        name: domain.name.clone(),
        path: known.path(id),
        parent: domain.parent,
        domains: known.domains_in(Some(id)).count() as u64,
        agents: known.agents_in(id) as u64,
        agents_within: within.iter().map(|domain| known.agents_in(*domain) as u64).sum(),
        out_of_date: within.iter().filter_map(|domain| out_of_date.get(domain)).sum(),
        scope: *tree.domain(id)?.scope(),
    })
}
