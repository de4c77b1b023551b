//! `/api/v1/enrolments`: what lets agents join a domain by themselves (R5.5).
//!
//! Invariant: an enrolment's secret is in the one answer to whoever made it, and nowhere else.

use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{current, make};
use crate::admin::api::domains::made;
use crate::admin::api::page;
use crate::admin::document::{Changes, Conflict, Missing, Unmade, Unprocessable};
use crate::admin::model::admission::{Enrolment, MadeEnrolment, NewEnrolment};
use crate::admin::model::change::Made;
use crate::admin::model::page::{Page, Part};
use crate::admin::problem::Problem;
use crate::policy::secret::{SecretHash, Token, new_secret};
use crate::policy::tree::change::Action;
use crate::policy::tree::id::EnrolmentId;
use crate::policy::tree::{AGENTS_MAX, Tree, enrolment};

/// Hours of the longest enrolment, ten years.
const HOURS_MAX: u32 = 87_840;

const HOUR: Duration = Duration::from_hours(1);

/// All enrolments, without their secrets.
#[utoipa::path(get, path = "/api/v1/enrolments", tag = "admission", operation_id = "list_enrolments", params(Part), responses(
    (status = 200, description = "The enrolments, by id.", body = Page<Enrolment>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(part): Query<Part>,
) -> Result<Json<Page<Enrolment>>, Problem> {
    let limit = page::limit(part.limit)?;
    let after = page::after::<EnrolmentId>(part.cursor.as_deref())?;
    let tree = current(&state);
    let all = tree.tree().enrolments().filter(|(id, _)| after.as_ref().is_none_or(|after| *id > after));
    let mut items: Vec<_> = all.take(limit + 1).map(|(id, enrolment)| told(id, enrolment)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).and_then(|last| page::next(&last.id));
    Ok(Json(Page { items, next, total: Some(tree.tree().enrolments().count() as u64) }))
}

/// Makes an enrolment, and tells its token once.
#[utoipa::path(post, path = "/api/v1/enrolments", tag = "admission", operation_id = "add_enrolment", request_body = NewEnrolment,
    responses(
        (status = 201, description = "The enrolment with its token, which is told this once.", body = MadeEnrolment),
        Missing, Conflict, Unmade,
    ))]
pub async fn add(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(new): Json<NewEnrolment>,
) -> Result<Response, Problem> {
    let NewEnrolment { id, domain, agents, hours } = new;
    if agents == 0 || agents as usize > AGENTS_MAX || hours == 0 || hours > HOURS_MAX {
        let detail = format!("agents: 1 to {AGENTS_MAX}, and hours: 1 to {HOURS_MAX} are allowed");
        return Err(Problem::unprocessable(detail));
    }
    let id = match id {
        Some(id) => id,
        None => EnrolmentId::parse(&format!("enrolment-{:016x}", rand::random::<u64>()))
            .map_err(|error| Problem::failed(error.to_string()))?,
    };
    let secret = new_secret(&mut rand::rngs::SysRng).map_err(|error| Problem::failed(error.to_string()))?;
    let token = Token { id: id.as_str(), secret: &secret }.to_string();
    let until = state.resources.clock.wall() + HOUR * hours;
    let enrolment =
        enrolment::Enrolment { domain, secret: SecretHash::of(secret.as_bytes()), left: agents, until };
    let told = told(&id, &enrolment);
    let plan =
        move |_: &Tree| Ok(vec![Action::AddEnrolment { id: id.clone(), enrolment: enrolment.clone() }]);
    make(&state, &asks, None, None, plan).await?;
    Ok((StatusCode::CREATED, Json(MadeEnrolment { enrolment: told, token })).into_response())
}

/// Ends an enrolment: it lets nobody in any more.
#[utoipa::path(delete, path = "/api/v1/enrolments/{enrolment}", tag = "admission", operation_id = "remove_enrolment",
    params(("enrolment" = EnrolmentId, Path, description = "Its id.")),
    responses(Changes, Missing))]
pub async fn remove(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(id): Path<EnrolmentId>,
) -> Result<Json<Made>, Problem> {
    let plan = move |_: &Tree| Ok(vec![Action::RemoveEnrolment { id: id.clone() }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

fn told(id: &EnrolmentId, enrolment: &enrolment::Enrolment) -> Enrolment {
    Enrolment { id: id.clone(), domain: enrolment.domain, left: enrolment.left, until: enrolment.until }
}
