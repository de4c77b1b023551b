//! The agent tree: a root, domains within domains, agents, and the settings that stand at each of them (R5).
//!
//! A change's way: [`Tree::changed`](change) takes a whole transaction and gives the next tree with what differs, or the
//! reason for refusing; [`compiled::Compiled`] is what requests are decided by. Never reads a file, never asks the time.
//! Invariants: a [`Tree`] is immutable and shares what it has in common with the tree before it, so a refused transaction
//! leaves nothing behind; each domain and agent stands below the root, at most [`DEPTH_MAX`] domains deep.

pub(in crate::policy) mod admit;
mod agents;
mod amend;
mod apply;
#[cfg(test)]
mod cases;
pub mod change;
pub mod compiled;
pub mod difference;
#[cfg(test)]
pub(in crate::policy) mod drawn;
pub mod enrolment;
pub mod explain;
pub mod file;
pub mod id;
pub mod keys;
#[cfg(test)]
mod model;
pub mod refused;
pub mod schedule;
pub mod setting;
pub mod value;

use std::sync::Arc;

use imbl::OrdMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::identity::Fingerprint;
use crate::policy::sources::Customised;
use crate::policy::tree::agents::Agents;
use crate::policy::tree::enrolment::Enrolment;
use crate::policy::tree::file::{FileName, SettingsFile};
use crate::policy::tree::id::{AgentId, DomainId, DomainName, EnrolmentId};
use crate::policy::tree::keys::Keys;
use crate::policy::tree::setting::{SettingSet, Values};

/// Domains within each other: what organisations draw has five or six levels, and each level is a step for whoever looks up
/// where a value comes from.
pub const DEPTH_MAX: usize = 16;

/// Domains in all: ten times the 2,000 that the figures are for; each root change resolves every one of them.
pub const DOMAINS_MAX: usize = 20_000;

/// Agents in all: ten times the 100,000 that the figures are for; each takes some 200 bytes of memory.
pub const AGENTS_MAX: usize = 1_000_000;

/// Address ranges in all: some for each of the domains that the figures are for.
pub const RANGES_MAX: usize = 20_000;

/// Domains and agents that one transaction may name: a fleet of the size that the figures are for, twice. Its record, some
/// 100 bytes for each, is held in memory while it is written; larger fleets are changed in parts.
pub const NAMED_MAX: usize = 200_000;

/// A domain: what holds it, its name and what is set at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name, which no other domain beside it has.
    pub name: DomainName,
    /// The domain that holds it; `None` right below the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<DomainId>,
    /// What is set at it.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub values: Values,
    /// Which of these values it started with, since the root had them for future domains (R5.3).
    #[serde(default, skip_serializing_if = "SettingSet::is_empty")]
    pub started_with: SettingSet,
}

/// An agent: what holds it, what is set at it and what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The domain that it belongs to.
    pub domain: DomainId,
    /// What is set at it; most agents have nothing of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Arc<Values>>,
    /// What it is known by; `None` where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
}

/// What a setting may stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// Above all.
    Root,
    /// A domain.
    Domain(DomainId),
    /// An agent.
    Agent(AgentId),
}

/// The whole agent tree. A copy is cheap: it shares everything.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Values,
    /// What domains start with that are made from now on (R5.3).
    future: Values,
    domains: OrdMap<DomainId, Arc<Domain>>,
    /// The domains below each domain, by name.
    below: OrdMap<(Option<DomainId>, DomainName), DomainId>,
    agents: Agents,
    /// How many agents belong to each domain that has any.
    counts: OrdMap<DomainId, usize>,
    /// What is set at agents: a change to all agents looks at these alone.
    differing: OrdMap<AgentId, Arc<Values>>,
    /// Which agent has a certificate.
    certificates: OrdMap<Fingerprint, AgentId>,
    /// What lets agents in.
    enrolments: OrdMap<EnrolmentId, Arc<Enrolment>>,
    /// The domains of agents that are known by their addresses alone.
    ranges: OrdMap<IpNet, DomainId>,
    /// Where agents update from before they ask the relay (R7.1).
    customised: Arc<Customised>,
    /// Settings files: at a domain, or at the root (R5.6).
    files: OrdMap<(Option<DomainId>, FileName), SettingsFile>,
    /// The highest id that a domain ever had: none is used twice.
    last_domain: u32,
}

impl Tree {
    /// What is set at the root.
    pub fn root(&self) -> &Values {
        &self.root
    }

    /// What future domains start with.
    pub fn future(&self) -> &Values {
        &self.future
    }

    /// A domain.
    pub fn domain(&self, id: DomainId) -> Option<&Domain> {
        self.domains.get(&id).map(|domain| &**domain)
    }

    /// An agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// The agent that has a certificate.
    pub fn agent_with(&self, certificate: Fingerprint) -> Option<&AgentId> {
        self.certificates.get(&certificate)
    }

    /// How many agents have a certificate.
    pub fn certificate_count(&self) -> usize {
        self.certificates.len()
    }

    /// A domain's path: the names from below the root down to it, with `/` between them.
    pub fn path(&self, domain: DomainId) -> String {
        let mut names: Vec<_> = self.line(domain).map(|(_, domain)| domain.name.as_str()).collect();
        names.reverse();
        names.join("/")
    }

    /// An enrolment.
    pub fn enrolment(&self, id: &EnrolmentId) -> Option<&Enrolment> {
        self.enrolments.get(id).map(|enrolment| &**enrolment)
    }

    /// All enrolments, by id.
    pub fn enrolments(&self) -> impl Iterator<Item = (&EnrolmentId, &Enrolment)> {
        self.enrolments.iter().map(|(id, enrolment)| (id, &**enrolment))
    }

    /// All address ranges with their domains, by address.
    pub fn ranges(&self) -> impl Iterator<Item = (IpNet, DomainId)> {
        self.ranges.iter().map(|(from, domain)| (*from, *domain))
    }

    /// The customised list.
    pub fn customised(&self) -> &Arc<Customised> {
        &self.customised
    }

    /// Whether nobody ever made a domain in it: then there is nothing that an agent could be known by, and never was. What was
    /// shut once stays so when the last agent leaves (R5.5).
    pub fn knows_nobody(&self) -> bool {
        self.last_domain == 0
    }

    /// All domains, in the order in which they were made.
    pub fn domains(&self) -> impl Iterator<Item = (DomainId, &Domain)> {
        self.domains.iter().map(|(id, domain)| (*id, &**domain))
    }

    /// All agents, in no order.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.agents.iter()
    }

    /// How many domains there are.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// How many agents there are.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// How many agents belong to a domain itself, not to those within it.
    pub fn agents_in(&self, domain: DomainId) -> usize {
        self.counts.get(&domain).copied().unwrap_or(0)
    }

    /// The domains right below a domain, or the root, by name.
    pub fn domains_in(&self, parent: Option<DomainId>) -> impl Iterator<Item = (&DomainName, DomainId)> {
        let from = (parent, DomainName::first());
        let below = self.below.range(from..).take_while(move |((above, _), _)| *above == parent);
        below.map(|((_, name), id)| (name, *id))
    }

    /// The domain of this name right below a domain, or the root.
    pub fn domain_named(&self, parent: Option<DomainId>, name: &DomainName) -> Option<DomainId> {
        self.below.get(&(parent, name.clone())).copied()
    }

    /// A domain and all that are within it, each after the one that holds it.
    pub fn domains_within(&self, domain: DomainId) -> Vec<DomainId> {
        let mut within = vec![domain];
        let mut at = 0;
        while let Some(next) = within.get(at).copied() {
            within.extend(self.domains_in(Some(next)).map(|(_, id)| id));
            at += 1;
        }
        within
    }

    /// A domain and those that hold it, up to the root.
    pub fn line(&self, domain: DomainId) -> impl Iterator<Item = (DomainId, &Domain)> {
        let mut next = Some(domain);
        std::iter::from_fn(move || {
            let id = next?;
            let domain = self.domain(id)?;
            next = domain.parent;
            Some((id, domain))
        })
    }

    /// The id that the next new domain gets.
    pub fn next_domain(&self) -> DomainId {
        DomainId::numbered(self.last_domain.saturating_add(1))
    }

    /// The highest id that a domain ever had; `None` where there never was any.
    pub fn last_domain(&self) -> Option<DomainId> {
        (self.last_domain > 0).then(|| DomainId::numbered(self.last_domain))
    }
}

/// The only ways in which a tree's parts change: each keeps what is derived from domains and agents in step with them. Whether a
/// change is allowed is for the callers to know.
impl Tree {
    /// Puts a domain in the place of the one of this id, or takes that one away.
    fn put_domain(&mut self, id: DomainId, domain: Option<Domain>) {
        if let Some(before) = self.domains.remove(&id) {
            self.below.remove(&(before.parent, before.name.clone()));
        }
        if let Some(domain) = domain {
            self.last_domain = self.last_domain.max(id.number());
            self.below.insert((domain.parent, domain.name.clone()), id);
            self.domains.insert(id, Arc::new(domain));
        }
    }

    /// Puts an agent in the place of the one of this id, or takes that one away.
    fn put_agent(&mut self, id: &AgentId, agent: Option<Agent>) {
        let to = agent.as_ref().map(|agent| agent.domain);
        match agent.as_ref().and_then(|agent| agent.values.clone()) {
            Some(values) => drop(self.differing.insert(*id, values)),
            None => drop(self.differing.remove(id)),
        }
        let certificate = |agent: Option<&Agent>| agent?.keys?.certificate;
        let has = certificate(agent.as_ref());
        let before = self.agents.put(id, agent);
        let had = certificate(before.as_ref());
        if had != has {
            if let Some(had) = had.filter(|had| self.certificates.get(had) == Some(id)) {
                self.certificates.remove(&had);
            }
            if let Some(has) = has {
                self.certificates.insert(has, *id);
            }
        }
        let from = before.map(|agent| agent.domain);
        if from != to {
            if let Some(from) = from {
                self.put_count(from, self.agents_in(from) - 1);
            }
            if let Some(to) = to {
                self.put_count(to, self.agents_in(to) + 1);
            }
        }
    }

    fn put_enrolment(&mut self, id: &EnrolmentId, enrolment: Option<Enrolment>) {
        match enrolment {
            Some(enrolment) => drop(self.enrolments.insert(id.clone(), enrolment.into())),
            None => drop(self.enrolments.remove(id)),
        }
    }

    fn put_range(&mut self, from: IpNet, domain: Option<DomainId>) {
        match domain {
            Some(domain) => drop(self.ranges.insert(from, domain)),
            None => drop(self.ranges.remove(&from)),
        }
    }

    fn put_file(&mut self, at: (Option<DomainId>, FileName), file: Option<SettingsFile>) {
        match file {
            Some(file) => drop(self.files.insert(at, file)),
            None => drop(self.files.remove(&at)),
        }
    }

    fn put_count(&mut self, domain: DomainId, count: usize) {
        if count == 0 {
            self.counts.remove(&domain);
        } else {
            self.counts.insert(domain, count);
        }
    }
}

/// Trees are equal where everything in them is, and where they would number the next domain alike.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
            && self.future == other.future
            && self.last_domain == other.last_domain
            && self.domains == other.domains
            && self.agents == other.agents
            && self.enrolments == other.enrolments
            && self.ranges == other.ranges
            && self.customised == other.customised
            && self.files == other.files
    }
}
