//! Which agents of a hundred thousand are meant, in which order, and how far each is out of date.
//!
//! Pure, and as quick as a look at each agent: nothing is copied of those that are passed over. Invariant: pages of the same order, one
//! after the other, give each agent that stays once.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::model::agents::{AgentsAsked, Sort};
use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::{Kind, Listing};
use crate::policy::scope::Scope;
use crate::policy::tree::Agent;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::keys::Standing;
use crate::relay::agents::check_in::{Heard, Versions};
use crate::relay::agents::seen::Seen;
use crate::relay::live::Live;

/// The versions of all components that the current generations have, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Current(Vec<Release>);

/// A version that a component has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    component: Box<str>,
    class: Class,
    pub(super) version: Box<str>,
}

/// A component that is not current.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag<'a> {
    pub(super) component: &'a str,
    pub(super) has: &'a str,
    pub(super) current: &'a [Release],
}

/// What an agent is, where it is meant: what it is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key(i64, AgentId);

/// A page of agents.
#[derive(Debug)]
pub(super) struct Selected {
    /// In their order.
    pub(super) agents: Vec<AgentId>,
    /// What the page ends with, where another one follows.
    pub(super) next: Option<Key>,
    /// How many are meant in all.
    pub(super) total: u64,
}

/// What agents are asked for by, read and checked.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) asked: &'a AgentsAsked,
    pub(super) domains: Option<HashSet<DomainId>>,
    pub(super) after: Option<Key>,
    pub(super) limit: usize,
}

impl Current {
    /// Those of all trees.
    pub(super) fn of(live: &Live) -> Self {
        let snapshots = live.trees.iter().filter_map(|(_, tree)| tree.snapshot());
        let mut all: Vec<_> = snapshots
            .flat_map(|snapshot| {
                let listings = snapshot.current().generation.manifest().listings().to_vec();
                let packages = listings.into_iter().filter(|listing| listing.kind == Kind::Package);
                packages.map(|Listing { component, class, version, .. }| Release {
                    component,
                    class,
                    version,
                })
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    /// The components that are not current, of those that a scope may update: each with the versions that would be.
    pub(super) fn behind<'a>(
        &'a self,
        scope: Scope,
        versions: &'a Versions,
    ) -> impl Iterator<Item = Lag<'a>> {
        let mut rest = &self.0[..];
        // Both are in the order of their names: what was passed is not looked at again.
        versions.iter().filter_map(move |(component, has)| {
            let from = rest.partition_point(|known| known.component < *component);
            rest = &rest[from..];
            let count = rest.iter().take_while(|known| known.component == *component).count();
            let current = &rest[..count];
            let seen = || current.iter().any(|known| scope.sees(known.class));
            let is_behind = count > 0 && seen() && current.iter().all(|known| known.version != *has);
            is_behind.then_some(Lag { component, has, current })
        })
    }

    /// Whether an agent that is let in has told of something that is not current.
    pub(super) fn is_out_of_date(&self, tree: &Compiled, seen: &Seen, id: &AgentId, agent: &Agent) -> bool {
        let scope = || tree.agent(id).map(|effective| *effective.scope());
        let is_behind =
            |heard: &Heard| scope().is_some_and(|scope| self.behind(scope, &heard.versions).next().is_some());
        !agent.is_revoked() && seen.look(id, is_behind).unwrap_or(false)
    }

    /// How many are not.
    pub(super) fn behind_count(&self, scope: Scope, versions: &Versions) -> Option<u32> {
        (!versions.is_empty())
            .then(|| u32::try_from(self.behind(scope, versions).count()).unwrap_or(u32::MAX))
    }
}

/// How many agents of each domain are out of date, of the domains that are meant; those with none are left out.
pub(in crate::admin) fn out_of_date(
    live: &Live,
    tree: &Compiled,
    is_meant: impl Fn(DomainId) -> bool,
) -> HashMap<DomainId, u64> {
    let (current, seen) = (Current::of(live), live.agents.seen());
    let mut counts = HashMap::new();
    for (id, agent) in tree.tree().agents() {
        if is_meant(agent.domain) && current.is_out_of_date(tree, seen, id, agent) {
            *counts.entry(agent.domain).or_default() += 1;
        }
    }
    counts
}

/// A page of the agents that are meant.
pub(super) fn select(tree: &Compiled, seen: &Seen, current: &Current, wanted: &Wanted<'_>) -> Selected {
    let Wanted { asked, domains, after, limit } = wanted;
    let sort = asked.sort.unwrap_or_default();
    let (mut keys, mut total) = (Vec::new(), 0u64);
    let looks_at_heard = asked.component.is_some()
        || asked.version.is_some()
        || asked.out_of_date.is_some()
        || asked.seen_after.is_some()
        || asked.seen_before.is_some()
        || matches!(sort, Sort::Seen | Sort::SeenLast | Sort::OutOfDate);
    for (id, agent) in tree.tree().agents() {
        if domains.as_ref().is_some_and(|domains| !domains.contains(&agent.domain))
            || !is_like(asked, id, agent)
        {
            continue;
        }
        let scope = tree.agent(id).map_or(Scope::Patterns, |effective| *effective.scope());
        if asked.scope.is_some_and(|wanted| wanted != scope) {
            continue;
        }
        let key = if looks_at_heard {
            let looked = seen.look(id, |heard| weigh(asked, sort, scope, current, heard));
            looked.unwrap_or_else(|| unheard(asked, sort))
        } else {
            Some(0)
        };
        let Some(key) = key else { continue };
        let key = if sort == Sort::Domain { agent.domain.number().into() } else { key };
        total += 1;
        let key = Key(key, *id);
        if after.is_none_or(|after| key > after) {
            keys.push(key);
        }
    }
    let more = keys.len() > *limit;
    if more {
        keys.select_nth_unstable(*limit);
        keys.truncate(*limit);
    }
    keys.sort_unstable();
    let next = keys.last().copied().filter(|_| more);
    Selected { agents: keys.into_iter().map(|Key(_, id)| id).collect(), next, total }
}

/// What the tree alone says.
fn is_like(asked: &AgentsAsked, id: &AgentId, agent: &Agent) -> bool {
    let standing = if agent.is_revoked() { Standing::Revoked } else { Standing::Admitted };
    asked.text.as_ref().is_none_or(|text| id.as_str().contains(text.as_str()))
        && asked.standing.is_none_or(|wanted| wanted == standing)
}

/// What an agent that was heard of is sorted by; `None` where it is not meant.
fn weigh(asked: &AgentsAsked, sort: Sort, scope: Scope, current: &Current, heard: &Heard) -> Option<i64> {
    let has = |version: &str| asked.version.as_ref().is_none_or(|wanted| wanted == version);
    let versions = match (&asked.component, &asked.version) {
        (None, None) => true,
        (Some(component), _) => heard.versions.get(component.as_str()).is_some_and(|version| has(version)),
        (None, Some(_)) => heard.versions.values().any(|version| has(version)),
    };
    let when = asked.seen_after.is_none_or(|after| heard.at >= after)
        && asked.seen_before.is_none_or(|before| heard.at < before);
    if !versions || !when {
        return None;
    }
    let counts = asked.out_of_date.is_some() || sort == Sort::OutOfDate;
    let behind = counts.then(|| current.behind_count(scope, &heard.versions)).flatten();
    if asked.out_of_date.is_some_and(|wanted| behind.is_none_or(|behind| wanted != (behind > 0))) {
        return None;
    }
    Some(match sort {
        Sort::Id | Sort::Domain => 0,
        Sort::Seen => micros(heard.at),
        Sort::SeenLast => -micros(heard.at),
        Sort::OutOfDate => -i64::from(behind.unwrap_or(0)),
    })
}

/// The same of one that was not.
fn unheard(asked: &AgentsAsked, sort: Sort) -> Option<i64> {
    let meant = asked.component.is_none()
        && asked.version.is_none()
        && asked.out_of_date.is_none()
        && asked.seen_after.is_none();
    meant.then_some(match sort {
        Sort::Id | Sort::Domain | Sort::OutOfDate => 0,
        Sort::Seen => i64::MIN,
        Sort::SeenLast => i64::MAX,
    })
}

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::tree::Tree;
    use crate::policy::tree::change::Action;
    use crate::policy::tree::id::DomainName;
    use crate::policy::tree::setting::Values;

    fn tree(agents: u32) -> Compiled {
        let empty = Tree::default();
        let domain = empty.next_domain();
        let name = DomainName::parse("A").unwrap();
        let mut actions = vec![Action::AddDomain { domain, name, parent: None, values: Values::default() }];
        actions.extend((0..agents).map(|number| {
            let agent = AgentId::parse(&format!("pc-{number:03}")).unwrap();
            Action::AddAgent { agent, domain, values: Values::default() }
        }));
        Compiled::new(empty.changed(&actions).unwrap().tree)
    }

    #[test]
    fn pages_one_after_the_other_give_each_agent_once_in_order_r11_1() {
        let tree = tree(57);
        for sort in [Sort::Id, Sort::Seen, Sort::SeenLast, Sort::Domain, Sort::OutOfDate] {
            let asked = AgentsAsked { sort: Some(sort), ..AgentsAsked::default() };
            let (mut after, mut all) = (None, Vec::new());
            loop {
                let wanted = Wanted { asked: &asked, domains: None, after, limit: 10 };
                let page = select(&tree, &Seen::default(), &Current::default(), &wanted);
                assert_eq!(page.total, 57);
                all.extend(page.agents);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all.len(), 57);
            assert!(all.is_sorted(), "{sort:?}");
        }
        let asked = AgentsAsked { text: Some("-01".into()), ..AgentsAsked::default() };
        let wanted = Wanted { asked: &asked, domains: None, after: None, limit: 10 };
        let page = select(&tree, &Seen::default(), &Current::default(), &wanted);
        assert_eq!((page.total, page.next), (10, None));
        let asked = AgentsAsked { out_of_date: Some(false), ..AgentsAsked::default() };
        let wanted = Wanted { asked: &asked, domains: None, after: None, limit: 10 };
        assert_eq!(select(&tree, &Seen::default(), &Current::default(), &wanted).total, 0, "nobody has told");
    }

    #[test]
    fn an_agent_is_out_of_date_by_what_its_scope_may_update_and_no_tree_has_r6() {
        let current = |name: &str, class, version: &str| Release {
            component: name.into(),
            class,
            version: version.into(),
        };
        let current = Current(vec![
            current("E.1", Class::Engine, "9"),
            current("P.1", Class::Pattern, "5"),
            current("P.1", Class::Pattern, "6"),
            current("P.2", Class::Pattern, "7"),
        ]);
        let versions = |versions: &[(&str, &str)]| -> Versions {
            versions
                .iter()
                .map(|(name, version)| ((*name).into(), (*version).into()))
                .collect::<BTreeMap<_, _>>()
        };
        let has = versions(&[("A", "1"), ("E.1", "8"), ("P.1", "5"), ("P.2", "6"), ("Z", "1")]);
        let behind = |scope| current.behind(scope, &has).map(|lag| lag.component).collect::<Vec<_>>();
        assert_eq!(behind(Scope::All), ["E.1", "P.2"], "what nobody knows is passed over");
        assert_eq!(behind(Scope::Patterns), ["P.2"]);
        assert_eq!(current.behind_count(Scope::All, &versions(&[])), None);
        assert_eq!(current.behind_count(Scope::All, &versions(&[("P.1", "6")])), Some(0));
    }
}
