//! What an agent says when it checks in and reports, and the permission that a check-in opens (R8).
//!
//! Whether it may update is the policy's to decide. Invariant: a permission has an end, and only a check-in that was admitted opens one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::tally::Went;
use crate::policy::check_in::{CheckIn, Denied, Why};
use crate::policy::tree::compiled::Effective;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::value::Switch;
use crate::relay::agents::Agents;
use crate::relay::agents::reports::Report;

/// The versions that an agent has, by component: as it names both.
pub type Versions = BTreeMap<Box<str>, Box<str>>;

/// Since when an agent says that it has components, by component; of those that it leaves out the relay remembers when it heard of them.
pub type Since = BTreeMap<Box<str>, Timestamp>;

/// What an agent says that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// Which versions.
    pub versions: Versions,
    /// Since when.
    pub since: Since,
}

/// The year 2000, in seconds since 1970: what an agent has since before then it has by a clock that was never set.
const EARLIEST_SECS: i64 = 946_684_800;

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
    /// What it has; agents that have the same share it.
    pub versions: Arc<Versions>,
    /// Since when it has each of them, in their order: as it says, or when it first said that it has them. A map would take as much as the
    /// versions do.
    pub since: Box<[Timestamp]>,
    /// Why it may not update, where it may not.
    pub denied: Option<Denied>,
    /// How its last update went.
    pub reported: Option<Reported>,
    /// Until when it may take packages, in seconds of the monotonic clock.
    pub permitted_until_secs: u64,
}

/// What an agent's last report said.
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
        has: impl Into<Has>,
        now: Moment,
        lasts: Duration,
    ) -> Result<(), Denied> {
        let admitted = effective.admits(says);
        let before = self.seen().heard(agent);
        // One that is open stays so: its update may be under way.
        let open = before.as_ref().map_or(0, |heard| heard.permitted_until_secs);
        let opened = if admitted.is_ok() { now.secs.saturating_add(lasts.as_secs()) } else { 0 };
        let Has { versions, since: says_since } = has.into();
        let since = since(before.as_ref(), &versions, &says_since, now.at);
        let heard = Heard {
            at: now.at,
            from: now.from,
            why: says.why,
            roaming: says.roaming,
            schedule: says.schedule,
            versions: self.seen().shared(versions),
            since,
            denied: admitted.err(),
            reported: before.and_then(|heard| heard.reported),
            permitted_until_secs: open.max(opened),
        };
        self.seen().hear(agent, heard, self.tree().tree());
        admitted
    }

    /// Hears an agent report; `None` where it never checked in since the relay started.
    pub fn report(&self, report: Report, has: Option<Has>) -> Option<()> {
        let Report { at, agent, went, .. } = report;
        let mut heard = self.seen().heard(&agent)?;
        if let Some(Has { versions, since: says_since }) = has {
            heard.since = since(Some(&heard), &versions, &says_since, at);
            heard.versions = self.seen().shared(versions);
        }
        heard.reported = Some(Reported { at, went, detail: report.detail.clone() });
        self.seen().hear(&agent, heard, self.tree().tree());
        self.reports().note(report);
        Some(())
    }
}

impl From<Versions> for Has {
    fn from(versions: Versions) -> Self {
        Self { versions, since: Since::new() }
    }
}

/// Since when an agent has these versions that says so at this moment: as it says itself, which no restart of the relay takes away; else
/// those that it had before, since it first had them. It has nothing since later than now.
fn since(before: Option<&Heard>, versions: &Versions, says: &Since, at: Timestamp) -> Box<[Timestamp]> {
    let mut had = before.into_iter().flat_map(|heard| heard.versions.iter().zip(&heard.since)).peekable();
    // Both are in the order of their names: what was passed is not looked at again.
    let of = versions.iter().map(|(name, version)| {
        while had.next_if(|((known, _), _)| *known < name).is_some() {}
        let same = had.next_if(|((known, has), _)| *known == name && *has == version);
        let said = says.get(name).filter(|said| said.as_second() >= EARLIEST_SECS);
        said.map_or_else(|| same.map_or(at, |(_, since)| *since), |said| at.min(*said))
    });
    of.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_counts_since_it_was_first_told_of_and_no_other_before_it() {
        let versions = |versions: &[(&str, &str)]| -> Versions {
            versions.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect()
        };
        let moment = |secs: i64| Timestamp::from_second(secs).unwrap();
        let mut heard = Heard {
            at: moment(0),
            from: [192, 0, 2, 1].into(),
            why: Why::Start,
            roaming: Switch::Off,
            schedule: Switch::On,
            versions: Arc::default(),
            since: Box::default(),
            denied: None,
            reported: None,
            permitted_until_secs: 0,
        };
        for (at, says, expected) in [
            (1, &[("b", "1"), ("d", "1")][..], &[1, 1][..]),
            (2, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "2")], &[2, 1, 2, 2]),
            (3, &[("b", "2"), ("c", "1"), ("e", "1")], &[3, 2, 3]),
            (4, &[], &[]),
            (5, &[("c", "1")], &[5]),
        ] {
            let says = versions(says);
            heard.since = since(Some(&heard), &says, &Since::new(), moment(at));
            heard.versions = says.into();
            let expected: Vec<_> = expected.iter().copied().map(moment).collect();
            assert_eq!(*heard.since, *expected, "at {at}");
        }
        let one = versions(&[("a", "1")]);
        assert_eq!(*since(None, &one, &Since::new(), moment(7)), [moment(7)]);
        // What the agent says counts, but for what cannot be.
        let now = EARLIEST_SECS + 100;
        for (says, expected) in
            [(now - 50, now - 50), (now, now), (now + 1, now), (EARLIEST_SECS - 1, now), (0, now)]
        {
            let says = Since::from([("a".into(), moment(says)), ("b".into(), moment(now - 1))]);
            assert_eq!(*since(None, &one, &says, moment(now)), [moment(expected)]);
        }
    }
}
