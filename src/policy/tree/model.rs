//! The tree against a model of it that is as plain as R5 reads, over random histories.
//!
//! The model copies everything for each transaction, walks up for each value, and knows nothing of the tree's parts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::Value;

use crate::policy::scope::Scope;
use crate::policy::tree::change::{Action, Below, Patch, Reach};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::explain::SetBy;
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::setting::{Resolved, Setting, SettingSet, Values};
use crate::policy::tree::value::{Rate, Switch};
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

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn named(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn some_values() -> impl Strategy<Value = Values> {
    let switch = || prop::option::weighted(0.3, any::<bool>().prop_map(Switch::from));
    let scope = prop::option::weighted(0.5, prop::sample::select(Scope::ALL.to_vec()));
    let rate = prop::option::weighted(0.2, (1u64..3).prop_map(|rate| Rate::per_sec(rate).unwrap()));
    (scope, switch(), switch(), rate).prop_map(|(scope, update_now, scheduled_updates, bytes_per_sec)| {
        Values { scope, scheduled_updates, update_now, bytes_per_sec, ..Values::default() }
    })
}

fn some_patch() -> impl Strategy<Value = Patch> {
    let clear = subsequence(vec![Setting::Scope, Setting::UpdateNow, Setting::BytesPerSec], 0..2);
    (some_values(), clear, 0..20).prop_map(|(set, clear, rarely)| {
        // Now and then what is set is cleared, too: that is to be refused.
        let clear: SettingSet =
            clear.into_iter().filter(|setting| rarely == 0 || !set.holds(*setting)).collect();
        Patch { set, clear }
    })
}

/// Ids by small numbers, some of which are there; a new domain has the number that comes next, nearly always.
pub(in crate::policy) fn some_action() -> impl Strategy<Value = Action> {
    let domain = || (1u32..9).prop_map(DomainId::numbered);
    let parent = || prop::option::weighted(0.7, domain());
    let one_agent = || (0u8..8).prop_map(|number| agent(&format!("a{number}")));
    let name = || (0u8..5).prop_map(|number| named(&format!("d{number}")));
    let domains = || prop::collection::vec(domain(), 0..3);
    let agents = || prop::collection::vec(one_agent(), 0..3);
    let reach = prop::sample::select(vec![Reach::AllAgents, Reach::FutureDomainsOnly]);
    let below = prop::sample::select(vec![Below::MustBeEmpty, Below::Removed]);
    prop_oneof![
        2 => (reach, some_patch()).prop_map(|(reach, patch)| Action::SetRoot { reach, patch }),
        3 => (domains(), agents(), some_patch())
            .prop_map(|(domains, agents, patch)| Action::Set { domains, agents, patch }),
        4 => (name(), parent(), some_values()).prop_map(|(name, parent, values)| {
            Action::AddDomain { domain: DomainId::numbered(NEXT), name, parent, values }
        }),
        1 => (domain(), name()).prop_map(|(domain, name)| Action::RenameDomain { domain, name }),
        2 => (domains(), parent()).prop_map(|(domains, to)| Action::MoveDomains { domains, to }),
        1 => (domain(), below).prop_map(|(domain, below)| Action::RemoveDomain { domain, below }),
        4 => (one_agent(), domain(), some_values())
            .prop_map(|(agent, domain, values)| Action::AddAgent { agent, domain, values }),
        2 => (agents(), domain()).prop_map(|(agents, to)| Action::MoveAgents { agents, to }),
        1 => agents().prop_map(|agents| Action::RemoveAgents { agents }),
        3 => some_amendment(),
    ]
}

/// What several things are to be; what they are, is filled in when it is known.
fn some_amendment() -> impl Strategy<Value = Action> {
    let number = || prop_oneof![6 => 1u32..9, 1 => Just(NEXT)].prop_map(DomainId::numbered);
    let parent = prop::option::weighted(0.6, number());
    let name = (0u8..5).prop_map(|number| named(&format!("d{number}")));
    let marks = (0..30).prop_map(|rarely| rarely == 0);
    let domain = (name, parent, some_values(), any::<bool>(), marks);
    let domain = domain.prop_map(|(name, parent, values, marked, rarely)| {
        let mut started_with: SettingSet = values.settings().filter(|_| marked).collect();
        if rarely {
            started_with.insert(Setting::Roaming);
        }
        Domain { name, parent, values, started_with }
    });
    let agent_of = (number(), some_values()).prop_map(|(domain, values)| Agent {
        domain,
        values: (!values.is_empty()).then(|| values.into()),
        keys: None,
    });
    let domains = prop::collection::btree_map(number(), prop::option::weighted(0.8, domain), 0..5);
    let ids = (0u8..8).prop_map(|number| agent(&format!("a{number}")));
    let agents = prop::collection::btree_map(ids, prop::option::weighted(0.8, agent_of), 0..5);
    let root = || prop::option::weighted(0.3, some_values());
    (domains, agents, root(), root()).prop_map(|(domains, agents, root, future)| {
        let values = |values| (Box::default(), Box::new(values));
        let root = root.map(values).map(|(before, after)| Difference::Root { before, after });
        let future = future.map(values).map(|(before, after)| Difference::Future { before, after });
        let domains = domains.into_iter().map(|(id, after)| {
            let after = after.map(Box::new);
            Difference::Domain { id, before: None, after }
        });
        let agents = agents.into_iter().map(|(id, after)| Difference::Agent { id, before: None, after });
        let nodes = domains.chain(agents).chain(root).chain(future);
        Action::Amend { differences: nodes.collect() }
    })
}

/// With what was before; what is not there stays as it is.
fn begun(difference: Difference, tree: &Tree, next: DomainId) -> Difference {
    let number = |id: DomainId| if id.number() == NEXT { next } else { id };
    match difference {
        Difference::Root { after, .. } => Difference::Root { before: Box::new(tree.root().clone()), after },
        Difference::Future { after, .. } => {
            Difference::Future { before: Box::new(tree.future().clone()), after }
        }
        Difference::Domain { id, after, .. } => {
            let id = number(id);
            let after = after.map(|after| Box::new(Domain { parent: after.parent.map(number), ..*after }));
            Difference::Domain { id, before: tree.domain(id).cloned().map(Box::new), after }
        }
        Difference::Agent { id, after, .. } => {
            let after = after.map(|after| Agent { domain: number(after.domain), ..after });
            Difference::Agent { id, before: tree.agent(&id).cloned(), after }
        }
        other => other,
    }
}

/// Stands for the number that comes next.
const NEXT: u32 = 99;

/// With the number that comes next in a tree, and with what is there.
pub(in crate::policy) fn numbered(actions: Vec<Action>, tree: &Tree) -> Vec<Action> {
    let mut next = tree.next_domain();
    let mut number = |action| match action {
        Action::AddDomain { domain, name, parent, values } if domain.number() == NEXT => {
            let domain = next;
            next = DomainId::numbered(next.number() + 1);
            Action::AddDomain { domain, name, parent, values }
        }
        Action::Amend { differences } => {
            let begun = differences.into_iter().map(|difference| begun(difference, tree, next));
            Action::Amend { differences: begun.collect() }
        }
        action => action,
    };
    actions.into_iter().map(&mut number).collect()
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
