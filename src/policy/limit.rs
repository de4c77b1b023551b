//! The limits that hold for a caller (R10.1): its own, those of its domain, and that of its domain's programs and hot fixes.
//!
//! Each domain has limits of its own, whatever it inherits them from: two domains that take the same number from the domain above them
//! may have that much each. Who is in no domain, since there is none, has the limits that stand at the root, all together. An agent
//! that is known by its address alone has those of an agent, one for each address. Never counts: what is left of a limit is told in
//! `relay::limits`. Invariant: where nothing is limited there is nothing to look at, `None`.

use std::net::IpAddr;
use std::num::NonZeroU64;

use crate::base::address::network;
use crate::policy::caller::{Caller, Who};
use crate::policy::sources::Kind;
use crate::policy::tree::compiled::Effective;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::value::Rate;

/// So many requests or bytes in a second, for its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose it is.
    pub holder: Holder,
    /// How many.
    pub per_sec: NonZeroU64,
}

/// Who has a limit, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An agent.
    Agent(AgentId),
    /// Who is known by its address alone: an IPv4 address, or a /64.
    Address(IpAddr),
    /// All of a domain together; of none, all who have what the root says.
    Domain(Option<DomainId>),
    /// The same, of programs and hot fixes alone.
    Programs(Option<DomainId>),
}

/// What is limited for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    domain: Option<DomainId>,
    requests: Rate,
    bytes: Rate,
    domain_requests: Rate,
    domain_bytes: Rate,
    domain_program_bytes: Rate,
}

impl Rates {
    /// What these settings limit for one of a domain. Those of a domain are the domain's, whatever stands at the agent.
    pub(super) fn of(effective: &Effective<'_>, domain: Option<DomainId>) -> Option<Self> {
        let rates = Self {
            domain,
            requests: *effective.requests_per_sec(),
            bytes: *effective.bytes_per_sec(),
            domain_requests: effective.inherited.domain_requests_per_sec,
            domain_bytes: effective.inherited.domain_bytes_per_sec,
            domain_program_bytes: effective.inherited.domain_program_bytes_per_sec,
        };
        let all = [rates.requests, rates.bytes, rates.domain_requests, rates.domain_bytes];
        let limited = all.into_iter().chain([rates.domain_program_bytes]).any(|rate| rate != Rate::Unlimited);
        limited.then_some(rates)
    }
}

impl Caller {
    /// Whether anything is limited for it.
    pub fn is_limited(&self) -> bool {
        self.rates().is_some()
    }

    /// What its requests count against, its own limit first.
    pub fn request_limits(&self) -> impl Iterator<Item = Limit> + use<> {
        let own = self.holder();
        self.rates().into_iter().flat_map(move |rates| {
            limits([(own, rates.requests), (Holder::Domain(rates.domain), rates.domain_requests)])
        })
    }

    /// What bytes that it is sent count against: its own limit first, its domain's last.
    pub fn byte_limits(&self, kind: Kind) -> impl Iterator<Item = Limit> + use<> {
        let own = self.holder();
        self.rates().into_iter().flat_map(move |rates| {
            let programs = if kind == Kind::Programs { rates.domain_program_bytes } else { Rate::Unlimited };
            limits([
                (own, rates.bytes),
                (Holder::Programs(rates.domain), programs),
                (Holder::Domain(rates.domain), rates.domain_bytes),
            ])
        })
    }

    fn holder(&self) -> Holder {
        match self.who() {
            Who::Agent(id) => Holder::Agent(id),
            Who::Domain(_) | Who::Address => Holder::Address(network(self.address())),
        }
    }
}

fn limits<const N: usize>(rates: [(Holder, Rate); N]) -> impl Iterator<Item = Limit> {
    rates.into_iter().filter_map(|(holder, rate)| match rate {
        Rate::Unlimited => None,
        Rate::PerSec(per_sec) => Some(Limit { holder, per_sec }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decide::{Policy, Unknown};
    use crate::policy::tree::Tree;
    use crate::policy::tree::change::{Action, Patch};
    use crate::policy::tree::compiled::Compiled;
    use crate::policy::tree::id::DomainName;
    use crate::policy::tree::setting::Values;

    fn domain(number: u32) -> DomainId {
        DomainId::try_from(number).unwrap()
    }

    fn agent(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn rate(number: u64) -> Option<Rate> {
        Rate::per_sec(number).ok()
    }

    /// Domain 1 with limits, domain 2 in it with nothing of its own, and an agent in each.
    fn tree() -> Compiled {
        let values = Values {
            requests_per_sec: rate(1),
            bytes_per_sec: rate(2),
            domain_requests_per_sec: rate(3),
            domain_bytes_per_sec: rate(4),
            domain_program_bytes_per_sec: rate(5),
            ..Values::default()
        };
        let add = |number, name, parent, values| Action::AddDomain {
            domain: domain(number),
            name: DomainName::parse(name).unwrap(),
            parent,
            values,
        };
        let own = Values { bytes_per_sec: rate(9), domain_bytes_per_sec: rate(9), ..Values::default() };
        let actions = [
            add(1, "above", None, values),
            add(2, "below", Some(domain(1)), Values::default()),
            add(3, "beside", None, Values::default()),
            Action::AddAgent { agent: agent("a"), domain: domain(1), values: Values::default() },
            Action::AddAgent { agent: agent("b"), domain: domain(2), values: Values::default() },
            Action::AddAgent { agent: agent("free"), domain: domain(3), values: Values::default() },
            Action::Set { domains: vec![], agents: vec![agent("b")], patch: Patch::set(own) },
            Action::SetRange { from: "2001:db8::/32".parse().unwrap(), domain: Some(domain(2)) },
        ];
        Compiled::new(Tree::default().changed(&actions).unwrap().tree)
    }

    fn caller(who: Who, address: &str) -> Caller {
        let policy = Policy::new([], Unknown::Open);
        policy.again(&tree(), who, address.parse().unwrap()).unwrap()
    }

    fn told(limits: impl Iterator<Item = Limit>) -> Vec<(Holder, u64)> {
        limits.map(|limit| (limit.holder, limit.per_sec.get())).collect()
    }

    #[test]
    fn each_domain_has_limits_of_its_own_whatever_it_inherits_them_from_r10_1() {
        let a = caller(Who::Agent(agent("a")), "192.0.2.1");
        let (own, of_domain) = (Holder::Agent(agent("a")), Holder::Domain(Some(domain(1))));
        assert_eq!(told(a.request_limits()), [(own, 1), (of_domain, 3)]);
        assert_eq!(told(a.byte_limits(Kind::Components)), [(own, 2), (of_domain, 4)]);
        let programs = Holder::Programs(Some(domain(1)));
        assert_eq!(told(a.byte_limits(Kind::Programs)), [(own, 2), (programs, 5), (of_domain, 4)]);
        // What stands at the agent counts for the agent alone.
        let b = caller(Who::Agent(agent("b")), "192.0.2.1");
        let of_domain = Holder::Domain(Some(domain(2)));
        assert_eq!(told(b.byte_limits(Kind::Components)), [(Holder::Agent(agent("b")), 9), (of_domain, 4)]);
        let address = caller(Who::Address, "2001:db8::77:1");
        let own = Holder::Address("2001:db8::".parse().unwrap());
        assert_eq!(told(address.request_limits()), [(own, 1), (of_domain, 3)]);
    }

    #[test]
    fn where_nothing_is_limited_there_is_nothing_to_look_at_r10_1() {
        let free = caller(Who::Agent(agent("free")), "192.0.2.1");
        assert!(!free.is_limited());
        assert_eq!((free.request_limits().count(), free.byte_limits(Kind::Programs).count()), (0, 0));
    }
}
