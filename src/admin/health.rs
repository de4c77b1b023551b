//! Whether the relay lives, and whether it has something to serve.

use axum::extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::admin::State;
use crate::admin::document::Busy;
use crate::admin::problem::Problem;

/// `GET /healthz`: 200 while the process answers.
#[utoipa::path(get, path = "/healthz", tag = "relay", operation_id = "show_alive", security(()), responses(
    (status = 200, description = "The process answers.", body = String, content_type = "text/plain"),
))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 when every tree has a generation to serve, else 503 with those that have none.
#[utoipa::path(get, path = "/readyz", tag = "relay", operation_id = "show_ready", security(()), responses(
    (status = 200, description = "Every tree has a generation to serve.", body = String, content_type = "text/plain"),
    Busy,
))]
pub async fn ready(extract::State(state): extract::State<State>) -> Response {
    let live = state.live.load();
    let waiting = live.trees.iter().filter(|(_, tree)| tree.snapshot().is_none());
    let waiting: Vec<&str> = waiting.map(|(_, tree)| tree.name.as_str()).collect();
    if waiting.is_empty() {
        "ready\n".into_response()
    } else {
        let detail = format!("no generation yet of: {}", waiting.join(", "));
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
    }
}
