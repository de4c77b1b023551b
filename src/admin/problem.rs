//! What goes wrong, as programs see it: `application/problem+json` (RFC 9457).
//!
//! A handler makes a [`Problem`]; [`finish`] gives every answer of 4xx or 5xx that form, whoever made it. Invariant: what is refused
//! before a handler was asked, by what reads requests, looks no other than what a handler refuses.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::model::problem::{Because, ProblemDetails};

/// For a request to be read and answered: the largest, over a thin line.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// What is taken over of words that something else has for a refusal, in bytes.
const WORDS_BYTES_MAX: usize = 2048;

/// What is told of a problem whose status says all.
const ABOUT_BLANK: &str = "about:blank";

/// A problem, with words for people.
#[derive(Debug)]
pub struct Problem {
    code: StatusCode,
    details: Box<ProblemDetails>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with its status and what it is about.
    pub fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        let details = ProblemDetails {
            kind: ABOUT_BLANK.to_owned(),
            title: code.canonical_reason().unwrap_or("Problem").to_owned(),
            status: code.as_u16(),
            detail: detail.into(),
            instance: String::new(),
            because: Because::default(),
        };
        Self { code, details: Box::new(details), retry_after: None }
    }

    /// The same, of a kind that programs may want to know apart, with what they need for it.
    #[must_use]
    pub fn because(mut self, kind: &str, title: &str, because: Because) -> Self {
        self.details.kind = format!("urn:forebay:problem:{kind}");
        title.clone_into(&mut self.details.title);
        self.details.because = because;
        self
    }

    /// The same, which may be otherwise after a while.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What a call answers that takes too much at once.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(1))
    }

    /// Nothing there, and what.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// A request that says what cannot be.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// What the relay could not do, though the request was right.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

/// The head; [`finish`] writes the rest, which says for what it is.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if self.code == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"forebay\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(Shown(self.details));
        response
    }
}

#[derive(Clone)]
struct Shown(Box<ProblemDetails>);

/// Asks the handler, which has so long, and writes the problem that it may have; no answer of the API is kept by anybody.
pub async fn finish(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time").into_response()
    });
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let details = match head.extensions.remove::<Shown>() {
        Some(Shown(details)) => details,
        None => {
            let words = axum::body::to_bytes(body, WORDS_BYTES_MAX).await.unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            Problem::new(head.status, if words.is_empty() { head.status.to_string() } else { words }).details
        }
    };
    let details = ProblemDetails { instance, ..*details };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Response::from_parts(head, Body::from(serde_json::to_string(&details).unwrap_or_default()))
}

/// No such call.
pub async fn not_found() -> Problem {
    Problem::missing(
        "there is no such call: GET /api/v1/openapi.json names all, beside /healthz, /readyz and /metrics",
    )
}

/// A call with another method.
pub async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "there is such a call, by other methods: the field Allow names them, GET /api/v1/openapi.json says what each does",
    )
}
