//! What may be changed in the agent tree, and why a change is refused.
//!
//! A transaction is a list of actions, each done on what those before it left; either all are done or none is (R5.4). Never
//! changes a tree itself: that is [`Tree::changed`]. Invariant: a refusal names the domain, agent or setting that is its reason.

use std::fmt;

use thiserror::Error;

use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::setting::{Setting, SettingSet, Values};
use crate::policy::tree::{AGENTS_MAX, DEPTH_MAX, DOMAINS_MAX, NAMED_MAX, Tree};

/// One action of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Changes settings at the root.
    SetRoot {
        /// Whom it reaches.
        reach: Reach,
        /// Which settings, and how.
        patch: Patch,
    },
    /// Changes settings at domains and agents.
    Set {
        /// The domains.
        domains: Vec<DomainId>,
        /// The agents.
        agents: Vec<AgentId>,
        /// Which settings, and how.
        patch: Patch,
    },
    /// Makes a domain.
    AddDomain {
        /// Its id: [`Tree::next_domain`] of what the actions before it left, so that those after it can name it.
        domain: DomainId,
        /// Its name.
        name: DomainName,
        /// The domain that holds it; `None` right below the root.
        parent: Option<DomainId>,
        /// What is set at it, in place of what the root has for future domains.
        values: Values,
    },
    /// Gives a domain another name.
    RenameDomain {
        /// The domain.
        domain: DomainId,
        /// Its new name.
        name: DomainName,
    },
    /// Moves domains, with all within them.
    MoveDomains {
        /// The domains.
        domains: Vec<DomainId>,
        /// The domain that holds them then; `None` right below the root.
        to: Option<DomainId>,
    },
    /// Removes a domain.
    RemoveDomain {
        /// The domain.
        domain: DomainId,
        /// What happens to what it holds.
        below: Below,
    },
    /// Brings an agent into the tree.
    AddAgent {
        /// The agent.
        agent: AgentId,
        /// The domain that it belongs to.
        domain: DomainId,
        /// What is set at it.
        values: Values,
    },
    /// Moves agents; what is set at each stays with it (R5.2).
    MoveAgents {
        /// The agents.
        agents: Vec<AgentId>,
        /// The domain that they belong to then.
        to: DomainId,
    },
    /// Takes agents out of the tree.
    RemoveAgents {
        /// The agents.
        agents: Vec<AgentId>,
    },
}

/// Whom a change at the root reaches (R5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All agents: the root has the value, and nothing below it, nor what it has for future domains, stands against it.
    AllAgents,
    /// Domains made later, at any depth, start with the value; everything that is there stays.
    FutureDomainsOnly,
}

/// What happens to what a domain holds when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// It must hold nothing.
    MustBeEmpty,
    /// Its domains and agents are removed with it.
    Removed,
}

/// Settings that get a value, and settings that lose theirs, so that what stands above holds again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// The new values.
    pub set: Values,
    /// The settings that lose theirs.
    pub clear: SettingSet,
}

impl Patch {
    /// Sets values and clears none.
    pub fn set(values: Values) -> Self {
        Self { set: values, clear: SettingSet::default() }
    }

    /// Clears settings and sets none.
    pub fn clear(settings: impl IntoIterator<Item = Setting>) -> Self {
        Self { set: Values::default(), clear: settings.into_iter().collect() }
    }

    /// The settings that are changed.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        Setting::ALL.into_iter().filter(|setting| self.set.holds(*setting) || self.clear.holds(*setting))
    }
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The tree after it.
    pub tree: Tree,
    /// What differs, each domain and agent once.
    pub differences: Vec<Difference>,
}

/// Why a transaction is refused; nothing of it is done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It names a domain that is not there.
    #[error("there is no domain {0}")]
    NoDomain(DomainId),
    /// It names an agent that is not there.
    #[error("there is no agent '{0}'")]
    NoAgent(AgentId),
    /// It adds an agent that is there.
    #[error("there is an agent '{0}' already")]
    AgentExists(AgentId),
    /// Another domain beside it has the name.
    #[error("there is a domain '{name}' already, domain {taken_by}, beside domain {domain}")]
    NameTaken {
        /// The domain that would have the name.
        domain: DomainId,
        /// The name.
        name: DomainName,
        /// The domain that has it.
        taken_by: DomainId,
    },
    /// A domain would hold itself.
    #[error("domain {domain} '{name}' cannot move into domain {to}, which it is or holds")]
    IntoItself {
        /// The domain that would move.
        domain: DomainId,
        /// Its name.
        name: DomainName,
        /// Where to.
        to: DomainId,
    },
    /// A domain would stand too deep.
    #[error("with domain {0}, domains would stand more than {DEPTH_MAX} deep")]
    TooDeep(DomainId),
    /// A domain that is to be removed holds something.
    #[error("domain {domain} '{name}' is not empty: it holds {domains} domains and {agents} agents")]
    NotEmpty {
        /// The domain.
        domain: DomainId,
        /// Its name.
        name: DomainName,
        /// How many domains are right below it.
        domains: usize,
        /// How many agents belong to it.
        agents: usize,
    },
    /// A new domain has not the next number.
    #[error("a new domain cannot be domain {given}: the next one is domain {next}")]
    Number {
        /// What the action says.
        given: DomainId,
        /// What the tree says.
        next: DomainId,
    },
    /// A setting is set and cleared at once.
    #[error("'{0}' cannot be set and cleared at once")]
    SetAndCleared(Setting),
    /// Too many domains.
    #[error("with domain {0}, there would be more than {DOMAINS_MAX} domains")]
    DomainsMax(DomainId),
    /// Too many agents.
    #[error("with agent '{0}', there would be more than {AGENTS_MAX} agents")]
    AgentsMax(AgentId),
    /// The transaction names too much.
    #[error("{0} domains and agents are named, {NAMED_MAX} at most can be changed at once: do it in parts")]
    NamedMax(usize),
}

impl Action {
    /// How many domains and agents it names.
    pub(super) fn named(&self) -> usize {
        match self {
            Self::SetRoot { .. } => 0,
            Self::Set { domains, agents, .. } => domains.len() + agents.len(),
            Self::MoveDomains { domains, .. } => domains.len(),
            Self::MoveAgents { agents, .. } | Self::RemoveAgents { agents } => agents.len(),
            Self::AddDomain { .. }
            | Self::RenameDomain { .. }
            | Self::RemoveDomain { .. }
            | Self::AddAgent { .. } => 1,
        }
    }
}

/// What is done, in a few words for the audit log; which values, stands in the differences.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetRoot { reach: Reach::AllAgents, patch } => write!(f, "change {patch} for all agents"),
            Self::SetRoot { reach: Reach::FutureDomainsOnly, patch } => {
                write!(f, "change {patch} for future domains only")
            }
            Self::Set { domains, agents, patch } => {
                write!(f, "change {patch} at {}", Named(domains, agents))
            }
            Self::AddDomain { domain, name, parent, .. } => {
                write!(f, "add domain {domain} '{name}' {}", Parent(*parent))
            }
            Self::RenameDomain { domain, name } => write!(f, "rename domain {domain} to '{name}'"),
            Self::MoveDomains { domains, to } => {
                write!(f, "move {} {}", Named(domains, &[]), Parent(*to))
            }
            Self::RemoveDomain { domain, below: Below::MustBeEmpty } => write!(f, "remove domain {domain}"),
            Self::RemoveDomain { domain, below: Below::Removed } => {
                write!(f, "remove domain {domain} with all below it")
            }
            Self::AddAgent { agent, domain, .. } => write!(f, "add agent '{agent}' to domain {domain}"),
            Self::MoveAgents { agents, to } => write!(f, "move {} to domain {to}", Named(&[], agents)),
            Self::RemoveAgents { agents } => write!(f, "remove {}", Named(&[], agents)),
        }
    }
}

/// The settings that are changed.
impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, setting) in self.settings().enumerate() {
            write!(f, "{}{setting}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// One domain or agent by its id, several by their number.
struct Named<'a>(&'a [DomainId], &'a [AgentId]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self([domain], []) => write!(f, "domain {domain}"),
            Self([], [agent]) => write!(f, "agent '{agent}'"),
            Self(domains, []) => write!(f, "{} domains", domains.len()),
            Self([], agents) => write!(f, "{} agents", agents.len()),
            Self(domains, agents) => write!(f, "{} domains and {} agents", domains.len(), agents.len()),
        }
    }
}

struct Parent(Option<DomainId>);

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(domain) => write!(f, "to domain {domain}"),
            None => f.write_str("to the root"),
        }
    }
}
