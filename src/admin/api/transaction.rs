//! `POST /api/v1/agent-tree/changes`: several actions as one transaction (R5.4).

use axum::{Extension, Json, extract};

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::make;
use crate::admin::api::domains::made;
use crate::admin::api::settings::{patch, reach};
use crate::admin::document::{Changes, Conflict, Missing};
use crate::admin::model::change::{Act, Made, Transaction};
use crate::admin::problem::Problem;
use crate::policy::tree::Tree;
use crate::policy::tree::change::{Action, Below};
use crate::policy::tree::id::DomainId;

/// Actions of a transaction: each may name many agents.
const ACTIONS_MAX: usize = 1000;

/// Bytes of a transaction: 200,000 ids of the longest kind.
pub(in crate::admin) const BODY_BYTES_MAX: usize = 16 << 20;

/// Makes a transaction: all of its actions are done, or none is.
#[utoipa::path(post, path = "/api/v1/agent-tree/changes", tag = "agent tree", operation_id = "change_agent_tree",
    request_body = Transaction,
    responses(Changes, Missing, Conflict))]
pub async fn apply(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Json(transaction): Json<Transaction>,
) -> Result<Json<Made>, Problem> {
    let Transaction { actions, confirm } = transaction;
    if !(1..=ACTIONS_MAX).contains(&actions.len()) {
        return Err(Problem::unprocessable(format!("actions: 1 to {ACTIONS_MAX} are allowed")));
    }
    let plan = move |tree: &Tree| {
        let mut next = tree.next_domain();
        Ok(actions.iter().map(|act| action(act, &mut next)).collect())
    };
    Ok(Json(made(&make(&state, &asks, None, confirm, plan).await?)))
}

/// An action as the tree knows it; `next` is what a new domain is numbered.
fn action(act: &Act, next: &mut DomainId) -> Action {
    match act.clone() {
        Act::SetRoot { apply_to, set, clear } => {
            Action::SetRoot { reach: reach(apply_to), patch: patch(set, clear) }
        }
        Act::Set { domains, agents, set, clear } => Action::Set { domains, agents, patch: patch(set, clear) },
        Act::AddDomain { name, parent, settings } => {
            let domain = *next;
            *next = next.after();
            Action::AddDomain { domain, name, parent, values: settings }
        }
        Act::RenameDomain { domain, name } => Action::RenameDomain { domain, name },
        Act::MoveDomains { domains, to } => Action::MoveDomains { domains, to },
        Act::RemoveDomain { domain, with_all_within } => {
            let below = if with_all_within { Below::Removed } else { Below::MustBeEmpty };
            Action::RemoveDomain { domain, below }
        }
        Act::AddAgent { agent, domain, settings } => Action::AddAgent { agent, domain, values: settings },
        Act::MoveAgents { agents, to } => Action::MoveAgents { agents, to },
        Act::RemoveAgents { agents } => Action::RemoveAgents { agents },
        Act::Revoke { agents } => Action::Revoke { agents },
        Act::Readmit { agents } => Action::Readmit { agents },
    }
}
