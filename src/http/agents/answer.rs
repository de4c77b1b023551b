//! Answers of the API: JSON, for this agent and this moment alone.

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::base::tally::Outcome;
use crate::http::body::Body;

/// An answer of this status.
pub(super) fn json(status: StatusCode, says: &impl Serialize) -> (Response<Body>, Outcome) {
    let text = serde_json::to_string(says).expect("what is answered has names for keys");
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, text.len().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::text(text);
    (response, Outcome::Hit)
}

/// An answer with nothing in it.
pub(super) fn nothing() -> (Response<Body>, Outcome) {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    (response, Outcome::Hit)
}
