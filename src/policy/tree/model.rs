//! The tree against a model of it that is as plain as R5 reads, over random histories.
//!
//! The model copies everything for each transaction, walks up for each value, and knows nothing of the tree's parts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::policy::tree::change::{Action, Below, Patch, Reach};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::drawn::{agent, named, numbered, some_action};
use crate::policy::tree::explain::SetBy;
use crate::policy::tree::id::DomainId;
use crate::policy::tree::setting::{Resolved, Setting, Values};
use crate::policy::tree::{Agent, DEPTH_MAX, Domain, Node, Tree};

/// What is set, by the setting's name.
type Set = BTreeMap<&'static str, Value>;

#[derive(Clone, Default)]
struct Model {
    root: Set,
    future: Set,
    domains: BTreeMap<u32, ModelDomain>,
    agents: BTreeMap<String, (u32, Set)>,
    made: u32,
}

#[derive(Clone, PartialEq)]
struct ModelDomain {
    name: String,
    parent: Option<u32>,
    set: Set,
    started: BTreeSet<&'static str>,
}

impl ModelDomain {
    fn of(domain: &Domain) -> Self {
        Self {
            name: domain.name.to_string(),
            parent: domain.parent.map(DomainId::number),
            set: as_set(&domain.values),
            started: domain.started_with.settings().map(Setting::name).collect(),
        }
    }
}

/// The transaction cannot be done.
struct No;

fn as_set(values: &Values) -> Set {
    let all = serde_json::to_value(values).unwrap();
    let named = Setting::ALL.map(Setting::name).into_iter();
    named.filter_map(|name| Some((name, all.get(name)?.clone()))).collect()
}

fn patched(set: &mut Set, patch: &Patch) {
    for setting in patch.clear.settings() {
        set.remove(setting.name());
    }
    set.extend(as_set(&patch.set));
}

impl Model {
    fn transact(&self, actions: &[Action]) -> Result<Self, No> {
        let mut next = self.clone();
        actions.iter().try_for_each(|action| next.act(action))?;
        next.made = next.domains.keys().copied().fold(self.made, u32::max);
        Ok(next)
    }

    fn act(&mut self, action: &Action) -> Result<(), No> {
        match action {
            Action::SetRoot { patch, .. } | Action::Set { patch, .. }
                if patch.clear.settings().any(|setting| patch.set.holds(setting)) =>
            {
                return Err(No);
            }
            Action::SetRoot { reach: Reach::AllAgents, patch } => {
                patched(&mut self.root, patch);
                let below = self.domains.values_mut().map(|domain| (&mut domain.set, &mut domain.started));
                for (set, started) in below {
                    set.retain(|name, _| !patch.settings().any(|setting| setting.name() == *name));
                    started.retain(|name| !patch.settings().any(|setting| setting.name() == *name));
                }
                let agents = self.agents.values_mut().map(|(_, set)| set);
                for set in agents.chain([&mut self.future]) {
                    set.retain(|name, _| !patch.settings().any(|setting| setting.name() == *name));
                }
            }
            Action::SetRoot { reach: Reach::FutureDomainsOnly, patch } => patched(&mut self.future, patch),
            Action::Set { domains, agents, patch } => {
                for domain in domains {
                    let domain = self.domains.get_mut(&domain.number()).ok_or(No)?;
                    patched(&mut domain.set, patch);
                    domain.started.retain(|name| !patch.settings().any(|setting| setting.name() == *name));
                }
                for agent in agents {
                    patched(&mut self.agents.get_mut(agent.as_str()).ok_or(No)?.1, patch);
                }
            }
            Action::AddDomain { domain, name, parent, values } => {
                if domain.number() != self.made + 1 {
                    return Err(No);
                }
                let mut set = self.future.clone();
                set.extend(as_set(values));
                let given = as_set(values);
                let started = self.future.keys().copied().filter(|name| !given.contains_key(name)).collect();
                let parent = parent.map(DomainId::number);
                self.made += 1;
                self.domains.insert(self.made, ModelDomain { name: name.to_string(), parent, set, started });
            }
            Action::RenameDomain { domain, name } => {
                self.domains.get_mut(&domain.number()).ok_or(No)?.name = name.to_string();
            }
            Action::MoveDomains { domains, to } => {
                for domain in domains {
                    self.domains.get_mut(&domain.number()).ok_or(No)?.parent = to.map(DomainId::number);
                    self.check()?;
                }
            }
            Action::RemoveDomain { domain, below } => {
                self.domains.get(&domain.number()).ok_or(No)?;
                let gone: Vec<_> =
                    self.domains.keys().copied().filter(|id| self.is_in(*id, domain.number())).collect();
                if *below == Below::MustBeEmpty
                    && (gone.len() > 1 || self.agents.values().any(|(at, _)| *at == domain.number()))
                {
                    return Err(No);
                }
                self.domains.retain(|id, _| !gone.contains(id));
                self.agents.retain(|_, (at, _)| !gone.contains(at));
            }
            Action::AddAgent { agent, domain, values } => {
                if self.agents.contains_key(agent.as_str()) {
                    return Err(No);
                }
                self.agents.insert(agent.to_string(), (domain.number(), as_set(values)));
            }
            Action::MoveAgents { agents, to } => {
                for agent in agents {
                    self.agents.get_mut(agent.as_str()).ok_or(No)?.0 = to.number();
                }
                self.domains.get(&to.number()).ok_or(No)?;
            }
            Action::RemoveAgents { agents } => {
                for agent in agents {
                    self.agents.remove(agent.as_str()).ok_or(No)?;
                }
            }
            Action::Amend { differences } => self.amend(differences)?,
            other => panic!("{other:?} has a model of its own"),
        }
        self.check()
    }

    /// All that is said was so; then all is as it is said.
    fn amend(&mut self, differences: &[Difference]) -> Result<(), No> {
        let was = self.clone();
        let (mut new, mut named) = (BTreeSet::new(), BTreeSet::new());
        for difference in differences {
            match difference {
                Difference::Root { before, after } => {
                    (was.root == as_set(before)).then_some(()).ok_or(No)?;
                    self.root = as_set(after);
                }
                Difference::Future { before, after } => {
                    (was.future == as_set(before)).then_some(()).ok_or(No)?;
                    self.future = as_set(after);
                }
                Difference::Domain { id, before, after } => {
                    named.insert(id.number()).then_some(()).ok_or(No)?;
                    let before = before.as_deref().map(ModelDomain::of);
                    (was.domains.get(&id.number()) == before.as_ref()).then_some(()).ok_or(No)?;
                    if let Some(after) = after.as_deref().map(ModelDomain::of) {
                        after
                            .started
                            .iter()
                            .all(|name| after.set.contains_key(name))
                            .then_some(())
                            .ok_or(No)?;
                        new.extend(before.is_none().then_some(id.number()));
                        self.domains.insert(id.number(), after);
                    } else {
                        self.domains.remove(&id.number());
                    }
                }
                Difference::Agent { id, before, after } => {
                    let as_held = |agent: &Agent| {
                        (agent.domain.number(), as_set(&agent.values.as_deref().cloned().unwrap_or_default()))
                    };
                    let before = before.as_ref().map(as_held);
                    (was.agents.get(id.as_str()) == before.as_ref()).then_some(()).ok_or(No)?;
                    match after.as_ref().map(as_held) {
                        Some(after) => drop(self.agents.insert(id.to_string(), after)),
                        None => drop(self.agents.remove(id.as_str())),
                    }
                }
                other => panic!("{other:?} has a model of its own"),
            }
        }
        for number in new {
            self.made += 1;
            (number == self.made).then_some(()).ok_or(No)?;
        }
        Ok(())
    }

    /// Everything stands below the root, and names beside each other differ.
    fn check(&self) -> Result<(), No> {
        for (id, domain) in &self.domains {
            let mut above = Some(*id);
            for _ in 0..=DEPTH_MAX {
                above = match above {
                    Some(above) => self.domains.get(&above).ok_or(No)?.parent,
                    None => None,
                };
            }
            let twins = self.domains.iter().filter(|(other, twin)| {
                *other != id && twin.name == domain.name && twin.parent == domain.parent
            });
            if above.is_some() || twins.count() > 0 {
                return Err(No);
            }
        }
        if self.agents.values().any(|(domain, _)| !self.domains.contains_key(domain)) {
            return Err(No);
        }
        Ok(())
    }

    fn is_in(&self, id: u32, holder: u32) -> bool {
        id == holder || self.domains[&id].parent.is_some_and(|parent| self.is_in(parent, holder))
    }

    fn in_domain(&self, id: Option<u32>, name: &'static str) -> (Value, SetBy) {
        let Some(id) = id else {
            let default = || as_set(&Resolved::default().values())[name].clone();
            return match self.root.get(name) {
                Some(value) => (value.clone(), SetBy::Root),
                None => (default(), SetBy::Default),
            };
        };
        let domain = &self.domains[&id];
        let this = DomainId::numbered(id);
        match domain.set.get(name) {
            Some(value) if domain.started.contains(name) => (value.clone(), SetBy::Future(this)),
            Some(value) => (value.clone(), SetBy::Domain(this)),
            None => self.in_domain(domain.parent, name),
        }
    }

    fn at_agent(&self, id: &str, name: &'static str) -> (Value, SetBy) {
        let (domain, set) = &self.agents[id];
        match set.get(name) {
            Some(value) => (value.clone(), SetBy::Agent),
            None => self.in_domain(Some(*domain), name),
        }
    }
}

fn assert_same(compiled: &Compiled, model: &Model) {
    let tree = compiled.tree();
    assert_eq!(tree.domain_count(), model.domains.len());
    assert_eq!(tree.agent_count(), model.agents.len());
    for setting in Setting::ALL {
        let name = setting.name();
        let at = |values: Values, node: Node| {
            (as_set(&values)[name].clone(), tree.set_by(&node, setting).unwrap())
        };
        assert_eq!(at(compiled.root().values(), Node::Root), model.in_domain(None, name));
        for number in model.domains.keys() {
            let id = DomainId::numbered(*number);
            let domain = compiled.domain(id).unwrap();
            assert_eq!(at(domain.values(), Node::Domain(id)), model.in_domain(Some(*number), name));
        }
        for text in model.agents.keys() {
            let id = agent(text);
            let known = compiled.agent(&id).unwrap();
            assert_eq!(at(known.values(), Node::Agent(id)), model.at_agent(text, name));
        }
    }
    for (number, domain) in &model.domains {
        let id = DomainId::numbered(*number);
        let known = tree.domain(id).unwrap();
        let marked: BTreeSet<_> = known.started_with.settings().map(Setting::name).collect();
        assert_eq!((as_set(&known.values), marked), (domain.set.clone(), domain.started.clone()));
        let agents = model.agents.values().filter(|(at, _)| at == number).count();
        assert_eq!(tree.agents_in(id), agents);
        let named = tree.domain_named(domain.parent.map(DomainId::numbered), &named(&domain.name));
        assert_eq!(named, Some(id));
        let within = model.domains.keys().filter(|other| model.is_in(**other, *number)).count();
        assert_eq!(tree.domains_within(id).len(), within);
    }
}

proptest! {
    #[test]
    fn the_tree_does_what_a_plain_model_does_over_random_histories_r5(
        history in prop::collection::vec(prop::collection::vec(some_action(), 1..4), 1..40),
    ) {
        let (mut compiled, mut model) = (Compiled::default(), Model::default());
        for actions in history {
            let before = compiled.tree().clone();
            let actions = numbered(actions, &before);
            let (changed, next) = (before.changed(&actions), model.transact(&actions));
            prop_assert_eq!(changed.is_ok(), next.is_ok(), "{:?}: {:?}", actions, changed.err());
            // Refused: nothing of it was done (R5.4).
            let (Ok(changed), Ok(next)) = (changed, next) else { continue };
            prop_assert_eq!(&before.replayed(changed.differences.clone()).unwrap(), &changed.tree);
            if !changed.differences.is_empty() {
                // What was done once does not fit again.
                prop_assert!(changed.tree.replayed(changed.differences.clone()).is_err());
            }
            let text = serde_json::to_string(&changed.differences).unwrap();
            let read: Vec<Difference> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &changed.differences);
            compiled = compiled.after(changed.tree, &changed.differences);
            model = next;
            assert_same(&compiled, &model);
        }
        let tree = compiled.tree();
        let whole = Tree::numbering_after(tree.last_domain()).replayed(tree.whole()).unwrap();
        prop_assert_eq!(&whole, tree);
        assert_same(&Compiled::new(whole), &model);
    }
}
