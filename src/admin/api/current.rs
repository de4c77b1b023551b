//! What is current, and which agents have something else.
//!
//! Pure. A fleet has far fewer sets of versions than agents: each set is looked at once, however many have it. Invariant: who has told of
//! nothing is not out of date.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::{Kind, Listing};
use crate::policy::scope::Scope;
use crate::policy::tree::Agent;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::relay::agents::check_in::Versions;
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

/// What was found of each set of versions, by the scope of who has it.
#[derive(Debug)]
pub(super) struct Found<T>(HashMap<(usize, Scope), (Arc<Versions>, T), RandomState>);

/// Which agents are out of date.
#[derive(Debug)]
pub(super) struct Stale<'c> {
    current: &'c Current,
    found: Found<bool>,
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

    /// How many are not.
    pub(super) fn behind_count(&self, scope: Scope, versions: &Versions) -> Option<u32> {
        (!versions.is_empty())
            .then(|| u32::try_from(self.behind(scope, versions).count()).unwrap_or(u32::MAX))
    }
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Copy> Found<T> {
    /// What was found of this set, or is now.
    pub(super) fn of(&mut self, scope: Scope, versions: &Arc<Versions>, find: impl FnOnce() -> T) -> T {
        // The set is held: no other one has its address meanwhile.
        let found = || (versions.clone(), find());
        self.0.entry((Arc::as_ptr(versions).addr(), scope)).or_insert_with(found).1
    }
}

impl<'c> Stale<'c> {
    /// Of none is known yet.
    pub(super) fn new(current: &'c Current) -> Self {
        Self { current, found: Found::default() }
    }

    /// Whether an agent that is let in has told of something that is not current.
    pub(super) fn has(&mut self, tree: &Compiled, seen: &Seen, id: &AgentId, agent: &Agent) -> bool {
        let Some(scope) = tree.holds_for(agent).map(|effective| *effective.scope()) else { return false };
        let Self { current, found } = self;
        !agent.is_revoked()
            && seen
                .look(id, |heard| {
                    let versions = &heard.versions;
                    found.of(scope, versions, || current.behind(scope, versions).next().is_some())
                })
                .unwrap_or(false)
    }
}

/// How many agents of each domain are out of date, of the domains that are meant; those with none are left out.
pub(in crate::admin) fn out_of_date(
    live: &Live,
    tree: &Compiled,
    is_meant: impl Fn(DomainId) -> bool,
) -> HashMap<DomainId, u64> {
    let (current, seen) = (Current::of(live), live.agents.seen());
    let mut stale = Stale::new(&current);
    let mut counts = HashMap::new();
    for (id, agent) in tree.tree().agents() {
        if is_meant(agent.domain) && stale.has(tree, seen, id, agent) {
            *counts.entry(agent.domain).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
