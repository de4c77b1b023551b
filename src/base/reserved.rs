//! Addresses that no agent has business with through the relay unless a rule lists them (R4.6), in whatever form they come.
//!
//! An IPv6 address may carry an IPv4 one that a router or translator unpacks: mapped, compatible, translated (SIIT), NAT64
//! under any prefix, ISATAP. What is carried counts. Never resolves or connects. Invariant: 6to4 and Teredo addresses are
//! refused whole, since what they carry is only half of where they lead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::base::nat64::{Prefix, WELL_KNOWN};

/// Why an address is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// This machine, or no address at all (RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.2 and 2.5.3).
    ThisMachine,
    /// Its link (RFC 3927, RFC 4291 section 2.5.6).
    Link,
    /// A private network (RFC 1918), or a site-local one (RFC 3879).
    Private,
    /// A private network of IPv6 (RFC 4193).
    UniqueLocal,
    /// Between a carrier and its customers (RFC 6598).
    Shared,
    /// A tunnel that anybody's router may unpack (RFC 7526).
    SixToFour,
    /// A tunnel to wherever the address says (RFC 4380).
    Teredo,
    /// Several machines at once (RFC 1112, RFC 4291 section 2.7), or all of a link.
    Multicast,
    /// Where clouds tell a machine its secrets.
    Metadata,
    /// For protocols, for tests of routers, or for later (RFC 6890).
    Special,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThisMachine => "an address of this machine",
            Self::Link => "a link-local address",
            Self::Private => "a private address",
            Self::UniqueLocal => "a unique-local address",
            Self::Shared => "a shared (carrier-grade NAT) address",
            Self::SixToFour => "a 6to4 address",
            Self::Teredo => "a Teredo address",
            Self::Multicast => "a multicast address",
            Self::Metadata => "a cloud's metadata address",
            Self::Special => "an address for special use",
        })
    }
}

/// Why an address is reserved; `None` for one that is not. `nat64` are the prefixes of this network, besides the well-known one.
pub fn reserved(address: IpAddr, nat64: &[Prefix]) -> Option<Reserved> {
    match address {
        IpAddr::V4(v4) => reserved_v4(v4),
        IpAddr::V6(v6) => match carried(v6, nat64) {
            Some(v4) => reserved_v4(v4),
            None => reserved_v6(v6),
        },
    }
}

/// The forms of an address that rules may list: itself, and what it carries.
pub fn forms(address: IpAddr, nat64: &[Prefix]) -> impl Iterator<Item = IpAddr> {
    let within = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => carried(v6, nat64).map(IpAddr::V4),
    };
    [Some(address), within].into_iter().flatten()
}

fn reserved_v4(v4: Ipv4Addr) -> Option<Reserved> {
    let [first, second, third, _] = v4.octets();
    if METADATA_V4.contains(&v4) {
        return Some(Reserved::Metadata);
    }
    match (first, second, third) {
        (0 | 127, ..) => Some(Reserved::ThisMachine),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some(Reserved::Private),
        (169, 254, _) => Some(Reserved::Link),
        (100, 64..=127, _) => Some(Reserved::Shared),
        (192, 88, 99) => Some(Reserved::SixToFour),
        (224..=239, ..) => Some(Reserved::Multicast),
        (255, ..) if v4.is_broadcast() => Some(Reserved::Multicast),
        (192, 0, 0) | (198, 18 | 19, _) | (240..=255, ..) => Some(Reserved::Special),
        _ => None,
    }
}

fn reserved_v6(v6: Ipv6Addr) -> Option<Reserved> {
    if v6.is_unspecified() || v6.is_loopback() {
        return Some(Reserved::ThisMachine);
    }
    if v6 == METADATA_V6 {
        return Some(Reserved::Metadata);
    }
    RANGES_V6.iter().find(|(range, _)| range.contains(&v6)).map(|(_, reserved)| *reserved)
}

/// The IPv4 address that an IPv6 address carries.
fn carried(v6: Ipv6Addr, nat64: &[Prefix]) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = v6.octets();
    let last = Ipv4Addr::new(a, b, c, d);
    if v6.is_unspecified() || v6.is_loopback() {
        return None;
    }
    if LAST_FOUR.iter().any(|range| range.contains(&v6)) {
        return Some(last);
    }
    let [.., 0 | 0x0200, 0x5efe, _, _] = v6.segments() else {
        return nat64.iter().chain([&WELL_KNOWN]).find_map(|prefix| prefix.extract(v6));
    };
    // Where an ISATAP address stands in a range of its own, such as the link's, that counts first.
    reserved_v6(v6).is_none().then_some(last)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// Whose last four octets are an IPv4 address: compatible (RFC 4291 section 2.5.5.1), mapped (2.5.5.2), translated (RFC 2765).
const LAST_FOUR: [Ipv6Net; 3] = [
    v6(0, 0, 0, 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
];

const RANGES_V6: [(Ipv6Net, Reserved); 10] = [
    (v6(0xfe80, 0, 0, 10), Reserved::Link),
    (v6(0xfec0, 0, 0, 10), Reserved::Private),
    (v6(0xfc00, 0, 0, 7), Reserved::UniqueLocal),
    (v6(0x2002, 0, 0, 16), Reserved::SixToFour),
    (v6(0x2001, 0, 0, 32), Reserved::Teredo),
    (v6(0xff00, 0, 0, 8), Reserved::Multicast),
    // NAT64 of a network's own (RFC 8215): where its prefix ends is not known here.
    (v6(0x64, 0xff9b, 1, 48), Reserved::Special),
    // Thrown away (RFC 6666).
    (v6(0x100, 0, 0, 64), Reserved::Special),
    // Identifiers of hosts, not places (RFC 7343).
    (v6(0x2001, 0x20, 0, 28), Reserved::Special),
    // Segments of a router's own (RFC 9602).
    (v6(0x5f00, 0, 0, 16), Reserved::Special),
];

/// Metadata services outside link-local addresses; those within are told apart for the log.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    /// One address of each kind, with what it is.
    const KINDS: [(&str, Reserved); 13] = [
        ("127.0.0.1", Reserved::ThisMachine),
        ("0.0.0.0", Reserved::ThisMachine),
        ("10.1.2.3", Reserved::Private),
        ("172.16.0.1", Reserved::Private),
        ("172.31.255.255", Reserved::Private),
        ("192.168.1.1", Reserved::Private),
        ("169.254.1.1", Reserved::Link),
        ("169.254.169.254", Reserved::Metadata),
        ("100.64.0.1", Reserved::Shared),
        ("224.0.0.1", Reserved::Multicast),
        ("255.255.255.255", Reserved::Multicast),
        ("240.0.0.1", Reserved::Special),
        ("198.18.0.1", Reserved::Special),
    ];

    fn kind(text: &str) -> Option<Reserved> {
        reserved(text.parse().unwrap(), &[])
    }

    #[test]
    fn ipv4_counts_in_every_form_that_carries_it_r4_6() {
        let own: Prefix = Prefix::new("2001:db8:122::/48".parse().unwrap()).unwrap();
        for (text, expected) in KINDS {
            let v4: Ipv4Addr = text.parse().unwrap();
            assert_eq!(kind(text), Some(expected), "{text}");
            let [a, b] = [v4.octets()[..2].try_into(), v4.octets()[2..].try_into()]
                .map(|half: Result<[u8; 2], _>| u16::from_be_bytes(half.unwrap()));
            for form in ["::ffff", "::ffff:0", "64:ff9b:", "2001:db9::5efe", "2001:db9::200:5efe"] {
                let address = format!("{form}:{a:x}:{b:x}");
                assert_eq!(kind(&address), Some(expected), "{address}");
            }
            let [o1, o2, o3, o4] = v4.octets();
            let embedded = format!(
                "2001:db8:122:{:x}:{:x}:{:x}::",
                u16::from_be_bytes([o1, o2]),
                o3,
                u16::from_be_bytes([o4, 0])
            );
            assert_eq!(reserved(embedded.parse().unwrap(), &[own]), Some(expected), "{embedded}");
            assert_eq!(kind(&format!("2002:{a:x}:{b:x}::1")), Some(Reserved::SixToFour));
            if v4.octets() != [0, 0, 0, 0] {
                assert_eq!(kind(&format!("::{a:x}:{b:x}")), Some(expected), "compatible {text}");
            }
        }
    }

    #[test]
    fn ipv6_has_reserved_ranges_of_its_own_r4_6() {
        for (text, expected) in [
            ("::", Reserved::ThisMachine),
            ("::1", Reserved::ThisMachine),
            ("fe80::1", Reserved::Link),
            ("febf::1", Reserved::Link),
            ("fe80::5efe:192.0.2.1", Reserved::Link),
            ("fec0::1", Reserved::Private),
            ("fc00::1", Reserved::UniqueLocal),
            ("fdff::1", Reserved::UniqueLocal),
            ("fd00:ec2::254", Reserved::Metadata),
            ("2002:c000:201::1", Reserved::SixToFour),
            ("2001:0:4136:e378::1", Reserved::Teredo),
            ("ff02::1", Reserved::Multicast),
            ("64:ff9b:1::192.0.2.1", Reserved::Special),
            ("100::1", Reserved::Special),
        ] {
            assert_eq!(kind(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_world_are_not_reserved() {
        for text in [
            "192.0.2.1",
            "1.1.1.1",
            "172.32.0.1",
            "172.15.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "223.255.255.254",
            "2001:db8::1",
            "2600::1",
            "64:ff9b::192.0.2.1",
            "::ffff:192.0.2.1",
            "2001:db9::5efe:192.0.2.1",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
    }
}
