//! `GET /api/v1/audit`: every change of the agent tree, the last one first (R11.2).

use axum::extract::Query;
use axum::{Extension, Json, extract};
use serde_json::Value;
use tracing::error;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::{blocking, page};
use crate::admin::document::{Busy, Failed, Unprocessable};
use crate::admin::model::change::{AuditAsked, Change};
use crate::admin::model::page::Page;
use crate::admin::problem::Problem;
use crate::policy::administrator::Role;
use crate::state::record::{Record, Serial};

/// Audit logs that are read at a time: each may hold a whole journal in memory.
pub(in crate::admin) const READERS_MAX: usize = 2;

/// Differences of one change that are told.
const DIFFERENCES_MAX: usize = 100;

/// What stands in the place of a secret's hash for those who may not see it.
const HIDDEN: &str = "not shown";

/// Changes of the agent tree, the last one first. Hashes of secrets are shown to operators alone, who may read the whole agent tree.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", operation_id = "list_changes", params(AuditAsked), responses(
    (status = 200, description = "The changes. Where some are large, a page has fewer than were asked for.", body = Page<Change>),
    Unprocessable, Failed, Busy,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Query(asked): Query<AuditAsked>,
) -> Result<Json<Page<Change>>, Problem> {
    let limit = page::limit(asked.limit)?;
    let Ok(reader) = state.auditors.clone().try_acquire_owned() else {
        return Err(Problem::busy("others read the audit log at this moment: try again"));
    };
    let live = state.live.load_full();
    let read = blocking(move || {
        let records = live.agents.state().audit(asked.before.map(Serial), limit)?;
        let next = records.last().map(|last| last.serial.0).filter(|last| *last > 1);
        let items = records.into_iter().map(|record| told(record, asks.role)).collect();
        drop(reader);
        Ok::<_, std::io::Error>(Page { items, next: next.map(|last| last.to_string()), total: None })
    });
    let read = read.await?.map_err(|failed| {
        error!(error = %failed, "the audit log cannot be read");
        Problem::failed("the audit log cannot be read")
    });
    Ok(Json(read?))
}

/// A change as it is told to somebody of this role.
fn told(record: Record, role: Role) -> Change {
    let differences = record.changed.iter().take(DIFFERENCES_MAX);
    let mut differences: Vec<_> =
        differences.filter_map(|difference| serde_json::to_value(difference).ok()).collect();
    if role < Role::Operator {
        differences.iter_mut().for_each(hide_secrets);
    }
    Change {
        serial: record.serial.0,
        at: record.at,
        who: record.who.as_str().to_owned(),
        what: record.what,
        changed: record.changed.len() as u64,
        differences,
    }
}

/// Takes the hashes of secrets out of what was and what is: that there is one stays to be seen.
fn hide_secrets(value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, member)| match member {
            Value::String(hash) if name == "secret" => HIDDEN.clone_into(hash),
            below => hide_secrets(below),
        }),
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        _ => {}
    }
}
