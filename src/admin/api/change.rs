//! A change of the agent tree that somebody asked for: looked at, confirmed where it widens a scope, made, told.
//!
//! Invariants: a change that says what it was made of is made of that, or not at all; agents are not given the scope `all` before
//! somebody has seen how many bytes that means (R6.5).

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use tracing::info;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::blocking;
use crate::admin::model::problem::{Because, ChangedSince, Widening};
use crate::admin::problem::Problem;
use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::Kind;
use crate::policy::scope::Scope;
use crate::policy::tree::change::{Action, Patch, Reach};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::refused::Refused;
use crate::policy::tree::setting::Setting;
use crate::policy::tree::{Node, Tree};
use crate::relay::live::Live;
use crate::state::record::Record;
use crate::state::{ChangeError, Done, State as Agents};

/// Changes that are told to somebody who was outrun.
const TOLD_MAX: usize = 5;

/// Changes that are looked through for those.
const LOOKED_MAX: usize = 200;

/// Digits of an entity tag: nobody is harmed by one that is found by force.
const TAG_DIGITS: usize = 32;

/// Something that two people may change at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// What is set at a node, with its name and place.
    Node(Node),
    /// The customised list.
    Sources,
}

impl Thing {
    pub(super) const ROOT: Self = Self::Node(Node::Root);

    pub(super) fn domain(id: DomainId) -> Self {
        Self::Node(Node::Domain(id))
    }

    pub(super) fn agent(id: AgentId) -> Self {
        Self::Node(Node::Agent(id))
    }

    /// Its entity tag; `None` where it is not there.
    pub(super) fn tag(&self, tree: &Tree) -> Option<String> {
        match self {
            Self::Node(Node::Root) => Some(tag(&(tree.root(), tree.future()))),
            Self::Node(Node::Domain(id)) => tree.domain(*id).map(tag),
            Self::Node(Node::Agent(id)) => tree.agent(id).map(tag),
            Self::Sources => Some(tag(&tree.customised().entries())),
        }
    }

    /// The same as a field of a head.
    pub(super) fn field(&self, tree: &Tree) -> Option<(header::HeaderName, HeaderValue)> {
        Some((header::ETAG, HeaderValue::try_from(self.tag(tree)?).ok()?))
    }

    fn is_of(&self, difference: &Difference) -> bool {
        match (self, difference) {
            (Self::Node(Node::Root), Difference::Root { .. } | Difference::Future { .. })
            | (Self::Sources, Difference::Customised { .. }) => true,
            (Self::Node(Node::Domain(own)), Difference::Domain { id, .. }) => own == id,
            (Self::Node(Node::Agent(own)), Difference::Agent { id, .. }) => own == id,
            _ => false,
        }
    }
}

fn tag(thing: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(thing).unwrap_or_default();
    format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..TAG_DIGITS])
}

/// Which state of which thing a change was made of.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    thing: Thing,
    tag: Option<String>,
}

impl Seen {
    /// What `If-Match` says; where it says nothing, whatever is there is meant.
    pub(super) fn of(thing: Thing, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut fields = headers.get_all(header::IF_MATCH).iter();
        let (first, more) = (fields.next(), fields.next());
        let Some(first) = first else { return Ok(Self { thing, tag: None }) };
        let text = first.to_str().ok().filter(|text| {
            let opaque = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            more.is_none() && opaque.is_some_and(|opaque| !opaque.contains('"'))
        });
        let Some(text) = text else {
            let detail = "If-Match must be one strong entity tag, as GET gave it";
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        };
        Ok(Self { thing, tag: Some(text.to_owned()) })
    }

    /// The same where it must say something.
    pub(super) fn needed(thing: Thing, headers: &HeaderMap) -> Result<Self, Problem> {
        let seen = Self::of(thing, headers)?;
        if seen.tag.is_none() {
            let detail = "If-Match must say the entity tag that GET gave: the whole is replaced";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail));
        }
        Ok(seen)
    }

    fn holds(&self, tree: &Tree) -> bool {
        self.tag.as_ref().is_none_or(|tag| self.thing.tag(tree).as_ref() == Some(tag))
    }

    /// Why a change of it is not made: somebody was quicker.
    fn outrun(&self, agents: &Agents) -> Problem {
        let last = agents.audit(None, LOOKED_MAX).unwrap_or_default();
        let touches = |record: &&Record| record.changed.iter().any(|difference| self.thing.is_of(difference));
        let changes = last.iter().filter(touches).take(TOLD_MAX).map(|record| ChangedSince {
            serial: record.serial.0,
            who: record.who.as_str().to_owned(),
            at: record.at,
            what: record.what.clone(),
        });
        let changes: Vec<_> = changes.collect();
        let detail = match changes.first() {
            Some(last) => format!("{} has changed it at {:.0}: {}", last.who, last.at, last.what.join(", ")),
            None => "it has changed since".to_owned(),
        };
        let etag = self.thing.tag(agents.current().tree());
        let because = Because { changes, etag, widening: None };
        Problem::new(StatusCode::PRECONDITION_FAILED, detail).because(
            "changed-since",
            "Changed since",
            because,
        )
    }
}

/// Makes a change, planned on the tree as it will be found.
pub(super) async fn make(
    state: &State,
    asks: &Administrator,
    seen: Option<Seen>,
    confirm: Option<String>,
    plan: impl Fn(&Tree) -> Result<Vec<Action>, Refused> + Send + 'static,
) -> Result<Done, Problem> {
    let live = state.live.load_full();
    let (author, agents) = (asks.author(), live.agents.clone());
    let again = seen.clone();
    let pending = blocking(move || {
        let agents = live.agents.state();
        let current = agents.current();
        if let Some(seen) = seen.as_ref().filter(|seen| !seen.holds(current.tree())) {
            return Err(seen.outrun(agents));
        }
        let actions = plan(current.tree()).map_err(|refused| refusal(&refused))?;
        if let Some(setting) = actions.iter().find_map(misplaced) {
            let detail =
                format!("'{setting}' says what a whole domain may have: set it at a domain, not at an agent");
            return Err(Problem::unprocessable(detail));
        }
        if actions.iter().any(may_widen) {
            let changed = current.tree().changed(&actions).map_err(|refused| refusal(&refused))?;
            let after = current.after(changed.tree, &changed.differences);
            check_widening(&live, &current, &after, confirm.as_deref())?;
        }
        drop(current);
        let planned = agents.plan(author, move |tree| match &seen {
            Some(seen) if !seen.holds(tree) => Err(Refused::ChangedSince),
            _ => plan(tree),
        });
        planned.map_err(|error| failed(&error))
    });
    let done = match pending.await??.done().await {
        Ok(done) => done,
        Err(ChangeError::Refused(Refused::ChangedSince)) => {
            let outrun = move || again.map(|seen| seen.outrun(agents.state()));
            return Err(blocking(outrun).await?.unwrap_or_else(|| Problem::failed("it has changed since")));
        }
        Err(error) => return Err(failed(&error)),
    };
    info!(by = %asks.name, change = ?done.serial.map(|serial| serial.0), "an administrator changes the agent tree");
    Ok(done)
}

/// What an action would set at an agent that has no effect there.
fn misplaced(action: &Action) -> Option<Setting> {
    let values = match action {
        Action::AddAgent { values, .. } => values,
        Action::Set { agents, patch, .. } if !agents.is_empty() => &patch.set,
        _ => return None,
    };
    values.settings().find(|setting| setting.is_of_domains())
}

/// Whether an action could give somebody a wider scope.
fn may_widen(action: &Action) -> bool {
    let scope = |patch: &Patch| patch.set.holds(Setting::Scope) || patch.clear.holds(Setting::Scope);
    match action {
        Action::SetRoot { reach, patch } => *reach == Reach::AllAgents && scope(patch),
        Action::Set { patch, .. } => scope(patch),
        Action::MoveDomains { .. } | Action::MoveAgents { .. } => true,
        _ => false,
    }
}

fn check_widening(
    live: &Live,
    before: &Compiled,
    after: &Compiled,
    confirm: Option<&str>,
) -> Result<(), Problem> {
    let has_all =
        |tree: &Compiled, id: &AgentId| tree.agent(id).map(|effective| *effective.scope() == Scope::All);
    let widened = after
        .tree()
        .agents()
        .filter(|(id, _)| has_all(after, id) == Some(true) && has_all(before, id) == Some(false));
    let agents = widened.count() as u64;
    if agents == 0 {
        return Ok(());
    }
    let bytes = restricted_bytes(live);
    let told = blake3::hash(format!("widen {agents} {bytes}").as_bytes()).to_hex()[..16].to_owned();
    if confirm == Some(told.as_str()) {
        return Ok(());
    }
    let total_bytes = agents.saturating_mul(bytes);
    let detail = format!(
        "{agents} agents would get the scope 'all': {bytes} bytes of programs and hot fixes each, {total_bytes} in all. To have it \
         done, send the same again with \"confirm\": \"{told}\""
    );
    let because = Because {
        widening: Some(Widening { agents, bytes, total_bytes, confirm: told }),
        ..Because::default()
    };
    Err(Problem::new(StatusCode::CONFLICT, detail).because("widening", "A scope would be widened", because))
}

/// Bytes of what the scope `all` has and none else does, in the current generations.
fn restricted_bytes(live: &Live) -> u64 {
    let snapshots = live.trees.iter().filter_map(|(_, tree)| tree.snapshot());
    let sums = snapshots.map(|snapshot| {
        let listings = snapshot.current().generation.manifest().listings().iter();
        let restricted = listings.filter(|listing| {
            matches!(listing.class, Class::Hotfix | Class::Program) && listing.kind == Kind::Package
        });
        restricted.map(|listing| listing.size).fold(0, u64::saturating_add)
    });
    sums.fold(0, u64::saturating_add)
}

/// A change that was not made.
pub(super) fn failed(error: &ChangeError) -> Problem {
    match error {
        ChangeError::Refused(refused) => refusal(refused),
        ChangeError::Busy | ChangeError::Stopped => Problem::busy(error.to_string()),
        ChangeError::Outrun(_) => Problem::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
        ChangeError::Disk(_) => Problem::failed(error.to_string()),
    }
}

fn refusal(refused: &Refused) -> Problem {
    let code = match refused {
        Refused::NoDomain(_)
        | Refused::NoAgent(_)
        | Refused::NoEnrolment(_)
        | Refused::NoRange(_)
        | Refused::NoFile(_) => StatusCode::NOT_FOUND,
        Refused::AgentExists(_)
        | Refused::NameTaken { .. }
        | Refused::IntoItself { .. }
        | Refused::TooDeep(_)
        | Refused::NotEmpty { .. }
        | Refused::DomainsMax(_)
        | Refused::AgentsMax(_)
        | Refused::EnrolmentExists(_)
        | Refused::Max { .. } => StatusCode::CONFLICT,
        Refused::ChangedSince => StatusCode::PRECONDITION_FAILED,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(code, refused.to_string())
}

/// The agent tree as requests are decided by it now.
pub(super) fn current(state: &State) -> Arc<Compiled> {
    state.live.load().agents.state().current()
}
