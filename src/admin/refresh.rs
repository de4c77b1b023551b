//! `POST /api/v1/refresh`: has trees ask their upstreams now.

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use utoipa::IntoParams;

use crate::admin::State;
use crate::admin::document::Missing;
use crate::admin::problem::Problem;

/// Which tree; all where none is named.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The tree's name.
    tree: Option<String>,
}

/// Answers 202 with, for each tree asked, how many refreshes had ended before: when its status shows two more, or one more
/// that began later, the asked one is over.
#[utoipa::path(post, path = "/api/v1/refresh", tag = "relay", operation_id = "ask_refresh", params(Which), responses(
    (status = 202, description = "For each tree asked, how many refreshes will have ended when this one has.", body = serde_json::Value),
    Missing,
))]
pub async fn ask(
    extract::State(state): extract::State<State>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    let Ok(Query(which)) = which else {
        let detail = "the query may be tree=NAME, once, and nothing else";
        return Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    };
    let live = state.live.load();
    let asked = live.trees.iter().map(|(_, tree)| tree);
    let asked: Vec<_> =
        asked.filter(|tree| which.tree.as_deref().is_none_or(|name| name == tree.name.as_str())).collect();
    if asked.is_empty() {
        let names: Vec<&str> = live.trees.iter().map(|(_, tree)| tree.name.as_str()).collect();
        let detail = format!("no tree '{}'; there are: {}", which.tree.unwrap_or_default(), names.join(", "));
        return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    }
    let mut trees = Vec::new();
    for tree in asked {
        let progress = tree.progress().borrow().clone();
        // One that is under way may have read the manifest before it changed: the next one counts.
        let until = progress.ended + 1 + u64::from(progress.running);
        info!(tree = %tree.name, "an administrator asks for a refresh");
        tree.refresh_wanted();
        trees.push(json!({ "name": tree.name, "until_ended": until }));
    }
    (StatusCode::ACCEPTED, axum::Json(json!({ "trees": trees }))).into_response()
}
