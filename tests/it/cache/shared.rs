//! One question for all who want the same, and what becomes of it when agents leave, servers stall or things change (R3.2).

use std::time::Duration;

use crate::cache::server::{Act, Gate, Server, answer, chunked};
use crate::cache::{cache_status, get, proxy, settings};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;
use crate::site::Site;

/// An answer that stops in the middle of its body until a gate is opened.
fn halved(gate: &Gate, headers: &str) -> Vec<Act> {
    let head =
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 10\r\n\r\n01234", crate::cache::server::lines(headers));
    vec![Act::Send(head.into()), Act::Wait(gate.clone()), Act::Send(b"56789".to_vec())]
}

fn gated(headers: &'static str) -> (Gate, Server) {
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |_, before| match before {
        0 => halved(&own, headers),
        _ => answer(200, "Cache-Control: max-age=60", "another"),
    });
    (gate, server)
}

/// A client that has the head of its answer, and no more.
fn begun(relay: &Running, url: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::connect(relay.v4());
    client.ask("GET", url, headers).unwrap();
    assert_eq!(client.read_head("GET").unwrap().status, 200);
    client
}

#[test]
fn fifty_agents_at_once_are_one_request_and_each_reads_as_it_comes_r3_2() {
    let (gate, server) = gated("Cache-Control: max-age=60");
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    let mut clients: Vec<_> = (0..50).map(|_| begun(&relay, &url, &[])).collect();
    for client in &mut clients {
        assert_eq!(client.read(5).0, b"01234", "before the rest is there");
    }
    gate.open();
    for mut client in clients {
        let (rest, end) = client.read(usize::MAX);
        assert_eq!((&rest[..], end), (&b"56789"[..], Some(End::Complete)));
    }
    assert_eq!(get(relay.v4(), &url, &[("Range", "bytes=2-3")]).whole(206), b"23");
    assert_eq!(server.asked_for("/file").len(), 1);
    relay.stop();
}

#[test]
fn a_range_is_served_of_what_is_on_its_way_and_an_agent_that_leaves_ends_nothing_r3_2() {
    let (gate, server) = gated("Cache-Control: max-age=60\nETag: \"x\"");
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    begun(&relay, &url, &[]).reset();
    let mut follower = begun(&relay, &url, &[]);
    gate.open();
    assert_eq!(follower.read(usize::MAX), (b"0123456789".to_vec(), Some(End::Complete)));
    assert_eq!(server.asked_for("/file").len(), 1);
    relay.stop();
}

#[test]
fn what_is_for_one_is_never_given_to_another_who_asked_at_once_r3_2() {
    let server = Server::start(|_, before| answer(200, "Cache-Control: private", &format!("body {before}")));
    let relay = proxy(&[server.port()]);
    let url = server.url("/own");
    let bodies = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| get(relay.v4(), &url, &[]).whole(200))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<std::collections::HashSet<_>>()
    });
    assert_eq!(bodies.len(), 12);
    relay.stop();
}

#[test]
fn who_does_not_select_what_is_on_its_way_asks_for_themselves_r3_2() {
    let (gate, server) = gated("Cache-Control: max-age=60\nVary: Accept");
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    let mut first = begun(&relay, &url, &[("Accept", "a/b")]);
    assert_eq!(get(relay.v4(), &url, &[("Accept", "c/d")]).whole(200), b"another");
    gate.open();
    assert_eq!(first.read(usize::MAX).0, b"0123456789");
    relay.stop();
}

#[test]
fn what_changed_meanwhile_is_given_to_who_asked_before_and_not_kept_r3_2() {
    let (gate, server) = gated("Cache-Control: max-age=60");
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    let mut first = begun(&relay, &url, &[]);
    let mut poster = Client::connect(relay.v4());
    let posted = poster.exchange("POST", &url, &[("Content-Length", "0")]).unwrap();
    assert_eq!(posted.whole(200), b"another");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"another", "it joins nothing from before");
    gate.open();
    assert_eq!(first.read(usize::MAX), (b"0123456789".to_vec(), Some(End::Complete)));
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"another");
    relay.stop();
}

#[test]
fn stale_answers_are_given_while_their_server_is_asked_once_r3_2() {
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |_, before| match before {
        0 => {
            chunked(200, "Cache-Control: max-age=60, stale-while-revalidate=60\nAge: 100\nETag: \"x\"", "old")
        }
        _ => [vec![Act::Wait(own.clone())], chunked(200, "Cache-Control: max-age=60", "new")].concat(),
    });
    let relay = proxy(&[server.port()]);
    let url = server.url("/swr");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"old");
    for _ in 0..5 {
        let answer = get(relay.v4(), &url, &[]);
        assert!(cache_status(&answer).starts_with("forebay; hit; ttl=-4"), "{}", cache_status(&answer));
        assert_eq!(answer.whole(200), b"old");
    }
    server.wait_for("/swr", 2);
    gate.open();
    // Who wants it new waits for the question that is under way, or finds its answer.
    let new = get(relay.v4(), &url, &[("Cache-Control", "max-age=50")]);
    assert_eq!(new.whole(200), b"new");
    assert_eq!(server.asked_for("/swr").len(), 2);
    assert_eq!(server.asked_for("/swr")[1].header("if-none-match").as_deref(), Some("\"x\""));
    relay.stop();
}

#[test]
fn a_304_of_another_state_is_no_answer_and_the_whole_is_asked_for_r3_2() {
    let server = Server::start(|asked, before| match before {
        0 => chunked(200, "Cache-Control: max-age=60\nAge: 100\nETag: \"x\"", "old"),
        _ if asked.header("if-none-match").is_some() => chunked(304, "ETag: \"z\"", ""),
        _ => chunked(200, "Cache-Control: max-age=60\nETag: \"z\"", "new"),
    });
    let relay = proxy(&[server.port()]);
    let url = server.url("/moved");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"old");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"new");
    assert_eq!(server.asked_for("/moved").len(), 3);
    relay.stop();
}

#[test]
fn servers_that_stay_silent_are_given_up_in_time_and_nothing_of_them_is_kept_r3_2() {
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |asked, _| match &*asked.target {
        "/mute" => vec![Act::Wait(own.clone()), Act::Close],
        _ => halved(&own, "Cache-Control: max-age=60"),
    });
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.fill.first_byte = Duration::from_millis(300);
    settings.fill.silence = Duration::from_millis(300);
    let relay = Running::refreshed(settings);
    assert_eq!(get(relay.v4(), &server.url("/mute"), &[]).head.status, 504);
    for _ in 0..2 {
        let half = get(relay.v4(), &server.url("/half"), &[]);
        assert_eq!((half.head.status, &half.body[..]), (200, &b"01234"[..]));
        assert!(matches!(half.end, End::Short | End::Reset), "{:?}", half.end);
    }
    assert_eq!(server.asked_for("/half").len(), 2);
    gate.open();
    relay.stop();
}
