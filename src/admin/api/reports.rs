//! `/api/v1/reports`: what agents reported of their updates (R11.2).

use axum::extract::Query;
use axum::{Json, extract};

use crate::admin::State;
use crate::admin::api::page;
use crate::admin::document::Unprocessable;
use crate::admin::model::page::Page;
use crate::admin::model::reports::{AgentReport, ReportsAsked};
use crate::admin::problem::Problem;
use crate::relay::agents::reports::Report;

/// The last reports of agents, the last one first; a thousand are kept, in memory alone.
#[utoipa::path(get, path = "/api/v1/reports", tag = "audit", operation_id = "list_reports", params(ReportsAsked), responses(
    (status = 200, description = "The reports.", body = Page<AgentReport>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(asked): Query<ReportsAsked>,
) -> Result<Json<Page<AgentReport>>, Problem> {
    let limit = page::limit(asked.limit)?;
    let is_like = |report: &Report| {
        asked.before.is_none_or(|before| report.number < before)
            && asked.agent.as_deref().is_none_or(|wanted| report.agent.as_str() == wanted)
            && asked.result.is_none_or(|wanted| report.went == wanted)
    };
    let mut found = state.live.load().agents.reports().last(limit + 1, is_like);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.number.to_string());
    Ok(Json(Page { items: found.into_iter().map(told).collect(), next, total: None }))
}

fn told(kept: Report) -> AgentReport {
    AgentReport {
        number: kept.number,
        at: kept.at,
        from: kept.from,
        agent: kept.agent,
        result: kept.went,
        detail: kept.detail.into(),
        source: kept.source.map(|source| source.as_str().to_owned()),
        bytes: kept.bytes,
        secs: kept.secs,
    }
}
