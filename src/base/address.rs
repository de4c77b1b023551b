//! Addresses as rules see them (R4.1).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IPv4-mapped IPv6 address as the IPv4 address that it stands for; any other unchanged.
pub fn normalised(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A socket's peer with its address normalised; the zone of a link-local address is kept.
pub fn normalised_peer(peer: SocketAddr) -> SocketAddr {
    match (peer, normalised(peer.ip())) {
        (SocketAddr::V6(_), IpAddr::V4(v4)) => SocketAddr::new(v4.into(), peer.port()),
        _ => peer,
    }
}

/// What counts as one address: an IPv4 address; of IPv6 the /64, within which a host may take any (RFC 8981).
pub fn network(address: IpAddr) -> IpAddr {
    match normalised(address) {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_peers_become_ipv4_and_zones_stay() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:80".parse().unwrap();
        assert_eq!(normalised_peer(mapped), "192.0.2.7:80".parse().unwrap());
        let zoned: SocketAddr = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(normalised_peer(zoned), zoned);
    }
}
