//! Where an agent may update from, in order: the customised list, the relay, the upstream itself (R7).
//!
//! Never resolves a name or connects. Invariants: no two entries of a customised list hold the same address, so that an address
//! has one answer; an agent is told only what it can reach with the families that it has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

use crate::base::address::normalised;
use crate::manifest::catalogue::Class;
use crate::policy::tree::compiled::Effective;

/// Entries of a customised list (R7.1).
pub const ENTRIES_MAX: usize = 1024;

/// What an agent asks a source for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Patterns, engines and drivers.
    Components,
    /// Agent settings files (R5.6).
    AgentSettings,
    /// Programs and hot fixes.
    Programs,
}

impl Kind {
    /// The kind that components of a class are.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Pattern | Class::Engine | Class::Driver => Self::Components,
            Class::Hotfix | Class::Program => Self::Programs,
        }
    }
}

/// In words for people.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Components => "components",
            Self::AgentSettings => "agent settings",
            Self::Programs => "programs and hot fixes",
        })
    }
}

/// The addresses that agents have in one entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Range {
    /// IPv4 addresses from the first to the last.
    V4(Ipv4Addr, Ipv4Addr),
    /// An IPv6 prefix.
    V6(Ipv6Net),
}

/// The text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// It is neither of the two.
    #[error(
        "it is neither an IPv4 range such as 192.0.2.1-192.0.2.99 nor an IPv6 prefix such as 2001:db8::/32"
    )]
    Form,
    /// It ends before it begins.
    #[error("its last address is before its first")]
    Backwards,
    /// The prefix has bits behind its length.
    #[error("the prefix has more bits than its length: {0} is meant")]
    HostBits(Ipv6Net),
    /// IPv4 addresses written as IPv6 ones, which no agent has once they are normalised (R4.1).
    #[error("IPv4 addresses are named by a range, not as IPv6 addresses")]
    Mapped,
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if let Some((first, last)) = text.split_once('-') {
            let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| RangeError::Form);
            let (first, last) = (address(first)?, address(last)?);
            return if first <= last { Ok(Self::V4(first, last)) } else { Err(RangeError::Backwards) };
        }
        let prefix: Ipv6Net = text.parse().map_err(|_| RangeError::Form)?;
        if prefix.trunc() != prefix {
            return Err(RangeError::HostBits(prefix.trunc()));
        }
        if prefix.prefix_len() >= 96 && prefix.network().to_ipv4_mapped().is_some() {
            return Err(RangeError::Mapped);
        }
        Ok(Self::V6(prefix))
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(first, last) => write!(f, "{first}-{last}"),
            Self::V6(prefix) => write!(f, "{prefix}"),
        }
    }
}

/// The address families that a source is reached with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Families {
    /// IPv4 alone.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6 alone.
    #[serde(rename = "ipv6")]
    V6,
    /// Either.
    #[default]
    Both,
}

/// A place to update from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SourceText")]
pub struct Source {
    url: Url,
    #[serde(default)]
    families: Families,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceText {
    url: Url,
    #[serde(default)]
    families: Families,
}

impl TryFrom<SourceText> for Source {
    type Error = SourceError;

    fn try_from(text: SourceText) -> Result<Self, SourceError> {
        Self::new(text.url, text.families)
    }
}

/// The URL leads to no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a source is an http or https URL with a host, without user, query or fragment")]
pub struct SourceError;

impl Source {
    /// The source at a URL. Where its host is an address, that says its family, whatever is said here.
    pub fn new(url: Url, families: Families) -> Result<Self, SourceError> {
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let families = match url.host() {
            Some(Host::Ipv4(_)) => Families::V4,
            Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
                Some(_) => Families::V4,
                None => Families::V6,
            },
            Some(Host::Domain(_)) => families,
            None => return Err(SourceError),
        };
        if plain { Ok(Self { url, families }) } else { Err(SourceError) }
    }

    /// Its URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The families that it is reached with.
    pub fn families(&self) -> Families {
        self.families
    }

    fn is_reached_by(&self, agent: Addresses) -> bool {
        match self.families {
            Families::V4 => agent.v4.is_some(),
            Families::V6 => agent.v6.is_some(),
            Families::Both => agent.v4.is_some() || agent.v6.is_some(),
        }
    }
}

/// One line of the customised list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whom it is for.
    pub range: Range,
    /// Where they update from.
    pub source: Source,
}

/// The customised list, sorted for look-up; immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Customised {
    /// As they were given.
    entries: Vec<Entry>,
    /// First and last address, and which entry; sorted, and none reaches into the next.
    v4: Vec<(Ipv4Addr, Ipv4Addr, usize)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr, usize)>,
}

/// Why a customised list is refused. Entries are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CustomisedError {
    /// More than there may be.
    #[error("{0} entries, {ENTRIES_MAX} at most are allowed")]
    TooMany(usize),
    /// Two entries hold the same addresses.
    #[error("entry {} ({}) overlaps entry {} ({})", .later.0, .later.1, .earlier.0, .earlier.1)]
    Overlap {
        /// The one that is named first in the list.
        earlier: (usize, Range),
        /// The other.
        later: (usize, Range),
    },
}

impl Customised {
    /// Sorts a list; one whose entries overlap is refused.
    pub fn new(entries: Vec<Entry>) -> Result<Self, CustomisedError> {
        if entries.len() > ENTRIES_MAX {
            return Err(CustomisedError::TooMany(entries.len()));
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match entry.range {
                Range::V4(first, last) => v4.push((first, last, at)),
                Range::V6(prefix) => v6.push((prefix.network(), prefix.broadcast(), at)),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        if let Some((one, other)) = overlap(&v4).or_else(|| overlap(&v6)) {
            let named = |at: usize| (at + 1, entries[at].range);
            return Err(CustomisedError::Overlap {
                earlier: named(one.min(other)),
                later: named(one.max(other)),
            });
        }
        Ok(Self { entries, v4, v6 })
    }

    /// Its entries, as they were given.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that holds an address.
    pub fn entry(&self, address: IpAddr) -> Option<&Entry> {
        let at = match normalised(address) {
            IpAddr::V4(v4) => find(&self.v4, &v4),
            IpAddr::V6(v6) => find(&self.v6, &v6),
        };
        Some(&self.entries[at?])
    }
}

/// Two neighbours of which one reaches into the other: where any two entries overlap, such are among them.
fn overlap<A: Ord>(sorted: &[(A, A, usize)]) -> Option<(usize, usize)> {
    let pair = sorted.windows(2).find(|pair| pair[0].1 >= pair[1].0)?;
    Some((pair[0].2, pair[1].2))
}

fn find<A: Ord>(sorted: &[(A, A, usize)], address: &A) -> Option<usize> {
    let after = sorted.partition_point(|(first, ..)| first <= address);
    let (_, last, at) = &sorted[after.checked_sub(1)?];
    (address <= last).then_some(*at)
}

/// The addresses that an agent has: the one that it calls from, and what else it declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Of IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Of IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        match normalised(address) {
            IpAddr::V4(v4) => Self { v4: Some(v4), v6: None },
            IpAddr::V6(v6) => Self { v4: None, v6: Some(v6) },
        }
    }
}

/// What there is besides the customised list.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The relay itself: a URL, or one for each family.
    pub relay: Vec<Source>,
    /// The upstream's URLs, in order.
    pub upstream: Vec<Source>,
    /// The relay as a forward proxy: a URL, or one for each family.
    pub proxy: Vec<Source>,
}

/// A source that an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// Where it is.
    pub url: &'a Url,
    /// Why it is told.
    pub reason: Reason<'a>,
}

/// Why an agent is told a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// This entry of the customised list holds its address.
    Customised(&'a Range),
    /// It is the relay, which serves what is asked for.
    Relay,
    /// Agents may update from the `ActiveUpdate` server.
    Upstream,
    /// The same, but the agent cannot reach it: the relay's proxy at this URL does.
    UpstreamThrough(&'a Url),
}

/// What an agent is told when it asks where to get this kind of thing, in the order in which to try (R7).
pub fn sources<'a>(
    customised: &'a Customised,
    offer: &'a Offer,
    effective: Effective<'_>,
    agent: Addresses,
    kind: Kind,
) -> Vec<Told<'a>> {
    let mut told = Vec::new();
    // IPv6 first, as agents with both families connect (RFC 6724).
    let addresses = [agent.v6.map(IpAddr::V6), agent.v4.map(IpAddr::V4)];
    for entry in addresses.into_iter().flatten().filter_map(|address| customised.entry(address)) {
        if entry.source.is_reached_by(agent) {
            told.push(Told { url: &entry.source.url, reason: Reason::Customised(&entry.range) });
        }
    }
    let relay_serves = match kind {
        Kind::Components => effective.relay_serves_components(),
        Kind::AgentSettings => effective.relay_serves_settings(),
        Kind::Programs => effective.relay_serves_programs(),
    };
    if relay_serves.is_on() {
        let relay = offer.relay.iter().filter(|source| source.is_reached_by(agent));
        told.extend(relay.map(|source| Told { url: &source.url, reason: Reason::Relay }));
    }
    // Agent settings are the relay's own: the upstream has none.
    if effective.fallback_to_activeupdate().is_on() && kind != Kind::AgentSettings {
        told.extend(offer.upstream.iter().filter_map(|source| upstream(source, offer, agent)));
    }
    told
}

/// An agent that has IPv6 alone goes through the relay, whatever is known of the upstream: its names may have IPv4 alone (R7.1).
fn upstream<'a>(source: &'a Source, offer: &'a Offer, agent: Addresses) -> Option<Told<'a>> {
    let reason = if agent.v4.is_some() && source.is_reached_by(agent) {
        Reason::Upstream
    } else {
        Reason::UpstreamThrough(&offer.proxy.iter().find(|proxy| proxy.is_reached_by(agent))?.url)
    };
    Some(Told { url: &source.url, reason })
}

#[cfg(test)]
mod tests;
