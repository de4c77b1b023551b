//! Any bytes as a PROXY header: the answer is the same however they arrive, and lies within them.

use std::net::SocketAddr;

use forebay::net::proxy_header::{BYTES_MAX, ProxyHeader, read};

/// Checks the claim.
pub(super) fn check(data: &[u8]) {
    let whole = read(data);
    let mut answer = None;
    for end in 0..=data.len().min(BYTES_MAX + 1) {
        let now = read(&data[..end]);
        match answer {
            Some(before) => assert_eq!(now, before, "{end} bytes"),
            None if now != Ok(None) => answer = Some(now),
            None => {}
        }
        if let Ok(Some(header)) = now {
            assert!(header.len <= end, "{} of {end} bytes", header.len);
        }
    }
    assert!(answer.is_some() || data.len() < BYTES_MAX, "{} bytes and no answer", data.len());
    assert_eq!(whole, answer.unwrap_or(Ok(None)));
    if let Ok(Some(header)) = whole {
        check_whole(header, data);
    }
}

fn check_whole(header: ProxyHeader, data: &[u8]) {
    let ProxyHeader { len, client } = header;
    assert!(len <= BYTES_MAX);
    assert_eq!(read(&data[..len - 1]), Ok(None), "it ends before its end");
    let Some(client) = client else { return };
    // Each version's spelling of what was read is read as the same.
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, port) = (client.ip(), client.port());
    let line = format!("PROXY {family} {ip} {ip} {port} 0\r\n");
    assert_eq!(read(line.as_bytes()), Ok(Some(ProxyHeader { len: line.len(), client: Some(client) })));
    let binary = binary(client);
    assert_eq!(read(&binary), Ok(Some(ProxyHeader { len: binary.len(), client: Some(client) })));
}

fn binary(client: SocketAddr) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let (family, ip) = match client.ip() {
        std::net::IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let rest = [&ip[..], &ip, &client.port().to_be_bytes(), &[0, 0]].concat();
    bytes.push(family);
    bytes.extend(u16::try_from(rest.len()).expect("it is 12 or 36").to_be_bytes());
    bytes.extend(rest);
    bytes
}
