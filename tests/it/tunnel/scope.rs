//! A tunnel to an upstream is answered by the mirror: nobody gets past the scope through it (R6.2).

use std::net::{IpAddr, SocketAddr};

use forebay::base::tally::RefusedBy;
use forebay::config::settings::{AgentRange, Settings};
use forebay::policy::decide::Unknown;
use forebay::policy::reach::Tunnels;
use forebay::policy::scope::Scope;

use super::{BOTH, By, FIXTURE, mirroring, rule, tunnel, tunnel_from};
use crate::origin::Origin;
use crate::raw;
use crate::raw::answer::End;
use crate::relay::Running;

/// Agents with the scope `patterns` call from here; those with `all` from 127.0.0.1.
const PATTERNS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

const PATTERN: &str = "/pattern/ssaptn649.zip";

fn scoped(origin: &Origin) -> Settings {
    let mut settings = mirroring(origin);
    let range = |from: &str, scope| AgentRange { from: from.parse().unwrap(), scope };
    settings.agents.unknown = Unknown::Refuse;
    settings.agents.ranges = vec![range("127.0.0.1/32", Scope::All), range("127.0.0.9/32", Scope::Patterns)];
    settings
}

/// A file of the program, which no scope but `all` holds.
fn program() -> String {
    let files = forebay::fixture::Fixture::default().files();
    let program = files.into_iter().find(|file| file.class == "program");
    format!("/{}", program.unwrap().path)
}

#[test]
fn what_the_scope_withholds_no_tunnel_gives_r6_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(scoped(&origin));
    let (program, to) = (program(), origin.address().to_string());
    let known = origin.seen().connections;
    for by in BOTH {
        let mut all = tunnel(&relay, by, &to).unwrap();
        let file = std::fs::read(format!("{FIXTURE}{program}")).unwrap();
        assert_eq!(all.exchange("GET", &program, &[]).unwrap().whole(200), file, "{by:?}");

        let mut few = tunnel_from(PATTERNS, &relay, by, &to).unwrap();
        few.exchange("GET", PATTERN, &[]).unwrap().whole(200);
        let refused = few.exchange("GET", &program, &[]).unwrap().whole(403);
        assert!(String::from_utf8_lossy(&refused).contains("outside the scope"), "{by:?}");
        for (method, headers) in [
            ("HEAD", &[][..]),
            ("GET", &[("Range", "bytes=0-9")]),
            ("GET", &[("If-None-Match", "*")]),
            ("GET", &[("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")]),
        ] {
            assert_eq!(
                few.exchange(method, &program, headers).unwrap().head.status,
                403,
                "{method} {headers:?}"
            );
        }
        // The manifest is the view of the scope, the same as by the mirror.
        let view = few.exchange("GET", "/server.ini", &[]).unwrap().whole(200);
        let mut mirror = raw::Client::connect_from(PATTERNS, relay.v4());
        assert_eq!(view, mirror.exchange("GET", "/activeupdate/server.ini", &[]).unwrap().whole(200));
        assert_ne!(view, raw::fetch(relay.v4(), "/activeupdate/server.ini", &[]).whole(200));
    }
    assert_eq!(origin.seen().connections, known, "nobody was taken to the upstream");
    relay.stop();
}

#[test]
fn neither_another_host_nor_another_form_of_request_changes_that_r6_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(scoped(&origin));
    let (program, to) = (program(), origin.address().to_string());
    let known = origin.seen().connections;
    for by in BOTH {
        let open = || tunnel_from(PATTERNS, &relay, by, &to).unwrap();
        let status = |head: String| {
            let mut client = open();
            client.send(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
            client.answer("GET").unwrap().head.status
        };
        for (line, expected) in [
            (format!("GET {program} HTTP/1.1\r\nHost: other.example"), 403),
            (format!("GET {program} HTTP/1.1\r\nHost: {}", relay.v4()), 403),
            (format!("GET http://{to}{program} HTTP/1.1\r\nHost: {to}"), 403),
            (format!("GET http://other.example{program} HTTP/1.1\r\nHost: {to}"), 403),
            (format!("GET /activeupdate{program} HTTP/1.1\r\nHost: {}", relay.v4()), 403),
            (format!("GET http://{}/activeupdate{program} HTTP/1.1\r\nHost: {to}", relay.v4()), 403),
            (format!("GET /pattern/..{program} HTTP/1.1\r\nHost: {to}"), 403),
            (format!("GET //{to}{program} HTTP/1.1\r\nHost: {to}"), 403),
            (format!("CONNECT {to} HTTP/1.1\r\nHost: {to}"), 400),
            (format!("CONNECT other.example:443 HTTP/1.1\r\nHost: {to}"), 400),
            (format!("GET {program} HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked"), 400),
        ] {
            let status = status(line.clone());
            assert!(status == expected || status == 400 || status == 404, "{by:?} {line}: {status}");
        }
        // Pipelined: each is judged by itself.
        let mut client = open();
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let all = [request(PATTERN), request(&program), request(PATTERN), request(&program)].concat();
        client.send(all.as_bytes()).unwrap();
        let statuses = [(); 4].map(|()| client.answer("GET").unwrap().head.status);
        assert_eq!(statuses, [200, 403, 200, 403]);
    }
    assert_eq!(origin.seen().connections, known, "nobody was taken to the upstream");
    relay.stop();
}

#[test]
fn what_is_no_http_is_refused_in_a_tunnel_to_a_clear_text_port_r6_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(scoped(&origin));
    let to = origin.address().to_string();
    let known = origin.seen().connections;
    let client_hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 194]].concat();
    for by in BOTH {
        for bytes in [&client_hello[..], b"\0\0\0\0", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut client = tunnel(&relay, by, &to).unwrap();
            client.send(bytes).unwrap();
            let (answer, end) = client.read_to_close();
            assert!(matches!(end, End::Closed | End::Reset), "{by:?} {end:?}");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{by:?} {answer}");
        }
    }
    assert_eq!(origin.seen().connections, known, "nobody was taken to the upstream");
    relay.stop();
}

#[test]
fn a_tunnel_to_the_tls_port_of_an_upstream_needs_scope_all_or_a_rule_r6_2() {
    let far = super::Far::start();
    let mut settings = super::named(&format!("https://{}/", far.address()), &[]);
    let range = |from: &str, scope| AgentRange { from: from.parse().unwrap(), scope };
    settings.agents.ranges = vec![range("127.0.0.0/8", Scope::All), range("127.0.0.9/32", Scope::Patterns)];
    let to = far.address().to_string();
    let refusals = |settings: Settings| {
        let relay = Running::start(settings);
        let told = BOTH.map(|by| {
            drop((tunnel(&relay, by, &to).unwrap(), far.accept()));
            tunnel_from(PATTERNS, &relay, by, &to).map(|client| drop((client, far.accept()))).err()
        });
        relay.stop();
        told
    };
    assert_eq!(refusals(settings.clone()), [Some(403), Some(2)]);
    let host = ["127.0.0.1/32"];
    for (tunnels, told) in [(Tunnels::Any, [None, None]), (Tunnels::All, [Some(403), Some(2)])] {
        settings.proxy.allow = vec![rule(&host, &[SocketAddr::port(&far.address())], tunnels)];
        assert_eq!(refusals(settings.clone()), told, "{tunnels:?}");
    }
}

#[test]
fn no_tunnel_leads_back_to_the_relay_with_the_relays_own_address_r6_2() {
    let mut settings = super::named(FIXTURE, &["127.0.0.1 relay.test"]);
    let mut relay = Running::refreshed(settings.clone());
    let own = [relay.v4(), relay.v6(), relay.socks()[0], relay.socks()[1]];
    let ports = own.map(|address| address.port());
    settings.data = relay.data().to_owned();
    settings.proxy.allow = vec![rule(&["127.0.0.0/8", "::1/128", "relay.test"], &ports, Tunnels::Any)];
    relay.handle().reload(settings).unwrap();
    let tally = relay.handle().tally().unwrap();
    for to in own {
        assert_eq!(tunnel(&relay, By::Connect, &to.to_string()).err(), Some(508), "{to}");
        assert_eq!(tunnel(&relay, By::Socks, &to.to_string()).err(), Some(2), "{to}");
    }
    let named = format!("relay.test:{}", relay.v4().port());
    assert_eq!(tunnel(&relay, By::Connect, &named).err(), Some(508));
    assert_eq!(tally.requests_refused(RefusedBy::Loop), 9);
    relay.stop();
}

#[test]
fn an_unknown_agent_has_no_tunnel_anywhere_r6_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(scoped(&origin));
    let unknown = [127, 0, 1, 1].into();
    let to = origin.address().to_string();
    assert_eq!(tunnel_from(unknown, &relay, By::Connect, &to).err(), Some(403));
    assert_eq!(tunnel_from(unknown, &relay, By::Socks, &to).err(), Some(2));
    relay.stop();
}
