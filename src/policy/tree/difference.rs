//! What a transaction changed: each domain and agent as it was before and as it is after, and how a journal of that is played
//! again.
//!
//! Invariant: a difference that does not begin with what is there is refused, so that a journal with a part missing never
//! becomes a tree that nobody made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::setting::Values;
use crate::policy::tree::{Agent, DEPTH_MAX, Domain, Node, Tree};

/// One node before and after; what is `None` is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Difference {
    /// What is set at the root.
    Root {
        /// What was.
        before: Box<Values>,
        /// What is.
        after: Box<Values>,
    },
    /// What the root has for future domains.
    Future {
        /// What it had.
        before: Box<Values>,
        /// What it has.
        after: Box<Values>,
    },
    /// A domain.
    Domain {
        /// Which.
        id: DomainId,
        /// What it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<Domain>>,
        /// What it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Box<Domain>>,
    },
    /// An agent.
    Agent {
        /// Which.
        id: AgentId,
        /// What it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Agent>,
        /// What it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Agent>,
    },
}

/// A difference that does not fit the tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} does not fit what came before it", said(.0))]
pub struct Misfit(Node);

fn said(node: &Node) -> String {
    match node {
        Node::Root => "a change of the root".to_owned(),
        Node::Domain(id) => format!("a change of domain {id}"),
        Node::Agent(id) => format!("a change of agent '{id}'"),
    }
}

/// What differs between two trees, where only these domains and agents may.
pub(super) fn differences(
    before: &Tree,
    after: &Tree,
    mut domains: Vec<DomainId>,
    mut agents: Vec<AgentId>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let values = |values: &Values| Box::new(values.clone());
    if before.root != after.root {
        differences.push(Difference::Root { before: values(&before.root), after: values(&after.root) });
    }
    if before.future != after.future {
        differences.push(Difference::Future { before: values(&before.future), after: values(&after.future) });
    }
    domains.sort_unstable();
    domains.dedup();
    for id in domains {
        let (before, after) = (before.domain(id), after.domain(id));
        if before != after {
            let domain = |domain: &Domain| Box::new(domain.clone());
            differences.push(Difference::Domain { id, before: before.map(domain), after: after.map(domain) });
        }
    }
    agents.sort_unstable();
    agents.dedup();
    for id in agents {
        let (before, after) = (before.agent(&id), after.agent(&id));
        if before != after {
            differences.push(Difference::Agent { before: before.cloned(), after: after.cloned(), id });
        }
    }
    differences
}

impl Tree {
    /// All that is in the tree, as what differs from an empty one. The highest id of a domain is not in it.
    pub fn whole(&self) -> impl Iterator<Item = Difference> {
        let domains = self.domains().map(|(id, domain)| Difference::Domain {
            id,
            before: None,
            after: Some(Box::new(domain.clone())),
        });
        let agents = self.agents().map(|(id, agent)| Difference::Agent {
            id: *id,
            before: None,
            after: Some(agent.clone()),
        });
        let root = Difference::Root { before: Box::default(), after: Box::new(self.root.clone()) };
        let future = Difference::Future { before: Box::default(), after: Box::new(self.future.clone()) };
        [root, future].into_iter().chain(domains).chain(agents)
    }

    /// An empty tree that numbers its domains after this one.
    pub fn numbering_after(last_domain: Option<DomainId>) -> Self {
        Self { last_domain: last_domain.map_or(0, DomainId::number), ..Self::default() }
    }

    /// The tree after these differences, each node in them named once.
    pub fn replayed(&self, differences: impl IntoIterator<Item = Difference>) -> Result<Self, Misfit> {
        let mut next = self.clone();
        let (mut domains, mut agents) = (Vec::new(), Vec::new());
        // What is gone goes first: a name may pass from one domain to another.
        for difference in differences {
            match difference {
                Difference::Root { before, after } => replace(&mut next.root, &before, *after)?,
                Difference::Future { before, after } => replace(&mut next.future, &before, *after)?,
                Difference::Domain { id, before, after } => {
                    if next.domain(id) != before.as_deref() {
                        return Err(Misfit(Node::Domain(id)));
                    }
                    next.put_domain(id, None);
                    domains.push((id, after));
                }
                Difference::Agent { id, before, after } => {
                    if next.agent(&id) != before.as_ref() {
                        return Err(Misfit(Node::Agent(id)));
                    }
                    agents.push((id, after));
                }
            }
        }
        let touched: Vec<_> = domains.iter().map(|(id, after)| (*id, after.is_some())).collect();
        for (id, domain) in domains {
            let Some(domain) = domain else { continue };
            if next.domain(id).is_some() || next.domain_named(domain.parent, &domain.name).is_some() {
                return Err(Misfit(Node::Domain(id)));
            }
            next.put_domain(id, Some(*domain));
        }
        for (id, agent) in agents {
            let agent = agent.map(|agent| Agent { values: agent.values.filter(stands), ..agent });
            if agent.as_ref().is_some_and(|agent| next.domain(agent.domain).is_none()) {
                return Err(Misfit(Node::Agent(id)));
            }
            next.put_agent(&id, agent);
        }
        match touched.into_iter().find(|(id, there)| !next.is_in_order(*id, *there)) {
            Some((id, _)) => Err(Misfit(Node::Domain(id))),
            None => Ok(next),
        }
    }

    /// Whether a domain hangs below the root, not too deep; or, where it is gone, whether it left nothing behind.
    fn is_in_order(&self, id: DomainId, there: bool) -> bool {
        if !there {
            return self.agents_in(id) == 0 && self.domains_in(Some(id)).next().is_none();
        }
        let line: Vec<_> = self.line(id).take(DEPTH_MAX + 1).collect();
        line.len() <= DEPTH_MAX && line.last().is_some_and(|(_, top)| top.parent.is_none())
    }
}

fn replace(values: &mut Values, before: &Values, after: Values) -> Result<(), Misfit> {
    if values != before {
        return Err(Misfit(Node::Root));
    }
    *values = after;
    Ok(())
}

fn stands(values: &Arc<Values>) -> bool {
    !values.is_empty()
}
