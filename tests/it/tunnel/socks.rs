//! SOCKS listeners: where they are, and that their connections have the deadlines, counts and proxies that those of HTTP have.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use forebay::app::StartError;
use forebay::config::settings::{AgentRange, Listen};
use forebay::disk::Disk;
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;

use super::{By, FIXTURE, Far, ask, is_closed, leading_to, socks_ask, socks_reply, until};
use crate::connect::Silent;
use crate::raw::Client;
use crate::relay::{Running, settings};
use crate::served::Place;

/// A deadline that a test can wait for.
const SOON: Duration = Duration::from_millis(400);

#[test]
fn both_families_are_served_and_told_which_address_speaks_for_them_r4_2() {
    let far = Far::start();
    let relay = Running::start(leading_to(far.port()));
    for door in relay.socks() {
        for host in ["127.0.0.1", "far.test"] {
            let mut client = Client::connect(door);
            client.send(&[5, 2, 0, 2]).unwrap();
            assert_eq!(client.take(2), [5, 0]);
            client.send(&socks_ask(1, &format!("{host}:{}", far.port()))).unwrap();
            let told = client.take(10);
            assert_eq!(told[..4], [5, 0, 0, 1]);
            let mut server = far.accept();
            let bound = server.peer_addr().unwrap();
            assert_eq!((&told[4..8], &told[8..]), (&[127, 0, 0, 1][..], &bound.port().to_be_bytes()[..]));
            client.send(b"hello").unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
        }
    }
    relay.stop();
}

#[test]
fn a_client_that_says_too_little_for_too_long_is_cut_at_each_step_r4_6() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.limits.head_timeout = SOON;
    let mut relay = Running::start(settings);
    let tally = relay.handle().tally().unwrap();
    let to = socks_ask(1, &far.address().to_string());
    for bytes in [
        &[][..],
        &[5],
        &[5, 3, 0],
        &[5, 1, 2],
        &[5, 1, 2, 1, 9, b'a'],
        &[5, 1, 0],
        &[&[5, 1, 0], &to[..6]].concat(),
    ] {
        let began = Instant::now();
        let mut client = Client::connect(relay.socks()[0]);
        client.send(bytes).unwrap();
        let (told, _) = client.read_to_close();
        assert!(told.len() <= 2 && began.elapsed() >= SOON, "{bytes:?}: {told:?}");
    }
    // A byte now and then does not move a deadline.
    let mut dripping = Client::connect(relay.socks()[0]);
    let began = Instant::now();
    let long = [&[5, 255][..], &[9; 255]].concat();
    dripping.set_patience(SOON / 8);
    let cut = long.chunks(1).any(|byte| {
        dripping.send(byte).is_err() || dripping.read_to_close().1 != crate::raw::answer::End::TimedOut
    });
    assert!(cut && began.elapsed() >= SOON);
    until("their places are free", || tally.connections_now.value() == 0);
    relay.stop();
}

#[test]
fn a_client_that_leaves_while_it_is_connected_for_gives_up_its_place_r4_6() {
    let place = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _silent = Silent::on(place);
    let mut relay = Running::start(leading_to(place.port()));
    let tally = relay.handle().tally().unwrap();
    for by in super::BOTH {
        let mut client = Client::connect(super::door(&relay, by));
        let asked = match by {
            By::Connect => format!("CONNECT {place} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
            By::Socks => [&[5, 1, 0][..], &socks_ask(1, &place.to_string())].concat(),
        };
        client.send(&asked).unwrap();
        until("it has come", || tally.connections_now.value() == 1);
        drop(client);
        let began = Instant::now();
        until("it is gone", || tally.connections_now.value() == 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{by:?}: long before the attempt has failed");
    }
    relay.stop();
}

#[test]
fn a_trusted_proxy_says_who_speaks_socks_r4_1_r6_1() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    settings.agents.unknown = Unknown::Refuse;
    settings.agents.ranges = vec![AgentRange { from: "192.0.2.0/24".parse().unwrap(), scope: Scope::All }];
    let relay = Running::start(settings);
    let to = far.address().to_string();
    for (header, told) in [
        ("PROXY TCP4 192.0.2.7 10.0.0.1 8080 1080\r\n", 0),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 8080 1080\r\n", 2),
        ("PROXY UNKNOWN\r\n", 2),
    ] {
        let mut client = Client::connect(relay.socks()[0]);
        client.send(header.as_bytes()).unwrap();
        assert_eq!(ask(&mut client, By::Socks, &to), told, "{header}");
        if told == 0 {
            drop(far.accept());
        }
    }
    let mut client = Client::connect(relay.socks()[0]);
    client.send(&[5, 1, 0]).unwrap();
    is_closed(&mut client);
    relay.stop();
}

#[test]
fn an_address_has_so_many_connections_of_socks_too_r4_6() {
    let far = Far::start();
    let mut settings = leading_to(far.port());
    settings.limits.connections_per_address_max = 2;
    let relay = Running::start(settings);
    let to = far.address().to_string();
    let open = [(); 2].map(|()| (super::tunnel(&relay, By::Socks, &to).unwrap(), far.accept()));
    is_closed(&mut Client::connect(relay.socks()[0]));
    drop(open);
    until("another has a place", || {
        let mut client = Client::connect(relay.socks()[0]);
        client.send(&[5, 1, 0]).is_ok() && client.take(2) == [5, 0]
    });
    relay.stop();
}

#[test]
fn a_default_listener_that_cannot_be_had_is_left_out_and_a_configured_one_ends_the_start_r4_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (address, taken)).unwrap();
    let foreign = "203.0.113.9:0".parse().unwrap();
    let mut settings = settings(FIXTURE);
    settings.socks.listen = Listen::Default(vec![taken.0, foreign, "127.0.0.1:0".parse().unwrap()]);
    let mut relay = Running::start(settings.clone());
    assert_eq!(relay.handle().running().socks.len(), 1);
    relay.stop();
    settings.socks.listen = Listen::Default(vec![taken.0]);
    let mut relay = Running::start(settings.clone());
    assert!(relay.handle().running().socks.is_empty());
    crate::raw::fetch(relay.v4(), "/none", &[]).whole(404);
    relay.stop();
    settings.socks.listen = Listen::Configured(vec![taken.0]);
    let data = tempfile::tempdir().unwrap();
    let refused = Running::try_start(settings, data, &Disk::default()).err().unwrap().0;
    assert!(matches!(refused, StartError::Listen(_)), "{refused}");
}

#[test]
fn serve_and_status_say_where_socks_is_spoken() {
    let place = Place::new();
    place.configure("socks.listen = [\"127.0.0.1:0\", \"[::1]:0\"]", FIXTURE_PATH, "");
    let relay = place.serve_ready();
    assert_eq!(relay.socks.len(), 2);
    let status = place.command(&["status"]).succeeded().stdout;
    let line = format!("SOCKS5     {}  {}\n", relay.socks[0], relay.socks[1]);
    assert!(status.contains(&line), "{status}");
    let mut client = Client::connect(relay.socks[1]);
    client.send(&[&[5, 1, 0][..], &socks_ask(1, "10.0.0.1:80")].concat()).unwrap();
    assert_eq!(client.take(2), [5, 0]);
    assert_eq!(socks_reply(&mut client), 2);
    relay.stop();
    // The command line overrides the file.
    let relay = place.serve(&["--socks-listen", "[::1]:0"]);
    assert!(relay.socks.len() == 1 && relay.socks[0].is_ipv6());
    relay.stop();
}

const FIXTURE_PATH: &str = crate::served::FIXTURE;
