//! `GET /api/v1/me`: who is asking, as the relay knows them.

use axum::{Extension, Json};

use crate::admin::access::Administrator;
use crate::admin::model::access::Me;

/// Who is asking.
#[utoipa::path(get, path = "/api/v1/me", tag = "access", operation_id = "show_me", responses(
    (status = 200, description = "Who is asking, and what they may do.", body = Me),
))]
pub async fn show(Extension(asks): Extension<Administrator>) -> Json<Me> {
    Json(Me { name: asks.name.into(), role: asks.role, known_by: asks.known_by })
}
