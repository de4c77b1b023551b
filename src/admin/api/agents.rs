//! `/api/v1/agents`: the agents of the agent tree, and what was heard of them.

use std::collections::{BTreeMap, HashSet};

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{Seen, Thing, make};
use crate::admin::api::current::Current;
use crate::admin::api::domains::{made, numbered};
use crate::admin::api::select::{Selected, Wanted, select};
use crate::admin::api::{blocking, page};
use crate::admin::document::{Changed, Changes, Conflict, IfMatch, Missing, OfAgent, Unmade, Unprocessable};
use crate::admin::model::agents::{
    self, Agent, AgentWhole, AgentsAsked, Behind, KeyKind, MoveAgent, NewAgent, Report,
};
use crate::admin::model::change::Made;
use crate::admin::model::page::Page;
use crate::admin::problem::Problem;
use crate::policy::scope::Scope;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::keys::Standing;
use crate::policy::tree::setting::Values;
use crate::relay::agents::Agents;
use crate::relay::agents::check_in::Heard;

/// Agents, filtered and sorted, page by page.
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents", operation_id = "list_agents", params(AgentsAsked), responses(
    (status = 200, description = "The agents.", body = Page<Agent>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(asked): Query<AgentsAsked>,
) -> Result<Json<Page<Agent>>, Problem> {
    let limit = page::limit(asked.limit)?;
    let after = page::after(asked.cursor.as_deref())?;
    let (domain, within) = (asked.domain.map(numbered).transpose()?, asked.within.map(numbered).transpose()?);
    let live = state.live.load_full();
    blocking(move || {
        let tree = live.agents.state().current();
        let known = tree.tree();
        let domains: Option<HashSet<_>> = match (domain, within) {
            (None, None) => None,
            (domain, within) => {
                let mut meant: HashSet<_> = within.map_or_else(
                    || domain.into_iter().collect(),
                    |within| known.domains_within(within).into_iter().collect(),
                );
                meant.retain(|id| domain.is_none_or(|domain| domain == *id));
                Some(meant)
            }
        };
        let current = Current::of(&live);
        let wanted = Wanted { asked: &asked, domains, after, limit };
        let Selected { agents, next, total } = select(&tree, live.agents.seen(), &current, &wanted);
        let items = agents.iter().filter_map(|id| told(&live.agents, &tree, &current, id)).collect();
        let next = next.as_ref().and_then(page::next);
        Json(Page { items, next, total: Some(total) })
    })
    .await
}

/// One agent, with the versions that it has told of.
#[utoipa::path(get, path = "/api/v1/agents/{agent}", tag = "agents", operation_id = "show_agent",
    params(OfAgent),
    responses(
        (status = 200, description = "The agent.", body = AgentWhole, headers(("ETag" = String, description = "For If-Match."))),
        Missing,
    ))]
pub async fn show(
    extract::State(state): extract::State<State>,
    Path(id): Path<AgentId>,
) -> Result<Response, Problem> {
    let live = state.live.load_full();
    let found = blocking(move || {
        let (tree, current) = (live.agents.state().current(), Current::of(&live));
        let agent = told(&live.agents, &tree, &current, &id)?;
        let heard = live.agents.seen().heard(&id);
        let (mut versions, mut since, mut behind) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        if let Some(heard) = &heard {
            since.extend(heard.versions.keys().map(ToString::to_string).zip(heard.since.iter().copied()));
            versions.extend(heard.versions.iter().map(|(name, has)| (name.to_string(), has.to_string())));
            behind.extend(current.behind(agent.scope, &heard.versions).map(|lag| Behind {
                component: lag.component.to_owned(),
                has: lag.has.to_owned(),
                current: lag.current.iter().map(|known| known.version.to_string()).collect(),
            }));
        }
        let head = HeaderMap::from_iter(Thing::agent(id).field(tree.tree()));
        Some((head, Json(AgentWhole { agent, versions, since, behind })))
    });
    found.await?.map(IntoResponse::into_response).ok_or_else(|| missing(&id))
}

/// Brings an agent into the tree: it enrols, or shows a certificate with its name.
#[utoipa::path(post, path = "/api/v1/agents", tag = "agents", operation_id = "add_agent", request_body = NewAgent, responses(
    (status = 201, description = "What was changed.", body = Made),
    Missing, Conflict, Unmade,
))]
pub async fn add(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(new): Json<NewAgent>,
) -> Result<Response, Problem> {
    let NewAgent { id, domain, settings } = new;
    let plan = move |_: &Tree| Ok(vec![Action::AddAgent { agent: id, domain, values: settings.clone() }]);
    let done = make(&state, &asks, None, None, plan).await?;
    Ok((StatusCode::CREATED, Json(made(&done))).into_response())
}

/// Moves an agent; what is set at it stays with it.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/move", tag = "agents", operation_id = "move_agent", request_body = MoveAgent,
    params(OfAgent, IfMatch), responses(Changes, Missing, Conflict, Changed))]
pub async fn shift(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<AgentId>,
    headers: HeaderMap,
    Json(change): Json<MoveAgent>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::agent(id), &headers)?;
    let plan = move |_: &Tree| Ok(vec![Action::MoveAgents { agents: vec![id], to: change.to }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), change.confirm, plan).await?)))
}

/// Takes an agent out of the tree.
#[utoipa::path(
    delete,
    path = "/api/v1/agents/{agent}",
    tag = "agents",
    operation_id = "remove_agent",
    params(OfAgent, IfMatch),
    responses(Changes, Missing, Changed)
)]
pub async fn remove(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<AgentId>,
    headers: HeaderMap,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::agent(id), &headers)?;
    let plan = move |_: &Tree| Ok(vec![Action::RemoveAgents { agents: vec![id] }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), None, plan).await?)))
}

/// Shuts an agent out: nothing that it has shows who it is any more.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{agent}/revoke",
    tag = "agents",
    operation_id = "revoke_agent",
    params(OfAgent),
    responses(Changes, Missing)
)]
pub async fn revoke(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<AgentId>,
) -> Result<Json<Made>, Problem> {
    let plan = move |_: &Tree| Ok(vec![Action::Revoke { agents: vec![id] }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

/// Lets an agent that was shut out enrol again.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{agent}/readmit",
    tag = "agents",
    operation_id = "readmit_agent",
    params(OfAgent),
    responses(Changes, Missing)
)]
pub async fn readmit(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<AgentId>,
) -> Result<Json<Made>, Problem> {
    let plan = move |_: &Tree| Ok(vec![Action::Readmit { agents: vec![id] }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

fn missing(id: &AgentId) -> Problem {
    Problem::missing(format!("there is no agent '{id}'"))
}

fn told(agents: &Agents, tree: &Compiled, current: &Current, id: &AgentId) -> Option<Agent> {
    let agent = tree.tree().agent(id)?;
    let scope = tree.agent(id).map_or(Scope::Patterns, |effective| *effective.scope());
    let keys = agent.keys.as_ref();
    let secret = keys.and_then(|keys| keys.secret).map(|_| KeyKind::Secret);
    let certificate = keys.and_then(|keys| keys.certificate).map(|_| KeyKind::Certificate);
    let heard = agents.seen().look(id, |heard| (seen(heard), current.behind_count(scope, &heard.versions)));
    let (seen, out_of_date) = heard.map_or((None, None), |(seen, behind)| (Some(seen), behind));
    Some(Agent {
        id: *id,
        domain: agent.domain,
        path: tree.tree().path(agent.domain),
        scope,
        standing: if agent.is_revoked() { Standing::Revoked } else { Standing::Admitted },
        keys: secret.into_iter().chain(certificate).collect(),
        own: agent.values.as_deref().map(|values: &Values| values.settings().collect()).unwrap_or_default(),
        seen,
        out_of_date,
    })
}

fn seen(heard: &Heard) -> agents::Seen {
    agents::Seen {
        at: heard.at,
        from: heard.from,
        why: heard.why,
        roaming: heard.roaming.is_on(),
        schedule_enabled: heard.schedule.is_on(),
        denied: heard.denied.map(|denied| denied.to_string()),
        report: heard.reported.as_ref().map(|reported| Report {
            at: reported.at,
            went: reported.went,
            detail: reported.detail.to_string(),
        }),
    }
}
