//! Which agents of a hundred thousand are meant, and in which order.
//!
//! Pure, and as quick as a look at each agent: nothing is copied of those that are passed over. Invariant: pages of the same order, one
//! after the other, give each agent that stays once.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::api::current::{Current, Found};
use crate::admin::model::agents::{AgentsAsked, Sort};
use crate::policy::scope::Scope;
use crate::policy::tree::Agent;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::keys::Standing;
use crate::relay::agents::check_in::{Heard, Versions};
use crate::relay::agents::seen::Seen;

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

/// A page of the agents that are meant.
pub(super) fn select(tree: &Compiled, seen: &Seen, current: &Current, wanted: &Wanted<'_>) -> Selected {
    let Wanted { asked, domains, after, limit } = wanted;
    let sort = asked.sort.unwrap_or_default();
    let (mut keys, mut total) = (Vec::new(), 0u64);
    let mut weigher = Weigher { asked, sort, current, found: Found::default() };
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
        let scope = tree.holds_for(agent).map_or(Scope::Patterns, |effective| *effective.scope());
        if asked.scope.is_some_and(|wanted| wanted != scope) {
            continue;
        }
        let key = if looks_at_heard {
            let looked = seen.look(id, |heard| weigher.weigh(scope, heard));
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

/// What weighs agents that were heard of.
struct Weigher<'a> {
    asked: &'a AgentsAsked,
    sort: Sort,
    current: &'a Current,
    found: Found<Option<Weight>>,
}

/// What a set of versions that is meant adds.
#[derive(Clone, Copy)]
struct Weight {
    /// How many components are not current, where that is asked.
    behind: Option<u32>,
}

impl Weigher<'_> {
    /// What an agent is sorted by; `None` where it is not meant.
    fn weigh(&mut self, scope: Scope, heard: &Heard) -> Option<i64> {
        let Self { asked, sort, current, found } = self;
        let when = asked.seen_after.is_none_or(|after| heard.at >= after)
            && asked.seen_before.is_none_or(|before| heard.at < before);
        if !when {
            return None;
        }
        let versions = &heard.versions;
        let weight = found.of(scope, versions, || weight(asked, *sort, current, scope, versions))?;
        Some(match sort {
            Sort::Id | Sort::Domain => 0,
            Sort::Seen => micros(heard.at),
            Sort::SeenLast => -micros(heard.at),
            Sort::OutOfDate => -i64::from(weight.behind.unwrap_or(0)),
        })
    }
}

/// What a set of versions adds; `None` where who has it is not meant.
fn weight(
    asked: &AgentsAsked,
    sort: Sort,
    current: &Current,
    scope: Scope,
    versions: &Versions,
) -> Option<Weight> {
    let has = |version: &str| asked.version.as_ref().is_none_or(|wanted| wanted == version);
    let is_like = match (&asked.component, &asked.version) {
        (None, None) => true,
        (Some(component), _) => versions.get(component.as_str()).is_some_and(|version| has(version)),
        (None, Some(_)) => versions.values().any(|version| has(version)),
    };
    let counts = asked.out_of_date.is_some() || sort == Sort::OutOfDate;
    let behind = counts.then(|| current.behind_count(scope, versions)).flatten();
    let is_meant = |wanted: bool| behind.is_some_and(|behind| wanted == (behind > 0));
    (is_like && asked.out_of_date.is_none_or(is_meant)).then_some(Weight { behind })
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
}
