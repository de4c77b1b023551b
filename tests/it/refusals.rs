//! Never an open proxy: each reserved address, in each form, by name, literal, rebinding and redirect, by each way in (R4.6).
//!
//! The rules here list every host at the ports in question, so that nothing but the address is left to refuse. Invariant: what
//! listens at those addresses never sees a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use forebay::base::destination::HostPattern;
use forebay::base::tally::{RefusedBy, Tally};
use forebay::config::settings::{Prefetch, Settings};
use forebay::config::value::host_entry;
use forebay::policy::reach::{Rule, Tunnels};

use crate::dns::{NameServer, Reply, Zone};
use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::raw::Client;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";

/// Reserved addresses, and every form that carries one to this machine.
const LITERALS: [&str; 38] = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "169.254.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::1]",
    "[2001::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2001:db9::5efe:10.0.0.1]",
];

/// Names that are of this machine whatever anybody says, and names that the settings give reserved addresses.
const NAMES: [&str; 8] = [
    "localhost",
    "LocalHost.",
    "a.localhost",
    "loop.test",
    "six.test",
    "mapped.test",
    "inside.test",
    "meta.test",
];

const HOSTS: [&str; 5] = [
    "127.0.0.1 loop.test",
    "::1 six.test",
    "64:ff9b::7f00:1 mapped.test",
    "10.0.0.1 inside.test",
    "169.254.169.254 meta.test",
];

/// Where no connection may come: one port of both loopback addresses.
struct Forbidden {
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Forbidden {
    fn new() -> Self {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        // Where another program has it on IPv6, no connection could be seen there; the answers are judged all the same.
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok();
        let listeners: Vec<_> = [Some(v4), v6].into_iter().flatten().collect();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self { listeners, port }
    }

    fn saw_nothing(&self) {
        for listener in &self.listeners {
            let seen = listener.accept();
            assert_eq!(seen.map(|(_, peer)| peer).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }
}

/// A relay whose rules list all hosts at this port, for requests and tunnels of everybody.
fn open_to(port: u16, change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    settings.proxy.allow.push(Rule {
        name: "everything".into(),
        hosts: vec![HostPattern::Any],
        ports: vec![port],
        tunnels: Tunnels::Any,
    });
    settings.upstream.hosts = HOSTS.iter().map(|line| host_entry(line).unwrap()).collect();
    change(&mut settings);
    Running::refreshed(settings)
}

/// Whether a host and port are refused as forbidden.
type Refuses = fn(&mut Running, &str, u16) -> bool;

/// The ways in: each asks for a host and port, and tells whether that was refused as forbidden.
const WAYS: [(&str, Refuses); 4] = [
    ("request", |relay, host, port| {
        let mut client = Client::connect(relay.v4());
        client.ask("GET", &format!("http://{host}:{port}/"), &[]).unwrap();
        client.answer("GET").unwrap().head.status == 403
    }),
    ("request for TLS", |relay, host, port| {
        let mut client = Client::connect(relay.v6());
        client.ask("GET", &format!("https://{host}:{port}/"), &[]).unwrap();
        client.answer("GET").unwrap().head.status == 403
    }),
    ("CONNECT", |relay, host, port| {
        let mut client = Client::connect(relay.v4());
        client
            .send(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes())
            .unwrap();
        client.answer("CONNECT").unwrap().head.status == 403
    }),
    ("SOCKS", |relay, host, port| socks(relay, &address_of(host), port) == 2),
];

/// A SOCKS address: by its kind where it is one to SOCKS, else as a name.
fn address_of(host: &str) -> Vec<u8> {
    let bare = host.trim_matches(['[', ']']);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => [&[1][..], &v4.octets()].concat(),
        Ok(IpAddr::V6(v6)) => [&[4][..], &v6.octets()].concat(),
        Err(_) => name_of(bare),
    }
}

fn name_of(name: &str) -> Vec<u8> {
    [&[3, u8::try_from(name.len()).unwrap()][..], name.as_bytes()].concat()
}

/// What SOCKS replies to a CONNECT.
fn socks(relay: &mut Running, address: &[u8], port: u16) -> u8 {
    let mut stream = TcpStream::connect(relay.handle().running().socks[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).unwrap();
    assert_eq!(chosen, [5, 0]);
    stream.write_all(&[&[5, 1, 0][..], address, &port.to_be_bytes()].concat()).unwrap();
    let mut reply = [0; 2];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[0], 5);
    reply[1]
}

fn refused_by_address(relay: &mut Running) -> u64 {
    let tally: Arc<Tally> = relay.handle().tally().unwrap();
    tally.requests_refused(RefusedBy::Address)
}

#[test]
fn reserved_addresses_are_refused_by_literal_and_by_name_whichever_way_they_are_asked_for_r4_6() {
    let forbidden = Forbidden::new();
    let mut relay = open_to(forbidden.port, |_| {});
    for (way, refuses) in WAYS {
        for host in LITERALS.iter().chain(&NAMES) {
            let before = refused_by_address(&mut relay);
            assert!(refuses(&mut relay, host, forbidden.port), "{way}: {host}");
            assert_eq!(refused_by_address(&mut relay), before + 1, "{way}: {host} is counted");
        }
    }
    // SOCKS has addresses as names, too.
    for host in LITERALS {
        assert_eq!(socks(&mut relay, &name_of(host), forbidden.port), 2, "{host}");
    }
    forbidden.saw_nothing();
    relay.stop();
}

#[test]
fn a_network_with_nat64_of_its_own_hides_no_address_under_its_prefix_r4_6() {
    let forbidden = Forbidden::new();
    for discovered in [false, true] {
        let zone = Zone {
            discovery: Reply::Addresses(vec!["2001:db8:64::192.0.0.170".parse().unwrap()]),
            ..Zone::of(&[])
        };
        let server = NameServer::start(zone);
        let mut relay = open_to(forbidden.port, |settings| {
            settings.upstream.name_servers = vec![server.address()];
            settings.upstream.hosts.push(host_entry("2001:db8:64::7f00:1 embedded.test").unwrap());
            if !discovered {
                settings.upstream.nat64 = forebay::config::settings::Nat64::Prefix(
                    forebay::base::nat64::Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap(),
                );
            }
        });
        for (way, refuses) in WAYS {
            for host in ["[2001:db8:64::127.0.0.1]", "[2001:db8:64::10.0.0.1]", "embedded.test"] {
                assert!(refuses(&mut relay, host, forbidden.port), "{way}: {host}");
            }
        }
        relay.stop();
    }
    forbidden.saw_nothing();
}

#[test]
fn a_name_that_is_bound_anew_between_two_looks_gains_nothing_r4_6() {
    let forbidden = Forbidden::new();
    let moment = |addresses: &[&str]| Zone { ttl_secs: 0, ..Zone::of(addresses) };
    let server = NameServer::start(moment(&["127.0.0.1", "::1"]));
    let mut relay = open_to(forbidden.port, |settings| {
        settings.upstream.name_servers = vec![server.address()];
        settings.upstream.connect = Duration::from_secs(1);
    });
    for (way, refuses) in WAYS {
        assert!(refuses(&mut relay, "rebound.test", forbidden.port), "{way}");
    }
    relay.stop();
    // Beside an address that may be connected to, one that may not is left out: nobody answers at the first.
    server.set(moment(&["127.0.0.1", "192.0.2.77", "::1", "2001:db8::77"]));
    let mut relay = open_to(forbidden.port, |settings| {
        settings.upstream.name_servers = vec![server.address()];
        settings.upstream.connect = Duration::from_secs(1);
    });
    for (way, refuses) in WAYS {
        assert!(!refuses(&mut relay, "rebound.test", forbidden.port), "{way}: it is tried, and not reached");
    }
    // The same name says something else now: what was decided before opens nothing.
    server.set(moment(&["127.0.0.1", "::1"]));
    for (way, refuses) in WAYS {
        assert!(refuses(&mut relay, "rebound.test", forbidden.port), "{way}: bound anew");
    }
    forbidden.saw_nothing();
    relay.stop();
}

#[test]
fn an_upstream_redirects_to_no_reserved_address_but_its_own_r4_6() {
    let forbidden = Forbidden::new();
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.upstream.hosts = HOSTS.iter().map(|line| host_entry(line).unwrap()).collect();
    let relay = Running::refreshed(settings);
    // The upstream itself is at 127.0.0.1.
    let own =
        ["127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]"];
    for host in
        LITERALS.iter().filter(|host| !own.contains(host)).chain(&["six.test", "inside.test", "meta.test"])
    {
        origin.script("/server.ini", Fault::Redirect(format!("http://{host}:{}/", forbidden.port)));
        let last = relay.refresh();
        let said = format!("{last:?}");
        assert!(said.contains("redirects to where it may not"), "{host}: {said}");
    }
    forbidden.saw_nothing();
    relay.stop();
}

#[test]
fn what_no_rule_lists_is_refused_by_its_rule_and_counted_by_it_r4_6() {
    let forbidden = Forbidden::new();
    let port = forbidden.port;
    let mut relay = open_to(port, |settings| {
        settings.proxy.allow[0].hosts = vec![HostPattern::Below("example.net".into())];
        settings.proxy.allow[0].tunnels = Tunnels::Never;
    });
    let tally = relay.handle().tally().unwrap();
    let by = |by| tally.requests_refused(by);
    for (way, refuses) in WAYS {
        let before = (by(RefusedBy::Destination), by(RefusedBy::Port), by(RefusedBy::Tunnel));
        assert!(refuses(&mut relay, "other.test", port), "{way}");
        assert!(refuses(&mut relay, "192.0.2.1", port), "{way}");
        assert!(refuses(&mut relay, "a.example.net", port ^ 1), "{way}");
        let mut expected = (before.0 + 2, before.1 + 1, before.2);
        if !way.starts_with("request") {
            assert!(refuses(&mut relay, "a.example.net", port), "{way}");
            expected.2 += 1;
        }
        assert_eq!(
            (by(RefusedBy::Destination), by(RefusedBy::Port), by(RefusedBy::Tunnel)),
            expected,
            "{way}"
        );
    }
    // The relay's own listeners are no destinations, either.
    let own: SocketAddr = relay.admin();
    for (way, refuses) in WAYS {
        assert!(refuses(&mut relay, &own.ip().to_string(), own.port()), "{way}: the admin listener");
    }
    forbidden.saw_nothing();
    relay.stop();
}
