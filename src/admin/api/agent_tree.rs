//! `/api/v1/agent-tree`: the whole agent tree as an outline, read by `GET`, changed by `POST`.
//!
//! The entity tag is the number of the last change. What is posted is made only where that is still the last one, as `If-Match`
//! says it (RFC 9110 section 13.1.1): nobody undoes what he did not see. Invariant: of a text that is refused, nothing is done.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use utoipa::IntoParams;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::blocking;
use crate::admin::document::{Busy, Changed, Failed, Required};
use crate::admin::problem::Problem;
use crate::policy::outline::read::{Read, TEXT_BYTES_MAX, read};
use crate::relay::agents::Agents;
use crate::state::ChangeError;
use crate::state::outline::{ApplyError, Comparison};
use crate::state::record::Serial;

/// Agent trees that are read at a time: each may hold its text and what it says in memory.
pub(in crate::admin) const READERS_MAX: usize = 1;

/// For a text to arrive: the largest, over a line of 10 Mbit/s.
const TEXT_TIMEOUT: Duration = Duration::from_mins(1);

/// What an outline in TOML is (RFC 6838; registered by the TOML project).
const TOML: &str = "application/toml";

/// What is done with what is posted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct How {
    /// Only says what would change.
    check: Option<String>,
    /// Who it is, as the audit log is to name them. Nobody vouches for it.
    by: Option<String>,
}

/// The whole agent tree as an outline, with the number of its last change as the entity tag.
#[utoipa::path(get, path = "/api/v1/agent-tree", tag = "agent tree", operation_id = "show_agent_tree", responses(
    (status = 200, description = "The outline, in TOML.", body = String, content_type = "application/toml",
        headers(("ETag" = String, description = "The number of the last change."))),
    Failed,
))]
pub async fn show(extract::State(state): extract::State<State>) -> Response {
    let agents = state.live.load().agents.clone();
    match blocking(move || agents.state().outline()).await {
        Ok(Ok((last, text))) => {
            ([(header::CONTENT_TYPE, TOML), (header::ETAG, &tag(last))], text).into_response()
        }
        Ok(Err(error)) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Makes the whole agent tree what an outline says, or tells what would change (`?check`).
#[utoipa::path(post, path = "/api/v1/agent-tree", tag = "agent tree", operation_id = "apply_agent_tree",
    params(How, ("If-Match" = Option<String>, Header, description = "The last change that was seen; needed without `check`.")),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, description = "What changed, or would.", body = serde_json::Value,
            headers(("ETag" = String, description = "The number of the last change."))),
        Changed, Required, Failed, Busy,
    ))]
pub async fn apply(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    how: Result<Query<How>, QueryRejection>,
    request: Request,
) -> Response {
    let Ok(Query(how)) = how else {
        let detail = "the query may be check and by=NAME, each once, and nothing else";
        return Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    };
    answer(state, &asks, how, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(state: State, asks: &Administrator, how: How, request: Request) -> Result<Response, Problem> {
    let wanted = if how.check.is_some() { None } else { Some(wanted(request.headers())?) };
    let author = asks.author_for(how.by.as_deref())?;
    let Ok(reader) = state.readers.clone().try_acquire_owned() else {
        return Err(Problem::busy("another agent tree is being read: try again later"));
    };
    let text = text(request).await?;
    let agents = state.live.load().agents.clone();
    // Who asks may go away: what was begun has its place until it is over.
    let (compared, _reader) = blocking({
        let agents = agents.clone();
        move || (compare(&agents, &text), reader)
    })
    .await?;
    let (read, compared) = compared?;
    let (last, told) = (compared.last, compared.told.clone());
    let Some(wanted) = wanted else { return Ok(say(last, &told)) };
    if wanted != last {
        return Err(outrun(last));
    }
    let pending = blocking(move || agents.state().apply(author, compared, &read)).await?;
    let done = match pending {
        Ok(pending) => pending.done().await.map_err(ApplyError::Change),
        Err(error) => Err(error),
    };
    let done = done.map_err(|error| refused(&error))?;
    info!(changes = told.first().map_or("none", String::as_str), "an administrator changes the agent tree");
    Ok(say(done.serial.unwrap_or(last), &told))
}

fn compare(agents: &Arc<Agents>, text: &Bytes) -> Result<(Read, Comparison), Problem> {
    let refused = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let text = str::from_utf8(text).map_err(|_| refused("the text is not UTF-8".to_owned()))?;
    let read = read(text).map_err(|errors| refused(errors.to_string()))?;
    let compared = agents.state().compare(&read).map_err(|error| refused(error.to_string()))?;
    Ok((read, compared))
}

/// The change that must be the last one.
fn wanted(headers: &HeaderMap) -> Result<Serial, Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else {
        let detail = "If-Match must say the tree's entity tag, as GET or ?check gave it";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail));
    };
    let number = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    number.map(Serial).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "If-Match must be one entity tag, such as \"12\"")
    })
}

/// The whole text, within its bounds.
async fn text(request: Request) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("an agent tree has at most {TEXT_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > TEXT_BYTES_MAX) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), TEXT_BYTES_MAX).collect();
    match tokio::time::timeout(TEXT_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the text broke off")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the text did not arrive in time")),
    }
}

/// What changes, and the last change that it counts from or that it is.
fn say(last: Serial, told: &[String]) -> Response {
    ([(header::ETAG, tag(last))], axum::Json(json!({ "last_change": last, "told": told }))).into_response()
}

fn tag(last: Serial) -> String {
    format!("\"{last}\"")
}

fn outrun(last: Serial) -> Problem {
    let detail = format!("the agent tree has changed since: its last change is {last}");
    Problem::new(StatusCode::PRECONDITION_FAILED, detail)
}

fn refused(error: &ApplyError) -> Problem {
    let code = match error {
        ApplyError::Change(ChangeError::Outrun(last)) => return outrun(*last),
        ApplyError::Change(ChangeError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        ApplyError::Change(ChangeError::Busy | ChangeError::Stopped) => StatusCode::SERVICE_UNAVAILABLE,
        ApplyError::Change(ChangeError::Disk(_)) | ApplyError::Contents(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Problem::new(code, error.to_string())
}
