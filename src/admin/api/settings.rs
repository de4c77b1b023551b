//! `/api/v1/root/settings`, `/api/v1/domains/{domain}/settings`, `/api/v1/agents/{agent}/settings`: what holds at a node, where it comes
//! from, and how it is changed (R5.2, R5.3). Privileges and switches of sources are settings like any other (R7, R8).

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{Seen, Thing, current, make};
use crate::admin::api::domains::made;
use crate::admin::document::{Changed, Changes, Conflict, IfMatch, Missing, OfAgent, OfDomain};
use crate::admin::model::change::Made;
use crate::admin::model::settings::{
    ApplyTo, EffectiveSetting, NodeSettings, RootSettingsChange, SettingsChange, Source,
};
use crate::admin::problem::Problem;
use crate::policy::tree::change::{Action, Patch, Reach};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::explain::SetBy;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::setting::{Setting, Values};
use crate::policy::tree::{Node, Tree};

/// The root's settings.
#[utoipa::path(get, path = "/api/v1/root/settings", tag = "settings", operation_id = "show_root_settings", responses(
    (status = 200, description = "What is set at the root, what future domains start with, and what holds.", body = NodeSettings,
        headers(("ETag" = String, description = "For If-Match."))),
))]
pub async fn of_root(extract::State(state): extract::State<State>) -> Result<Response, Problem> {
    show(&current(&state), Node::Root)
}

/// A domain's settings.
#[utoipa::path(get, path = "/api/v1/domains/{domain}/settings", tag = "settings", operation_id = "show_domain_settings",
    params(OfDomain),
    responses(
        (status = 200, description = "What is set at the domain, and what holds.", body = NodeSettings,
            headers(("ETag" = String, description = "For If-Match."))),
        Missing,
    ))]
pub async fn of_domain(
    extract::State(state): extract::State<State>,
    Path(domain): Path<DomainId>,
) -> Result<Response, Problem> {
    show(&current(&state), Node::Domain(domain))
}

/// An agent's settings.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/settings", tag = "settings", operation_id = "show_agent_settings",
    params(OfAgent),
    responses(
        (status = 200, description = "What is set at the agent, and what holds.", body = NodeSettings,
            headers(("ETag" = String, description = "For If-Match."))),
        Missing,
    ))]
pub async fn of_agent(
    extract::State(state): extract::State<State>,
    Path(agent): Path<AgentId>,
) -> Result<Response, Problem> {
    show(&current(&state), Node::Agent(agent))
}

/// Changes settings at the root, for all agents or for future domains only.
#[utoipa::path(patch, path = "/api/v1/root/settings", tag = "settings", operation_id = "change_root_settings",
    request_body = RootSettingsChange,
    params(IfMatch), responses(Changes, Conflict, Changed))]
pub async fn change_root(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    headers: HeaderMap,
    Json(change): Json<RootSettingsChange>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::ROOT, &headers)?;
    let (reach, patch) = (reach(change.apply_to), patch(change.set, change.clear));
    let plan = move |_: &Tree| Ok(vec![Action::SetRoot { reach, patch: patch.clone() }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), change.confirm, plan).await?)))
}

/// Changes settings at a domain.
#[utoipa::path(patch, path = "/api/v1/domains/{domain}/settings", tag = "settings", operation_id = "change_domain_settings",
    request_body = SettingsChange,
    params(OfDomain, IfMatch), responses(Changes, Missing, Conflict, Changed))]
pub async fn change_domain(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(domain): Path<DomainId>,
    headers: HeaderMap,
    Json(change): Json<SettingsChange>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::domain(domain), &headers)?;
    let patch = patch(change.set, change.clear);
    let plan = move |_: &Tree| {
        Ok(vec![Action::Set { domains: vec![domain], agents: Vec::new(), patch: patch.clone() }])
    };
    Ok(Json(made(&make(&state, &asks, Some(seen), change.confirm, plan).await?)))
}

/// Changes settings at an agent.
#[utoipa::path(patch, path = "/api/v1/agents/{agent}/settings", tag = "settings", operation_id = "change_agent_settings",
    request_body = SettingsChange,
    params(OfAgent, IfMatch), responses(Changes, Missing, Conflict, Changed))]
pub async fn change_agent(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(agent): Path<AgentId>,
    headers: HeaderMap,
    Json(change): Json<SettingsChange>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::of(Thing::agent(agent), &headers)?;
    let patch = patch(change.set, change.clear);
    let plan = move |_: &Tree| {
        Ok(vec![Action::Set { domains: Vec::new(), agents: vec![agent], patch: patch.clone() }])
    };
    Ok(Json(made(&make(&state, &asks, Some(seen), change.confirm, plan).await?)))
}

pub(super) fn patch(set: Values, clear: Vec<Setting>) -> Patch {
    Patch { set, clear: clear.into_iter().collect() }
}

pub(super) fn reach(apply_to: ApplyTo) -> Reach {
    match apply_to {
        ApplyTo::All => Reach::AllAgents,
        ApplyTo::Future => Reach::FutureDomainsOnly,
    }
}

fn show(tree: &Compiled, node: Node) -> Result<Response, Problem> {
    let missing = || {
        Problem::missing(match node {
            Node::Root => "there is no root".to_owned(),
            Node::Domain(id) => format!("there is no domain {id}"),
            Node::Agent(id) => format!("there is no agent '{id}'"),
        })
    };
    let known = tree.tree();
    let (own, effective) = match &node {
        Node::Root => (Some(known.root().clone()), Some(tree.root())),
        Node::Domain(id) => (known.domain(*id).map(|domain| domain.values.clone()), tree.domain(*id)),
        Node::Agent(id) => {
            let own = known.agent(id).map(|agent| agent.values.as_deref().cloned().unwrap_or_default());
            (own, tree.agent(id))
        }
    };
    let (own, effective) = own.zip(effective).ok_or_else(missing)?;
    let values = serde_json::to_value(effective.values()).unwrap_or_default();
    let effective = Setting::ALL.into_iter().map(|name| {
        let (set_by, domain) = match known.set_by(&node, name).unwrap_or(SetBy::Default) {
            SetBy::Default => (Source::Default, None),
            SetBy::Root => (Source::Root, None),
            SetBy::Domain(id) => (Source::Domain, Some(id)),
            SetBy::Future(id) => (Source::Future, Some(id)),
            SetBy::Agent => (Source::Agent, None),
        };
        EffectiveSetting { name, value: values[name.name()].clone(), set_by, domain }
    });
    let future = (node == Node::Root).then(|| known.future().clone());
    let told = NodeSettings { own, future, effective: effective.collect() };
    let head = HeaderMap::from_iter(Thing::Node(node).field(known));
    Ok((head, Json(told)).into_response())
}
