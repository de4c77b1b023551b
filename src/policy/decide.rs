//! The one place where a request is allowed or refused.
//!
//! A request's way: the driver says who calls and what is asked for; [`Policy::decide`] answers with a [`Permit`] or the
//! reason for refusing; `relay::serve` takes the permit and gives bytes. Invariant: a permit cannot be made elsewhere.

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;
use thiserror::Error;

use crate::base::address::normalised;
use crate::manifest::catalogue::Class;
use crate::policy::scope::Scope;

/// What an agent whose address no range names may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
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
    /// Something that no kept generation names: it counts as most restricted.
    Unlisted,
}

/// Proof that a request was allowed. Spent by `relay::serve`, once.
#[derive(Debug)]
pub struct Permit {
    scope: Scope,
}

impl Permit {
    /// Spends the permit; gives the scope whose view of the manifest it permits.
    pub fn spend(self) -> Scope {
        self.scope
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No range names the address, and unknown agents are refused.
    #[error("no address range names this agent")]
    UnknownAgent,
    /// The agent's scope does not hold what was asked for.
    #[error("outside the scope '{0}'")]
    OutsideScope(Scope),
}

/// Address ranges compiled for look-up; immutable.
#[derive(Debug)]
pub struct Policy {
    scopes: JointPrefixMap<IpNet, Scope>,
    unknown: Unknown,
}

impl Policy {
    /// Compiles ranges; of two that hold an address, the longer prefix counts.
    pub fn new(ranges: impl IntoIterator<Item = (IpNet, Scope)>, unknown: Unknown) -> Self {
        Self { scopes: ranges.into_iter().collect(), unknown }
    }

    /// Decides one request of the agent at `address`.
    pub fn decide(&self, address: IpAddr, ask: Ask) -> Result<Permit, Refusal> {
        let scope = self.scope(address)?;
        let sees = match ask {
            Ask::Manifest => true,
            Ask::Component(class) => scope.sees(class),
            Ask::Unlisted => scope == Scope::All,
        };
        if sees { Ok(Permit { scope }) } else { Err(Refusal::OutsideScope(scope)) }
    }

    fn scope(&self, address: IpAddr) -> Result<Scope, Refusal> {
        let named = self.scopes.get_lpm(&IpNet::from(normalised(address)));
        match (named, self.unknown) {
            (Some((_, scope)), _) => Ok(*scope),
            (None, Unknown::Scope(scope)) => Ok(scope),
            (None, Unknown::Refuse) => Err(Refusal::UnknownAgent),
        }
    }
}
