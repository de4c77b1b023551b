//! Connections that stay and connections that do not: HTTP/1.0 and 1.1, pipelining, HEAD, and the heads of answers (R1.1).

use forebay::config::settings::Prefetch;

use crate::raw::Client;
use crate::raw::answer::{End, Head};
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi_1932700.1932900";
const SIGNATURE: &str = "/activeupdate/pattern/vsapi_1932700.sig";

fn relay() -> Running {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    Running::refreshed(settings)
}

fn file(target: &str) -> Vec<u8> {
    std::fs::read(target.replace("/activeupdate", FIXTURE)).unwrap()
}

fn is_closed(client: &mut Client) {
    assert_eq!(client.read_to_close(), (Vec::new(), End::Closed));
}

#[test]
fn http_1_0_closes_unless_it_asks_to_keep_alive_r1_1() {
    let relay = relay();
    let mut client = Client::connect(relay.v4());
    client.send(format!("GET {PACKAGE} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let answer = client.answer("GET").unwrap();
    assert_eq!(answer.head.header("content-length"), Some(&*file(PACKAGE).len().to_string()));
    assert!(answer.head.header("transfer-encoding").is_none(), "HTTP/1.0 knows no chunks");
    assert!(answer.whole(200) == file(PACKAGE));
    is_closed(&mut client);

    let mut client = Client::connect(relay.v4());
    for target in [PACKAGE, SIGNATURE, PACKAGE] {
        client.send(format!("GET {target} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").as_bytes()).unwrap();
        let answer = client.answer("GET").unwrap();
        let kept = answer.head.header("connection").map(str::to_lowercase);
        assert_eq!(kept.as_deref(), Some("keep-alive"));
        assert!(answer.whole(200) == file(target));
    }
    client.send(format!("HEAD {PACKAGE} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(client.answer("HEAD").unwrap().head.status, 200);
    is_closed(&mut client);
    relay.stop();
}

#[test]
fn http_1_1_stays_open_through_refusals_and_closes_when_asked_r1_1() {
    let relay = relay();
    let mut client = Client::connect(relay.v4());
    for (target, status) in [
        (PACKAGE, 200),
        ("/activeupdate/nothing", 404),
        ("/activeupdate/..", 400),
        ("/activeupdate/%2f", 400),
        (SIGNATURE, 200),
        (MANIFEST, 200),
    ] {
        let answer = client.exchange("GET", target, &[]).unwrap();
        assert!(answer.head.header("connection").is_none(), "{target}");
        answer.whole(status);
    }
    for headers in [
        &[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")][..],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
        &[("Expect", "100-continue")],
        &[("Connection", "keep-alive")],
    ] {
        let answer = client.exchange("GET", PACKAGE, headers).unwrap();
        assert!(answer.whole(200) == file(PACKAGE), "{headers:?}");
    }
    for close in ["close", "Close", "foo, close"] {
        let mut client = Client::connect(relay.v4());
        let answer = client.exchange("GET", PACKAGE, &[("Connection", close)]).unwrap();
        assert_eq!(answer.head.header("connection"), Some("close"), "{close}");
        assert!(answer.whole(200) == file(PACKAGE));
        is_closed(&mut client);
    }
    relay.stop();
}

#[test]
fn pipelined_requests_are_answered_each_in_its_turn_r1_1() {
    let relay = relay();
    let asked = [
        ("GET", PACKAGE, 200),
        ("HEAD", MANIFEST, 200),
        ("GET", "/activeupdate/nothing", 404),
        ("GET", SIGNATURE, 200),
        ("HEAD", "/activeupdate/nothing", 404),
        ("GET", "/activeupdate/pattern/vsapi329.zip", 200),
        ("GET", PACKAGE, 200),
    ];
    let requests = asked.map(|(method, target, _)| format!("{method} {target} HTTP/1.1\r\nHost: r\r\n\r\n"));
    let requests = requests.concat();
    // In one piece, and byte by byte where a head ends.
    for pieces in [vec![requests.as_bytes()], requests.as_bytes().chunks(97).collect()] {
        let mut client = Client::connect(relay.v4());
        for piece in pieces {
            client.send(piece).unwrap();
        }
        for (method, target, status) in asked {
            let body = client.answer(method).unwrap().whole(status);
            if method == "GET" && status == 200 {
                assert!(body == file(target), "{target}");
            }
        }
        client.shut_write();
        is_closed(&mut client);
    }
    relay.stop();
}

#[test]
fn head_is_get_without_the_body_r1_1() {
    let relay = relay();
    for target in [MANIFEST, PACKAGE, SIGNATURE, "/activeupdate/nothing", "/activeupdate/..", "/"] {
        let strip = |mut head: Head| {
            head.headers.retain(|(name, _)| name != "date" && name != "age");
            (head.status, head.headers)
        };
        let get = Client::connect(relay.v4()).exchange("GET", target, &[]).unwrap();
        let mut client = Client::connect(relay.v4());
        client.ask("HEAD", target, &[("Connection", "close")]).unwrap();
        let mut head = client.read_head("HEAD").unwrap();
        assert_eq!(client.read_to_close().0, b"", "{target}");
        head.headers.retain(|(name, _)| name != "connection");
        assert_eq!(strip(head), strip(get.head), "{target}");
    }
    relay.stop();
}

#[test]
fn answers_say_what_they_are_and_who_may_keep_them_r3_1() {
    let relay = relay();
    for (target, media, control) in [
        (MANIFEST, "text/plain", "private, no-cache"),
        (PACKAGE, "application/octet-stream", "private"),
        (SIGNATURE, "application/octet-stream", "private, no-cache"),
    ] {
        let head = Client::connect(relay.v4()).exchange("GET", target, &[]).unwrap().head;
        assert_eq!(head.header("content-type"), Some(media), "{target}");
        assert_eq!(head.header("cache-control"), Some(control), "{target}");
        assert_eq!(head.header("accept-ranges"), Some("bytes"), "{target}");
        assert!(head.header("date").is_some() && head.header("content-encoding").is_none(), "{target}");
    }
    let refused = Client::connect(relay.v4()).exchange("GET", "/activeupdate/nothing", &[]).unwrap().head;
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    relay.stop();
}
