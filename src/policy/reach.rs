//! Where agents may be taken by the relay: the upstreams it has, and what rules list; nowhere else (R4.6).
//!
//! A request's way: the driver says who asks, for which place and how; [`Policy::reach`](crate::policy::decide::Policy::reach)
//! answers with a [`Passage`] or the reason for refusing; the connection spends the passage, and asks it about each address
//! that the place turns out to have. Never resolves or connects. Invariant: a passage cannot be made elsewhere, and what one
//! rule lists opens nothing of another's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::destination::{Destination, HostPattern};
use crate::base::nat64::Prefix;
use crate::base::reserved::{forms, reserved};
use crate::policy::decide::Refusal;
use crate::policy::scope::Scope;

/// How an agent wants to reach a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The relay asks there itself, and knows what it is asked for.
    Request,
    /// Bytes are copied, and nobody knows what is asked for: the scope is passed by.
    Tunnel,
}

/// Who may have tunnels to what a rule lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnels {
    /// Agents with scope `all`: nothing is kept from them.
    #[default]
    All,
    /// Every agent that may ask anything at all.
    Any,
    /// Nobody.
    Never,
}

/// A rule that lists places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What logs and refusals call it.
    pub name: Arc<str>,
    /// The hosts; reserved addresses are listed by a prefix alone.
    pub hosts: Vec<HostPattern>,
    /// Their ports.
    pub ports: Vec<u16>,
    /// Who may have tunnels there.
    pub tunnels: Tunnels,
}

/// How a place that the settings name is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// In clear text: the relay can answer for it.
    Clear,
    /// In TLS: it cannot.
    Tls,
}

/// All places that agents may be taken to; immutable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    places: HashMap<Destination, Speech>,
    rules: Vec<Rule>,
}

/// Proof that an agent may be taken to a place.
#[derive(Clone, Debug)]
pub struct Passage {
    destination: Destination,
    listed: Listed,
}

/// How an agent gets to a place.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The relay answers for it itself.
    Here(Destination),
    /// It is connected to.
    There(Passage),
}

#[derive(Clone, Debug)]
enum Listed {
    /// The settings name the place: its addresses are the administrator's to see to.
    Settings,
    /// Rules do, for agents of this scope who come this way.
    Rules(Arc<Destinations>, Way, Scope),
}

impl Destinations {
    /// What the settings name, and what rules list.
    pub fn new(places: impl IntoIterator<Item = (Destination, Speech)>, rules: Vec<Rule>) -> Self {
        let mut all = HashMap::new();
        for (place, speech) in places {
            // Where one names it in clear text and another in TLS, the relay cannot tell what comes.
            all.entry(place)
                .and_modify(|known| {
                    if *known != speech {
                        *known = Speech::Tls;
                    }
                })
                .or_insert(speech);
        }
        Self { places: all, rules }
    }

    /// Decides for an agent of this scope.
    pub(super) fn reach(
        self: &Arc<Self>,
        scope: Scope,
        to: &Destination,
        way: Way,
    ) -> Result<Reach, Refusal> {
        let passage = |listed| Reach::There(Passage { destination: to.clone(), listed });
        match (self.places.get(to), way) {
            (Some(Speech::Clear), Way::Tunnel) => Ok(Reach::Here(to.clone())),
            (Some(_), _) if scope == Scope::All => Ok(passage(Listed::Settings)),
            // What else an upstream has is not known, nor in how many ways it spells what its tree has: no rule opens it.
            (Some(_), Way::Request) => Err(Refusal::OutsideScope(scope)),
            (Some(Speech::Tls), Way::Tunnel) if self.rules.iter().any(|rule| rule.means(to)) => {
                Ok(passage(Listed::Settings))
            }
            (Some(Speech::Tls), Way::Tunnel) => Err(Refusal::Tunnel(UPSTREAM.into(), scope)),
            (None, _) => {
                let listed = Listed::Rules(self.clone(), way, scope);
                self.by_rule(scope, to, way).map(|()| passage(listed))
            }
        }
        .and_then(|reach| match (&reach, to.address()) {
            (Reach::There(passage), Some(address)) => passage.admits(address, &[]).map(|()| reach),
            _ => Ok(reach),
        })
    }

    /// What judges the addresses of a place that agents are allowed to ask: it does not depend on which agent asks.
    pub fn judge(self: &Arc<Self>, to: &Destination) -> Passage {
        let listed = match self.places.get(to) {
            Some(_) => Listed::Settings,
            None => Listed::Rules(self.clone(), Way::Request, Scope::Patterns),
        };
        Passage { destination: to.clone(), listed }
    }

    fn by_rule(&self, scope: Scope, to: &Destination, way: Way) -> Result<(), Refusal> {
        let mut refusal = None;
        for rule in self.rules.iter().filter(|rule| rule.names(to)) {
            match rule.opens(scope, to.port(), way) {
                Ok(()) => return Ok(()),
                Err(reason) => {
                    refusal.get_or_insert(reason);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| Refusal::Destination(to.clone())))
    }

    fn admits(
        &self,
        scope: Scope,
        address: IpAddr,
        port: u16,
        way: Way,
        nat64: &[Prefix],
    ) -> Result<(), Refusal> {
        let Some(kind) = reserved(address, nat64) else { return Ok(()) };
        let lists = |rule: &Rule| {
            let mut forms = forms(address, nat64).map(|form| Destination::at(form, port));
            forms.any(|form| {
                rule.hosts.iter().any(|host| matches!(host, HostPattern::Prefix(_)) && host.names(&form))
            })
        };
        let listed = self.rules.iter().any(|rule| lists(rule) && rule.opens(scope, port, way).is_ok());
        if listed { Ok(()) } else { Err(Refusal::Address(address, kind)) }
    }
}

impl Rule {
    /// Whether it opens tunnels to just this host for everybody: whoever wrote it knew whose host it is.
    fn means(&self, to: &Destination) -> bool {
        let alone = |host: &HostPattern| match host {
            HostPattern::Name(_) => host.names(to),
            HostPattern::Prefix(prefix) => prefix.prefix_len() == prefix.max_prefix_len() && host.names(to),
            HostPattern::Any | HostPattern::Below(_) => false,
        };
        self.tunnels == Tunnels::Any && self.ports.contains(&to.port()) && self.hosts.iter().any(alone)
    }

    fn names(&self, to: &Destination) -> bool {
        self.hosts.iter().any(|host| host.names(to))
    }

    fn opens(&self, scope: Scope, port: u16, way: Way) -> Result<(), Refusal> {
        if !self.ports.contains(&port) {
            return Err(Refusal::Port(self.name.clone(), port));
        }
        match (way, self.tunnels) {
            (Way::Request, _) | (Way::Tunnel, Tunnels::Any) => Ok(()),
            (Way::Tunnel, Tunnels::All) if scope == Scope::All => Ok(()),
            (Way::Tunnel, Tunnels::All | Tunnels::Never) => Err(Refusal::Tunnel(self.name.clone(), scope)),
        }
    }
}

impl Passage {
    /// A passage to a mount's upstream, for an agent that sees the mount.
    pub(super) fn to_mount(destination: Destination) -> Self {
        Self { destination, listed: Listed::Settings }
    }

    /// Where it leads.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Whether an address that the place has may be connected to. `nat64` are the prefixes of this network.
    pub fn admits(&self, address: IpAddr, nat64: &[Prefix]) -> Result<(), Refusal> {
        match &self.listed {
            Listed::Settings => Ok(()),
            Listed::Rules(destinations, way, scope) => {
                destinations.admits(*scope, address, self.destination.port(), *way, nat64)
            }
        }
    }
}

/// What refusals call the rule by which upstreams may be reached.
const UPSTREAM: &str = "upstream";

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, hosts: &[HostPattern], ports: &[u16], tunnels: Tunnels) -> Rule {
        Rule { name: name.into(), hosts: hosts.to_vec(), ports: ports.to_vec(), tunnels }
    }

    fn to(text: &str) -> Destination {
        Destination::parse(text).unwrap()
    }

    fn prefix(text: &str) -> HostPattern {
        HostPattern::Prefix(text.parse().unwrap())
    }

    fn destinations() -> Arc<Destinations> {
        let places = [(to("au.example:80"), Speech::Clear), (to("au.example:443"), Speech::Tls)];
        let rules = vec![
            rule("names", &[HostPattern::Below("example.net".into())], &[80, 443], Tunnels::Any),
            rule("inside", &[prefix("10.0.0.0/8"), prefix("fd10::/64")], &[80], Tunnels::All),
            rule("world", &[HostPattern::Any], &[8080], Tunnels::Never),
        ];
        Arc::new(Destinations::new(places, rules))
    }

    fn there(scope: Scope, text: &str, way: Way) -> Result<Passage, Refusal> {
        match destinations().reach(scope, &to(text), way)? {
            Reach::There(passage) => Ok(passage),
            Reach::Here(place) => panic!("{place} is answered for"),
        }
    }

    #[test]
    fn by_default_nothing_but_the_upstreams_is_reached_r4_6() {
        let alone = Arc::new(Destinations::new([(to("au.example:80"), Speech::Clear)], Vec::new()));
        for text in ["other.example:80", "au.example:81", "192.0.2.1:80", "127.0.0.1:80", "[::1]:80"] {
            for way in [Way::Request, Way::Tunnel] {
                let refused = alone.reach(Scope::All, &to(text), way).unwrap_err();
                assert_eq!(refused, Refusal::Destination(to(text)));
            }
        }
        alone.reach(Scope::All, &to("au.example:80"), Way::Request).unwrap();
    }

    #[test]
    fn a_tunnel_to_an_upstream_never_passes_the_scope_by_r6_2() {
        for scope in Scope::ALL {
            let reach = destinations().reach(scope, &to("au.example:80"), Way::Tunnel);
            assert!(matches!(reach, Ok(Reach::Here(place)) if place == to("au.example:80")));
            assert_eq!(there(scope, "au.example:443", Way::Tunnel).is_ok(), scope == Scope::All);
            assert_eq!(there(scope, "au.example:80", Way::Request).is_ok(), scope == Scope::All);
        }
        let refused = there(Scope::Patterns, "au.example:443", Way::Tunnel).unwrap_err();
        assert_eq!(refused, Refusal::Tunnel("upstream".into(), Scope::Patterns));
    }

    #[test]
    fn no_rule_opens_an_upstream_but_one_that_names_it_and_that_for_tunnels_alone_r6_2() {
        let reach = |host: &HostPattern, text: &str, way| {
            let places = [(to("au.example:80"), Speech::Clear), (to("au.example:443"), Speech::Tls)];
            let rules = vec![rule("wide", std::slice::from_ref(host), &[80, 443], Tunnels::Any)];
            Arc::new(Destinations::new(places, rules)).reach(Scope::Patterns, &to(text), way)
        };
        let name = HostPattern::Name("au.example".into());
        for host in [HostPattern::Any, HostPattern::Below("example".into()), name.clone()] {
            for text in ["au.example:80", "au.example:443"] {
                let refused = reach(&host, text, Way::Request).unwrap_err();
                assert_eq!(refused, Refusal::OutsideScope(Scope::Patterns), "{host:?}");
            }
            let tunnel = reach(&host, "au.example:443", Way::Tunnel);
            assert_eq!(tunnel.is_ok(), host == name, "{host:?}");
            assert!(matches!(reach(&host, "au.example:80", Way::Tunnel), Ok(Reach::Here(_))));
        }
    }

    #[test]
    fn rules_open_their_hosts_ports_and_ways_alone_r4_6() {
        assert!(there(Scope::Patterns, "a.example.net:443", Way::Tunnel).is_ok());
        assert_eq!(
            there(Scope::All, "a.example.net:22", Way::Tunnel).unwrap_err(),
            Refusal::Port("names".into(), 22)
        );
        assert_eq!(
            there(Scope::All, "b.example:80", Way::Request).unwrap_err(),
            Refusal::Port("world".into(), 80)
        );
        assert!(there(Scope::Patterns, "b.example:8080", Way::Request).is_ok());
        let refused = there(Scope::All, "b.example:8080", Way::Tunnel).unwrap_err();
        assert_eq!(refused, Refusal::Tunnel("world".into(), Scope::All));
        assert!(there(Scope::Patterns, "10.0.0.1:80", Way::Request).is_ok());
        assert!(there(Scope::Patterns, "10.0.0.1:80", Way::Tunnel).is_err());
        assert!(there(Scope::All, "10.0.0.1:80", Way::Tunnel).is_ok());
    }

    #[test]
    fn a_name_that_resolves_to_a_reserved_address_gains_nothing_r4_6() {
        let nat64 = [Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap()];
        let passage = there(Scope::All, "a.example.net:80", Way::Request).unwrap();
        let admits = |passage: &Passage, text: &str| passage.admits(text.parse().unwrap(), &nat64).is_ok();
        for text in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "64:ff9b::7f00:1",
            "2001:db8:64::c0a8:1",
            "2002:a00:1::1",
            "fe80::1",
            "fd11::1",
            "224.0.0.1",
        ] {
            assert!(!admits(&passage, text), "{text}");
        }
        for text in [
            "192.0.2.1",
            "2001:db8::1",
            "2001:db8:64::c000:201",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "fd10::1",
        ] {
            assert!(admits(&passage, text), "{text}");
        }
        // The rule that lists those addresses has no tunnels for this scope, whatever the name's rule has.
        let tunnel = there(Scope::Patterns, "a.example.net:80", Way::Tunnel).unwrap();
        assert!(!admits(&tunnel, "10.0.0.1") && admits(&tunnel, "192.0.2.1"));
        let elsewhere = there(Scope::All, "a.example.net:443", Way::Request).unwrap();
        assert!(!admits(&elsewhere, "10.0.0.1"), "listed for port 80");
    }

    #[test]
    fn a_reserved_literal_is_refused_though_a_rule_lists_everything_r4_6() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::ffff:10.0.0.1]:8080",
            "[64:ff9b::a00:1]:8080",
            "[2002:7f00:1::]:8080",
            "0x7f.1:8080",
        ] {
            let refused = there(Scope::All, text, Way::Request).unwrap_err();
            assert!(matches!(refused, Refusal::Address(..)), "{text}: {refused}");
        }
        assert!(there(Scope::All, "192.0.2.1:8080", Way::Request).is_ok());
    }
}
