//! What an agent says when it checks in and reports, and the permission that a check-in opens (R8).
//!
//! Whether it may update is the policy's to decide. Invariant: a permission has an end, and only a check-in that was admitted opens one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::tally::Went;
use crate::policy::check_in::{CheckIn, Denied, Why};
use crate::policy::tree::compiled::Effective;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::value::Switch;
use crate::relay::agents::Agents;

/// The versions that an agent has, by component: as it names both.
pub type Versions = BTreeMap<Box<str>, Box<str>>;

/// Components of which an agent may name its version: products have some forty.
pub const VERSIONS_MAX: usize = 256;

/// What was heard of an agent last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
    /// Why it wanted to update.
    pub why: Why,
    /// Whether it declared itself roaming.
    pub roaming: Switch,
    /// How its user has switched scheduled updates.
    pub schedule: Switch,
    /// What it has.
    pub versions: Versions,
    /// Why it may not update, where it may not.
    pub denied: Option<Denied>,
    /// How its last update went.
    pub reported: Option<Reported>,
    /// Until when it may take packages, in seconds of the monotonic clock.
    pub permitted_until_secs: u64,
}

/// A report of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// How it went.
    pub went: Went,
    /// What the agent says of it.
    pub detail: Box<str>,
}

/// When something is heard, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the wall clock.
    pub at: Timestamp,
    /// By the monotonic clock, in seconds.
    pub secs: u64,
    /// From where.
    pub from: IpAddr,
}

impl Agents {
    /// Hears an agent of the tree check in; opens a permission that lasts so long, or says why none.
    pub fn check_in(
        &self,
        agent: &AgentId,
        effective: &Effective<'_>,
        says: CheckIn,
        versions: Versions,
        now: Moment,
        lasts: Duration,
    ) -> Result<(), Denied> {
        let admitted = effective.admits(says);
        let before = self.seen().heard(agent);
        // One that is open stays so: its update may be under way.
        let open = before.as_ref().map_or(0, |heard| heard.permitted_until_secs);
        let opened = if admitted.is_ok() { now.secs.saturating_add(lasts.as_secs()) } else { 0 };
        let heard = Heard {
            at: now.at,
            from: now.from,
            why: says.why,
            roaming: says.roaming,
            schedule: says.schedule,
            versions,
            denied: admitted.err(),
            reported: before.and_then(|heard| heard.reported),
            permitted_until_secs: open.max(opened),
        };
        self.seen().hear(agent, heard, self.tree().tree());
        admitted
    }

    /// Hears an agent report; `None` where it never checked in since the relay started.
    pub fn report(&self, agent: &AgentId, reported: Reported, versions: Option<Versions>) -> Option<()> {
        let mut heard = self.seen().heard(agent)?;
        if let Some(versions) = versions {
            heard.versions = versions;
        }
        heard.reported = Some(reported);
        self.seen().hear(agent, heard, self.tree().tree());
        Some(())
    }
}
