//! `/api/v1/tokens`: who may administer.
//!
//! Invariant: a token's secret is in the one answer to whoever made it, and nowhere else.

use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use tracing::info;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::blocking;
use crate::admin::document::{Conflict, Failed, Missing};
use crate::admin::model::access::{MadeToken, NewToken, Token, Tokens};
use crate::admin::problem::Problem;
use crate::policy::administrator::TokenName;
use crate::state::tokens::{Known, TokenError};

/// Days of the longest-lived token, ten years.
const DAYS_MAX: u16 = 3660;

const DAY: Duration = Duration::from_hours(24);

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", operation_id = "list_tokens", responses(
    (status = 200, description = "All tokens, without their secrets.", body = Tokens),
))]
pub async fn list(extract::State(state): extract::State<State>) -> Json<Tokens> {
    let all = state.tokens.all();
    let told = |(name, known): (&TokenName, &Known)| Token {
        name: name.clone(),
        role: known.role,
        at: known.at,
        by: known.by.as_str().to_owned(),
        until: known.until,
    };
    Json(Tokens { items: all.iter().map(told).collect() })
}

/// Makes a token, and tells it once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", operation_id = "make_token", request_body = NewToken, responses(
    (status = 201, description = "The token, which is told this once.", body = MadeToken),
    Conflict, Failed,
))]
pub async fn make(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(new): Json<NewToken>,
) -> Result<Response, Problem> {
    let at = state.resources.clock.wall();
    let until = new.days.map(|days| match days {
        1..=DAYS_MAX => Ok(at + DAY * days.into()),
        _ => Err(Problem::unprocessable(format!("days: 1 to {DAYS_MAX} are allowed"))),
    });
    let (until, tokens, author) = (until.transpose()?, state.tokens.clone(), asks.author());
    let NewToken { name, role, .. } = new;
    let made = {
        let name = name.clone();
        blocking(move || tokens.make(name, role, until, author, at)).await?
    };
    let made = made.map_err(|error| refused(&error))?;
    info!(token = %name, %role, by = %asks.name, "a token is made");
    let told = MadeToken { name, role, token: made.text().to_owned() };
    Ok((StatusCode::CREATED, Json(told)).into_response())
}

/// Revokes a token: it counts no more once this is answered.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "access", operation_id = "revoke_token",
    params(("name" = TokenName, Path, description = "The token's name.")),
    responses(
        (status = 204, description = "It counts no more."),
        Missing, Conflict, Failed,
    ))]
pub async fn revoke(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(name): Path<TokenName>,
) -> Result<StatusCode, Problem> {
    let (tokens, author, at) = (state.tokens.clone(), asks.author(), state.resources.clock.wall());
    let revoked = {
        let name = name.clone();
        blocking(move || tokens.revoke(name, author, at)).await?
    };
    revoked.map_err(|error| refused(&error))?;
    info!(token = %name, by = %asks.name, "a token is revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: &TokenError) -> Problem {
    let code = match error {
        TokenError::NoToken(_) => StatusCode::NOT_FOUND,
        TokenError::Taken(_) | TokenError::Last(_) | TokenError::TooMany => StatusCode::CONFLICT,
        TokenError::Disk(_) | TokenError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(code, error.to_string())
}
