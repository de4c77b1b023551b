//! What may be changed in the agent tree.
//!
//! A transaction is a list of actions, each done on what those before it left; either all are done or none is (R5.4). Never
//! changes a tree itself: that is [`Tree::changed`]. Invariant: what an action tells of itself holds no secret.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::policy::sources::Entry;
use crate::policy::tree::Tree;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::enrolment::Enrolment;
use crate::policy::tree::file::{Content, FileName};
use crate::policy::tree::id::{AgentId, DomainId, DomainName, EnrolmentId};
use crate::policy::tree::keys::Key;
use crate::policy::tree::setting::{Setting, SettingSet, Values};

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
    /// Gives an agent something to be known by, in the place of what it had of the kind.
    GiveKey {
        /// The agent.
        agent: AgentId,
        /// What it is known by from now on.
        key: Key,
    },
    /// Shuts agents out: nothing that they have shows who they are any more.
    Revoke {
        /// The agents.
        agents: Vec<AgentId>,
    },
    /// Lets agents that were shut out enrol again, as if they had never had a key.
    Readmit {
        /// The agents.
        agents: Vec<AgentId>,
    },
    /// Lets agents join a domain by themselves.
    AddEnrolment {
        /// Its id.
        id: EnrolmentId,
        /// What it lets in.
        enrolment: Enrolment,
    },
    /// Lets nobody in any more by this enrolment.
    RemoveEnrolment {
        /// Which.
        id: EnrolmentId,
    },
    /// Has an agent join by an enrolment: one that is new, or one that was put there for it and has no key.
    Enrol {
        /// The enrolment.
        by: EnrolmentId,
        /// The agent.
        agent: AgentId,
        /// What it is known by.
        key: Key,
        /// When, by the wall clock.
        at: Timestamp,
    },
    /// Says to which domain belongs who calls from these addresses and is known by nothing else.
    SetRange {
        /// The addresses, without host bits.
        from: IpNet,
        /// The domain; `None` where no longer to any.
        domain: Option<DomainId>,
    },
    /// Replaces the customised list (R7.1).
    SetCustomised {
        /// Its entries.
        entries: Vec<Entry>,
    },
    /// Puts a settings file at a domain or the root, or takes it away (R5.6).
    PutFile {
        /// The domain; `None` at the root.
        domain: Option<DomainId>,
        /// The file's name.
        name: FileName,
        /// Its bytes; `None` takes it away.
        content: Option<Content>,
    },
    /// Makes several things what they are to be, all at once: names, certificates and places may pass from one to another. Refused
    /// where something is not what it is said to have been.
    Amend {
        /// The things, each once.
        differences: Vec<Difference>,
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

impl Action {
    /// How many domains and agents it names.
    pub(super) fn named(&self) -> usize {
        match self {
            Self::SetRoot { .. } => 0,
            Self::Set { domains, agents, .. } => domains.len() + agents.len(),
            Self::MoveDomains { domains, .. } => domains.len(),
            Self::MoveAgents { agents, .. }
            | Self::RemoveAgents { agents }
            | Self::Revoke { agents }
            | Self::Readmit { agents } => agents.len(),
            Self::SetCustomised { entries } => entries.len(),
            Self::Amend { differences } => differences.iter().map(Difference::named).sum(),
            Self::AddDomain { .. }
            | Self::RenameDomain { .. }
            | Self::RemoveDomain { .. }
            | Self::AddAgent { .. }
            | Self::GiveKey { .. }
            | Self::AddEnrolment { .. }
            | Self::RemoveEnrolment { .. }
            | Self::Enrol { .. }
            | Self::SetRange { .. }
            | Self::PutFile { .. } => 1,
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
            Self::GiveKey { agent, key: Key::Secret(_) } => write!(f, "give agent '{agent}' a secret"),
            Self::GiveKey { agent, key: Key::Certificate(fingerprint) } => {
                write!(f, "give agent '{agent}' the certificate {fingerprint}")
            }
            Self::Revoke { agents } => write!(f, "revoke {}", Named(&[], agents)),
            Self::Readmit { agents } => write!(f, "readmit {}", Named(&[], agents)),
            Self::AddEnrolment { id, enrolment: Enrolment { domain, left, until, .. } } => {
                write!(f, "add enrolment '{id}' of {left} agents to domain {domain} until {until}")
            }
            Self::RemoveEnrolment { id } => write!(f, "remove enrolment '{id}'"),
            Self::Enrol { by, agent, .. } => write!(f, "enrol agent '{agent}' by '{by}'"),
            Self::SetRange { from, domain: Some(domain) } => write!(f, "range {from} is domain {domain}"),
            Self::SetRange { from, domain: None } => write!(f, "range {from} is no domain's"),
            Self::SetCustomised { entries } => write!(f, "customised list of {} entries", entries.len()),
            Self::PutFile { domain, name, content } => {
                let verb = if content.is_some() { "put" } else { "remove" };
                write!(f, "{verb} settings file '{name}' {}", At(*domain))
            }
            Self::Amend { differences } => write!(f, "amend {}", Counted(differences)),
        }
    }
}

/// How many things of each kind.
struct Counted<'a>(&'a [Difference]);

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (one, several) in Difference::KINDS {
            let count = self.0.iter().filter(|difference| difference.kind() == one).count();
            match (count, several) {
                (0, _) => continue,
                (_, "") => write!(f, "{between}{one}")?,
                (1, _) => write!(f, "{between}1 {one}")?,
                (_, several) => write!(f, "{between}{count} {several}")?,
            }
            between = ", ";
        }
        Ok(())
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

struct At(Option<DomainId>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(domain) => write!(f, "at domain {domain}"),
            None => f.write_str("at the root"),
        }
    }
}
