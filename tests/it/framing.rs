//! Strict framing: what two servers could read in two ways is refused, and nothing behind it is read as a request (R3.3).

use std::net::SocketAddr;

use forebay::config::settings::Prefetch;

use crate::raw::answer::End;
use crate::raw::{self, Client};
use crate::relay::{Running, settings};

const MANIFEST: &str = "/activeupdate/server.ini";

/// What a smuggler hides in a body.
const SMUGGLED: &str = "GET /activeupdate/server.ini HTTP/1.1\r\nHost: smuggled\r\n\r\n";

fn relay() -> Running {
    let mut settings = settings("fixtures/activeupdate");
    settings.trees[0].prefetch = Prefetch::None;
    Running::refreshed(settings)
}

/// The status of the one answer that these bytes get; after it the relay closes and says no more.
fn last_status(address: SocketAddr, bytes: &[u8]) -> u16 {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).escape_debug().to_string();
    let mut client = Client::connect(address);
    // The relay may have closed before it was all sent.
    let _ = client.send(bytes);
    let head = client.read_head("POST").unwrap_or_else(|end| panic!("no answer but {end:?}: {shown}"));
    let (_, end) = client.read(usize::MAX);
    assert_eq!(end, Some(End::Complete), "{shown}");
    let (rest, end) = client.read_to_close();
    assert!(rest.is_empty(), "a second answer: {shown}: {}", String::from_utf8_lossy(&rest));
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}: {shown}");
    head.status
}

/// The same for a head whose fields are these, with a request hidden behind it.
fn smuggle(address: SocketAddr, line: &str, fields: &[u8]) -> u16 {
    let head = [format!("{line}\r\nHost: relay\r\n").as_bytes(), fields, b"\r\n\r\n"].concat();
    last_status(address, &[&head, SMUGGLED.as_bytes()].concat())
}

#[test]
fn a_request_whose_length_is_ambiguous_is_refused_and_its_body_never_read_r3_3() {
    let relay = relay();
    let long = format!("Content-Length: {}", SMUGGLED.len());
    let fields = [
        &*long,
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length: 0 0",
        "Content-Length:",
        "Content-Length: 00",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: \x0bchunked",
    ];
    for field in fields {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {MANIFEST} HTTP/1.1");
            if method == "HEAD" {
                // A HEAD's answer has no body: only what comes after it is looked at.
                let mut client = Client::connect(relay.v4());
                let bytes = format!("{line}\r\nHost: relay\r\n{field}\r\n\r\n{SMUGGLED}");
                let _ = client.send(bytes.as_bytes());
                assert_eq!(client.read_head("HEAD").unwrap().status, 400, "{field}");
                assert!(client.read_to_close().0.is_empty(), "a second answer: {field}");
            } else {
                assert_eq!(smuggle(relay.v4(), &line, field.as_bytes()), 400, "{field}");
            }
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "QUERY"] {
        let line = format!("{method} {MANIFEST} HTTP/1.1");
        assert_eq!(smuggle(relay.v4(), &line, long.as_bytes()), 405, "{method}");
        assert_eq!(smuggle(relay.v4(), &line, b"Transfer-Encoding: chunked"), 405, "{method}");
    }
    let line = format!("GET {MANIFEST} HTTP/1.0");
    assert_eq!(smuggle(relay.v4(), &line, b"Connection: keep-alive\r\nTransfer-Encoding: chunked"), 400);
    for size in ["zz", "-1", "+1", "0x1", "", " 1", "ffffffffffffffffff", "1\n", "3f;a=b", "3f"] {
        let body = format!(
            "{MANIFEST} HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{SMUGGLED}"
        );
        assert_eq!(last_status(relay.v4(), format!("GET {body}").as_bytes()), 400, "chunk size '{size}'");
        assert_eq!(last_status(relay.v4(), format!("POST {body}").as_bytes()), 405, "chunk size '{size}'");
    }
    let endless =
        smuggle(relay.v4(), &format!("GET {MANIFEST} HTTP/1.1"), b"Content-Length: 18446744073709551615");
    assert!(matches!(endless, 400 | 431), "{endless}");
    let empty = raw::fetch(relay.v4(), MANIFEST, &[("Content-Length", "0")]);
    assert_eq!(empty.head.status, 200, "no body is no body");
    relay.stop();
}

#[test]
fn fields_that_are_not_well_formed_are_refused_r3_3() {
    let relay = relay();
    let line = format!("GET {MANIFEST} HTTP/1.1");
    let fields: [&[u8]; 19] = [
        b"X-A: b\r\n c",
        b"X-A: b\r\n\tc",
        b"X-A:\r\n b",
        b"Content-Length: 0\r\n 5",
        b"Content-Length : 0",
        b"X-A\t: b",
        b" X-A: b",
        b"X-A",
        b": b",
        b"X A: b",
        b"X\x00A: b",
        b"X-A: b\x00c",
        b"X-A: b\rc",
        b"X-A: b\r",
        b"X\rA: b",
        b"X\nA: b",
        b"X-A: b\x01c",
        b"X\xc3\xa4: b",
        b"(X): b",
    ];
    for field in fields {
        assert_eq!(smuggle(relay.v4(), &line, field), 400, "{}", field.escape_ascii());
    }
    let good: [&[u8]; 4] = [b"X-A: b\xc3\xa4", b"X-A:", b"X-A: \t b \t", b"X-A: b;c=\"d\""];
    for field in good {
        let head = [format!("{line}\r\nHost: relay\r\nConnection: close\r\n").as_bytes(), field].concat();
        assert_eq!(
            last_status(relay.v4(), &[&head[..], b"\r\n\r\n"].concat()),
            200,
            "{}",
            field.escape_ascii()
        );
    }
    let lines: [&[u8]; 12] = [
        b"GET /activeupdate/server.ini",
        b"GET /activeupdate/server.ini HTTP/1.2",
        b"GET /activeupdate/server.ini HTTP/2.0",
        b"GET /activeupdate/server.ini http/1.1",
        b"GET /activeupdate/server.ini HTTP/1.1 ",
        b"GET /activeupdate/server.ini HTTP/1.1x",
        b"GET /activeupdate/server ini HTTP/1.1",
        b" GET /activeupdate/server.ini HTTP/1.1",
        b"GET\t/activeupdate/server.ini HTTP/1.1",
        b"G\x00T /activeupdate/server.ini HTTP/1.1",
        b"GET /activeupdate/\x00 HTTP/1.1",
        b"GET /activeupdate/\x7f\xff HTTP/1.1",
    ];
    for line in lines {
        let request = [line, b"\r\nHost: relay\r\n\r\n", SMUGGLED.as_bytes()].concat();
        assert_eq!(last_status(relay.v4(), &request), 400, "{}", line.escape_ascii());
    }
    relay.stop();
}

#[test]
fn a_request_names_its_host_once_r3_3() {
    let relay = relay();
    for hosts in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:b\r\n",
        "Host: a, b\r\n",
        "Host: http://a\r\n",
        "Host: [::1\r\n",
        "Host: \u{fc}\r\n",
    ] {
        let request = format!("GET {MANIFEST} HTTP/1.1\r\n{hosts}\r\n{SMUGGLED}");
        assert_eq!(last_status(relay.v4(), request.as_bytes()), 400, "{hosts}");
    }
    for (version, hosts) in [
        ("1.0", ""),
        ("1.0", "Host: a\r\n"),
        ("1.1", "Host:\r\n"),
        ("1.1", "Host: a.example:8080\r\n"),
        ("1.1", "Host: [2001:db8::1]:8080\r\n"),
        ("1.1", "Host: [fe80::1]\r\n"),
        ("1.1", "Host: 192.0.2.1:\r\n"),
    ] {
        let request = format!("GET {MANIFEST} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        assert_eq!(last_status(relay.v4(), request.as_bytes()), 200, "{version} {hosts}");
    }
    let twice = format!("GET {MANIFEST} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(last_status(relay.v4(), twice.as_bytes()), 400);
    relay.stop();
}

#[test]
fn targets_that_name_another_server_are_refused_and_never_proxied_r4_6() {
    let relay = relay();
    let own = format!("http://{}{MANIFEST}", relay.v4());
    for (method, target, status) in [
        ("GET", "http://other.example/activeupdate/server.ini", 403),
        ("GET", "https://other.example/activeupdate/server.ini", 403),
        ("HEAD", "http://other.example/", 403),
        ("GET", "http://other.example", 403),
        ("GET", "ftp://other.example/activeupdate/server.ini", 400),
        ("GET", "http://user:secret@other.example/", 400),
        ("GET", "http://other.example:0/", 400),
        ("GET", "http://127.0.0.1:1/", 403),
        ("GET", &own, 200),
        ("GET", "//other.example/activeupdate/server.ini", 404),
        ("GET", "other.example:80", 400),
        ("GET", "other.example", 400),
        ("GET", "*", 400),
        ("GET", "activeupdate/server.ini", 400),
        ("GET", "?x", 400),
        ("GET", "http:///activeupdate/server.ini", 400),
        ("OPTIONS", "*", 405),
        ("OPTIONS", MANIFEST, 405),
        ("POST", "http://other.example/", 403),
        ("CONNECT", "other.example:443", 403),
        ("CONNECT", "other.example", 400),
        ("CONNECT", MANIFEST, 400),
    ] {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n");
        let mut client = Client::connect(relay.v4());
        client.send(request.as_bytes()).unwrap();
        let answer = client.answer(method).unwrap();
        assert_eq!((answer.head.status, answer.end), (status, End::Complete), "{method} {target}");
        assert_eq!(answer.head.header("allow"), (status == 405).then_some("GET, HEAD"), "{method} {target}");
    }
    let mut client = Client::connect(relay.v4());
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(matches!(client.read_to_close().1, End::Closed | End::Reset), "HTTP/2 is not spoken here");
    relay.stop();
}

#[test]
fn heads_that_are_too_large_are_refused_and_never_held_r3_3() {
    let relay = relay();
    let long = |count: usize| "a".repeat(count);
    let fields = |count: usize| "X-A: b\r\n".repeat(count);
    let head = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: r\r\n{fields}\r\n");
    let path = |count: usize| head(&format!("/activeupdate/{}", long(count)), "Connection: close\r\n");
    for (what, request, statuses) in [
        ("a path of 64 KiB", path(64 << 10), &[414, 431][..]),
        ("a path of 1 MiB", path(1 << 20), &[414, 431]),
        ("a path over path_bytes_max", path(4096), &[414]),
        ("a path longer than any of a tree", path(1100), &[414]),
        ("a name longer than any of a tree", path(256), &[414]),
        ("a query of 64 KiB", head(&format!("{MANIFEST}?{}", long(64 << 10)), ""), &[414, 431]),
        ("a field of 64 KiB", head(MANIFEST, &format!("X-A: {}\r\n", long(64 << 10))), &[431]),
        ("a name of 64 KiB", head(MANIFEST, &format!("{}: b\r\n", long(64 << 10))), &[431, 400]),
        ("1,000 fields", head(MANIFEST, &fields(1000)), &[431]),
        ("100,000 fields", head(MANIFEST, &fields(100_000)), &[431]),
        ("a method of 64 KiB", format!("{} / HTTP/1.1\r\n\r\n", long(64 << 10)), &[431, 400]),
        ("a line without an end", long(1 << 20), &[431, 400]),
        ("nothing but line ends", "\r\n".repeat(64 << 10), &[431, 400]),
    ] {
        let status = last_status(relay.v4(), request.as_bytes());
        assert!(statuses.contains(&status), "{what}: {status}");
    }
    let within = head(MANIFEST, &format!("X-A: {}\r\nConnection: close\r\n", long(15 << 10)));
    assert_eq!(last_status(relay.v4(), within.as_bytes()), 200);
    relay.stop();
}
