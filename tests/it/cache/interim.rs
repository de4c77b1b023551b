//! Interim answers: each way to a server passes them on, to agents that know them, and in their place (RFC 9110 section 15.2; R3.2,
//! R4.4).

use crate::cache::scope::mounted;
use crate::cache::server::{Act, Gate, Server, answer, chunked};
use crate::cache::{get, proxy, settings};
use crate::raw::Client;
use crate::raw::answer::{Answer, Head};
use crate::relay::Running;
use crate::site::Site;

fn hint(link: &str) -> Act {
    Act::Send(
        format!("HTTP/1.1 103 Early Hints\r\nLink: {link}\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\n").into(),
    )
}

/// Hints, and then an answer.
fn hinted(links: &[&str], answer: Vec<Act>) -> Vec<Act> {
    links.iter().map(|link| hint(link)).chain(answer).collect()
}

/// What comes for one request: interim heads, and the answer.
fn all(client: &mut Client, method: &str) -> (Vec<Head>, Answer) {
    let mut heads = Vec::new();
    loop {
        let head = client.read_head(method).unwrap();
        if head.status >= 200 {
            let (body, end) = client.read(usize::MAX);
            return (heads, Answer { head, body, end: end.unwrap() });
        }
        heads.push(head);
    }
}

fn links(heads: &[Head]) -> Vec<&str> {
    heads.iter().map(|head| head.header("link").unwrap_or("")).collect()
}

#[test]
fn hints_come_before_the_answer_is_there_by_each_way_r3_2_r4_4() {
    let gates: [Gate; 3] = Default::default();
    let own = gates.clone();
    let server = Server::start(move |asked, before| {
        let gate = match &*asked.target {
            "/kept" => &own[0],
            "/passed" => &own[1],
            _ => &own[2],
        };
        let said = if before == 0 { chunked(200, "Cache-Control: max-age=60", "late") } else { vec![] };
        hinted(&["<a>", "<b>"], [vec![Act::Wait(gate.clone())], said].concat())
    });
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.mounts = mounted(&site, &server, "patterns").mounts;
    let relay = Running::refreshed(settings);
    for (number, (method, target)) in
        [("GET", server.url("/kept")), ("POST", server.url("/passed")), ("GET", "/tools/x".into())]
            .into_iter()
            .enumerate()
    {
        let mut client = Client::connect(relay.v4());
        client.ask(method, &target, &[]).unwrap();
        for link in ["<a>", "<b>"] {
            let head = client.read_head(method).unwrap();
            assert_eq!((head.status, head.header("link")), (103, Some(link)), "{target}");
            assert!(head.header("x-own").is_none() && head.header("connection").is_none(), "{head:?}");
            assert!(head.header("via").is_some_and(|via| via.starts_with("1.1 forebay-")), "{head:?}");
            assert!(head.header("content-length").is_none() && head.version == "HTTP/1.1");
        }
        gates[number].open();
        assert_eq!(client.answer(method).unwrap().whole(200), b"late", "{target}");
    }
    // What is kept is the answer alone.
    for target in [server.url("/kept"), "/tools/x".into()] {
        assert_eq!(get(relay.v4(), &target, &[]).whole(200), b"late");
    }
    relay.stop();
}

#[test]
fn hints_stand_before_their_own_answer_in_a_pipeline_read_slowly_r3_2() {
    const LARGE: usize = 3_000_000;
    let server = Server::start(|asked, _| match &*asked.target {
        "/large" => answer(200, "Cache-Control: max-age=60", &"x".repeat(LARGE)),
        "/hints" => hinted(&["<a>", "<b>"], answer(200, "", "hinted")),
        _ => answer(200, "", "last"),
    });
    let relay = proxy(&[server.port()]);
    for _ in 0..2 {
        let mut client = Client::connect_narrow(relay.v4());
        for path in ["/large", "/hints", "/last", "/hints"] {
            client.ask("GET", &server.url(path), &[]).unwrap();
        }
        for (path, expected, body) in [
            ("/large", 0, LARGE),
            ("/hints", 2, "hinted".len()),
            ("/last", 0, "last".len()),
            ("/hints", 2, "hinted".len()),
        ] {
            let (heads, answer) = all(&mut client, "GET");
            assert_eq!((heads.len(), answer.whole(200).len()), (expected, body), "{path}: {heads:?}");
        }
    }
    relay.stop();
}

#[test]
fn agents_that_know_no_interim_answers_get_none_r3_1() {
    let server = Server::start(|_, _| hinted(&["<a>"], chunked(200, "", "body")));
    let relay = proxy(&[server.port()]);
    for method in ["GET", "POST"] {
        let mut client = Client::connect(relay.v4());
        client.send(format!("{method} {} HTTP/1.0\r\n\r\n", server.url("/x")).as_bytes()).unwrap();
        let (bytes, _) = client.read_to_close();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 ") && text.ends_with("\r\n\r\nbody"), "{text}");
        assert_eq!(text.matches("HTTP/").count(), 1, "{text}");
    }
    relay.stop();
}

#[test]
fn a_hint_in_pieces_passes_whole_and_statuses_pass_as_they_are_r3_2() {
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |_, _| {
        let pieces =
            ["HTTP/1.1 1", "03 Early Hints\r\nLi", "nk: <a>\r\n\r", "\nHTTP/1.1 199 Odd\r\nX-A: b\r\n"];
        let mut acts: Vec<_> = pieces.iter().map(|piece| Act::Send((*piece).into())).collect();
        acts.extend([Act::Wait(own.clone()), Act::Send(b"\r\n".to_vec())]);
        [acts, answer(200, "", "body")].concat()
    });
    let relay = proxy(&[server.port()]);
    let mut client = Client::connect(relay.v4());
    client.ask("GET", &server.url("/x"), &[]).unwrap();
    assert_eq!(client.read_head("GET").unwrap().header("link"), Some("<a>"));
    gate.open();
    let (heads, answer) = all(&mut client, "GET");
    assert_eq!((heads[0].status, heads[0].header("x-a")), (199, Some("b")));
    assert_eq!((heads.len(), answer.whole(200)), (1, b"body".to_vec()));
    relay.stop();
}

#[test]
fn an_agent_that_reads_late_gets_all_hints_in_their_order_and_a_flood_is_cut_short_r4_6() {
    // Longer together than a narrow socket takes.
    let long = "x".repeat(900);
    let named: Vec<String> = (0..30).map(|number| format!("<{number}>{long}")).collect();
    let own = named.clone();
    let server = Server::start(move |asked, _| {
        let links: Vec<&str> = own.iter().map(String::as_str).collect();
        let flood = vec!["<f>"; 5_000];
        hinted(if asked.target == "/flood" { &flood } else { &links }, answer(200, "", "body"))
    });
    let relay = proxy(&[server.port()]);
    let mut client = Client::connect_narrow(relay.v4());
    client.ask("GET", &server.url("/long"), &[]).unwrap();
    server.wait_for("/long", 1);
    let (heads, answer) = all(&mut client, "GET");
    assert_eq!(links(&heads), named);
    answer.whole(200);
    client.ask("GET", &server.url("/flood"), &[]).unwrap();
    let (heads, answer) = all(&mut client, "GET");
    assert!((1..=32).contains(&heads.len()), "{}", heads.len());
    answer.whole(200);
    relay.stop();
}

#[test]
fn a_body_that_waits_for_the_word_gets_hints_and_the_word_each_once_r3_2() {
    let server = Server::start(|_, _| {
        vec![
            hint("<a>"),
            Act::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            Act::Body,
            hint("<b>"),
            Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ]
    });
    let relay = proxy(&[server.port()]);
    let mut client = Client::connect(relay.v4());
    client.ask("PUT", &server.url("/x"), &[("Expect", "100-continue"), ("Content-Length", "4")]).unwrap();
    // The two pass by ways of their own.
    let mut first = [client.read_head("PUT").unwrap().status, client.read_head("PUT").unwrap().status];
    first.sort_unstable();
    assert_eq!(first, [100, 103]);
    client.send(b"body").unwrap();
    let (heads, answer) = all(&mut client, "PUT");
    assert_eq!((links(&heads), answer.whole(200)), (vec!["<b>"], b"ok".to_vec()));
    assert_eq!(server.asked_for("/x")[0].body, b"body");
    relay.stop();
}

#[test]
fn hints_are_for_who_asked_and_who_joins_gets_the_answer_r3_2() {
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |_, _| {
        let late = [vec![Act::Wait(own.clone())], chunked(200, "Cache-Control: max-age=60", "shared")];
        hinted(&["<a>"], late.concat())
    });
    let relay = proxy(&[server.port()]);
    let mut first = Client::connect(relay.v4());
    first.ask("GET", &server.url("/x"), &[]).unwrap();
    assert_eq!(first.read_head("GET").unwrap().status, 103);
    let mut second = Client::connect(relay.v4());
    second.ask("GET", &server.url("/x"), &[]).unwrap();
    gate.open();
    assert_eq!(first.answer("GET").unwrap().whole(200), b"shared");
    assert_eq!(second.answer("GET").unwrap().whole(200), b"shared");
    assert_eq!(server.asked_for("/x").len(), 1);
    relay.stop();
}

#[test]
fn hints_whose_answer_never_comes_are_followed_by_a_502_r3_2() {
    let server = Server::start(|_, _| hinted(&["<a>"], vec![Act::Close]));
    let relay = proxy(&[server.port()]);
    for method in ["GET", "POST"] {
        let mut client = Client::connect(relay.v4());
        client.ask(method, &server.url("/x"), &[]).unwrap();
        let (heads, answer) = all(&mut client, method);
        assert_eq!(links(&heads), ["<a>"]);
        answer.whole(502);
        // The connection goes on.
        client.ask(method, &server.url("/x"), &[]).unwrap();
        all(&mut client, method).1.whole(502);
    }
    relay.stop();
}
