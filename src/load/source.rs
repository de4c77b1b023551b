//! Which address each agent comes from, where ranges of them are given.
//!
//! Invariant: an agent has the same address in every run, inside its range, and neither the range's first nor its last where those
//! mean the network and everybody on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address of an agent, of the family that is asked for; `None` where no range is of it.
///
/// Agents go round the ranges, and within each from one address to the next.
pub fn source(ranges: &[IpNet], agent: u32, is_ipv6: bool) -> Option<IpAddr> {
    let is_of_family = |range: &&IpNet| matches!(range, IpNet::V6(_)) == is_ipv6;
    let count = u32::try_from(ranges.iter().filter(is_of_family).count()).ok()?;
    let range = ranges.iter().filter(is_of_family).nth(agent.checked_rem(count)? as usize)?;
    let number = u128::from(agent / count);
    Some(match range {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            // A range of one or two addresses has no network and no broadcast (RFC 3021).
            let edge = u32::from(net.prefix_len() < 31);
            let size = u128::from(last - first - 2 * edge) + 1;
            let offset = u32::try_from(number % size).expect("an IPv4 range has no more addresses than fit");
            IpAddr::V4(Ipv4Addr::from(first + edge + offset))
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            // The first address of a subnet is its routers' (RFC 4291 section 2.6.1).
            let edge = u128::from(net.prefix_len() < 127);
            let size = (last - first - edge).saturating_add(1);
            IpAddr::V6(Ipv6Addr::from(first + edge + number % size))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn agents_go_round_ranges_and_addresses_r5_5() {
        let ranges = ranges(&["127.1.0.0/30", "::1/128", "127.2.0.0/16"]);
        let at = |agent| source(&ranges, agent, false).unwrap().to_string();
        let expected = ["127.1.0.1", "127.2.0.1", "127.1.0.2", "127.2.0.2", "127.1.0.1", "127.2.0.3"];
        assert_eq!((0..6).map(at).collect::<Vec<_>>(), expected);
        assert_eq!(source(&ranges, 5, true).unwrap().to_string(), "::1");
        assert_eq!(source(&ranges[..1], 0, true), None);
    }

    proptest! {
        #[test]
        fn an_address_is_inside_its_range_and_no_edge_of_it(
            bits in any::<u128>(), agent in any::<u32>(), length4 in 0_u8..=32, length6 in 0_u8..=128,
        ) {
            let v4 = Ipv4Addr::from(u32::try_from(bits >> 96).unwrap());
            for net in [IpNet::new(v4.into(), length4).unwrap(), IpNet::new(Ipv6Addr::from(bits).into(), length6).unwrap()] {
                let is_ipv6 = matches!(net, IpNet::V6(_));
                let address = source(&[net], agent, is_ipv6).unwrap();
                prop_assert!(net.contains(&address));
                if !is_ipv6 && length4 < 31 {
                    prop_assert!(address != net.network() && address != net.broadcast());
                }
                prop_assert_eq!(source(&[net], agent, !is_ipv6), None);
            }
        }
    }
}
