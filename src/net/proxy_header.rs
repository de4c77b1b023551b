//! What a proxy says in front of a connection: for whom it speaks (the PROXY protocol, versions 1 and 2, as the authors of
//! `haproxy` have them in proxy-protocol.txt).
//!
//! Does no I/O. Invariant: never asks for more than [`BYTES_MAX`] bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header that is read, in bytes: one of version 2 with some extras. Balancers send under 200.
pub const BYTES_MAX: usize = 1024;

/// The longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// A header that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes.
    pub len: usize,
    /// The client that the proxy speaks for; `None` where it speaks for itself (LOCAL) or does not know (UNKNOWN).
    pub client: Option<SocketAddr>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no PROXY header: {0}")]
pub struct NoHeader(&'static str);

/// Reads a header at the start of `bytes`; `None` while it may go on.
pub fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    if bytes.starts_with(SIGNATURE) {
        version_2(bytes)
    } else if bytes.starts_with(b"PROXY ") {
        version_1(bytes)
    } else if SIGNATURE.starts_with(bytes) || b"PROXY ".starts_with(bytes) {
        Ok(None)
    } else {
        Err(NoHeader("neither version begins so"))
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let bounded = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = bounded.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(NoHeader("the line is too long")) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| NoHeader("the line is no text"))?;
    let len = end + 2;
    let fields: Vec<&str> = line.split(' ').collect();
    let client = match fields[1..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", from, to, from_port, to_port] => {
            let (from, _) = (address::<Ipv4Addr>(from)?, address::<Ipv4Addr>(to)?);
            Some((from.into(), ports(from_port, to_port)?))
        }
        ["TCP6", from, to, from_port, to_port] => {
            let (from, _) = (address::<Ipv6Addr>(from)?, address::<Ipv6Addr>(to)?);
            Some((from.into(), ports(from_port, to_port)?))
        }
        _ => return Err(NoHeader("the line's fields are not those of version 1")),
    };
    Ok(Some(ProxyHeader { len, client: client.map(|(ip, port): (IpAddr, u16)| SocketAddr::new(ip, port)) }))
}

fn address<A: std::str::FromStr>(text: &str) -> Result<A, NoHeader> {
    text.parse().map_err(|_| NoHeader("an address is none of its family"))
}

/// The first of two ports, both in decimal without a sign or leading zeros.
fn ports(from: &str, to: &str) -> Result<u16, NoHeader> {
    let port = |text: &str| {
        let plain = text == "0" || (!text.starts_with(['0', '+']) && !text.is_empty());
        plain.then(|| text.parse::<u16>().ok()).flatten().ok_or(NoHeader("a port is none"))
    };
    port(to)?;
    port(from)
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > BYTES_MAX {
        return Err(NoHeader("it is too long"));
    }
    let speaks_for_itself = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(NoHeader("its version or command is unknown")),
    };
    let Some(rest) = bytes.get(FIXED_BYTES..len) else { return Ok(None) };
    let client = match fixed[13] {
        _ if speaks_for_itself => None,
        // TCP over IPv4, then over IPv6: two addresses, then two ports.
        0x11 => {
            let block = rest.first_chunk::<12>().ok_or(NoHeader("its addresses are cut short"))?;
            let ip = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            Some(SocketAddr::new(ip.into(), u16::from_be_bytes([block[8], block[9]])))
        }
        0x21 => {
            let block = rest.first_chunk::<36>().ok_or(NoHeader("its addresses are cut short"))?;
            let ip: [u8; 16] = *block.first_chunk().expect("36 bytes begin with 16");
            Some(SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes([block[32], block[33]])))
        }
        0x00 => None,
        _ => return Err(NoHeader("it is not for TCP")),
    };
    Ok(Some(ProxyHeader { len, client }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &len, rest].concat()
    }

    #[test]
    fn both_versions_name_the_client_and_end_where_they_say() {
        let v4 = second(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80, 4, 0, 0]);
        let mut six = [0; 36];
        six[15] = 1;
        six[33] = 9;
        for (header, client) in [
            (&b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n"[..], Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::7 ::1 8080 80\r\n", Some("[2001:db8::7]:8080")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n", None),
            (&v4, Some("192.0.2.7:8080")),
            (&second(0x21, 0x21, &six), Some("[::1]:9")),
            (&second(0x20, 0x11, &[]), None),
            (&second(0x21, 0x00, b"x"), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let expected = ProxyHeader { len: header.len(), client };
            assert_eq!(read(&[header, b"GET /"].concat()), Ok(Some(expected)));
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None), "{}", header[..cut].escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80 \r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 8080 80\r\n",
            b"PROXY TCP4 ::1 ::1 8080 80\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 8080 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +80 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 080 80\r\n",
            b"PROXY \xff\r\n",
            &[b"PROXY UNKNOWN ", &[b'a'; 100][..]].concat(),
            &second(0x31, 0x11, &[0; 12]),
            &second(0x22, 0x11, &[0; 12]),
            &second(0x21, 0x11, &[0; 11]),
            &second(0x21, 0x21, &[0; 35]),
            &second(0x21, 0x12, &[0; 12]),
            &second(0x21, 0x11, &[0; BYTES_MAX]),
        ] {
            assert!(read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic_and_more_never_change_an_answer(
            start in prop_oneof![Just(&b""[..]), Just(&b"PROXY TCP4 "[..]), Just(SIGNATURE)],
            rest in prop::collection::vec(any::<u8>(), 0..1200),
        ) {
            let bytes = [start, &rest].concat();
            let mut answer = None;
            for end in 0..=bytes.len() {
                let now = read(&bytes[..end]);
                if let Some(before) = answer {
                    prop_assert_eq!(now, before);
                } else if now != Ok(None) {
                    answer = Some(now);
                }
            }
            prop_assert!(answer.is_some() || bytes.len() < BYTES_MAX);
        }
    }
}
