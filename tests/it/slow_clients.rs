//! Clients that are slow, idle or gone: each is cut at its deadline, and nobody else waits for them (point 8, invariant 7).

use std::time::{Duration, Instant};

use forebay::base::tally::Outcome;
use forebay::config::settings::{Prefetch, Settings};

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

/// A deadline that a test can wait for.
const SOON: Duration = Duration::from_millis(400);

fn unhurried() -> Settings {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    settings
}

fn is_served(relay: &Running) {
    assert_eq!(Client::connect(relay.v4()).exchange("GET", MANIFEST, &[]).unwrap().head.status, 200);
}

#[test]
fn a_head_that_does_not_arrive_and_a_connection_that_does_not_ask_are_closed_in_time() {
    let mut settings = unhurried();
    settings.limits.head_timeout = SOON;
    let relay = Running::refreshed(settings);
    let began = Instant::now();
    let mut silent = Client::connect(relay.v4());
    let mut slow = Client::connect(relay.v4());
    slow.send(format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\n").as_bytes()).unwrap();
    let mut idle = Client::connect(relay.v4());
    idle.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
    is_served(&relay);
    for client in [&mut silent, &mut slow, &mut idle] {
        let (bytes, end) = client.read_to_close();
        assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "), "{}", bytes.escape_ascii());
    }
    assert!(began.elapsed() >= SOON);

    // A byte now and then does not move the deadline.
    let mut dripping = Client::connect(relay.v4());
    dripping.set_patience(SOON / 8);
    let began = Instant::now();
    let head = format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\nX-A: {}", "a".repeat(1000));
    let cut = head.as_bytes().chunks(1).find_map(|byte| {
        let sent = dripping.send(byte);
        let end = dripping.read_to_close().1;
        (sent.is_err() || end != End::TimedOut).then_some(end)
    });
    assert!(matches!(cut, Some(End::Closed | End::Reset)), "{cut:?}");
    assert!(began.elapsed() >= SOON);
    relay.stop();
}

#[test]
fn a_client_that_takes_no_byte_is_cut_and_gives_its_place_to_the_next() {
    let mut settings = unhurried();
    settings.limits.stall_timeout = SOON;
    settings.limits.connections_max = 1;
    let relay = Running::refreshed(settings);
    let size = std::fs::metadata(PACKAGE.replace("/activeupdate", FIXTURE)).unwrap().len();
    let mut stalled = Client::connect_narrow(relay.v4());
    // More than sockets hold.
    let count = 150;
    let request = format!("GET {PACKAGE} HTTP/1.1\r\nHost: r\r\n\r\n");
    stalled.send(request.repeat(count).as_bytes()).unwrap();
    stalled.read_head("GET").unwrap();
    let began = Instant::now();
    // There is room for one connection: this one is served when the other has been cut.
    is_served(&relay);
    assert!(began.elapsed() >= SOON / 2, "after {:?}", began.elapsed());
    let (bytes, end) = stalled.read_to_close();
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
    assert!((bytes.len() as u64) < size * count as u64, "{} bytes", bytes.len());
    relay.stop();
}

#[test]
fn more_connections_than_the_limit_wait_for_a_place_while_none_is_idle() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.limits.connections_max = 2;
    let relay = Running::refreshed(settings);
    let gate = Gate::default();
    origin.script("/pattern/vsapi329.zip", Fault::StallBeforeHead(gate.clone()));
    let mut held: Vec<_> = (0..2).map(|_| Client::connect(relay.v4())).collect();
    for client in &mut held {
        // What was answered has its place: the third comes after both.
        client.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
    }
    for client in &mut held {
        client.ask("GET", PACKAGE, &[]).unwrap();
    }
    gate.wait_reached();
    let mut third = Client::connect(relay.v4());
    third.set_patience(SOON / 2);
    third.ask("GET", MANIFEST, &[]).unwrap();
    assert_eq!(third.read_head("GET").unwrap_err(), End::TimedOut, "both places are taken");
    gate.open();
    for client in &mut held {
        client.answer("GET").unwrap().whole(200);
    }
    // Now one of them is idle, and makes room.
    third.set_patience(crate::raw::PATIENCE);
    third.answer("GET").unwrap().whole(200);
    relay.stop();
}

#[test]
fn an_agent_that_leaves_while_its_file_is_fetched_gives_up_its_place_at_once_r2_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.limits.connections_max = 1;
    let relay = Running::refreshed(settings);
    let gates = [Gate::default(), Gate::default()];
    origin.script("/pattern/vsapi329.zip", Fault::StallBeforeHead(gates[0].clone()));
    origin.script("/pattern/tmwhite974.zip", Fault::StallAfter(1000, gates[1].clone()));
    for leave in [Client::reset, drop] {
        let mut waiting = Client::connect(relay.v4());
        waiting.ask("GET", PACKAGE, &[]).unwrap();
        gates[0].wait_reached();
        leave(waiting);
        is_served(&relay);
        let mut reading = Client::connect(relay.v4());
        reading.ask("GET", "/activeupdate/pattern/tmwhite974.zip", &[]).unwrap();
        reading.read_head("GET").unwrap();
        assert_eq!(reading.read(1000).0.len(), 1000);
        leave(reading);
        is_served(&relay);
    }
    gates.iter().for_each(Gate::open);
    relay.stop();
}

#[test]
fn clients_that_stall_do_not_delay_others() {
    let mut settings = unhurried();
    settings.workers = Some(1);
    let relay = Running::refreshed(settings);
    let request = format!("GET {PACKAGE} HTTP/1.1\r\nHost: r\r\n\r\n");
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect_narrow(relay.v4());
            client.send(request.repeat(50).as_bytes()).unwrap();
            client.read_head("GET").unwrap();
            client
        })
        .collect();
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect(relay.v4());
            client.send(b"GET / HT").unwrap();
            client
        })
        .collect();
    is_served(&relay);
    stalled.into_iter().chain(slow).for_each(Client::reset);
    is_served(&relay);
    relay.stop();
}

#[test]
fn each_request_is_counted_once_by_how_it_ended_r11_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    let mut relay = Running::refreshed(settings);
    let tally = relay.handle().tally().unwrap();
    let gate = Gate::default();
    origin.script("/pattern/vsapi329.zip", Fault::StallBeforeHead(gate.clone()));
    let mut leaving = Client::connect(relay.v4());
    leaving.ask("GET", PACKAGE, &[]).unwrap();
    gate.wait_reached();
    leaving.reset();
    gate.open();
    let mut client = Client::connect(relay.v4());
    for (method, target, headers) in [
        ("GET", MANIFEST, &[][..]),
        ("HEAD", MANIFEST, &[]),
        ("GET", MANIFEST, &[("Range", "bytes=0-1,4-5")]),
        ("GET", MANIFEST, &[("If-None-Match", "*")]),
        ("HEAD", MANIFEST, &[("If-None-Match", "*")]),
        ("GET", "/activeupdate/none", &[]),
        ("HEAD", "/activeupdate/none", &[]),
        ("GET", "/activeupdate/..", &[]),
        ("GET", MANIFEST, &[("Range", "bytes=99999999-")]),
    ] {
        client.exchange(method, target, headers).unwrap();
    }
    let mut broken = Client::connect(relay.v4());
    broken.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n").unwrap();
    assert_eq!(broken.answer("GET").unwrap().head.status, 400);
    broken.read_to_close();
    client.exchange("DELETE", MANIFEST, &[]).unwrap();
    client.read_to_close();
    // When the relay has stopped, every connection's end has been noted.
    relay.stop();
    let counted = Outcome::ALL.map(|outcome| (outcome.name(), tally.requests(outcome)));
    let expected = [
        ("hit", 3),
        ("miss", 0),
        ("not-modified", 2),
        ("refused", 0),
        ("not-found", 2),
        ("bad-request", 4),
        ("failed", 0),
        ("given-up", 1),
        ("tunnel", 0),
    ];
    assert_eq!(counted, expected);
}
