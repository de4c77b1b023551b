//! `/api/v1/sources`: the customised list, where agents update from before they ask the relay (R7.1).

use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{Seen, Thing, current, make};
use crate::admin::api::domains::made;
use crate::admin::document::{Changed, Changes, Required};
use crate::admin::model::admission::Sources;
use crate::admin::model::change::Made;
use crate::admin::problem::Problem;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;

/// The customised list.
#[utoipa::path(get, path = "/api/v1/sources", tag = "sources", operation_id = "show_sources", responses(
    (status = 200, description = "The list.", body = Sources, headers(("ETag" = String, description = "For If-Match."))),
))]
pub async fn show(extract::State(state): extract::State<State>) -> Response {
    let tree = current(&state);
    let told = Sources { entries: tree.tree().customised().entries().to_vec() };
    (HeaderMap::from_iter(Thing::Sources.field(tree.tree())), Json(told)).into_response()
}

/// Replaces the customised list.
#[utoipa::path(put, path = "/api/v1/sources", tag = "sources", operation_id = "replace_sources", request_body = Sources,
    params(("If-Match" = Option<String>, Header, description = "The entity tag that was seen last; it is needed.")),
    responses(Changes, Changed, Required))]
pub async fn replace(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    headers: HeaderMap,
    Json(new): Json<Sources>,
) -> Result<Json<Made>, Problem> {
    let seen = Seen::needed(Thing::Sources, &headers)?;
    let plan = move |_: &Tree| Ok(vec![Action::SetCustomised { entries: new.entries.clone() }]);
    Ok(Json(made(&make(&state, &asks, Some(seen), None, plan).await?)))
}
