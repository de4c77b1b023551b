//! Who is at the other end of a connection, as the log shows it.
//!
//! Each line of the access log has one, and most of what its formatting takes in the standard library is not for the address: it is for
//! widths that nobody asks for. Invariant: the text is that of [`SocketAddr`].

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A peer's address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer(pub SocketAddr);

impl fmt::Display for Peer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text { bytes: [0; TEXT_BYTES_MAX], len: 0 };
        match self.0 {
            SocketAddr::V4(v4) => text.push_v4(*v4.ip()),
            SocketAddr::V6(v6) if v6.scope_id() == 0 && v6.ip().to_ipv4_mapped().is_none() => {
                text.push(b'[');
                text.push_v6(*v6.ip());
                text.push(b']');
            }
            // Zones and IPv4 within IPv6 are seldom.
            SocketAddr::V6(v6) => return v6.fmt(to),
        }
        text.push(b':');
        text.push_decimal(self.0.port());
        to.write_str(str::from_utf8(&text.bytes[..text.len]).unwrap_or_default())
    }
}

/// The text so far: it is written as one, since what it is written to looks for room each time.
struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    len: usize,
}

/// Eight groups of four digits with seven colons between them, in brackets, then a colon and a port.
const TEXT_BYTES_MAX: usize = 8 * 4 + 7 + 2 + 1 + 5;

impl Text {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn push_decimal(&mut self, number: impl itoa::Integer) {
        for byte in itoa::Buffer::new().format(number).bytes() {
            self.push(byte);
        }
    }

    fn push_v4(&mut self, address: Ipv4Addr) {
        let [first, rest @ ..] = address.octets();
        self.push_decimal(first);
        for octet in rest {
            self.push(b'.');
            self.push_decimal(octet);
        }
    }

    /// Adds an address as RFC 5952 (section 4) has it: the first of the longest runs of zeros, two groups at least, as `::`.
    fn push_v6(&mut self, address: Ipv6Addr) {
        let groups = address.segments();
        let (mut run, mut longest) = (0..0, 0..1);
        for (at, &group) in groups.iter().enumerate() {
            run = if group == 0 { run.start..at + 1 } else { at + 1..at + 1 };
            if run.len() > longest.len() {
                longest = run.clone();
            }
        }
        if longest.len() < 2 {
            return self.push_groups(&groups);
        }
        self.push_groups(&groups[..longest.start]);
        self.push(b':');
        self.push(b':');
        self.push_groups(&groups[longest.end..]);
    }

    fn push_groups(&mut self, groups: &[u16]) {
        for (at, &group) in groups.iter().enumerate() {
            if at > 0 {
                self.push(b':');
            }
            let digits = [12, 8, 4, 0].map(|shift| HEX[usize::from(group >> shift & 0xf)]);
            let zeros = (group | 1).leading_zeros() as usize / 4;
            for &digit in &digits[zeros..] {
                self.push(digit);
            }
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_peer_is_as_the_standard_library_writes_it(
            v4: [u8; 4],
            groups in prop::array::uniform8(prop_oneof![3 => Just(0), 1 => 0_u16..0x200, 1 => any::<u16>()]),
            mapped: bool,
            zone in prop_oneof![3 => Just(0_u32), 1 => any::<u32>()],
            port: u16,
        ) {
            let v6 = if mapped { Ipv4Addr::from(v4).to_ipv6_mapped() } else { Ipv6Addr::from(groups) };
            let zoned = SocketAddrV6::new(v6, port, 0, zone);
            for address in [SocketAddr::from((v4, port)), SocketAddr::from((v6, port)), zoned.into()] {
                prop_assert_eq!(Peer(address).to_string(), address.to_string());
            }
        }
    }

    #[test]
    fn every_pattern_of_zeros_is_shortened_as_the_standard_library_does() {
        for zeros in 0..=u8::MAX {
            let groups: [u16; 8] =
                std::array::from_fn(|at| if zeros >> at & 1 == 1 { 0 } else { 0xfe80 >> at });
            let address = SocketAddr::from((groups, 443));
            assert_eq!(Peer(address).to_string(), address.to_string());
        }
    }
}
