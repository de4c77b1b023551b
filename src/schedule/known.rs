//! The agents as the agent tree and their own check-ins have them: what holds for each, and what a change of the tree is to it.
//!
//! Never tells anybody. Invariant: asked anew each time, so that what is changed counts at once.

use std::collections::HashMap;

use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::file::{FileName, SettingsFile};
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::value::Switch;
use crate::relay::agents::Agents;
use crate::schedule::notices::notice::{self, Holds};
use crate::schedule::plan::zone;
use crate::schedule::streams::Change;

/// The agents as the agent tree and their own check-ins have them.
pub(super) struct Known<'a> {
    pub(super) tree: &'a Compiled,
    pub(super) agents: &'a Agents,
}

impl notice::Agents for Known<'_> {
    fn holds(&self, agent: &AgentId) -> Option<Holds> {
        let known = self.tree.tree().agent(agent).filter(|agent| !agent.is_revoked())?;
        let effective = self.tree.holds_for(known)?;
        let users = self.agents.seen().look(agent, |heard| heard.schedule).unwrap_or(Switch::On);
        let schedule = effective.runs_schedule(users).then(|| *effective.schedule());
        let schedule = schedule.and_then(|schedule| Some((schedule, zone::named(effective.time_zone())?)));
        Some(Holds { schedule, told_of_generations: effective.update_on_generation().is_on() })
    }
}

/// What has changed for an agent from one agent tree to the next. What changed for domains is kept for the next agent.
pub(super) fn changed(
    agent: &AgentId,
    before: &Compiled,
    after: &Compiled,
    domains: &mut HashMap<(DomainId, DomainId), bool>,
) -> Option<Change> {
    let known = |tree: &Compiled| tree.tree().agent(agent).filter(|agent| !agent.is_revoked()).cloned();
    let Some(now) = known(after) else { return Some(Change::Revoked) };
    // It may have come to listen before this was looked at, and know what was before.
    let Some(was) = known(before) else { return Some(Change::Settings) };
    let above = *domains.entry((was.domain, now.domain)).or_insert_with(|| {
        before.domain(was.domain) != after.domain(now.domain)
            || files(before, was.domain) != files(after, now.domain)
            || before.tree().customised() != after.tree().customised()
    });
    (above || was.values != now.values).then_some(Change::Settings)
}

fn files(tree: &Compiled, domain: DomainId) -> Vec<(FileName, SettingsFile)> {
    let files = tree.tree().files_for(Some(domain));
    files.into_iter().map(|(name, file)| (name.clone(), *file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tree::Tree as AgentTree;
    use crate::policy::tree::change::{Action, Patch, Reach};
    use crate::policy::tree::id::DomainName;
    use crate::policy::tree::setting::Values;

    fn domain(number: u32) -> DomainId {
        DomainId::try_from(number).unwrap()
    }

    fn agent(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    /// Two domains with an agent each.
    fn tree() -> AgentTree {
        let both = [(1, "a"), (2, "b")].map(|(number, name)| {
            let (domain, id) = (domain(number), agent(name));
            let name = DomainName::parse(name).unwrap();
            let add = Action::AddDomain { domain, name, parent: None, values: Values::default() };
            [add, Action::AddAgent { agent: id, domain, values: Values::default() }]
        });
        AgentTree::default().changed(both.as_flattened()).unwrap().tree
    }

    #[test]
    fn a_change_is_told_to_those_for_whom_something_holds_otherwise_r5_2() {
        let before = tree();
        let told = |actions: &[Action]| {
            let after = Compiled::new(before.changed(actions).unwrap().tree);
            let before = Compiled::new(before.clone());
            ["a", "b"].map(|id| changed(&agent(id), &before, &after, &mut HashMap::new()))
        };
        let on = || Patch::set(Values { update_now: Some(Switch::On), ..Values::default() });
        let set = |domains, agents| Action::Set { domains, agents, patch: on() };
        let settings = Some(Change::Settings);
        assert_eq!(told(&[set(vec![domain(1)], vec![])]), [settings, None]);
        assert_eq!(told(&[set(vec![], vec![agent("b")])]), [None, settings]);
        let root = Action::SetRoot { reach: Reach::AllAgents, patch: on() };
        assert_eq!(told(&[root]), [settings, settings]);
        // Another domain in which the same holds is no change.
        assert_eq!(told(&[Action::MoveAgents { agents: vec![agent("a")], to: domain(2) }]), [None, None]);
        let revoked = Some(Change::Revoked);
        assert_eq!(told(&[Action::Revoke { agents: vec![agent("a")] }]), [revoked, None]);
        assert_eq!(told(&[Action::RemoveAgents { agents: vec![agent("b")] }]), [None, revoked]);
    }
}
