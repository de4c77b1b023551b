//! HTTP/1 clients that end their side, ask without reading, send too much or too slowly (R3.3, R4.1).

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use forebay::config::settings::{Prefetch, Settings};

use super::{MANIFEST, PACKAGE, resident_bytes, serve, served_in, wait_quiet};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";

/// A deadline that a test can wait for.
const SOON: Duration = Duration::from_millis(400);

fn unhurried() -> Settings {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    settings
}

fn file(target: &str) -> Vec<u8> {
    fs::read(target.replace("/activeupdate", FIXTURE)).unwrap()
}

#[test]
fn a_client_that_ends_its_side_gets_its_answers_and_then_the_end() {
    let relay = Running::refreshed(settings(FIXTURE));
    let expected = file(PACKAGE);
    // Not read yet and read before; one request and many; a client that takes its time.
    for count in [1, 1, 30] {
        for narrow in [false, true] {
            let connect = if narrow { Client::connect_narrow } else { Client::connect };
            let mut client = connect(relay.v4());
            client
                .send(format!("GET {PACKAGE} HTTP/1.1\r\nHost: r\r\n\r\n").repeat(count).as_bytes())
                .unwrap();
            client.shut_write();
            for _ in 0..count {
                assert!(client.answer("GET").unwrap().whole(200) == expected);
            }
            assert_eq!(client.read_to_close(), (Vec::new(), End::Closed));
        }
    }
    // An end in the middle of a head is no request.
    let mut client = Client::connect(relay.v4());
    client.send(b"GET /activeupdate/server.ini HTTP/1.1\r\nHo").unwrap();
    client.shut_write();
    let (bytes, _) = client.read_to_close();
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 400 "), "{}", bytes.escape_ascii());
    relay.stop();
}

#[test]
fn a_client_that_ends_its_side_while_its_file_is_fetched_counts_as_gone_r2_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.limits.connections_max = 1;
    let relay = Running::refreshed(settings);
    let gate = Gate::default();
    origin.script("/pattern/vsapi329.zip", Fault::StallAfter(1000, gate.clone()));
    let mut client = Client::connect(relay.v4());
    client.ask("GET", PACKAGE, &[]).unwrap();
    client.read_head("GET").unwrap();
    client.read(1000);
    client.shut_write();
    // Nothing tells it from one that has left; its place is the next one's.
    assert_eq!(Client::connect(relay.v4()).exchange("GET", MANIFEST, &[]).unwrap().head.status, 200);
    gate.open();
    relay.stop();
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order_and_held_by_their_sender() {
    let (_place, relay) = serve("workers = 1", "[limits]\nstall_timeout_secs = 2");
    served_in(&relay);
    let before = resident_bytes(&relay);
    let mut requests = String::new();
    for at in 0..10_000 {
        let _ = write!(requests, "GET {PACKAGE} HTTP/1.1\r\nHost: r\r\nRange: bytes={at}-{at}\r\n\r\n");
    }
    let expected = file(PACKAGE);
    assert!(expected.len() >= 10_000);
    let mut client = Client::connect(relay.agents[0]);
    let mut sender = client.twin();
    let sending = std::thread::spawn(move || sender.send(requests.as_bytes()).unwrap());
    for byte in &expected[..10_000] {
        assert_eq!(client.answer("GET").unwrap().whole(206), [*byte]);
    }
    sending.join().unwrap();

    // Who asks as much and reads nothing is cut, and what it asked for waits in its own socket.
    let mut greedy: Vec<_> = (0..10).map(|_| Client::connect_narrow(relay.agents[0])).collect();
    let request = format!("GET {PACKAGE} HTTP/1.1\r\nHost: r\r\n\r\n").repeat(10_000);
    let sending: Vec<_> = greedy
        .iter_mut()
        .map(|client| {
            let mut sender = client.twin();
            let request = request.clone();
            // It may be cut before all is sent.
            std::thread::spawn(move || drop(sender.send(request.as_bytes())))
        })
        .collect();
    served_in(&relay);
    for sending in sending {
        sending.join().unwrap();
    }
    wait_quiet(&relay);
    let held = resident_bytes(&relay).saturating_sub(before);
    assert!(held < 64 << 20, "{} MiB", held >> 20);
    for mut client in greedy {
        let (bytes, end) = client.read_to_close();
        assert!(matches!(end, End::Closed | End::Reset) && bytes.len() < 100 * expected.len(), "{end:?}");
    }
    relay.stop();
}

#[test]
fn what_is_too_large_is_refused_and_never_held() {
    let (_place, relay) = serve("", "[limits]\nhead_timeout_secs = 2");
    served_in(&relay);
    let before = resident_bytes(&relay);
    let long = "a".repeat(8 << 20);
    let chunked = format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (what, bytes) in [
        ("a target", format!("GET /{long} HTTP/1.1\r\nHost: r\r\n\r\n")),
        ("a method", format!("{long} / HTTP/1.1\r\nHost: r\r\n\r\n")),
        ("a field", format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\nX-A: {long}\r\n\r\n")),
        ("fields", format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\n{}\r\n", "X-A: b\r\n".repeat(1 << 20))),
        ("empty lines", "\r\n".repeat(4 << 20)),
        ("a chunk's extension", format!("{chunked}1;{long}\r\nx\r\n0\r\n\r\n")),
        ("chunks", format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(1 << 20))),
        ("trailers", format!("{chunked}0\r\n{}\r\n", "X-A: b\r\n".repeat(1 << 20))),
        (
            "a body",
            format!("GET {MANIFEST} HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
        ),
    ] {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut client = Client::connect(relay.agents[0]);
                assert!(client.send(bytes.as_bytes()).is_err(), "{what}: all was read");
                client
            })
            .collect();
        for mut client in clients {
            // A reset may have thrown the answer away.
            let (answer, _) = client.read_to_close();
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
                "{what}: {}",
                answer.escape_ascii()
            );
        }
        served_in(&relay);
    }
    wait_quiet(&relay);
    let held = resident_bytes(&relay).saturating_sub(before);
    assert!(held < 32 << 20, "{} MiB", held >> 20);
    relay.stop();
}

#[test]
fn whatever_comes_byte_by_byte_has_the_heads_deadline() {
    let authority = Authority::new();
    let mut settings = unhurried();
    settings.limits.head_timeout = SOON;
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["relay.test"]).0];
    settings.trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    let mut relay = Running::refreshed(settings);
    let secure = relay.handle().running().tls[0];
    let head =
        [b"GET /activeupdate/server.ini HTTP/1.1\r\nHost: r\r\nX-A: ".to_vec(), vec![b'a'; 2000]].concat();
    let hello = [b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec(), vec![7; 2000]].concat();
    let proxy =
        b"PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0000:0000:0000:0000:0002 "
            .to_vec();
    for (what, address, source, bytes) in [
        ("a head", relay.v4(), [127, 0, 0, 1], head),
        ("a handshake", secure, [127, 0, 0, 1], hello),
        ("a proxy's header", relay.v4(), [127, 0, 0, 9], proxy),
    ] {
        let mut client = Client::connect_from(source.into(), address);
        client.set_patience(SOON / 20);
        let began = Instant::now();
        let cut = bytes.iter().find_map(|byte| {
            let sent = client.send(&[*byte]);
            let end = client.read_to_close().1;
            (sent.is_err() || end != End::TimedOut).then_some(end)
        });
        assert!(matches!(cut, Some(End::Closed | End::Reset)), "{what}: {cut:?}");
        assert!(began.elapsed() >= SOON, "{what}");
    }
    relay.stop();
}
