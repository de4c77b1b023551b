//! `POST /api/v1/scrub`: has every stored file checked now.

use std::num::NonZeroU64;

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use utoipa::IntoParams;

use crate::admin::State;
use crate::admin::problem::Problem;

/// How fast; as fast as the disk is where nothing is said.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// Bytes that are read in a second, at most.
    #[param(value_type = Option<u64>, minimum = 1)]
    bytes_per_sec: Option<NonZeroU64>,
}

/// Answers 202 with how many passes will have ended when the one asked for has; its result then stands in the status as the
/// last one.
#[utoipa::path(post, path = "/api/v1/scrub", tag = "relay", operation_id = "ask_scrub", params(How), responses(
    (status = 202, description = "How many passes will have ended when this one has.", body = serde_json::Value),
))]
pub async fn ask(
    extract::State(state): extract::State<State>,
    how: Result<Query<How>, QueryRejection>,
) -> Response {
    let Ok(Query(how)) = how else {
        let detail = "the query may be bytes_per_sec=NUMBER, at least 1, once, and nothing else";
        return Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    };
    info!("an administrator asks for a scrub");
    let until = state.resources.scrubber.ask(how.bytes_per_sec.map(NonZeroU64::get));
    (StatusCode::ACCEPTED, axum::Json(json!({ "until_ended": until }))).into_response()
}
