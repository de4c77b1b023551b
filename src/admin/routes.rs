//! The table of calls: all that there are, and the least role for each.
//!
//! Invariant: a call stands behind the role that its table says, in the relay as in the document.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::admin::access::{needs, needs_unless_local};
use crate::admin::api::{
    agent_tree, agents, audit, domains, enrolments, events, files, me, ranges, reports, settings, sources,
    tokens, transaction, updates, watch, why,
};
use crate::admin::{State, document, guard, health, metrics, problem, refresh, scrub, status};
use crate::policy::administrator::Role;

/// For whoever asks.
fn open() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(document::show))
}

/// For viewers, and for programs on this machine.
fn scraped() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(metrics::show))
}

/// For viewers.
fn viewers() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(me::show))
        .routes(routes!(status::show))
        .routes(routes!(domains::list))
        .routes(routes!(domains::show))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(why::show))
        .routes(routes!(settings::of_root))
        .routes(routes!(settings::of_domain))
        .routes(routes!(settings::of_agent))
        .routes(routes!(sources::show))
        .routes(routes!(ranges::list))
        .routes(routes!(enrolments::list))
        .routes(routes!(files::list))
        .routes(routes!(watch::generations))
        .routes(routes!(watch::components))
        .routes(routes!(watch::fills))
        .routes(routes!(watch::traffic))
        .routes(routes!(watch::refusals))
        .routes(routes!(reports::list))
        .routes(routes!(updates::list))
        .routes(routes!(updates::show))
        .routes(routes!(audit::list))
        .routes(routes!(events::stream))
}

/// For operators.
fn operators() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(refresh::ask))
        .routes(routes!(scrub::ask))
        .routes(routes!(updates::start))
        .routes(routes!(updates::cancel))
        .routes(routes!(agent_tree::show))
        .routes(routes!(transaction::apply).layer(DefaultBodyLimit::max(transaction::BODY_BYTES_MAX)))
        .routes(routes!(domains::add))
        .routes(routes!(domains::rename, domains::remove))
        .routes(routes!(domains::shift))
        .routes(routes!(agents::add))
        .routes(routes!(agents::remove))
        .routes(routes!(agents::shift))
        .routes(routes!(agents::revoke))
        .routes(routes!(agents::readmit))
        .routes(routes!(settings::change_root))
        .routes(routes!(settings::change_domain))
        .routes(routes!(settings::change_agent))
        .routes(routes!(sources::replace))
        .routes(routes!(ranges::set, ranges::remove))
        .routes(routes!(enrolments::add))
        .routes(routes!(enrolments::remove))
        .routes(routes!(files::show, files::put, files::remove))
}

/// For administrators.
fn administrators() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(agent_tree::apply))
        .routes(routes!(tokens::list, tokens::make))
        .routes(routes!(tokens::revoke))
}

/// All calls, and the document that names them.
pub(super) fn all(state: &State) -> (Router<State>, OpenApi) {
    let behind = |calls: OpenApiRouter<State>, role: Role| {
        document::behind(calls, role).route_layer(from_fn_with_state((state.clone(), role), needs))
    };
    let scraped = document::behind(scraped(), Role::Viewer)
        .route_layer(from_fn_with_state((state.clone(), Role::Viewer), needs_unless_local));
    let (calls, mut document) = OpenApiRouter::with_openapi(document::begin())
        .merge(open())
        .merge(scraped)
        .merge(behind(viewers(), Role::Viewer))
        .merge(behind(operators(), Role::Operator))
        .merge(behind(administrators(), Role::Administrator))
        .split_for_parts();
    document::finish(&mut document);
    let calls = calls
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(guard::check))
        .layer(from_fn(problem::finish));
    (calls, document)
}
