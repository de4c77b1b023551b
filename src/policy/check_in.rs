//! Check-ins: why an agent wants to update, and whether it may (R8, R9.1).
//!
//! Never knows what a permission lasts, or who has one. Invariant: a privilege counts only with what it depends on.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::tree::compiled::Effective;
use crate::policy::tree::value::{Roaming, Switch};

/// Why an agent wants to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It has started and connected (R9.1b).
    Start,
    /// Its schedule says so (R9.2).
    Schedule,
    /// The relay has told it of a new generation (R9.1a).
    Notice,
    /// Its user wants it (R8.1).
    UpdateNow,
}

/// What an agent says when it checks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckIn {
    /// Why it wants to update.
    pub why: Why,
    /// Whether it declares itself roaming.
    pub roaming: Switch,
    /// How its user has switched scheduled updates.
    pub schedule: Switch,
    /// Whether the relay has told it, and waits for its report.
    pub told: bool,
}

/// Why an agent may not update now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// Its user has not the privilege.
    #[error("its user has not the privilege to update now")]
    UpdateNow,
    /// Scheduled updates are off.
    #[error("scheduled updates are off")]
    ScheduleOff,
    /// Its user has switched them off.
    #[error("its user has switched scheduled updates off")]
    SwitchedOff,
    /// Agents do not update when they start.
    #[error("it is not to update when it starts")]
    Start,
    /// Roaming agents do not.
    #[error("it is roaming: it is not to update when it starts")]
    Roaming,
    /// Agents are not told of generations.
    #[error("it is not to update on notice")]
    Notice,
}

impl Effective<'_> {
    /// Whether the agent is roaming, of which it may declare what it likes only where the administrator leaves it that (R9.1).
    pub fn is_roaming(&self, declared: Switch) -> bool {
        match self.roaming() {
            Roaming::AsDeclared => declared.is_on(),
            Roaming::Always => true,
            Roaming::Never => false,
        }
    }

    /// Whether it scans after an update: roaming agents do not (R9.1c).
    pub fn scans_after_update(&self, declared: Switch) -> bool {
        self.scan_after_update().is_on() && !self.is_roaming(declared)
    }

    /// Whether an agent that says this may update now.
    pub fn admits(&self, says: CheckIn) -> Result<(), Denied> {
        match says.why {
            Why::UpdateNow if !self.update_now().is_on() => Err(Denied::UpdateNow),
            Why::Schedule if !self.scheduled_updates().is_on() => Err(Denied::ScheduleOff),
            Why::Schedule if !self.runs_schedule(says.schedule) => Err(Denied::SwitchedOff),
            Why::Start if !self.update_on_start().is_on() => Err(Denied::Start),
            Why::Start if self.is_roaming(says.roaming) => Err(Denied::Roaming),
            // Who was told may, whatever for: an administrator's start asks for no privilege (R9.1d).
            Why::Notice if !says.told && !self.update_on_generation().is_on() => Err(Denied::Notice),
            Why::UpdateNow | Why::Schedule | Why::Start | Why::Notice => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tree::Tree;
    use crate::policy::tree::change::{Action, Patch, Reach};
    use crate::policy::tree::compiled::Compiled;
    use crate::policy::tree::setting::Values;

    fn admits(values: Values, says: CheckIn) -> Result<(), Denied> {
        let set = Action::SetRoot { reach: Reach::AllAgents, patch: Patch::set(values) };
        Compiled::new(Tree::default().changed(&[set]).unwrap().tree).root().admits(says)
    }

    /// Every reason to update with every switch that it depends on.
    #[test]
    fn an_agent_may_update_for_the_reasons_that_it_has_and_no_others_r8_r9_1() {
        let switches = [Switch::Off, Switch::On];
        let twice = || switches.into_iter().flat_map(|one| switches.map(|other| (one, other)));
        for (one, other) in twice() {
            let says = |why| CheckIn { why, roaming: other, schedule: other, told: false };
            let if_not = |allowed: bool, denied| if allowed { Ok(()) } else { Err(denied) };
            let now = Values { update_now: Some(one), ..Values::default() };
            assert_eq!(admits(now, says(Why::UpdateNow)), if_not(one.is_on(), Denied::UpdateNow));
            let notice = Values { update_on_generation: Some(one), ..Values::default() };
            assert_eq!(admits(notice.clone(), says(Why::Notice)), if_not(one.is_on(), Denied::Notice));
            let told = CheckIn { told: true, ..says(Why::Notice) };
            assert_eq!(admits(notice, told), Ok(()), "an administrator's start asks for no privilege");
            let start = Values { update_on_start: Some(one), ..Values::default() };
            let expected =
                if one.is_on() { if_not(!other.is_on(), Denied::Roaming) } else { Err(Denied::Start) };
            assert_eq!(admits(start, says(Why::Start)), expected);
            for privilege in switches {
                let schedule = Values {
                    scheduled_updates: Some(one),
                    toggle_schedule: Some(privilege),
                    ..Values::default()
                };
                // Without the privilege the user's switch is void (R8.3).
                let runs = other.is_on() || !privilege.is_on();
                let expected =
                    if one.is_on() { if_not(runs, Denied::SwitchedOff) } else { Err(Denied::ScheduleOff) };
                assert_eq!(admits(schedule, says(Why::Schedule)), expected);
            }
        }
    }

    #[test]
    fn an_administrator_may_say_who_is_roaming_whatever_the_agent_declares_r9_1() {
        for (roaming, declared, expected) in [
            (Roaming::AsDeclared, Switch::On, Err(Denied::Roaming)),
            (Roaming::AsDeclared, Switch::Off, Ok(())),
            (Roaming::Always, Switch::Off, Err(Denied::Roaming)),
            (Roaming::Never, Switch::On, Ok(())),
        ] {
            let values = Values { roaming: Some(roaming), ..Values::default() };
            let says = CheckIn { why: Why::Start, roaming: declared, schedule: Switch::On, told: false };
            assert_eq!(admits(values, says), expected, "{roaming:?} {declared:?}");
        }
    }
}
