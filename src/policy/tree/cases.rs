//! The tree case by case: R5.3 nested and moved, refusals and their words, bounds.

use crate::policy::scope::Scope;
use crate::policy::tree::change::{Action, Below, Patch, Reach};
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::explain::SetBy;
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::refused::Refused;
use crate::policy::tree::setting::{Setting, Values};
use crate::policy::tree::value::Switch;
use crate::policy::tree::{DEPTH_MAX, NAMED_MAX, Node, Tree};

/// A tree that is changed action by action.
#[derive(Default)]
struct Grown(Tree);

impl Grown {
    fn act(&mut self, action: Action) {
        self.0 = self.0.changed(&[action]).unwrap().tree;
    }

    fn domain(&mut self, name: &str, parent: Option<DomainId>) -> DomainId {
        let domain = self.0.next_domain();
        let values = Values::default();
        self.act(Action::AddDomain { domain, name: named(name), parent, values });
        domain
    }

    fn agent(&mut self, text: &str, domain: DomainId) -> AgentId {
        self.act(Action::AddAgent { agent: agent(text), domain, values: Values::default() });
        agent(text)
    }

    fn set_root(&mut self, reach: Reach, scope: Scope) {
        self.act(Action::SetRoot { reach, patch: Patch::set(scoped(scope)) });
    }

    fn scope(&self, node: &Node) -> (Scope, SetBy) {
        let compiled = Compiled::new(self.0.clone());
        let effective = match node {
            Node::Root => Some(compiled.root()),
            Node::Domain(id) => compiled.domain(*id),
            Node::Agent(id) => compiled.agent(id),
        };
        (*effective.unwrap().scope(), self.0.set_by(node, Setting::Scope).unwrap())
    }
}

fn scoped(scope: Scope) -> Values {
    Values { scope: Some(scope), ..Values::default() }
}

#[test]
fn future_domains_alone_start_with_the_value_at_any_depth_r5_3() {
    let mut tree = Grown::default();
    let old = tree.domain("old", None);
    tree.act(Action::Set { domains: vec![old], agents: vec![], patch: Patch::set(scoped(Scope::All)) });
    tree.set_root(Reach::FutureDomainsOnly, Scope::Patterns);
    assert_eq!(tree.scope(&Node::Root), (Scope::All, SetBy::Default), "the root stays");
    assert_eq!(tree.scope(&Node::Domain(old)), (Scope::All, SetBy::Domain(old)), "what is there stays");
    let joins = tree.agent("joins", old);
    assert_eq!(tree.scope(&Node::Agent(joins)), (Scope::All, SetBy::Domain(old)), "and who joins it");
    let (new, nested) = (tree.domain("new", None), tree.domain("nested", Some(old)));
    for domain in [new, nested] {
        assert_eq!(tree.scope(&Node::Domain(domain)), (Scope::Patterns, SetBy::Future(domain)));
    }
    // The mark stays with the domain that moves, and goes when somebody sets or clears the value.
    tree.act(Action::MoveDomains { domains: vec![nested], to: Some(new) });
    assert_eq!(tree.scope(&Node::Domain(nested)), (Scope::Patterns, SetBy::Future(nested)));
    tree.act(Action::MoveDomains { domains: vec![new], to: Some(old) });
    let patch = Patch::set(scoped(Scope::Patterns));
    tree.act(Action::Set { domains: vec![nested], agents: vec![], patch });
    assert_eq!(tree.scope(&Node::Domain(nested)), (Scope::Patterns, SetBy::Domain(nested)));
    let patch = Patch::clear([Setting::Scope]);
    tree.act(Action::Set { domains: vec![new, nested], agents: vec![], patch });
    assert_eq!(tree.scope(&Node::Domain(nested)), (Scope::All, SetBy::Domain(old)));
}

#[test]
fn a_change_for_all_agents_clears_its_settings_everywhere_and_no_others_r5_3() {
    let mut tree = Grown::default();
    tree.act(Action::SetRoot {
        reach: Reach::FutureDomainsOnly,
        patch: Patch::set(Values { update_now: Some(Switch::On), ..scoped(Scope::Patterns) }),
    });
    let top = tree.domain("top", None);
    let deep = tree.domain("deep", Some(top));
    let own = tree.agent("own", deep);
    let patch =
        Patch::set(Values { proxy_settings: Some(Switch::On), ..scoped(Scope::PatternsEnginesDrivers) });
    tree.act(Action::Set { domains: vec![], agents: vec![own], patch });
    tree.set_root(Reach::AllAgents, Scope::All);
    for node in [Node::Root, Node::Domain(top), Node::Domain(deep), Node::Agent(own)] {
        assert_eq!(tree.scope(&node), (Scope::All, SetBy::Root));
    }
    let set_by = |node, setting| tree.0.set_by(&node, setting).unwrap();
    assert_eq!(set_by(Node::Agent(own), Setting::ProxySettings), SetBy::Agent);
    assert_eq!(set_by(Node::Agent(own), Setting::UpdateNow), SetBy::Future(deep));
    let later = tree.domain("later", Some(deep));
    assert_eq!(tree.scope(&Node::Domain(later)), (Scope::All, SetBy::Root), "no future value is left");
    let update_now = tree.0.set_by(&Node::Domain(later), Setting::UpdateNow);
    assert_eq!(update_now, Some(SetBy::Future(later)), "but for what was not changed");
}

#[test]
fn an_agent_that_moves_takes_the_new_values_and_keeps_its_own_r5_2() {
    let mut tree = Grown::default();
    let (from, to) = (tree.domain("from", None), tree.domain("to", None));
    let (plain, own) = (tree.agent("plain", from), tree.agent("own", from));
    tree.act(Action::Set { domains: vec![to], agents: vec![], patch: Patch::set(scoped(Scope::Patterns)) });
    let patch = Patch::set(scoped(Scope::PatternsEnginesDrivers));
    tree.act(Action::Set { domains: vec![], agents: vec![own], patch });
    tree.act(Action::MoveAgents { agents: vec![plain, own], to });
    assert_eq!(tree.scope(&Node::Agent(plain)), (Scope::Patterns, SetBy::Domain(to)));
    assert_eq!(tree.scope(&Node::Agent(own)), (Scope::PatternsEnginesDrivers, SetBy::Agent));
}

#[test]
fn a_refused_transaction_names_its_reason_and_leaves_nothing_behind_r5_4() {
    let mut tree = Grown::default();
    let top = tree.domain("top", None);
    let deep = tree.domain("deep", Some(top));
    let there = tree.agent("there", deep);
    let missing = agent("missing");
    let good = Action::RenameDomain { domain: deep, name: named("renamed") };
    let clear = Patch { set: scoped(Scope::All), clear: [Setting::Scope].into_iter().collect() };
    let refused = |bad: Action| tree.0.changed(&[good.clone(), bad]).unwrap_err().to_string();
    let add = |name, parent| Action::AddDomain {
        domain: tree.0.next_domain(),
        name: named(name),
        parent,
        values: Values::default(),
    };
    let cases = [
        (Action::MoveAgents { agents: vec![there, missing], to: top }, "there is no agent 'missing'"),
        (
            Action::AddAgent { agent: there, domain: top, values: Values::default() },
            "there is an agent 'there' already",
        ),
        (add("x", Some(DomainId::numbered(7))), "there is no domain 7"),
        (add("top", None), "there is a domain 'top' already, domain 1, beside domain 3"),
        (add("renamed", Some(top)), "there is a domain 'renamed' already, domain 2, beside domain 3"),
        (
            Action::MoveDomains { domains: vec![top], to: Some(deep) },
            "domain 1 'top' cannot move into domain 2, which it is or holds",
        ),
        (
            Action::MoveDomains { domains: vec![top], to: Some(top) },
            "domain 1 'top' cannot move into domain 1, which it is or holds",
        ),
        (
            Action::RemoveDomain { domain: top, below: Below::MustBeEmpty },
            "domain 1 'top' is not empty: it holds 1 domains and 0 agents",
        ),
        (
            Action::RemoveDomain { domain: deep, below: Below::MustBeEmpty },
            "domain 2 'renamed' is not empty: it holds 0 domains and 1 agents",
        ),
        (
            Action::SetRoot { reach: Reach::AllAgents, patch: clear },
            "'scope' cannot be set and cleared at once",
        ),
    ];
    for (bad, reason) in cases {
        assert_eq!(refused(bad), reason);
    }
    let many = vec![deep; NAMED_MAX];
    let many = Action::Set { domains: many, agents: vec![], patch: Patch::default() };
    assert_eq!(tree.0.changed(&[good.clone(), many]).unwrap_err(), Refused::NamedMax(NAMED_MAX + 1));
    let changed = tree.0.changed(&[Action::RemoveDomain { domain: top, below: Below::Removed }]).unwrap();
    assert_eq!((changed.tree.domain_count(), changed.tree.agent_count()), (0, 0));
    assert_eq!(changed.differences.len(), 3);
    assert_eq!(changed.tree.next_domain().number(), 3, "no number is used twice");
}

#[test]
fn domains_stand_no_deeper_than_the_bound_however_they_come_there() {
    let mut tree = Grown::default();
    let mut line = vec![tree.domain("d", None)];
    while line.len() < DEPTH_MAX {
        line.push(tree.domain("d", line.last().copied()));
    }
    let deepest = line.last().copied();
    let domain = tree.0.next_domain();
    let add = Action::AddDomain { domain, name: named("d"), parent: deepest, values: Values::default() };
    assert_eq!(tree.0.changed(&[add]).unwrap_err(), Refused::TooDeep(domain));
    let other = tree.domain("other", None);
    let beside = Action::MoveDomains { domains: vec![other], to: Some(line[DEPTH_MAX - 2]) };
    assert!(tree.0.changed(std::slice::from_ref(&beside)).is_ok());
    tree.domain("below", Some(other));
    assert_eq!(tree.0.changed(&[beside]).unwrap_err(), Refused::TooDeep(other));
}

#[test]
fn differences_that_do_not_fit_are_refused() {
    let mut tree = Grown::default();
    let domain = tree.domain("d", None);
    tree.agent("a", domain);
    let remove = [Action::RemoveDomain { domain, below: Below::Removed }];
    let removed = tree.0.changed(&remove).unwrap().differences;
    // Each alone leaves an agent without its domain, or was not there.
    assert!(tree.0.replayed(removed[..1].to_vec()).is_err());
    assert!(Tree::default().replayed(removed.clone()).is_err());
    let error = Tree::default().replayed(removed).unwrap_err().to_string();
    assert_eq!(error, "a change of domain 1 does not fit what came before it");
}

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn named(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}
