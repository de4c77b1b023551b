//! What an agent remembers from one run to the next, in `state.json`.
//!
//! What it has stands elsewhere, in its set's own folder. Never holds a secret. Invariant: a file that is lost or damaged costs
//! memories alone: the agent checks in, and goes on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::agent::relay::{Report, Went};
use crate::agent::told::Told;
use crate::policy::check_in::Why;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::Schedule;
use crate::policy::tree::value::Switch;
use crate::schedule::plan;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// How the user has switched scheduled updates (R8.3).
    pub schedule_enabled: Switch,
    /// What the relay told last.
    pub told: Option<Told>,
    /// The update under way, or the one that was when the agent was killed.
    pub under_way: Option<UnderWay>,
    /// The last update that ended.
    pub last: Option<Last>,
    /// When the schedule's last update began.
    pub last_interval: Option<Timestamp>,
    /// When agent settings were taken last.
    pub last_settings: Option<Timestamp>,
    /// The last notice that was carried out.
    pub last_notice: Option<u64>,
    /// For each component, the number of the set whose command was run and succeeded.
    pub applied: BTreeMap<String, u64>,
    /// The number of the set after which was scanned, or was not to be.
    pub scanned: u64,
    /// In place of an id, where the relay knows the agent by its address.
    pub nameless: Option<AgentId>,
    /// Whether a certificate was asked for and did not come: the one before may be void.
    pub certificate_asked: bool,
    /// A report that the relay has not heard.
    pub(super) unsent: Option<Report>,
}

/// An update that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// When.
    pub since: Timestamp,
    /// Why.
    pub why: Why,
}

/// An update that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When it ended.
    pub at: Timestamp,
    /// Why it began.
    pub why: Why,
    /// How it went.
    pub result: Went,
    /// In words, where there is something to say.
    pub detail: String,
    /// The source that most came from; `None` where nothing was taken.
    pub source: Option<Url>,
    /// Bytes taken.
    pub bytes: u64,
    /// How long it took.
    pub secs: u64,
}

impl State {
    /// When the interval's next update is due for this agent; windows are the relay's.
    pub fn next(&self, agent: &AgentId, now: Timestamp) -> Option<Timestamp> {
        let told = self.told.as_ref().filter(|told| told.runs_schedule(self.schedule_enabled))?;
        match told.settings.schedule {
            Schedule::Interval { every_mins, .. } => {
                Some(plan::next_by_interval(every_mins, agent, self.last_interval, now))
            }
            Schedule::Daily { .. } | Schedule::Weekly { .. } => None,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            schedule_enabled: Switch::On,
            told: None,
            under_way: None,
            last: None,
            last_interval: None,
            last_settings: None,
            last_notice: None,
            applied: BTreeMap::new(),
            scanned: 0,
            nameless: None,
            certificate_asked: false,
            unsent: None,
        }
    }
}
