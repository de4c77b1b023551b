//! When tunnels end: by their idle and total limits, for want of room, and when the relay stops; and what is told of each.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use forebay::base::tally::Outcome;
use rustix::process::Signal;

use super::{BOTH, Far, ask, leading_to, tunnel, until};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;
use crate::served::{FIXTURE, Place};

/// A limit that a test can wait for.
const SOON: Duration = Duration::from_millis(600);

#[test]
fn a_tunnel_without_a_byte_is_cut_and_one_with_a_byte_now_and_then_is_not_r4_2() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.proxy.tunnel_idle = SOON;
    let relay = Running::start(settings);
    for by in BOTH {
        let began = Instant::now();
        let mut quiet = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut silent = far.accept();
        assert_eq!(quiet.read_to_close(), (Vec::new(), End::Reset), "{by:?}");
        assert!(began.elapsed() >= SOON);
        assert!(silent.read(&mut [0; 9]).is_err(), "{by:?}: no end in order");

        // Bytes in one direction alone, far longer than the limit in all.
        let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        let began = Instant::now();
        while began.elapsed() < 3 * SOON {
            server.write_all(b"x").unwrap();
            assert_eq!(client.take(1), b"x");
            std::thread::sleep(SOON / 10);
        }
    }
    relay.stop();
}

#[test]
fn a_tunnel_that_is_too_old_is_cut_though_bytes_pass_r4_2() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.proxy.tunnel_total = SOON;
    let relay = Running::start(settings);
    for by in BOTH {
        let began = Instant::now();
        let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        // As fast as both sides can.
        let sending = std::thread::spawn(move || while server.write_all(&[7; 8192]).is_ok() {});
        let end = loop {
            if let (_, Some(end)) = client.read_raw(1 << 20) {
                break end;
            }
        };
        assert_eq!(end, End::Reset, "{by:?}");
        assert!(began.elapsed() >= SOON);
        sending.join().unwrap();
    }
    relay.stop();
}

#[test]
fn a_client_that_takes_no_byte_of_a_tunnel_is_cut_like_any_other() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.limits.stall_timeout = SOON;
    let mut relay = Running::start(settings);
    let tally = relay.handle().tally().unwrap();
    for by in BOTH {
        let client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        let began = Instant::now();
        while server.write_all(&[7; 8192]).is_ok() {}
        assert!(began.elapsed() >= SOON, "{by:?}");
        until("the tunnel ends", || tally.tunnels_now.value() == 0);
        drop(client);
    }
    relay.stop();
}

#[test]
fn an_idle_tunnel_makes_room_and_one_at_work_does_not_r4_6() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.limits.connections_max = 2;
    let mut relay = Running::start(settings);
    let tally = relay.handle().tally().unwrap();
    let to = far.address().to_string();
    let mut quiet = tunnel(&relay, super::By::Connect, &to).unwrap();
    let _silent = far.accept();
    let mut steady = tunnel(&relay, super::By::Socks, &to).unwrap();
    let mut server = far.accept();
    // It waits until the one tunnel has been without a byte for so long that it counts as idle.
    let mut third = Client::connect(relay.v4());
    let asking = std::thread::spawn(move || ask(&mut third, super::By::Connect, "127.0.0.1:1"));
    while !asking.is_finished() {
        server.write_all(b"x").unwrap();
        assert_eq!(steady.take(1), b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(asking.join().unwrap(), 403);
    assert_eq!(quiet.read_to_close().1, End::Reset);
    assert!(tally.connections_dismissed.value() >= 1);
    server.write_all(b"y").unwrap();
    assert_eq!(steady.take(1), b"y");
    drop((steady, server));
    relay.stop();
}

#[test]
fn a_relay_that_stops_lets_tunnels_end_until_the_drains_deadline() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.limits.drain = 2 * SOON;
    for by in BOTH {
        let mut relay = Running::start(settings.clone());
        let tally = relay.handle().tally().unwrap();
        let mut ends = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        let mut stays = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut other = far.accept();
        let began = Instant::now();
        let stopping = std::thread::spawn(move || relay.stop());
        // One goes on and ends in order; the other is still open at the deadline.
        std::thread::sleep(SOON / 2);
        server.write_all(b"all of it").unwrap();
        drop(server);
        assert_eq!(ends.read_to_close(), (b"all of it".to_vec(), End::Closed), "{by:?}");
        drop(ends);
        other.write_all(b"x").unwrap();
        let (bytes, end) = stays.read_to_close();
        assert!(bytes == b"x" && end != End::TimedOut, "{by:?} {end:?}");
        stopping.join().unwrap();
        assert!(began.elapsed() >= 2 * SOON && began.elapsed() < Duration::from_secs(20));
        assert_eq!((tally.tunnels_now.value(), tally.connections_now.value()), (0, 0));
        assert_eq!(tally.requests(Outcome::Tunnel), 2);
    }
}

#[test]
fn each_tunnel_has_one_line_of_the_access_log_at_its_end_r11_2() {
    let far = Far::start();
    let place = Place::new();
    let port = far.port();
    let tail =
        format!("[[proxy.allow]]\nname = \"here\"\nto = \"127.0.0.0/8\"\nports = {port}\ntunnels = \"any\"");
    place.configure("[log]\nformat = \"json\"", FIXTURE, &tail);
    let relay = place.serve_ready();
    let to = far.address().to_string();
    for (by, door, words) in [
        (super::By::Connect, relay.agents[0], ["\"method\":\"CONNECT\"", "\"status\":200"]),
        (super::By::Socks, relay.socks[0], ["\"method\":\"SOCKS5\"", "\"reply\":0"]),
    ] {
        let mut client = Client::connect(door);
        assert!(matches!(ask(&mut client, by, &to), 0 | 200));
        let mut server = far.accept();
        client.send(b"12345").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"123").unwrap();
        assert_eq!(client.take(3), b"123");
        assert!(!relay.output().contains(words[0]), "it has not ended");
        drop(server);
        client.shut_write();
        assert_eq!(client.read_to_close().1, End::Closed);
        let line = relay.wait_line(words[0]);
        let agent = format!("\"agent\":\"{}\"", client.local_address());
        let destination = format!("\"destination\":\"{to}\"");
        for word in [
            words[1],
            &agent,
            &destination,
            "\"outcome\":\"tunnel\"",
            "\"up_bytes\":5",
            "\"down_bytes\":3",
            "both sides ended",
        ] {
            assert!(line.contains(word), "{word} in {line}");
        }
        // Refusals have theirs at once, with the rule.
        let mut client = Client::connect(door);
        ask(&mut client, by, "10.0.0.1:80");
        let line = relay.wait_line("10.0.0.1:80");
        assert!(
            line.contains("\"outcome\":\"refused\"") && line.contains("no rule lists 10.0.0.1:80"),
            "{line}"
        );
    }
    assert_eq!(relay.metric("forebay_requests_refused_total{by=\"destination\"}"), 2);
    assert_eq!(relay.metric("forebay_requests_total{outcome=\"tunnel\"}"), 2);
    assert_eq!(relay.metric("forebay_tunnel_up_bytes_total"), 10);
    assert_eq!(relay.metric("forebay_tunnel_down_bytes_total"), 6);
    relay.signal(Signal::TERM);
    relay.wait_exit().succeeded();
}
