//! Why a change of the agent tree is refused.
//!
//! Invariant: a refusal names the domain, agent or setting that is its reason.

use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;

use crate::policy::sources::CustomisedError;
use crate::policy::tree::difference::Misfit;
use crate::policy::tree::file::{FILE_BYTES_MAX, FileName};
use crate::policy::tree::id::{AgentId, DomainId, DomainName, EnrolmentId};
use crate::policy::tree::setting::Setting;
use crate::policy::tree::{AGENTS_MAX, DEPTH_MAX, DOMAINS_MAX, NAMED_MAX};

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
    /// It names an enrolment that is not there.
    #[error("there is no enrolment '{0}'")]
    NoEnrolment(EnrolmentId),
    /// It adds an enrolment that is there.
    #[error("there is an enrolment '{0}' already")]
    EnrolmentExists(EnrolmentId),
    /// The enrolment's moment has passed.
    #[error("enrolment '{0}' is over since {1}")]
    EnrolmentOver(EnrolmentId, Timestamp),
    /// The enrolment has let in as many as it was made for.
    #[error("enrolment '{0}' has let in as many agents as it was made for")]
    EnrolmentSpent(EnrolmentId),
    /// The agent is in the tree and has a key, was shut out, or stands in a domain that the enrolment is not for.
    #[error("agent '{0}' cannot enrol: it has a key already, was revoked, or stands in another domain")]
    Enrolled(AgentId),
    /// Another agent has the certificate.
    #[error("agent '{0}' has this certificate already")]
    CertificateTaken(AgentId),
    /// The prefix has bits behind its length.
    #[error("the range {range} has more bits than its length: {} is meant", range.trunc())]
    RangeBits {
        /// The prefix.
        range: IpNet,
    },
    /// IPv4 addresses written as IPv6 ones, which no agent has once they are normalised (R4.1).
    #[error("the range {0} is of IPv4 addresses written as IPv6: write them as IPv4")]
    RangeMapped(IpNet),
    /// No domain has this range.
    #[error("no domain has the range {0}")]
    NoRange(IpNet),
    /// Too many of something.
    #[error("there would be more than {max} {what}")]
    Max {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The customised list is not one.
    #[error("customised list: {0}")]
    Customised(#[from] CustomisedError),
    /// A settings file is too large.
    #[error("settings file '{name}' has {bytes} bytes, {FILE_BYTES_MAX} at most are allowed")]
    FileBytes {
        /// Which.
        name: FileName,
        /// How many it has.
        bytes: u64,
    },
    /// What is to be amended is not what is there.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A domain has the mark of a future value, and not the value.
    #[error("domain {domain} cannot have started with '{setting}', which is not set at it")]
    StartedWithout {
        /// The domain.
        domain: DomainId,
        /// The setting.
        setting: Setting,
    },
    /// An agent is shut out and has a key, or has keys of which none is there.
    #[error("agent '{0}' has keys that no agent can have: shut out and with a key, or none of either")]
    KeysAndStanding(AgentId),
    /// What somebody has seen is not what is there any more.
    #[error("it has changed since")]
    ChangedSince,
    /// There is no such settings file.
    #[error("there is no settings file '{0}' there")]
    NoFile(FileName),
}
