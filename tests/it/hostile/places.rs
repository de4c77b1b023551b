//! Places for connections: whoever has been idle longest makes room, nobody else does, and no address has all (R4.1).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay::base::tally::Refused;
use forebay::config::settings::{Prefetch, Settings};

use super::frames::{Framed, GOAWAY, HEADERS, SETTINGS, request};
use super::{MANIFEST, PACKAGE};
use crate::authority::{Authority, get, shake_hands};
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";

fn with_places(count: usize) -> Settings {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    settings.limits.connections_max = count;
    settings
}

fn is_closed(client: &mut Client) {
    let (bytes, end) = client.read_to_close();
    assert!(bytes.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}: {}", bytes.escape_ascii());
}

fn is_served(client: &mut Client) {
    client.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
}

#[test]
fn the_connection_that_has_been_idle_longest_makes_room_whichever_worker_has_it() {
    let mut relay = Running::refreshed(with_places(3));
    let tally = relay.handle().tally().unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(relay.v4())).collect();
    // Each becomes idle after the one before it; the first one twice.
    for at in [0, 1, 2, 0] {
        is_served(&mut clients[at]);
        std::thread::sleep(Duration::from_millis(5));
    }
    for expected in [1, 2, 0] {
        let mut next = Client::connect(relay.v6());
        is_served(&mut next);
        is_closed(&mut clients[expected]);
        std::thread::sleep(Duration::from_millis(5));
        clients.push(next);
    }
    for client in &mut clients[3..] {
        is_served(client);
    }
    assert_eq!(tally.connections_dismissed.value(), 3);
    relay.stop();
}

#[test]
fn whoever_never_spoke_makes_room_whatever_it_connected_for() {
    let authority = Authority::new();
    let mut settings = with_places(1);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["relay.test"]).0];
    settings.trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    let mut relay = Running::refreshed(settings);
    let secure = relay.handle().running().tls[0];
    let proxy: IpAddr = [127, 0, 0, 9].into();
    let connects = [
        |relay: &Running, _, _| Client::connect(relay.v4()),
        |_: &Running, secure, _| Client::connect(secure),
        |relay: &Running, _, proxy| Client::connect_from(proxy, relay.v4()),
    ];
    for connect in connects {
        have_places(&mut relay, 0);
        let mut silent = connect(&relay, secure, proxy);
        have_places(&mut relay, 1);
        is_served(&mut Client::connect(relay.v4()));
        is_closed(&mut silent);
    }
    // Idle within TLS, over HTTP/1.
    let mut stream = authority.connect(secure, "relay.test").unwrap();
    get(&mut stream, MANIFEST);
    is_served(&mut Client::connect(relay.v4()));
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 9]).unwrap(), 0, "told in order");
    relay.stop();
}

#[test]
fn heads_and_handshakes_that_are_overdue_make_room_and_fresh_ones_do_not() {
    let authority = Authority::new();
    let mut settings = with_places(2);
    // Far beyond both graces, on however busy a machine.
    let head_timeout = Duration::from_mins(2);
    settings.limits.head_timeout = head_timeout;
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["relay.test"]).0];
    let mut relay = Running::refreshed(settings);
    let secure = relay.handle().running().tls[0];
    // Before the first byte of either: a busy machine may take its time from here on.
    let began = std::time::Instant::now();
    let mut half = Client::connect(relay.v4());
    half.send(b"GET /activeupdate/server.ini HTTP/1.1\r\nHo").unwrap();
    let mut shaking = Client::connect(secure);
    shaking.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    have_places(&mut relay, 2);
    let mut waiting = Client::connect(relay.v4());
    is_served(&mut waiting);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(500), "a fresh head was cut: {waited:?}");
    // On a busy machine the one that connected second may have been accepted first: it goes then.
    let dismissed = relay.handle().tally().unwrap().connections_dismissed.value();
    assert!(dismissed >= 1, "one made room");
    drop((half, shaking));
    have_places(&mut relay, 1);
    let mut shaking = Client::connect(secure);
    shaking.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    have_places(&mut relay, 2);
    // The graces themselves are what is tried: beyond both, who is idle goes before one whose handshake is overdue.
    std::thread::sleep(Duration::from_millis(1100));
    is_served(&mut Client::connect(relay.v4()));
    is_closed(&mut waiting);
    assert!(began.elapsed() < head_timeout, "its own deadline closed it");
    drop(shaking);
    relay.stop();
}

/// Waits until just so many connections have places: workers accept by themselves, whoever connected first.
fn have_places(relay: &mut Running, count: u64) {
    let tally = relay.handle().tally().unwrap();
    let began = std::time::Instant::now();
    while tally.connections_now.value() != count {
        assert!(began.elapsed() < Duration::from_mins(1), "they are not as many");
        std::thread::yield_now();
    }
}

#[test]
fn an_idle_http_2_client_is_told_and_one_with_a_request_under_way_stays() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.limits.connections_max = 2;
    let relay = Running::refreshed(settings);
    let gate = Gate::default();
    origin.script("/pattern/vsapi329.zip", Fault::StallBeforeHead(gate.clone()));
    let mut idle = Framed::connect(relay.v4(), &[]);
    while idle.next().unwrap().kind != SETTINGS {}
    let mut busy = Framed::connect(relay.v4(), &[]);
    busy.send(&request(1, PACKAGE)).unwrap();
    gate.wait_reached();
    is_served(&mut Client::connect(relay.v4()));
    assert!(idle.rest().iter().any(|frame| frame.kind == GOAWAY), "it is told");
    gate.open();
    while busy.next().expect("a request under way was cut").kind != HEADERS {}
    // Else its answer would be waited for at the stop.
    drop(busy);
    relay.stop();
}

#[test]
fn an_answer_that_is_not_taken_yet_is_not_cut_for_room() {
    let mut settings = with_places(1);
    settings.limits.stall_timeout = Duration::from_secs(2);
    let relay = Running::refreshed(settings);
    let request = format!("GET {PACKAGE} HTTP/1.1\r\nHost: r\r\n\r\n").repeat(40);
    let mut slow = Client::connect_narrow(relay.v4());
    slow.send(request.as_bytes()).unwrap();
    slow.read_head("GET").unwrap();
    let mut next = Client::connect(relay.v4());
    next.set_patience(Duration::from_millis(300));
    next.ask("GET", MANIFEST, &[]).unwrap();
    assert_eq!(next.read_head("GET").unwrap_err(), End::TimedOut);
    // The slow one takes all that it asked for.
    slow.read(usize::MAX);
    for _ in 1..40 {
        slow.answer("GET").unwrap().whole(200);
    }
    next.set_patience(crate::raw::PATIENCE);
    next.answer("GET").unwrap().whole(200);
    relay.stop();
}

#[test]
fn requests_that_come_while_places_are_short_are_never_cut() {
    // Places change hands all the time: a kept connection is closed between requests or answers, and never in between.
    let relay = Running::refreshed(with_places(4));
    let address = relay.v4();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut asked = 0;
                while asked < 50 {
                    let mut client = Client::connect(address);
                    // The first request of a connection comes with it: it is always answered.
                    is_served(&mut client);
                    asked += 1;
                    while asked < 50 && client.ask("GET", MANIFEST, &[]).is_ok() {
                        match client.answer("GET") {
                            Ok(answer) => drop(answer.whole(200)),
                            Err(End::Closed | End::Reset) => break,
                            Err(end) => panic!("{end:?}"),
                        }
                        asked += 1;
                    }
                }
            });
        }
    });
    relay.stop();
}

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    let mut settings = with_places(20);
    settings.limits.connections_per_address_max = 3;
    settings.trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    let mut relay = Running::refreshed(settings.clone());
    let tally = relay.handle().tally().unwrap();
    let mut held: Vec<_> = (0..3).map(|_| Client::connect(relay.v4())).collect();
    held.iter_mut().for_each(is_served);
    is_closed(&mut Client::connect(relay.v4()));
    is_served(&mut Client::connect_from([127, 0, 0, 2].into(), relay.v4()));
    is_served(&mut Client::connect(relay.v6()));
    held.iter_mut().for_each(is_served);
    // A proxy may have any number, each client behind it three.
    let proxied = |client: &str| {
        let mut connection = Client::connect_from([127, 0, 0, 9].into(), relay.v4());
        connection.send(format!("PROXY TCP4 {client} 10.0.0.1 8080 80\r\n").as_bytes()).unwrap();
        connection
    };
    let mut behind: Vec<_> =
        (0..6).map(|at| proxied(if at < 3 { "192.0.2.1" } else { "192.0.2.2" })).collect();
    behind.iter_mut().for_each(is_served);
    is_closed(&mut proxied("192.0.2.2"));
    assert_eq!(tally.connections_refused(Refused::Address), 2);
    // Who leaves makes room; a reload moves the bound for those who come.
    drop(held.pop());
    let deadline = std::time::Instant::now() + crate::raw::PATIENCE;
    while Client::connect(relay.v4()).exchange("GET", MANIFEST, &[]).is_err() {
        assert!(std::time::Instant::now() < deadline, "its place was not given back");
    }
    settings.limits.connections_per_address_max = 1;
    settings.data = relay.data().to_owned();
    relay.handle().reload(settings).unwrap();
    is_closed(&mut Client::connect(relay.v4()));
    held.iter_mut().for_each(is_served);
    relay.stop();
}

#[test]
fn a_proxys_header_comes_before_tls_and_before_http_2_r4_1() {
    let authority = Authority::new();
    let mut settings = with_places(9);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["relay.test"]).0];
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    settings.agents.unknown = forebay::policy::decide::Unknown::Refuse;
    let range = "192.0.2.0/24".parse().unwrap();
    settings.agents.ranges = vec![forebay::config::settings::AgentRange {
        from: range,
        scope: forebay::policy::scope::Scope::All,
    }];
    let mut relay = Running::refreshed(settings);
    let secure = relay.handle().running().tls[0];
    for (client, served) in [("192.0.2.1", true), ("198.51.100.1", false)] {
        let header = format!("PROXY TCP4 {client} 10.0.0.1 8080 80\r\n");
        for protocol in [&b"http/1.1"[..], b"h2"] {
            let socket = std::net::TcpStream::connect(secure).unwrap();
            std::io::Write::write_all(&mut &socket, header.as_bytes()).unwrap();
            let mut config = authority.client(rustls::DEFAULT_VERSIONS);
            config.alpn_protocols = vec![protocol.to_vec()];
            let mut stream =
                crate::authority::shake_hands_over(Arc::new(config), socket, "relay.test").unwrap();
            if protocol == b"h2" {
                let mut framed = Framed::over(stream);
                framed.begin(&[]);
                framed.send(&request(1, MANIFEST)).unwrap();
                let head = loop {
                    let frame = framed.next().unwrap();
                    if frame.kind == HEADERS {
                        break frame;
                    }
                };
                assert_eq!(head.payload[0] == 0x88, served, "{client}");
            } else {
                let (head, _) = get(&mut stream, MANIFEST);
                assert_eq!(head.starts_with("http/1.1 200 "), served, "{client}: {head}");
            }
        }
        let mut framed = Framed::bare(relay.v4());
        framed.send(header.as_bytes()).unwrap();
        framed.begin(&[]);
        framed.send(&request(1, MANIFEST)).unwrap();
        let head = loop {
            let frame = framed.next().unwrap();
            if frame.kind == HEADERS {
                break frame;
            }
        };
        assert_eq!(head.payload[0] == 0x88, served, "{client}");
    }
    // In front of nothing, TLS has no header to skip.
    let bare = shake_hands(Arc::new(authority.client(rustls::DEFAULT_VERSIONS)), secure, "relay.test");
    assert!(bare.is_err(), "a proxy must say for whom it speaks");
    relay.stop();
}
