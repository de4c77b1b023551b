//! Answers that are none: connections that break off right after a head, a 304 to no condition, statuses out of all ranges (R1.5,
//! R3.2, R4.4).

use forebay::base::tally::Outcome;

use crate::cache::scope::mounted;
use crate::cache::server::{Act, Gate, Server, answer, chunked, lines};
use crate::cache::{cache_status, get, proxy, settings};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;
use crate::site::Site;

const FRESH: &str = "Cache-Control: max-age=60";

/// A relay that takes agents to a server by its URLs, and by a mount.
fn both(server: &Server) -> Running {
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.mounts = mounted(&site, server, "patterns").mounts;
    Running::refreshed(settings)
}

#[test]
fn a_connection_that_breaks_right_after_the_head_is_a_502_where_no_head_was_sent_r1_5_r4_4() {
    const TRIES: usize = 8;
    for (what, end) in [
        ("closed at once", (|head: Vec<u8>| vec![Act::Last(head)]) as fn(Vec<u8>) -> Vec<Act>),
        ("closed", |head| vec![Act::Send(head), Act::Close]),
        ("reset", |head| vec![Act::Send(head), Act::Reset]),
    ] {
        let server = Server::start(move |asked, _| {
            let kept = if asked.target.contains("kept") { FRESH } else { "Cache-Control: no-store" };
            let framing = if asked.target.contains("chunks") {
                "Transfer-Encoding: chunked"
            } else {
                "Content-Length: 10"
            };
            end(format!("HTTP/1.1 200 OK\r\n{}{framing}\r\n\r\n", lines(kept)).into())
        });
        let relay = both(&server);
        for (method, path, version) in [
            ("GET", server.url("/kept"), "1.1"),
            ("GET", server.url("/kept/chunks"), "1.1"),
            ("GET", server.url("/kept/chunks"), "1.0"),
            ("GET", server.url("/passed"), "1.1"),
            ("POST", server.url("/passed/chunks"), "1.1"),
            ("GET", "/tools/kept".into(), "1.1"),
            ("POST", "/tools/passed".into(), "1.1"),
        ] {
            let mut told = 0;
            for number in 0..TRIES {
                let mut client = Client::connect(relay.v4());
                let head = format!("{method} {path}?{number} HTTP/{version}\r\nHost: x\r\n");
                client.send(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
                // Over HTTP/1.0 a reset may overtake what was sent before it: nothing else marks an end that is none.
                let got = match client.answer(method) {
                    Err(End::Reset) if version == "1.0" => continue,
                    got => got.unwrap_or_else(|end| panic!("{what}: {method} {path} has no answer: {end:?}")),
                };
                if got.head.status == 200 {
                    assert!(matches!(got.end, End::Short | End::Reset), "{what}: {method} {path}: {got:?}");
                    continue;
                }
                got.whole(502);
                told += 1;
                if version == "1.1" {
                    let again = client.exchange(method, "/activeupdate/none", &[]).unwrap();
                    assert!(matches!(again.head.status, 404 | 405), "the connection goes on: {again:?}");
                }
            }
            assert!(told > 0 || what != "closed at once", "{what}: no 502 for {method} {path}");
        }
        assert_eq!(relay.tree(0).resources.answers.size().0, 0, "{what}");
        relay.stop();
    }
}

#[test]
fn a_connection_that_breaks_once_the_head_was_sent_ends_the_agents_r1_5() {
    let gates: [Gate; 2] = Default::default();
    let own = gates.clone();
    let server = Server::start(move |asked, _| {
        let gate = own[usize::from(asked.method == "POST")].clone();
        let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 10\r\n\r\n", lines(FRESH));
        vec![Act::Send(head.into()), Act::Wait(gate), Act::Close]
    });
    let relay = proxy(&[server.port()]);
    for (method, gate) in ["GET", "POST"].into_iter().zip(&gates) {
        let mut client = Client::connect(relay.v4());
        client.ask(method, &server.url("/x"), &[]).unwrap();
        assert_eq!(client.read_head(method).unwrap().status, 200);
        gate.open();
        let (bytes, end) = client.read(usize::MAX);
        assert!(bytes.is_empty() && matches!(end, Some(End::Short | End::Reset)), "{method}: {end:?}");
    }
    relay.stop();
}

#[test]
fn a_304_that_nobody_asked_for_is_a_bad_gateway_r3_2_r4_4() {
    let server = Server::start(|asked, before| match &*asked.target {
        "/kept" if before == 0 => chunked(200, FRESH, "kept"),
        _ => chunked(304, FRESH, ""),
    });
    let mut relay = both(&server);
    let tally = relay.handle().tally().unwrap();
    let mut client = Client::connect(relay.v4());
    for (number, (method, target, headers)) in [
        ("GET", server.url("/get"), &[][..]),
        // The cache asks for the whole, whatever the agent has.
        ("GET", server.url("/own"), &[("If-None-Match", "\"x\"")]),
        ("GET", server.url("/part"), &[("Range", "bytes=0-1")]),
        ("GET", server.url("/bypass"), &[("If-Match", "\"x\"")]),
        ("HEAD", server.url("/head"), &[]),
        ("POST", server.url("/post"), &[]),
        ("GET", "/tools/get".into(), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        client.exchange(method, &target, headers).unwrap().whole(502);
        assert_eq!(tally.requests(Outcome::Failed), number as u64 + 1, "{method} {target}");
        assert_eq!(server.asked().len(), number + 1, "{method} {target}: asked once");
    }
    // Nor does it renew what is kept without anything to ask by.
    let url = server.url("/kept");
    client.exchange("GET", &url, &[]).unwrap().whole(200);
    client.exchange("GET", &url, &[("Cache-Control", "no-cache")]).unwrap().whole(502);
    assert_eq!(client.exchange("GET", &url, &[]).unwrap().whole(200), b"kept");
    // The agent's own condition has its answer.
    let own = [("If-None-Match", "\"x\"")];
    assert_eq!(client.exchange("HEAD", &server.url("/mine"), &own).unwrap().head.status, 304);
    relay.stop();
}

#[test]
fn statuses_out_of_all_ranges_pass_and_are_never_kept_r3_2() {
    let server = Server::start(|asked, before| {
        let status = asked.target[1..].parse();
        match status {
            Ok(status) => answer(status, FRESH, "odd"),
            Err(_) if before == 0 => chunked(200, &format!("{FRESH}\nETag: \"x\""), "kept"),
            Err(_) => answer(700, FRESH, "odd"),
        }
    });
    let mut relay = proxy(&[server.port()]);
    let tally = relay.handle().tally().unwrap();
    for (number, status) in [600, 799, 999].into_iter().enumerate() {
        let path = format!("/{status}");
        for asked in 1..=2 {
            assert_eq!(get(relay.v4(), &server.url(&path), &[]).whole(status), b"odd");
            assert_eq!(server.asked_for(&path).len(), asked, "{status}");
        }
        assert_eq!(tally.requests(Outcome::Failed), 2 * (number as u64 + 1));
    }
    assert_eq!(relay.tree(0).resources.answers.size().0, 0);
    // What is kept outlives one, as it does a server's error.
    let url = server.url("/kept");
    get(relay.v4(), &url, &[]).whole(200);
    assert_eq!(get(relay.v4(), &url, &[("Cache-Control", "no-cache")]).whole(700), b"odd");
    let again = get(relay.v4(), &url, &[]);
    assert!(cache_status(&again).starts_with("forebay; hit"), "{again:?}");
    assert_eq!(again.whole(200), b"kept");
    for status in ["000", "099", "1000", "20", "2x0", "-20"] {
        let server = Server::start(move |_, _| {
            vec![Act::Last(format!("HTTP/1.1 {status} x\r\nContent-Length: 1\r\n\r\na").into())]
        });
        let relay = proxy(&[server.port()]);
        get(relay.v4(), &server.url("/none"), &[]).whole(502);
        relay.stop();
    }
    relay.stop();
}

#[test]
fn a_get_goes_once_more_where_the_kept_connection_it_went_on_was_closed_r4_4() {
    const TRIES: usize = 12;
    for (what, end) in [("closed", Act::Close), ("reset", Act::Reset)] {
        // Each connection answers once.
        let server = Server::start(move |asked, _| match (asked.earlier, &*asked.method) {
            (0, "HEAD") => vec![Act::Send("HTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\n".into())],
            (0, _) => answer(200, "Cache-Control: no-store", "body"),
            _ => vec![end.clone()],
        });
        let relay = both(&server);
        for (method, path) in [
            ("GET", server.url("/kept")),
            ("HEAD", server.url("/kept")),
            ("GET", server.url("/part")),
            ("GET", "/tools/kept".into()),
        ] {
            let before = server.asked().len();
            for number in 0..TRIES {
                let headers = if path.ends_with("/part") { &[("If-Match", "*")][..] } else { &[] };
                let mut client = Client::connect(relay.v4());
                let got = client.exchange(method, &format!("{path}?{number}"), headers).unwrap();
                assert_eq!(got.head.status, 200, "{what}: {method} {path}: {got:?}");
            }
            let asked = &server.asked()[before..];
            let closed = asked.iter().filter(|asked| asked.earlier > 0).count();
            assert!(closed > 0, "{what}: {method} {path}: no connection was kept");
            assert_eq!(asked.len() - closed, TRIES, "{what}: {method} {path}: each was answered once");
        }
        relay.stop();
    }
}

#[test]
fn what_may_have_been_done_is_asked_once_r4_4() {
    const TRIES: usize = 12;
    let server = Server::start(|asked, _| match asked.earlier {
        0 => answer(200, "Cache-Control: no-store", "body"),
        _ => vec![Act::Body, Act::Close],
    });
    let relay = both(&server);
    for number in 0..TRIES {
        let mut client = Client::connect(relay.v4());
        client.exchange("GET", &server.url(&format!("/first?{number}")), &[]).unwrap().whole(200);
        let target = format!("/post?{number}");
        let got = client.exchange("POST", &server.url(&target), &[]).unwrap();
        let asked = server.asked_for(&target);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(got.head.status, if asked[0].earlier > 0 { 502 } else { 200 }, "{got:?}");
    }
    assert!(server.asked().iter().any(|asked| asked.method == "POST" && asked.earlier > 0));
    relay.stop();
}

#[test]
fn a_get_goes_once_more_at_most_however_many_connections_are_kept_r4_4() {
    const KEPT: usize = 4;
    let gates: [Gate; 12] = Default::default();
    let own = gates.clone();
    let server = Server::start(move |asked, _| match asked.target.strip_prefix("/held/") {
        Some(number) => {
            let gate = own[number.parse::<usize>().unwrap()].clone();
            [vec![Act::Wait(gate)], answer(200, "Cache-Control: no-store", "body")].concat()
        }
        None => vec![Act::Close],
    });
    let relay = both(&server);
    let mut went = Vec::new();
    for (number, gate) in gates.iter().enumerate() {
        let held = format!("/held/{number}");
        let mut clients: Vec<_> = (0..KEPT).map(|_| Client::connect(relay.v4())).collect();
        for client in &mut clients {
            // Each asks for itself.
            client.ask("GET", &server.url(&held), &[("If-Match", "*")]).unwrap();
        }
        server.wait_for(&held, KEPT);
        gate.open();
        for client in &mut clients {
            client.answer("GET").unwrap().whole(200);
        }
        let never = format!("/never/{number}");
        get(relay.v4(), &server.url(&never), &[]).whole(502);
        went.push(server.asked_for(&never).iter().map(|asked| asked.earlier > 0).collect::<Vec<_>>());
    }
    assert!(went.iter().all(|went| matches!(went[..], [false] | [true, false])), "{went:?}");
    assert!(went.contains(&vec![true, false]), "no connection was kept");
    relay.stop();
}
