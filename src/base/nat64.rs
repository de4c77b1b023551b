//! IPv4 addresses inside IPv6 addresses, as NAT64 translates them (RFC 6052), and how a network tells its prefix (RFC 7050).
//!
//! Never asks anybody. Invariant: what [`Prefix::embed`] gives, [`Prefix::extract`] takes back, and no address that leads to this
//! machine or its link is embedded.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The name that has these IPv4 addresses alone, so that an IPv6 address of it was made by the network (RFC 7050 section 3).
pub const DISCOVERY_NAME: &str = "ipv4only.arpa.";

/// Its addresses.
pub const DISCOVERY_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Prefixes that one network may have; more are not taken.
pub const PREFIXES_MAX: usize = 4;

/// A NAT64's prefix: of 32, 40, 48, 56, 64 or 96 bits, bits 64 to 71 zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(Ipv6Net);

impl Prefix {
    /// Takes a prefix, or says why it is none for NAT64.
    pub fn new(net: Ipv6Net) -> Result<Self, &'static str> {
        if !LENGTHS.contains(&net.prefix_len()) {
            return Err("its length is not 32, 40, 48, 56, 64 or 96");
        }
        if net != net.trunc() {
            return Err("host bits are set");
        }
        if net.addr().octets()[U_OCTET] != 0 {
            return Err("its bits 64 to 71 are not zero");
        }
        Ok(Self(net))
    }

    /// The IPv6 address that stands for an IPv4 address; `None` for one that is never embedded.
    pub fn embed(self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        is_embeddable(address).then(|| self.place(address))
    }

    /// The IPv4 address that an IPv6 address below this prefix stands for. What follows it is not looked at: it is reserved.
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        if !self.0.contains(&address) || octets[U_OCTET] != 0 {
            return None;
        }
        let mut v4 = [0; 4];
        for (octet, place) in v4.iter_mut().zip(self.places()) {
            *octet = octets[place];
        }
        Some(v4.into())
    }

    /// The prefixes that IPv6 addresses of [`DISCOVERY_NAME`] tell, in their order, each once.
    pub fn discovered(answer: &[Ipv6Addr]) -> Vec<Self> {
        let mut found = Vec::new();
        let told = answer.iter().filter_map(|address| Self::in_answer(*address));
        for prefix in told.take(PREFIXES_MAX) {
            if !found.contains(&prefix) {
                found.push(prefix);
            }
        }
        found
    }

    /// The longest prefix under which an address stands for a discovery address, with nothing set after it.
    fn in_answer(address: Ipv6Addr) -> Option<Self> {
        LENGTHS.iter().rev().find_map(|length| {
            let prefix = Self::new(Ipv6Net::new(address, *length).ok()?.trunc()).ok()?;
            let mut known = DISCOVERY_ADDRESSES.into_iter();
            known.any(|known| prefix.place(known) == address).then_some(prefix)
        })
    }

    fn place(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.0.addr().octets();
        for (octet, place) in address.octets().into_iter().zip(self.places()) {
            octets[place] = octet;
        }
        octets.into()
    }

    /// Where the IPv4 address's octets stand: behind the prefix, around the octet that stays zero.
    fn places(self) -> impl Iterator<Item = usize> {
        let start = usize::from(self.0.prefix_len() / 8);
        (start..16).filter(move |place| start == LAST_START || *place != U_OCTET).take(4)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an IPv4 address may be reached by NAT64: one that means this machine, its link or everybody on it means others
/// behind the translator.
pub fn is_embeddable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && !address.is_link_local() && !address.is_broadcast() && first < 224
}

/// The IPv4 address within an address, whatever says so: itself, mapped, or under the prefix that all networks know.
pub fn ipv4_within(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => WELL_KNOWN.extract(v6),
    }
}

/// `64:ff9b::/96` (RFC 6052 section 2.1).
pub const WELL_KNOWN: Prefix = Prefix(Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96));

/// The lengths that a prefix may have, in bits.
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The octet that is zero in each such address.
const U_OCTET: usize = 8;

/// Where an address behind the longest prefix stands: past that octet, which is the prefix's own.
const LAST_START: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Result<Prefix, &'static str> {
        Prefix::new(text.parse().unwrap())
    }

    /// RFC 6052 section 2.4.
    const VECTORS: [(&str, &str); 7] = [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ];

    #[test]
    fn the_rfcs_own_addresses_come_out_and_back_r4_3() {
        let v4: Ipv4Addr = "192.0.2.33".parse().unwrap();
        for (net, expected) in VECTORS {
            let prefix = prefix(net).unwrap();
            let v6: Ipv6Addr = expected.parse().unwrap();
            assert_eq!(prefix.embed(v4), Some(v6), "{net}");
            assert_eq!(prefix.extract(v6), Some(v4), "{net}");
        }
        assert_eq!(prefix("64:ff9b::/96").unwrap(), WELL_KNOWN);
    }

    #[test]
    fn prefixes_of_other_lengths_or_with_the_reserved_octet_set_are_refused_r4_3() {
        for bad in ["64:ff9b::/95", "64:ff9b::/128", "2001:db8::/33", "2001:db8::/16", "::/0"] {
            assert!(prefix(bad).unwrap_err().contains("length"), "{bad}");
        }
        prefix("2001:db8:0:0:100::/96").unwrap_err();
        prefix("2001:db8::1/64").unwrap_err();
        let other = prefix("2001:db8:122:344::/64").unwrap();
        assert_eq!(other.extract("2001:db8:122:344:1c0:2:2100::".parse().unwrap()), None, "the octet is set");
        assert_eq!(other.extract("2001:db8:122:345:c0:2:2100::".parse().unwrap()), None, "another prefix");
    }

    #[test]
    fn addresses_of_this_machine_and_its_link_are_never_embedded_r4_3() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
        ];
        for address in refused {
            assert_eq!(WELL_KNOWN.embed(address.parse().unwrap()), None, "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "192.0.2.1", "1.0.0.1", "223.255.255.254"] {
            assert!(WELL_KNOWN.embed(address.parse().unwrap()).is_some(), "{address}");
        }
    }

    #[test]
    fn discovery_finds_each_prefix_by_its_well_known_addresses_r4_3() {
        for (net, _) in VECTORS {
            let prefix = prefix(net).unwrap();
            let answer = DISCOVERY_ADDRESSES.map(|address| prefix.embed(address).unwrap());
            assert_eq!(Prefix::discovered(&answer), [prefix], "{net}");
        }
        let lies = ["2001:db8::1", "64:ff9b::192.0.2.1", "2001:db8:c000:aa::1", "::1"];
        assert_eq!(Prefix::discovered(&lies.map(|lie| lie.parse().unwrap())), []);
        let two = ["64:ff9b::c000:aa", "2001:db8:c000:ab::"].map(|address| address.parse().unwrap());
        assert_eq!(Prefix::discovered(&two), [WELL_KNOWN, prefix("2001:db8::/32").unwrap()]);
    }

    #[test]
    fn ipv4_is_seen_in_whatever_carries_it() {
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert_eq!(ipv4_within(text.parse().unwrap()), Some(Ipv4Addr::LOCALHOST), "{text}");
        }
        assert_eq!(ipv4_within("2001:db8::1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn what_is_embedded_is_extracted_again_and_the_octet_stays_zero_r4_3(
            bits in any::<u128>(), v4 in any::<u32>(), length in prop::sample::select(&LENGTHS[..]),
        ) {
            let zero = Ipv6Addr::from(bits & !(0xff << 56));
            let prefix = Prefix::new(Ipv6Net::new(zero, length).unwrap().trunc()).unwrap();
            let v4 = Ipv4Addr::from(v4);
            prop_assert_eq!(prefix.embed(v4).is_some(), is_embeddable(v4));
            if let Some(v6) = prefix.embed(v4) {
                prop_assert_eq!(v6.octets()[U_OCTET], 0);
                prop_assert_eq!(prefix.extract(v6), Some(v4));
            }
        }
    }
}
