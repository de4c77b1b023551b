//! What goes wrong, as programs see it: `application/problem+json` (RFC 9457).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A problem, with a title for people.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    code: StatusCode,
    status: u16,
    title: String,
    detail: String,
}

impl Problem {
    /// A problem with its status and what it is about.
    pub fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        let title = code.canonical_reason().unwrap_or("Problem").to_owned();
        Self { code, status: code.as_u16(), title, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let text = serde_json::to_string(&self).unwrap_or_default();
        (self.code, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response()
    }
}

/// No such call.
pub async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there are /healthz, /readyz, /metrics, GET /api/v1/status, POST /api/v1/refresh, POST /api/v1/scrub, and GET and POST \
        /api/v1/agents/tree here",
    )
}

/// A call with another method.
pub async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "POST /api/v1/refresh and POST /api/v1/scrub start something, POST /api/v1/agents/tree changes it, everything else is \
        read by GET",
    )
}
