//! Who is calling, of all that a request shows: the one place where that is decided (R5.5).
//!
//! What shows an agent counts in this order: a TLS certificate, a token, the address. The first that is shown counts, and where it
//! shows nobody the request is refused: a key that was taken back is never passed over for the address beside it. While there never
//! was a domain, nothing that is shown is looked at. Never reads a request. Invariants: who is calling is decided anew for each
//! request, without a lock and without allocating; how long it takes says nothing about a secret or about which agents there are.

use std::hash::Hash;
use std::net::IpAddr;

use crate::policy::decide::{Policy, Refusal, Unknown};
use crate::policy::identity::{Certificate, Validity};
use crate::policy::limit::Rates;
use crate::policy::scope::Scope;
use crate::policy::secret::{SecretHash, Token};
use crate::policy::sources::Kind;
use crate::policy::tree::compiled::{Compiled, Effective};
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::value::{Enforce, Switch};
use crate::policy::tree::{Agent, Tree};

/// What a request shows of who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The certificate of its connection.
    pub certificate: Option<&'a Certificate>,
    /// What it says.
    pub said: Said<'a>,
    /// Where it comes from.
    pub address: IpAddr,
}

/// A request that shows nothing but where it comes from.
impl From<IpAddr> for Shown<'_> {
    fn from(address: IpAddr) -> Self {
        Self { certificate: None, said: Said::Nothing, address }
    }
}

/// What a request says of who sends it.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Nothing.
    Nothing,
    /// A token, read.
    Token(Token<'a>),
    /// Something that is no token.
    Other,
    /// Who opened the tunnel that it came through.
    Before(Who),
}

/// Who sends a request, and what holds for it: of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    who: Who,
    address: IpAddr,
    scope: Scope,
    serves: Serves,
    enforce: Enforce,
    rates: Option<Rates>,
}

/// What somebody is known as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// As this agent of the tree.
    Agent(AgentId),
    /// As one of this domain, by its address alone.
    Domain(DomainId),
    /// By its address alone, or not at all: the settings say what it may have.
    Address,
}

/// What the relay serves to somebody (R7.1).
#[derive(Clone, Copy, Debug)]
struct Serves {
    components: bool,
    agent_settings: bool,
    programs: bool,
    /// Whether its proxy leads to the upstream, where the relay serves it nothing.
    fallback: Switch,
}

impl Caller {
    /// As whom.
    pub fn who(&self) -> Who {
        self.who
    }

    /// The agent, where it is known as one.
    pub fn agent(&self) -> Option<&AgentId> {
        match &self.who {
            Who::Agent(id) => Some(id),
            Who::Domain(_) | Who::Address => None,
        }
    }

    /// Where it calls from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What its generation is remembered by (R1.4): its identity, else its address.
    pub fn pinned(&self) -> impl Hash {
        self.agent().copied().ok_or(self.address)
    }

    /// What it may update.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether packages need an open permission: of agents alone, since nobody else checks in (R8).
    pub fn enforce(&self) -> Option<Enforce> {
        self.agent().map(|_| self.enforce)
    }

    /// Whether the relay serves it this kind of thing.
    pub fn is_served(&self, kind: Kind) -> bool {
        match kind {
            Kind::Components => self.serves.components,
            Kind::AgentSettings => self.serves.agent_settings,
            Kind::Programs => self.serves.programs,
        }
    }

    /// The same where it asks for the upstream itself, by the relay as its proxy. Agents that may fall back on it have what the relay does
    /// not serve them so: one with IPv6 alone has no other way there (R7.1).
    #[must_use]
    pub fn toward_upstream(self) -> Self {
        let Serves { components, programs, fallback, .. } = self.serves;
        let serves = Serves {
            components: components || fallback.is_on(),
            programs: programs || fallback.is_on(),
            ..self.serves
        };
        Self { serves, ..self }
    }

    /// What is limited for it; `None` where nothing is.
    pub(super) fn rates(&self) -> Option<Rates> {
        self.rates
    }

    fn effective(who: Who, address: IpAddr, effective: &Effective<'_>, domain: Option<DomainId>) -> Self {
        let serves = Serves {
            components: effective.relay_serves_components().is_on(),
            agent_settings: effective.relay_serves_settings().is_on(),
            programs: effective.relay_serves_programs().is_on(),
            fallback: *effective.fallback_to_activeupdate(),
        };
        let rates = Rates::of(effective, domain);
        Self { who, address, scope: *effective.scope(), serves, enforce: *effective.enforce(), rates }
    }

    fn of_settings(address: IpAddr, scope: Scope) -> Self {
        let serves = Serves { components: true, agent_settings: true, programs: true, fallback: Switch::Off };
        Self { who: Who::Address, address, scope, serves, enforce: Enforce::Report, rates: None }
    }
}

impl Policy {
    /// Decides who sends a request that shows this.
    pub fn caller(&self, tree: &Compiled, shown: &Shown<'_>) -> Result<Caller, Refusal> {
        if tree.tree().knows_nobody() {
            return self.by_address(tree, shown.address);
        }
        let (id, agent) = match (shown.certificate, shown.said) {
            (_, Said::Before(who)) => return self.again(tree, who, shown.address),
            (Some(certificate), _) => by_certificate(tree.tree(), certificate)?,
            (None, Said::Token(token)) => by_token(tree.tree(), token)?,
            (None, Said::Other) => return Err(Refusal::Secret),
            (None, Said::Nothing) => return self.by_address(tree, shown.address),
        };
        let effective = tree.holds_for(agent).ok_or(Refusal::Secret)?;
        Ok(Caller::effective(Who::Agent(id), shown.address, &effective, Some(agent.domain)))
    }

    /// What holds now for who was let in before, on the same connection.
    pub fn again(&self, tree: &Compiled, who: Who, address: IpAddr) -> Result<Caller, Refusal> {
        let Who::Agent(id) = who else { return self.by_address(tree, address) };
        let agent = tree.tree().agent(&id).ok_or(Refusal::Secret)?;
        if agent.is_revoked() {
            return Err(Refusal::Revoked(id));
        }
        let effective = tree.holds_for(agent).ok_or(Refusal::Secret)?;
        Ok(Caller::effective(who, address, &effective, Some(agent.domain)))
    }

    /// Of the ranges of the tree and of the settings, the longest counts; of two alike that of the tree.
    fn by_address(&self, tree: &Compiled, address: IpAddr) -> Result<Caller, Refusal> {
        let of_settings = self.range(address);
        if let Some((range, domain)) = tree.range(address)
            && of_settings.is_none_or(|(other, _)| range.prefix_len() >= other.prefix_len())
            && let Some(effective) = tree.domain(domain)
        {
            return Ok(Caller::effective(Who::Domain(domain), address, &effective, Some(domain)));
        }
        let scope = match (of_settings, self.unknown()) {
            (Some((_, scope)), _) | (None, Unknown::Scope(scope)) => scope,
            (None, Unknown::Open) if tree.tree().knows_nobody() => {
                return Ok(Caller::effective(Who::Address, address, &tree.root(), None));
            }
            (None, Unknown::Refuse) if tree.tree().knows_nobody() => return Err(Refusal::UnknownAgent),
            (None, Unknown::Open | Unknown::Refuse) => return Err(Refusal::Unnamed),
        };
        Ok(Caller::of_settings(address, scope))
    }
}

/// The agent that a certificate shows: the one that it was given to, or the one that it names, where an authority of the settings
/// vouches for the name.
fn by_certificate<'t>(tree: &'t Tree, certificate: &Certificate) -> Result<(AgentId, &'t Agent), Refusal> {
    if certificate.validity == Validity::Past {
        return Err(Refusal::Certificate);
    }
    if let Some(id) = tree.agent_with(certificate.fingerprint) {
        return tree.agent(id).map(|agent| (*id, agent)).ok_or(Refusal::Certificate);
    }
    let ids = certificate.names.iter().filter_map(|name| AgentId::parse(&name.to_ascii_lowercase()).ok());
    let mut known = ids.filter_map(|id| Some((id, tree.agent(&id)?)));
    match known.next() {
        Some((id, agent)) if agent.is_revoked() => Err(Refusal::Revoked(id)),
        Some(known) => Ok(known),
        None => Err(Refusal::Certificate),
    }
}

/// The agent whose token this is. Where there is no such agent, or it has no secret, there is something to compare with all the
/// same.
fn by_token<'t>(tree: &'t Tree, token: Token<'_>) -> Result<(AgentId, &'t Agent), Refusal> {
    let id = AgentId::parse(token.id).map_err(|_| Refusal::Secret)?;
    let agent = tree.agent(&id);
    let known = agent.and_then(|agent| agent.keys?.secret);
    let right = known.unwrap_or(SecretHash::NOBODYS) == SecretHash::of(token.secret.as_bytes());
    let agent = agent.filter(|_| right && known.is_some());
    agent.map(|agent| (id, agent)).ok_or(Refusal::Secret)
}

#[cfg(test)]
mod tests;
