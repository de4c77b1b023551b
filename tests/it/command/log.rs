//! The log: text and JSON, level, access lines; and nothing that a client sends can forge a line (R11.2).

use rustix::process::Signal;
use serde_json::Value;

use crate::cache::server::{Act, Server, chunked};
use crate::raw::{Client, fetch};
use crate::served::{FIXTURE, Place, Served};

const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

/// Requests with everything that could end a line, act on a terminal or close a string.
const HOSTILE: &[&[u8]] = &[
    b"GET /a%0a2026-01-01T00:00:00Z%20%20INFO%20access:%20forged HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a%1b%5b31m%07%9b\xc2\x9b\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a\"b\\c'd{e} HTTP/1.1\r\nHost: x\r\nRange: bytes=\"\\\r\n\r\n",
    b"GET /activeupdate/server.ini HTTP/1.1\r\nHost: x\r\nRange: bytes=\xff\x9b\x80\t1-\r\n\r\n",
    b"GET /activeupdate/server.ini HTTP/1.1\r\nHost: x\r\nRange: bytes=\xc2\x9b31m\xe2\x80\xa8-\r\n\r\n",
    b"G\x1bET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"FORGED{} /x HTTP/1.1\r\nHost: \x1b[2J\r\n\r\n",
    b"GET http://a\x1b/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x1b[31m\n\n\n",
];

fn attack(relay: &Served) {
    for request in HOSTILE {
        let mut client = Client::connect(relay.agents[0]);
        client.send(request).unwrap();
        client.shut_write();
        client.read_to_close();
    }
    // Its line comes after theirs.
    fetch(relay.agents[0], PACKAGE, &[("Range", "bytes=0-9")]).whole(206);
}

fn is_raw(char: char) -> bool {
    char.is_control() || char == '\u{2028}'
}

#[test]
fn text_lines_hold_who_what_and_how_it_went_and_cannot_be_forged_r11_2() {
    let place = Place::new();
    place.configure("log.level = \"trace\"", FIXTURE, "");
    let relay = place.serve_ready();
    let before = relay.output().lines().count();
    attack(&relay);
    let line = relay.wait_line("range=\"bytes=0-9\"");
    for field in [
        "INFO access: agent=127.0.0.1:",
        "method=GET",
        "path=\"/activeupdate/pattern/",
        "status=206",
        "outcome=\"hit\"",
        "bytes=10",
        "ms=",
    ] {
        assert!(line.contains(field), "{field} in: {line}");
    }
    fetch(relay.agents[0], "/activeupdate/nobody/names.it", &[]);
    let line = relay.wait_line("names.it");
    assert!(line.contains("outcome=\"not-found\" reason=\"not found\""), "why it was not served: {line}");
    let text = relay.stop().stderr;
    for line in text.lines().skip(before) {
        assert!(!line.contains(is_raw), "{line:?}");
        assert!(line.starts_with("20") && line.contains("Z "), "a line of its own: {line:?}");
        assert!(!line.contains("access: forged"), "{line:?}");
    }
}

#[test]
fn every_json_line_is_an_object_and_access_lines_have_numbers_as_numbers_r11_2() {
    let place = Place::new();
    place.configure("log.format = \"json\"\nlog.level = \"trace\"", FIXTURE, "");
    let relay = place.serve_ready();
    attack(&relay);
    relay.wait_line("\"range\":\"bytes=0-9\"");
    relay.signal(Signal::HUP);
    relay.wait_line("the settings are read again");
    let text = relay.stop().stderr;
    let mut access = Vec::new();
    for line in text.lines() {
        assert!(!line.contains(is_raw), "{line:?}");
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        for key in ["timestamp", "level", "target"] {
            assert!(object[key].is_string(), "{key} in {line}");
        }
        if object["target"] == "access" {
            access.push(object);
        } else {
            assert!(object["message"].is_string(), "{line}");
        }
    }
    assert!(access.len() >= 4, "{access:?}");
    for line in &access {
        let texts = ["agent", "method", "path", "outcome"].iter().all(|key| line[*key].is_string());
        let numbers = ["status", "bytes", "ms"].iter().all(|key| line[*key].is_u64());
        assert!(texts && numbers, "{line}");
    }
    let last = access.last().unwrap();
    assert_eq!((&last["path"], &last["status"], &last["bytes"]), (&PACKAGE.into(), &206.into(), &10.into()));
}

#[test]
fn requests_for_other_servers_are_logged_with_their_place_and_without_their_query_r11_2() {
    let server = Server::start(|asked, _| match &*asked.target {
        "/broken?key=hunter2" => vec![Act::Last(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n".to_vec())],
        _ => chunked(200, "Cache-Control: max-age=60", "body"),
    });
    let tail = format!(
        "[[proxy.allow]]\nname = \"loopback\"\nto = \"127.0.0.0/8\"\nports = {}\n\
         [[mount]]\npath = \"/tools/\"\nupstream = {:?}\n",
        server.port(),
        server.url("/mounted/"),
    );
    let place = Place::new();
    place.configure("log.level = \"trace\"", FIXTURE, &tail);
    let relay = place.serve_ready();
    let origin = server.url("");
    for (method, target, logged) in [
        ("GET", format!("{origin}/kept?key=hunter2#hunter2"), format!("{origin}/kept")),
        ("GET", format!("{origin}/kept?key=hunter2"), format!("{origin}/kept")),
        ("POST", format!("{origin}/passed?key=hunter2"), format!("{origin}/passed")),
        ("GET", format!("{origin}/broken?key=hunter2"), format!("{origin}/broken")),
        ("GET", "http://127.0.0.1:1/refused?key=hunter2".into(), "http://127.0.0.1:1/refused".into()),
        ("GET", "/tools/x?key=hunter2".into(), "/tools/x".into()),
    ] {
        let secret = [("Authorization", "Basic hunter2"), ("Cookie", "hunter2")];
        Client::connect(relay.agents[0]).exchange(method, &target, &secret).unwrap();
        let line = relay.wait_line(&format!("path=\"{logged}\""));
        assert!(line.contains(&format!("method={method}")), "{line}");
    }
    let text = relay.stop().stderr;
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn access_lines_can_be_off_and_the_level_quietens_the_rest() {
    let place = Place::new();
    place.configure("log.access = \"off\"", FIXTURE, "");
    let relay = place.serve_ready();
    fetch(relay.agents[0], PACKAGE, &[]).whole(200);
    let text = relay.stop().stderr;
    assert!(text.contains("stopped") && !text.contains("access"), "{text}");

    place.configure("log.level = \"error\"", FIXTURE, "");
    let relay = place.serve(&[]);
    fetch(relay.agents[0], PACKAGE, &[]).whole(200);
    let text = relay.stop().stderr;
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("access:"), "what is served is logged at every level: {text}");
}
