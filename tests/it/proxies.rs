//! The PROXY protocol: whose word counts, for whom, and what becomes of all other bytes (R4.1, R6.1).

use std::time::Duration;

use forebay::config::settings::{AgentRange, Settings};
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;

use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};

const MANIFEST: &str = "/activeupdate/server.ini";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Agents of 192.0.2.0/24 are served; 127.0.0.0/8 may speak for others.
fn behind_a_proxy() -> Settings {
    let mut settings = settings("fixtures/activeupdate");
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    settings.agents.unknown = Unknown::Refuse;
    settings.agents.ranges = vec![AgentRange { from: "192.0.2.0/24".parse().unwrap(), scope: Scope::All }];
    settings
}

fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, rest].concat()
}

#[test]
fn the_address_that_a_trusted_proxy_names_is_the_agents_r6_1() {
    let relay = Running::refreshed(behind_a_proxy());
    let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
    let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 7], &[0; 16], &[0, 9, 0, 80]].concat();
    for (header, status) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(), 200),
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 8080 80\r\n".to_vec(), 403),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 8080 80\r\n".to_vec(), 200),
        (b"PROXY UNKNOWN\r\n".to_vec(), 403),
        (second(0x21, 0x11, &v4), 200),
        (second(0x21, 0x21, &mapped), 200),
        (second(0x20, 0x11, &v4), 403),
    ] {
        let mut client = Client::connect(relay.v4());
        // A header that comes with what follows, then one that comes a byte at a time.
        client.send(&header).unwrap();
        assert_eq!(client.exchange("GET", MANIFEST, &[]).unwrap().head.status, status);
        assert_eq!(client.exchange("GET", MANIFEST, &[]).unwrap().head.status, status);
        let mut client = Client::connect(relay.v4());
        header.chunks(1).for_each(|byte| client.send(byte).unwrap());
        assert_eq!(client.exchange("GET", MANIFEST, &[]).unwrap().head.status, status);
    }
    relay.stop();
}

#[test]
fn a_trusted_proxy_must_send_a_header_that_is_one_and_in_time() {
    let mut settings = behind_a_proxy();
    settings.limits.head_timeout = Duration::from_millis(400);
    let relay = Running::refreshed(settings);
    for bytes in [
        b"".to_vec(),
        b"PROXY TCP4 192.0.2.7".to_vec(),
        b"GET / HTTP/1.1\r\nHost: r\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 80\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'a'; 200][..]].concat(),
        second(0x21, 0x11, &[0; 4000]),
    ] {
        let mut client = Client::connect(relay.v4());
        // It may be cut before all is sent.
        let _ = client.send(&bytes);
        let (answer, end) = client.read_to_close();
        assert!(answer.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}");
    }
    relay.stop();
}

#[test]
fn from_anybody_else_a_header_is_a_bad_request_and_changes_nothing() {
    let relay = Running::refreshed(behind_a_proxy());
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(), second(0x20, 0, b"")] {
        let mut client = Client::connect(relay.v6());
        client.send(&header).unwrap();
        assert_eq!(client.exchange("GET", MANIFEST, &[]).unwrap().head.status, 400);
    }
    let refused = Client::connect(relay.v6()).exchange("GET", MANIFEST, &[]).unwrap();
    assert_eq!(refused.head.status, 403);
    relay.stop();
}
