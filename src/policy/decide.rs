//! The one place where a request is allowed or refused.
//!
//! A request's way: the driver says who calls and what is asked for; [`Policy::decide`] answers with a [`Permit`] or the
//! reason for refusing; `relay::serve` takes the permit and gives bytes. Invariant: a permit cannot be made elsewhere.

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
use crate::policy::reach::{Destinations, Passage, Reach, Way};
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

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No range names the address, and unknown agents are refused.
    #[error("no address range names this agent")]
    UnknownAgent,
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
            Self::UnknownAgent => RefusedBy::Agents,
            Self::OutsideScope(_) => RefusedBy::Scope,
            Self::Destination(_) => RefusedBy::Destination,
            Self::Port(..) => RefusedBy::Port,
            Self::Tunnel(..) => RefusedBy::Tunnel,
            Self::Address(..) => RefusedBy::Address,
            Self::Loop => RefusedBy::Loop,
            Self::Credentials => RefusedBy::Credentials,
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

    /// Decides one request of the agent at `address`.
    pub fn decide(&self, address: IpAddr, ask: Ask) -> Result<Permit, Refusal> {
        let scope = self.scope(address)?;
        let sees = match ask {
            Ask::Manifest => true,
            Ask::Component(class) => scope.sees(class),
            Ask::Mount(least) => scope >= least,
            Ask::Unlisted => scope == Scope::All,
        };
        if sees { Ok(Permit { scope, ask }) } else { Err(Refusal::OutsideScope(scope)) }
    }

    /// Decides whether the agent at `address` may be taken to a place.
    pub fn reach(&self, address: IpAddr, to: &Destination, way: Way) -> Result<Reach, Refusal> {
        self.destinations.reach(self.scope(address)?, to, way)
    }

    /// Decides whether the agent at `address` may have what a mount, seen by this scope and wider ones, stands for.
    pub fn reach_mount(&self, address: IpAddr, to: Destination, least: Scope) -> Result<Passage, Refusal> {
        self.decide(address, Ask::Mount(least)).map(|_| Passage::to_mount(to))
    }

    /// What judges the addresses of places that agents ask.
    pub fn destinations(&self) -> &Arc<Destinations> {
        &self.destinations
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

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(unknown: Unknown) -> Policy {
        let range = |prefix: &str, scope| (prefix.parse().unwrap(), scope);
        let ranges = [
            range("192.0.2.0/24", Scope::Patterns),
            range("192.0.2.128/25", Scope::PatternsEnginesDrivers),
            range("192.0.2.130/32", Scope::All),
            range("2001:db8::/32", Scope::Patterns),
            range("2001:db8:1::/48", Scope::All),
        ];
        Policy::new(ranges, unknown)
    }

    fn scope(policy: &Policy, address: &str) -> Result<Scope, Refusal> {
        let permit = policy.decide(address.parse().unwrap(), Ask::Manifest)?;
        Ok(permit.spend(Ask::Manifest).unwrap())
    }

    #[test]
    fn a_permit_buys_what_it_was_given_for_and_nothing_else_r6_2() {
        let agent = "192.0.2.130".parse().unwrap();
        let asks =
            [Ask::Manifest, Ask::Component(Class::Pattern), Ask::Component(Class::Program), Ask::Unlisted];
        for given in asks {
            for spent in asks {
                let permit = policy(Unknown::Refuse).decide(agent, given).unwrap();
                assert_eq!(permit.spend(spent).is_some(), given == spent, "{given:?} spent on {spent:?}");
            }
        }
    }

    #[test]
    fn the_longest_prefix_counts_and_mapped_addresses_are_ipv4_r4_1() {
        let policy = policy(Unknown::Refuse);
        for (address, expected) in [
            ("192.0.2.1", Ok(Scope::Patterns)),
            ("192.0.2.129", Ok(Scope::PatternsEnginesDrivers)),
            ("192.0.2.130", Ok(Scope::All)),
            ("::ffff:192.0.2.1", Ok(Scope::Patterns)),
            ("::ffff:192.0.2.130", Ok(Scope::All)),
            ("2001:db8:2::1", Ok(Scope::Patterns)),
            ("2001:db8:1::1", Ok(Scope::All)),
            ("192.0.3.1", Err(Refusal::UnknownAgent)),
            ("::192.0.2.130", Err(Refusal::UnknownAgent)),
            ("2001:db9::1", Err(Refusal::UnknownAgent)),
        ] {
            assert_eq!(scope(&policy, address), expected, "{address}");
        }
    }

    #[test]
    fn what_nobody_names_counts_as_most_restricted_r6_2() {
        let policy = policy(Unknown::Scope(Scope::PatternsEnginesDrivers));
        for (address, allowed) in [("192.0.2.1", false), ("192.0.2.129", false), ("192.0.2.130", true)] {
            let decided = policy.decide(address.parse().unwrap(), Ask::Unlisted);
            assert_eq!(decided.is_ok(), allowed, "{address}");
        }
        assert_eq!(scope(&policy, "198.51.100.1"), Ok(Scope::PatternsEnginesDrivers));
        let refused = policy.decide("198.51.100.1".parse().unwrap(), Ask::Component(Class::Program));
        assert_eq!(refused.unwrap_err(), Refusal::OutsideScope(Scope::PatternsEnginesDrivers));
    }
}
