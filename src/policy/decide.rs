//! The one place where a request is allowed or refused.
//!
//! A request's way: the driver says what it shows, and [`Policy::caller`] who that is; [`Policy::decide`] answers what is asked
//! for with a [`Permit`] or the reason for refusing; `relay::serve` takes the permit and gives bytes. Invariant: a permit cannot
//! be made elsewhere.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;
use thiserror::Error;

use crate::base::address::normalised;
use crate::base::destination::Destination;
use crate::base::reserved::Reserved;
use crate::base::tally::RefusedBy;
use crate::manifest::catalogue::Class;
use crate::policy::caller::Caller;
use crate::policy::reach::{Destinations, Passage, Reach, Way};
use crate::policy::scope::Scope;
use crate::policy::sources::Kind;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::value::Enforce;

/// What an agent may have that nothing shows, and whose address no range names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// What the root of the agent tree says, everything by default, until there is a domain; then nothing (R5.5).
    Open,
    /// Nothing.
    Refuse,
    /// What this scope sees.
    Scope(Scope),
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A tree's manifest.
    Manifest,
    /// A package, increment or signature of a component of this class.
    Component(Class),
    /// A file of a mount, which agents of this scope and wider ones see.
    Mount(Scope),
    /// Something that no kept generation names: it counts as most restricted.
    Unlisted,
}

/// Proof that a request was allowed. Spent by `relay::serve`, once.
#[derive(Debug)]
pub struct Permit {
    scope: Scope,
    ask: Ask,
}

impl Permit {
    /// Spends the permit on what it was given for; gives the scope that allowed it. `None` where it was given for
    /// something else.
    pub fn spend(self, ask: Ask) -> Option<Scope> {
        (self.ask == ask).then_some(self.scope)
    }
}

/// Whether an agent has checked in, and what for is allowed (R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It has: it may take packages now.
    Open,
    /// It has not, or its permission has ended.
    Closed,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No range names the address, and unknown agents are refused.
    #[error("no address range names this agent")]
    UnknownAgent,
    /// The same where agents can show who they are.
    #[error("nothing shows which agent this is, and no address range names it")]
    Unnamed,
    /// What is shown is no agent's token.
    #[error("this is no agent's token")]
    Secret,
    /// The certificate is no agent's.
    #[error("the certificate is no agent's, or not valid now")]
    Certificate,
    /// The agent was shut out.
    #[error("the agent '{0}' was revoked")]
    Revoked(AgentId),
    /// The agent has not checked in, and its domain wants that (R8).
    #[error("the agent has no permission to update now: it is to check in first")]
    NotPermitted,
    /// The agent is to take this elsewhere (R7.1).
    #[error("the relay does not serve {0} to this agent")]
    NotServed(Kind),
    /// The agent's scope does not hold what was asked for.
    #[error("outside the scope '{0}'")]
    OutsideScope(Scope),
    /// Nothing lists the place.
    #[error("no rule lists {0}")]
    Destination(Destination),
    /// The rule that lists the host has not this port.
    #[error("the rule '{0}' does not list port {1}")]
    Port(Arc<str>, u16),
    /// The rule that lists the place has no tunnels for agents of this scope.
    #[error("the rule '{0}' has no tunnels for scope '{1}'")]
    Tunnel(Arc<str>, Scope),
    /// The place has an address that agents have no business with, and no rule lists it.
    #[error("{0} is {1}, and no rule lists it")]
    Address(IpAddr, Reserved),
    /// The request was here before: it goes in a loop.
    #[error("the request was here before")]
    Loop,
    /// The proxy is for users, and the agent named none, or not with its secret.
    #[error("the proxy wants a user and its secret")]
    Credentials,
}

impl Refusal {
    /// What by, as metrics and logs name it.
    pub fn by(&self) -> RefusedBy {
        match self {
            Self::UnknownAgent | Self::Unnamed => RefusedBy::Agents,
            Self::NotPermitted => RefusedBy::Permission,
            Self::NotServed(_) => RefusedBy::Source,
            Self::OutsideScope(_) => RefusedBy::Scope,
            Self::Destination(_) => RefusedBy::Destination,
            Self::Port(..) => RefusedBy::Port,
            Self::Tunnel(..) => RefusedBy::Tunnel,
            Self::Address(..) => RefusedBy::Address,
            Self::Loop => RefusedBy::Loop,
            Self::Credentials | Self::Secret | Self::Certificate | Self::Revoked(_) => RefusedBy::Credentials,
        }
    }
}

/// Address ranges compiled for look-up; immutable.
#[derive(Debug)]
pub struct Policy {
    scopes: JointPrefixMap<IpNet, Scope>,
    unknown: Unknown,
    destinations: Arc<Destinations>,
}

impl Policy {
    /// Compiles ranges; of two that hold an address, the longer prefix counts.
    pub fn new(ranges: impl IntoIterator<Item = (IpNet, Scope)>, unknown: Unknown) -> Self {
        Self { scopes: ranges.into_iter().collect(), unknown, destinations: Arc::default() }
    }

    /// The same, where agents may be taken elsewhere, too.
    #[must_use]
    pub fn with_destinations(self, destinations: Arc<Destinations>) -> Self {
        Self { destinations, ..self }
    }

    /// Decides one request.
    pub fn decide(&self, caller: &Caller, ask: Ask, permission: Permission) -> Result<Permit, Refusal> {
        let scope = caller.scope();
        let sees = match ask {
            Ask::Manifest => true,
            Ask::Component(class) => scope.sees(class),
            Ask::Mount(least) => scope >= least,
            Ask::Unlisted => scope == Scope::All,
        };
        if !sees {
            return Err(Refusal::OutsideScope(scope));
        }
        let served = |kind| caller.is_served(kind);
        match ask {
            Ask::Manifest if !served(Kind::Components) && !served(Kind::Programs) => {
                return Err(Refusal::NotServed(Kind::Components));
            }
            Ask::Component(class) if !served(Kind::of(class)) => {
                return Err(Refusal::NotServed(Kind::of(class)));
            }
            _ => {}
        }
        let wanted = matches!(ask, Ask::Component(_) | Ask::Unlisted);
        if wanted && caller.enforce() == Some(Enforce::Strict) && permission == Permission::Closed {
            return Err(Refusal::NotPermitted);
        }
        Ok(Permit { scope, ask })
    }

    /// Decides whether an agent may be taken to a place.
    pub fn reach(&self, caller: &Caller, to: &Destination, way: Way) -> Result<Reach, Refusal> {
        self.destinations.reach(caller.scope(), to, way)
    }

    /// Decides whether an agent may have what a mount, seen by this scope and wider ones, stands for.
    pub fn reach_mount(&self, caller: &Caller, to: Destination, least: Scope) -> Result<Passage, Refusal> {
        self.decide(caller, Ask::Mount(least), Permission::Closed).map(|_| Passage::to_mount(to))
    }

    /// What judges the addresses of places that agents ask.
    pub fn destinations(&self) -> &Arc<Destinations> {
        &self.destinations
    }

    /// The range of the settings that names an address, the longest, and its scope.
    pub(super) fn range(&self, address: IpAddr) -> Option<(IpNet, Scope)> {
        self.scopes.get_lpm(&IpNet::from(normalised(address))).map(|(range, scope)| (range, *scope))
    }

    /// What who is not known may have.
    pub(super) fn unknown(&self) -> Unknown {
        self.unknown
    }
}

#[cfg(test)]
mod tests;
