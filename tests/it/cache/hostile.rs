//! Agents and servers that mean harm by what they send: requests within requests, fields within fields (R3.3, R4.6).

use crate::cache::server::{Act, Server, answer, chunked, lines};
use crate::cache::{get, proxy};
use crate::raw::Client;

#[test]
fn a_request_within_a_request_is_never_sent_on_r3_3() {
    let server = Server::start(|_, _| answer(200, "", "a"));
    let relay = proxy(&[server.port()]);
    let (url, smuggled) =
        (server.url("/outer"), format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", server.url("/smuggled")));
    let length = smuggled.len();
    let bodies = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("Content-Length: 0, {length}\r\n\r\n{smuggled}"),
        format!("Content-Length: +{length}\r\n\r\n{smuggled}"),
        format!("Content-Length: {length}\r\n Folded: 1\r\n\r\n{smuggled}"),
        format!("Content-Length : {length}\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n{smuggled}"),
        format!("X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
    ];
    for body in bodies {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut client = Client::connect(relay.v4());
            client.send(format!("POST {url} {version}\r\nHost: x\r\n{body}").as_bytes()).unwrap();
            let (bytes, _) = client.read_to_close();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let count = text.matches("HTTP/1.").count();
            // With a length besides, chunks count, and the connection ends: nothing after them is a request (RFC 9112, 6.3).
            let chunks = body.contains("Transfer-Encoding: chunked\r\n") && body.contains("\nContent-Length")
                || body.starts_with("Content-Length")
                    && body.contains("\nTransfer-Encoding: chunked\r\n\r\n0");
            assert!(count <= 1, "{version} {body:?}: {text}");
            assert!(chunks || !text.contains(" 200 "), "{version} {body:?}: {text}");
        }
    }
    assert!(server.asked_for("/smuggled").is_empty(), "{:?}", server.asked());
    // What was refused before its framing was read had no body to wait for.
    for asked in server.asked() {
        assert!(asked.target == "/outer" && (asked.body.is_empty() || !asked.whole), "{asked:?}");
    }
    relay.stop();
}

#[test]
fn a_get_with_a_body_is_refused_and_its_body_is_no_request_r3_3() {
    let server = Server::start(|_, _| answer(200, "", "a"));
    let relay = proxy(&[server.port()]);
    let smuggled = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", server.url("/smuggled"));
    for framing in [
        format!("Content-Length: {}\r\n\r\n", smuggled.len()),
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
    ] {
        let mut client = Client::connect(relay.v4());
        client
            .send(format!("GET {} HTTP/1.1\r\nHost: x\r\n{framing}{smuggled}", server.url("/a")).as_bytes())
            .unwrap();
        let (bytes, _) = client.read_to_close();
        assert!(bytes.starts_with(b"HTTP/1.1 400 "), "{}", bytes.escape_ascii());
    }
    assert!(server.asked().is_empty());
    relay.stop();
}

#[test]
fn an_answer_that_is_not_one_is_told_so_and_never_kept_r3_3() {
    let fresh = "Cache-Control: max-age=60\r\n";
    let server = Server::start(move |asked, _| {
        let text = match &*asked.target {
            "/both" => format!(
                "HTTP/1.1 200 OK\r\n{fresh}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            "/lengths" => {
                format!("HTTP/1.1 200 OK\r\n{fresh}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")
            }
            "/switched" => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
            "/noise" => "SSH-2.0-x\r\n".to_owned(),
            "/folded" => format!(
                "HTTP/1.1 200 OK\r\n{fresh}X-A: 1\r\n  Content-Length: 5\r\nContent-Length: 1\r\n\r\na"
            ),
            _ => format!("HTTP/1.1 200 OK\r\n{fresh}X-A: b\rX-B: c\r\nContent-Length: 1\r\n\r\na"),
        };
        vec![Act::Send(text.into()), Act::Close]
    });
    let relay = proxy(&[server.port()]);
    for path in ["/both", "/lengths", "/switched", "/noise", "/folded", "/bare"] {
        let got = get(relay.v4(), &server.url(path), &[]);
        assert_eq!(got.head.status, 502, "{path}: {got:?}");
        assert!(got.head.header("x-b").is_none());
    }
    assert_eq!(relay.tree(0).resources.answers.size().0, 0);
    relay.stop();
}

#[test]
fn nothing_is_answered_for_who_may_not_ask_though_it_is_kept_r4_6() {
    let server = Server::start(|_, _| answer(200, "Cache-Control: max-age=60", "kept"));
    let site = crate::site::Site::with(5, &[4]);
    let mut settings = crate::cache::settings(&site, &[server.port()]);
    let from = "127.0.0.0/25".parse().unwrap();
    let scope = forebay::policy::scope::Scope::Patterns;
    settings.agents.unknown = forebay::policy::decide::Unknown::Refuse;
    settings.agents.ranges = vec![forebay::config::settings::AgentRange { from, scope }];
    let mut relay = crate::relay::Running::refreshed(settings.clone());
    let url = server.url("/file");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"kept");
    let mut stranger = Client::connect_from("127.0.0.200".parse().unwrap(), relay.v4());
    let refused = stranger.exchange("GET", &url, &[]).unwrap();
    assert_eq!(refused.head.status, 403);
    assert!(!refused.body.starts_with(b"kept"));
    // The rule is gone: so is what was kept by it.
    settings.proxy.allow.clear();
    settings.data = relay.data().to_owned();
    relay.handle().reload(settings).unwrap();
    let refused = get(relay.v4(), &url, &[]);
    assert_eq!(refused.head.status, 403);
    assert!(String::from_utf8_lossy(&refused.body).contains("no rule lists"), "{refused:?}");
    assert_eq!(server.asked_for("/file").len(), 1);
    relay.stop();
}

#[test]
fn what_a_304_or_a_head_says_to_one_is_never_given_to_another_r3_3() {
    let fresh = "Cache-Control: max-age=60\nETag: \"x\"";
    for secret in [
        "Set-Cookie: session=victim",
        "Set-Cookie: session=victim\nCache-Control: public, max-age=60",
        "X-Own: victim\nCache-Control: private, max-age=60",
        "X-Own: victim\nCache-Control: no-store, max-age=60",
        "X-Own: victim\nAuthorized: yes",
    ] {
        let server = Server::start(move |asked, _| {
            let is_victim = asked.header("authorization").is_some() || asked.header("cookie").is_some();
            match &*asked.method {
                _ if !is_victim => chunked(200, fresh, "body"),
                "HEAD" => vec![Act::Send(format!("HTTP/1.1 200 x\r\n{}\r\n", lines(secret)).into())],
                _ => chunked(304, secret, ""),
            }
        });
        let relay = proxy(&[server.port()]);
        let url = server.url("/file");
        let authorized = secret.contains("Authorized");
        let user = if authorized { ("Authorization", "Basic eA==") } else { ("Cookie", "a=b") };
        for method in ["GET", "HEAD"] {
            assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"body");
            let mut victim = Client::connect(relay.v4());
            let told = victim.exchange(method, &url, &[user, ("Cache-Control", "no-cache")]).unwrap();
            assert_eq!(told.head.status, 200, "{method} {secret}: {told:?}");
            let own = told.head.header("set-cookie").or(told.head.header("x-own"));
            assert!(own.is_some_and(|own| own.contains("victim")), "{method} {secret}: {told:?}");
            for _ in 0..2 {
                let other = get(relay.v4(), &url, &[]);
                let found = other.head.headers.iter().find(|(_, value)| value.contains("victim"));
                assert_eq!(found, None, "{method} {secret}: {other:?}");
                assert_eq!(other.whole(200), b"body");
            }
        }
        relay.stop();
    }
}

#[test]
fn an_answer_in_a_coding_that_only_the_close_ends_is_an_error_and_never_kept_r1_5() {
    let server = Server::start(|asked, _| {
        let coding =
            asked.target.trim_start_matches('/').replace('+', ", ").replace('/', "\r\nTransfer-Encoding: ");
        // Said, so that no request is sent on a connection that is about to close.
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: max-age=60\r\nTransfer-Encoding: {coding}\r\n\r\n"
        );
        vec![Act::Send(format!("{head}5\r\nhalf \r\n0\r\n\r\n").into()), Act::Close]
    });
    let relay = proxy(&[server.port()]);
    for path in ["/gzip", "/chunked+gzip", "/gzip+chunked", "/xchunked", "/identity", "/chunked/chunked"] {
        for asked in 1..=2 {
            let got = get(relay.v4(), &server.url(path), &[]);
            assert_eq!(got.head.status, 502, "{path}: {got:?}");
            assert_eq!(server.asked_for(path).len(), asked, "{path}");
        }
    }
    assert_eq!(relay.tree(0).resources.answers.size().0, 0);
    assert_eq!(get(relay.v4(), &server.url("/Chunked"), &[]).whole(200), b"half ");
    relay.stop();
}

#[test]
fn lengths_that_are_none_do_not_pass_with_a_head_r3_3() {
    let server = Server::start(|asked, _| {
        let lines = match &*asked.target {
            "/negative" => "Content-Length: -5\r\n",
            "/word" => "Content-Length: abc\r\n",
            "/two" => "Content-Length: 5\r\nContent-Length: 6\r\n",
            _ => "Content-Length: 5\r\n",
        };
        // Said, so that no request is sent on a connection that is about to close.
        let head = format!("HTTP/1.1 200 OK\r\n{lines}Connection: close\r\n\r\n");
        vec![Act::Send(head.into()), Act::Close]
    });
    let relay = proxy(&[server.port()]);
    for (path, expected) in [("/negative", None), ("/word", None), ("/two", None), ("/one", Some("5"))] {
        let got = Client::connect(relay.v4()).exchange("HEAD", &server.url(path), &[]).unwrap();
        assert!(matches!(got.head.status, 200 | 502), "{path}: {got:?}");
        let length = got.head.header("content-length").filter(|_| got.head.status == 200);
        assert_eq!(length, expected, "{path}");
    }
    relay.stop();
}
