//! What a transaction changed: each thing of the tree as it was before and as it is after, and how a journal of that is played
//! again.
//!
//! Invariant: a difference that does not begin with what is there is refused, so that a journal with a part missing never
//! becomes a tree that nobody made.

use std::fmt::Display;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::sources::{Customised, Entry};
use crate::policy::tree::enrolment::Enrolment;
use crate::policy::tree::file::{FileName, SettingsFile};
use crate::policy::tree::id::{AgentId, DomainId, EnrolmentId};
use crate::policy::tree::setting::Values;
use crate::policy::tree::{Agent, DEPTH_MAX, Domain, Tree};

/// One thing of the tree before and after; what is `None` is not there.
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
    /// An enrolment.
    Enrolment {
        /// Which.
        id: EnrolmentId,
        /// What it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Enrolment>,
        /// What it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Enrolment>,
    },
    /// An address range.
    Range {
        /// Which.
        from: IpNet,
        /// Whose it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<DomainId>,
        /// Whose it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<DomainId>,
    },
    /// The customised list.
    Customised {
        /// What it was.
        before: Vec<Entry>,
        /// What it is.
        after: Vec<Entry>,
    },
    /// A settings file.
    File {
        /// The domain that it stands at; `None` at the root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<DomainId>,
        /// Its name.
        name: FileName,
        /// What it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<SettingsFile>,
        /// What it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<SettingsFile>,
    },
}

impl Difference {
    /// What there is, and how several of it are called; nothing where there is but one.
    pub const KINDS: [(&'static str, &'static str); 8] = [
        ("the root", ""),
        ("what future domains start with", ""),
        ("domain", "domains"),
        ("agent", "agents"),
        ("enrolment", "enrolments"),
        ("range", "ranges"),
        ("the customised list", ""),
        ("settings file", "settings files"),
    ];

    /// Which of [`KINDS`](Self::KINDS) it is of.
    pub fn kind(&self) -> &'static str {
        let at = match self {
            Self::Root { .. } => 0,
            Self::Future { .. } => 1,
            Self::Domain { .. } => 2,
            Self::Agent { .. } => 3,
            Self::Enrolment { .. } => 4,
            Self::Range { .. } => 5,
            Self::Customised { .. } => 6,
            Self::File { .. } => 7,
        };
        Self::KINDS[at].0
    }

    /// How many things it names.
    pub(super) fn named(&self) -> usize {
        match self {
            Self::Customised { after, .. } => after.len(),
            _ => 1,
        }
    }
}

/// A difference that does not fit the tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a change of {0} does not fit what came before it")]
pub struct Misfit(String);

/// What may differ between two trees, besides the root and the customised list; a thing may be named more than once.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) domains: Vec<DomainId>,
    pub(super) agents: Vec<AgentId>,
    pub(super) enrolments: Vec<EnrolmentId>,
    pub(super) ranges: Vec<IpNet>,
    pub(super) files: Vec<(Option<DomainId>, FileName)>,
}

impl Touched {
    /// A thing that is named more than once.
    pub(super) fn twice(mut self) -> Option<Misfit> {
        let domain = repeated(&mut self.domains).map(|id| misfit("domain", id));
        let agent = repeated(&mut self.agents).map(|id| misfit("agent", format_args!("'{id}'")));
        let enrolment = repeated(&mut self.enrolments).map(|id| misfit("enrolment", format_args!("'{id}'")));
        let range = repeated(&mut self.ranges).map(|from| misfit("range", from));
        let file =
            repeated(&mut self.files).map(|(_, name)| misfit("settings file", format_args!("'{name}'")));
        domain.or(agent).or(enrolment).or(range).or(file)
    }
}

/// What differs between two trees, where only this may.
pub(super) fn differences(before: &Tree, after: &Tree, touched: Touched) -> Vec<Difference> {
    let mut differences = Vec::new();
    let values = |values: &Values| Box::new(values.clone());
    if before.root != after.root {
        differences.push(Difference::Root { before: values(&before.root), after: values(&after.root) });
    }
    if before.future != after.future {
        differences.push(Difference::Future { before: values(&before.future), after: values(&after.future) });
    }
    for id in once(touched.domains) {
        let (before, after) = (before.domain(id), after.domain(id));
        if before != after {
            let domain = |domain: &Domain| Box::new(domain.clone());
            differences.push(Difference::Domain { id, before: before.map(domain), after: after.map(domain) });
        }
    }
    for id in once(touched.agents) {
        let (before, after) = (before.agent(&id), after.agent(&id));
        if before != after {
            differences.push(Difference::Agent { before: before.cloned(), after: after.cloned(), id });
        }
    }
    for id in once(touched.enrolments) {
        let (before, after) = (before.enrolment(&id), after.enrolment(&id));
        if before != after {
            differences.push(Difference::Enrolment { before: before.cloned(), after: after.cloned(), id });
        }
    }
    for from in once(touched.ranges) {
        let (before, after) = (before.ranges.get(&from).copied(), after.ranges.get(&from).copied());
        if before != after {
            differences.push(Difference::Range { from, before, after });
        }
    }
    for (domain, name) in once(touched.files) {
        let file = |tree: &Tree| tree.files.get(&(domain, name.clone())).copied();
        let (before, after) = (file(before), file(after));
        if before != after {
            differences.push(Difference::File { domain, name, before, after });
        }
    }
    if before.customised != after.customised {
        let entries = |tree: &Tree| tree.customised.entries().to_vec();
        differences.push(Difference::Customised { before: entries(before), after: entries(after) });
    }
    differences
}

fn repeated<T: Ord>(named: &mut [T]) -> Option<&T> {
    named.sort_unstable();
    named.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0])
}

/// In order, each once.
fn once<T: Ord>(mut touched: Vec<T>) -> Vec<T> {
    touched.sort_unstable();
    touched.dedup();
    touched
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
        let enrolments = self.enrolments().map(|(id, enrolment)| Difference::Enrolment {
            id: id.clone(),
            before: None,
            after: Some(enrolment.clone()),
        });
        let ranges =
            self.ranges().map(|(from, domain)| Difference::Range { from, before: None, after: Some(domain) });
        let files = self.files().map(|(domain, name, file)| Difference::File {
            domain,
            name: name.clone(),
            before: None,
            after: Some(*file),
        });
        let customised =
            Difference::Customised { before: Vec::new(), after: self.customised.entries().to_vec() };
        let nodes = [root, future].into_iter().chain(domains).chain(agents);
        nodes.chain(enrolments).chain(ranges).chain(files).chain([customised])
    }

    /// An empty tree that numbers its domains after this one.
    pub fn numbering_after(last_domain: Option<DomainId>) -> Self {
        Self { last_domain: last_domain.map_or(0, DomainId::number), ..Self::default() }
    }

    /// The tree after these differences, each node in them named once.
    pub fn replayed(&self, differences: impl IntoIterator<Item = Difference>) -> Result<Self, Misfit> {
        let mut next = self.clone();
        let (mut domains, mut agents, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        // What is gone goes first: a name may pass from one domain to another.
        for difference in differences {
            match difference {
                Difference::Root { before, after } => replace(&mut next.root, &before, *after, "the root")?,
                Difference::Future { before, after } => {
                    replace(&mut next.future, &before, *after, "what future domains start with")?;
                }
                Difference::Domain { id, before, after } => {
                    if next.domain(id) != before.as_deref() {
                        return Err(misfit("domain", id));
                    }
                    next.put_domain(id, None);
                    domains.push((id, after));
                }
                Difference::Agent { id, before, after } => {
                    if next.agent(&id) != before.as_ref() {
                        return Err(misfit("agent", format_args!("'{id}'")));
                    }
                    agents.push((id, after));
                }
                other => rest.push(other),
            }
        }
        let touched: Vec<_> = domains.iter().map(|(id, after)| (*id, after.is_some())).collect();
        for (id, domain) in domains {
            let Some(domain) = domain else { continue };
            if next.domain(id).is_some() || next.domain_named(domain.parent, &domain.name).is_some() {
                return Err(misfit("domain", id));
            }
            next.put_domain(id, Some(*domain));
        }
        for (id, agent) in agents {
            let agent = agent.map(|agent| Agent { values: agent.values.filter(stands), ..agent });
            if agent.as_ref().is_some_and(|agent| next.domain(agent.domain).is_none()) {
                return Err(misfit("agent", format_args!("'{id}'")));
            }
            next.put_agent(&id, agent);
        }
        for difference in rest {
            next.replay_admission(difference)?;
        }
        match touched.into_iter().find(|(id, there)| !next.is_in_order(*id, *there)) {
            Some((id, _)) => Err(misfit("domain", id)),
            None => Ok(next),
        }
    }

    /// What is no node, once all nodes are there.
    fn replay_admission(&mut self, difference: Difference) -> Result<(), Misfit> {
        let is_there =
            |tree: &Self, domain: Option<DomainId>| domain.is_none_or(|domain| tree.domain(domain).is_some());
        match difference {
            Difference::Enrolment { id, before, after } => {
                let domain = after.as_ref().map(|enrolment| enrolment.domain);
                if self.enrolment(&id) != before.as_ref() || !is_there(self, domain) {
                    return Err(misfit("enrolment", format_args!("'{id}'")));
                }
                self.put_enrolment(&id, after);
            }
            Difference::Range { from, before, after } => {
                if self.ranges.get(&from).copied() != before || !is_there(self, after) {
                    return Err(misfit("range", from));
                }
                self.put_range(from, after);
            }
            Difference::File { domain, name, before, after } => {
                let at = (domain, name);
                let domain = domain.filter(|_| after.is_some());
                if self.files.get(&at).copied() != before || !is_there(self, domain) {
                    return Err(misfit("settings file", format_args!("'{}'", at.1)));
                }
                self.put_file(at, after);
            }
            Difference::Customised { before, after } => {
                let list = Customised::new(after).ok().filter(|_| self.customised.entries() == before);
                self.customised = list.ok_or_else(|| Misfit("the customised list".to_owned()))?.into();
            }
            // Nodes have come before.
            Difference::Root { .. }
            | Difference::Future { .. }
            | Difference::Domain { .. }
            | Difference::Agent { .. } => {}
        }
        Ok(())
    }

    /// Whether a domain hangs below the root, not too deep; or, where it is gone, whether it left nothing behind.
    fn is_in_order(&self, id: DomainId, there: bool) -> bool {
        if !there {
            return self.agents_in(id) == 0
                && self.domains_in(Some(id)).next().is_none()
                && self.files_at(Some(id)).next().is_none()
                && self.enrolments().all(|(_, enrolment)| enrolment.domain != id)
                && self.ranges().all(|(_, domain)| domain != id);
        }
        let line: Vec<_> = self.line(id).take(DEPTH_MAX + 1).collect();
        line.len() <= DEPTH_MAX && line.last().is_some_and(|(_, top)| top.parent.is_none())
    }
}

fn misfit(what: &str, which: impl Display) -> Misfit {
    Misfit(format!("{what} {which}"))
}

fn replace(values: &mut Values, before: &Values, after: Values, what: &str) -> Result<(), Misfit> {
    if values != before {
        return Err(Misfit(what.to_owned()));
    }
    *values = after;
    Ok(())
}

fn stands(values: &Arc<Values>) -> bool {
    !values.is_empty()
}
