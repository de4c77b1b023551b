//! `/api/v1/ranges`: the domains of agents that are known by their addresses alone (R5.5).

use axum::extract::Query;
use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{current, make};
use crate::admin::api::domains::made;
use crate::admin::api::page;
use crate::admin::document::{Changes, Conflict, Missing, Unprocessable};
use crate::admin::model::admission::{Range, WhichRange};
use crate::admin::model::change::Made;
use crate::admin::model::page::{Page, Part};
use crate::admin::problem::Problem;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;

/// All ranges, by address.
#[utoipa::path(get, path = "/api/v1/ranges", tag = "admission", operation_id = "list_ranges", params(Part), responses(
    (status = 200, description = "The ranges.", body = Page<Range>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(part): Query<Part>,
) -> Result<Json<Page<Range>>, Problem> {
    let limit = page::limit(part.limit)?;
    let after = page::after::<ipnet::IpNet>(part.cursor.as_deref())?;
    let tree = current(&state);
    let all = tree.tree().ranges().filter(|(from, _)| after.is_none_or(|after| *from > after));
    let mut items: Vec<_> = all.take(limit + 1).map(|(from, domain)| Range { from, domain }).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).and_then(|last| page::next(&last.from));
    Ok(Json(Page { items, next, total: Some(tree.tree().ranges().count() as u64) }))
}

/// Says to which domain belongs who calls from these addresses.
#[utoipa::path(put, path = "/api/v1/ranges", tag = "admission", operation_id = "set_range", request_body = Range,
    responses(Changes, Missing, Conflict))]
pub async fn set(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(range): Json<Range>,
) -> Result<Json<Made>, Problem> {
    let plan = move |_: &Tree| Ok(vec![Action::SetRange { from: range.from, domain: Some(range.domain) }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

/// Says that these addresses are no domain's any more.
#[utoipa::path(
    delete,
    path = "/api/v1/ranges",
    tag = "admission",
    operation_id = "remove_range",
    params(WhichRange),
    responses(Changes, Missing)
)]
pub async fn remove(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Query(which): Query<WhichRange>,
) -> Result<Json<Made>, Problem> {
    let plan = move |_: &Tree| Ok(vec![Action::SetRange { from: which.from, domain: None }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}
