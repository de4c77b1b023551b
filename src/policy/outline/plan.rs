//! What would have to change in a tree for it to be what an outline says: one transaction.
//!
//! Domains are told apart by the ids that the outline says, where the tree has them, else by their paths. Never changes anything.
//! Invariant: the tree after the plan has this outline, but for ids that the outline did not say, or that the tree did not have.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::policy::outline::path::{DomainPath, paths};
use crate::policy::outline::{AgentOutline, DomainOutline, Outline};
use crate::policy::tree::change::Action;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::enrolment::Enrolment;
use crate::policy::tree::file::{FileName, SettingsFile};
use crate::policy::tree::id::DomainId;
use crate::policy::tree::{Agent, Domain, Tree};

/// The transaction that makes a tree what an outline says; nothing where it is that already.
pub fn plan(tree: &Tree, outline: &Outline) -> Vec<Action> {
    let ids = ids(tree, outline);
    let mut differences = Vec::new();
    let boxed = |before, after| (Box::new(Clone::clone(before)), Box::new(Clone::clone(after)));
    if *tree.root() != outline.root {
        let (before, after) = boxed(tree.root(), &outline.root);
        differences.push(Difference::Root { before, after });
    }
    if *tree.future() != outline.future {
        let (before, after) = boxed(tree.future(), &outline.future);
        differences.push(Difference::Future { before, after });
    }
    domains(tree, outline, &ids, &mut differences);
    agents(tree, outline, &ids, &mut differences);
    admissions(tree, outline, &ids, &mut differences);
    files(tree, outline, &ids, &mut differences);
    if differences.is_empty() { Vec::new() } else { vec![Action::Amend { differences }] }
}

/// The id that each path's domain has, or gets.
fn ids<'o>(tree: &Tree, outline: &'o Outline) -> HashMap<&'o DomainPath, DomainId> {
    let mut ids = HashMap::with_capacity(outline.domains.len());
    let said = outline.domains.iter().filter_map(|(path, domain)| Some((path, domain.id?)));
    ids.extend(said.filter(|(_, id)| tree.domain(*id).is_some()));
    let mut taken: HashSet<_> = ids.values().copied().collect();
    let there: HashMap<_, _> = paths(tree).into_iter().map(|(id, path)| (path, id)).collect();
    let mut next = tree.next_domain();
    for path in outline.domains.keys() {
        if ids.contains_key(path) {
            continue;
        }
        let id = there.get(path).copied().filter(|id| taken.insert(*id)).unwrap_or_else(|| {
            let new = next;
            next = next.after();
            new
        });
        ids.insert(path, id);
    }
    ids
}

type Ids<'o> = HashMap<&'o DomainPath, DomainId>;

fn domains(tree: &Tree, outline: &Outline, ids: &Ids<'_>, differences: &mut Vec<Difference>) {
    let kept: HashSet<_> = ids.values().copied().collect();
    let gone = tree.domains().filter(|(id, _)| !kept.contains(id));
    differences.extend(gone.map(|(id, domain)| {
        let before = Some(Box::new(domain.clone()));
        Difference::Domain { id, before, after: None }
    }));
    for (path, DomainOutline { values, started_with, .. }) in &outline.domains {
        let (id, parent) = (ids[path], path.parent().map(|above| ids[&above]));
        let after =
            Domain { name: path.name().clone(), parent, values: values.clone(), started_with: *started_with };
        let before = tree.domain(id);
        if before != Some(&after) {
            let before = before.cloned().map(Box::new);
            differences.push(Difference::Domain { id, before, after: Some(Box::new(after)) });
        }
    }
}

fn agents(tree: &Tree, outline: &Outline, ids: &Ids<'_>, differences: &mut Vec<Difference>) {
    let gone = tree.agents().filter(|(id, _)| !outline.agents.contains_key(id));
    differences.extend(gone.map(|(id, agent)| {
        let before = Some(agent.clone());
        Difference::Agent { id: *id, before, after: None }
    }));
    for (id, AgentOutline { domain, values, keys }) in &outline.agents {
        let after = Agent { domain: ids[domain], values: values.clone(), keys: *keys };
        let before = tree.agent(id);
        if before != Some(&after) {
            differences.push(Difference::Agent { id: *id, before: before.cloned(), after: Some(after) });
        }
    }
}

/// Enrolments, ranges and the customised list.
fn admissions(tree: &Tree, outline: &Outline, ids: &Ids<'_>, differences: &mut Vec<Difference>) {
    let gone = tree.enrolments().filter(|(id, _)| !outline.enrolments.contains_key(id));
    differences.extend(gone.map(|(id, enrolment)| {
        let before = Some(enrolment.clone());
        Difference::Enrolment { id: id.clone(), before, after: None }
    }));
    for (id, said) in &outline.enrolments {
        let (secret, left, until) = (said.secret, said.left, said.until);
        let after = Enrolment { domain: ids[&said.domain], secret, left, until };
        let before = tree.enrolment(id);
        if before != Some(&after) {
            let before = before.cloned();
            differences.push(Difference::Enrolment { id: id.clone(), before, after: Some(after) });
        }
    }
    let there: BTreeMap<_, _> = tree.ranges().collect();
    let gone = there.iter().filter(|(from, _)| !outline.ranges.contains_key(from));
    differences.extend(gone.map(|(from, domain)| {
        let before = Some(*domain);
        Difference::Range { from: *from, before, after: None }
    }));
    for (from, domain) in &outline.ranges {
        let (before, after) = (there.get(from).copied(), Some(ids[domain]));
        if before != after {
            differences.push(Difference::Range { from: *from, before, after });
        }
    }
    let before = tree.customised().entries();
    if before != outline.customised {
        let (before, after) = (before.to_vec(), outline.customised.clone());
        differences.push(Difference::Customised { before, after });
    }
}

fn files(tree: &Tree, outline: &Outline, ids: &Ids<'_>, differences: &mut Vec<Difference>) {
    let place = |domain: &Option<DomainPath>| domain.as_ref().map(|domain| ids[domain]);
    let said: HashMap<(Option<DomainId>, &FileName), _> =
        outline.files.iter().map(|((domain, name), content)| ((place(domain), name), *content)).collect();
    let there: HashMap<_, _> = tree.files().map(|(domain, name, file)| ((domain, name), *file)).collect();
    let gone = tree.files().filter(|(domain, name, _)| !said.contains_key(&(*domain, *name)));
    differences.extend(gone.map(|(domain, name, file)| {
        let before = Some(*file);
        Difference::File { domain, name: name.clone(), before, after: None }
    }));
    for (domain, name) in outline.files.keys() {
        let domain = place(domain);
        let (before, content) = (there.get(&(domain, name)).copied(), said[&(domain, name)]);
        if before.is_some_and(|file| file.content == content) {
            continue;
        }
        let version = before.map_or(1, |file| file.version.saturating_add(1));
        let after = Some(SettingsFile { version, content });
        differences.push(Difference::File { domain, name: name.clone(), before, after });
    }
}
