//! The agent tree as requests are decided by it: what holds in each domain, worked out ahead.
//!
//! A change at the root works out the domains alone; what an agent has of its own is laid over its domain's values when it
//! asks. Invariant: asking takes no lock, allocates nothing, and gives what the nodes above say, the nearest first (R5.2).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;

use crate::base::address::normalised;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::setting::{Resolved, Values};
use crate::policy::tree::value::Switch;
use crate::policy::tree::{Agent, Tree};

/// A tree and what holds in it; immutable.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    tree: Tree,
    root: Arc<Resolved>,
    /// Domains without values of their own share those of the domain that holds them.
    domains: Arc<HashMap<DomainId, Arc<Resolved>, RandomState>>,
    ranges: Arc<JointPrefixMap<IpNet, DomainId>>,
}

/// What holds for one agent, or in one domain: the effective settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effective<'a> {
    pub(in crate::policy) own: Option<&'a Values>,
    pub(in crate::policy) inherited: &'a Resolved,
}

impl Compiled {
    /// Works out what holds in each domain.
    pub fn new(tree: Tree) -> Self {
        let root = Arc::new(Resolved::default().overlaid(tree.root()));
        let mut domains = HashMap::with_capacity_and_hasher(tree.domain_count(), RandomState::default());
        let mut open = vec![(None, root.clone())];
        while let Some((parent, above)) = open.pop() {
            for (_, id) in tree.domains_in(parent) {
                let values = tree.domain(id).map(|domain| &domain.values);
                let here = match values.filter(|values| !values.is_empty()) {
                    Some(values) => Arc::new(above.overlaid(values)),
                    None => above.clone(),
                };
                domains.insert(id, here.clone());
                open.push((Some(id), here));
            }
        }
        let ranges = Arc::new(tree.ranges().collect());
        Self { tree, root, domains: domains.into(), ranges }
    }

    /// That of a tree which differs from this one's so. Where no domain differs, what holds in domains is shared.
    #[must_use]
    pub fn after<'a>(&self, tree: Tree, differences: impl IntoIterator<Item = &'a Difference>) -> Self {
        // What domains are, and what holds in them, stays where neither they nor ranges are named.
        let stays = |difference: &Difference| {
            matches!(
                difference,
                Difference::Agent { .. }
                    | Difference::Enrolment { .. }
                    | Difference::Customised { .. }
                    | Difference::File { .. }
            )
        };
        if differences.into_iter().all(stays) { Self { tree, ..self.clone() } } else { Self::new(tree) }
    }

    /// The tree itself.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What holds for an agent; `None` where it is not in the tree.
    pub fn agent(&self, id: &AgentId) -> Option<Effective<'_>> {
        self.holds_for(self.tree.agent(id)?)
    }

    /// What holds for an agent of this tree that was found already; `None` where its domain is not in it.
    pub fn holds_for<'a>(&'a self, agent: &'a Agent) -> Option<Effective<'a>> {
        let inherited = self.domains.get(&agent.domain)?;
        Some(Effective { own: agent.values.as_deref(), inherited })
    }

    /// What holds in a domain; `None` where there is none.
    pub fn domain(&self, id: DomainId) -> Option<Effective<'_>> {
        Some(Effective { own: None, inherited: self.domains.get(&id)? })
    }

    /// The domain of who calls from an address and is known by nothing else, and the range that says so: the longest.
    pub fn range(&self, address: IpAddr) -> Option<(IpNet, DomainId)> {
        self.ranges.get_lpm(&IpNet::from(normalised(address))).map(|(range, domain)| (range, *domain))
    }

    /// What holds at the root.
    pub fn root(&self) -> Effective<'_> {
        Effective { own: None, inherited: &self.root }
    }
}

impl Effective<'_> {
    /// All values, each of which is there.
    pub fn values(&self) -> Values {
        match self.own {
            Some(own) => self.inherited.overlaid(own).values(),
            None => self.inherited.values(),
        }
    }

    /// Whether the user may switch scheduled updates off and on: that exists only where they are on (R8.3).
    pub fn may_toggle_schedule(&self) -> bool {
        self.scheduled_updates().is_on() && self.toggle_schedule().is_on()
    }

    /// Whether the schedule runs, where the user's switch stands so: it is void without the privilege (R8.3).
    pub fn runs_schedule(&self, users: Switch) -> bool {
        self.scheduled_updates().is_on() && (users.is_on() || !self.toggle_schedule().is_on())
    }

    /// Whether the user's own proxy is used during Update Now (R8.2): there is none without that.
    pub fn may_use_own_proxy(&self) -> bool {
        self.update_now().is_on() && self.proxy_settings().is_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every privilege with what it depends on.
    #[test]
    fn a_privilege_counts_only_with_what_it_depends_on_r8() {
        let switches = [Switch::Off, Switch::On];
        for (first, second) in switches.into_iter().flat_map(|one| switches.map(|other| (one, other))) {
            let both = first.is_on() && second.is_on();
            let inherited = Resolved {
                scheduled_updates: first,
                toggle_schedule: second,
                update_now: first,
                proxy_settings: second,
                ..Resolved::default()
            };
            let effective = Effective { own: None, inherited: &inherited };
            assert_eq!(effective.may_toggle_schedule(), both);
            assert_eq!(effective.may_use_own_proxy(), both);
            assert_eq!(effective.runs_schedule(Switch::On), first.is_on());
            assert_eq!(effective.runs_schedule(Switch::Off), first.is_on() && !second.is_on());
            let own = Values { update_now: Some(Switch::On), ..Values::default() };
            let own = Effective { own: Some(&own), inherited: &inherited };
            assert_eq!(own.may_use_own_proxy(), second.is_on());
        }
    }
}
