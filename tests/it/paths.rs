//! What a path may say: nothing outside the tree has one, and each bad one gets its status ('Bad input').

use std::net::SocketAddr;

use forebay::config::settings::Prefetch;

use crate::raw::Client;
use crate::relay::{Running, settings};

fn status(address: SocketAddr, target: &[u8]) -> u16 {
    let mut client = Client::connect(address);
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n"].concat();
    client.send(&request).unwrap();
    let answer = client.answer("GET").unwrap_or_else(|end| panic!("{}: {end:?}", target.escape_ascii()));
    let status = answer.head.status;
    let body = answer.whole(status);
    assert!(status == 200 || body.len() < 120, "{} gave {} bytes", target.escape_ascii(), body.len());
    status
}

#[test]
fn nothing_outside_the_tree_has_a_path_r3_3() {
    let mut settings = settings("fixtures/activeupdate");
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::refreshed(settings);
    for (expected, targets) in [(200, SERVED), (404, ABSENT), (400, REFUSED)] {
        for target in targets {
            assert_eq!(status(relay.v4(), target), expected, "{}", target.escape_ascii());
        }
    }
    relay.stop();
}

#[test]
fn the_data_folder_and_the_admin_listener_are_apart_from_the_tree_r11_2() {
    let mut settings = settings("fixtures/activeupdate");
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::refreshed(settings);
    let format = relay.data().join("FORMAT");
    assert!(format.is_file());
    for up in ["", "/activeupdate", "/activeupdate/../.."] {
        let target = format!("{up}{}", format.display());
        assert!(matches!(status(relay.v4(), target.as_bytes()), 400 | 404), "{target}");
    }
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(relay.v4(), target.as_bytes()), 404, "{target} for agents");
        let admin = Client::connect(relay.admin()).exchange("GET", target, &[]).unwrap();
        assert_eq!(admin.head.status, 200, "{target} for administrators");
    }
    let tree = Client::connect(relay.admin()).exchange("GET", "/activeupdate/server.ini", &[]).unwrap();
    assert_eq!(tree.head.status, 404, "no agent's scope is asked for there");
    relay.stop();
}

/// Spellings of a file's path.
const SERVED: &[&[u8]] = &[
    b"/activeupdate/server.ini",
    b"/activeupdate/server.ini?",
    b"/activeupdate/server.ini?x=/../../etc/passwd",
    b"/activeupdate/server.ini?x=%2F%00%zz",
    b"/activeupdate/%73erver.ini",
    b"/%61ctiveupdate/server%2eini",
    b"/activeupdate/pattern/vsapi329.zip",
    b"/activeupdate/pattern/%76sapi329.zip?x",
    b"/activeupdate/engine/ssapi32_v6/SSAPI32_v62-4015.zip",
];

/// Paths like any other, but no manifest names them.
const ABSENT: &[&[u8]] = &[
    b"/",
    b"/etc/passwd",
    b"/../etc/passwd",
    b"/..",
    b"/activeupdate",
    b"/activeupdate/",
    b"/activeupdate/ini_xml.zip",
    b"/activeupdate/fixture.toml",
    b"/activeupdate/pattern",
    b"/activeupdate/pattern/vsapi329.zi",
    b"/activeupdate/pattern/vsapi329.zip.",
    b"/activeupdate/pattern/VSAPI329.zip",
    b"/activeupdate/engine/ssapi32_v6/ssapi32_v62-4015.zip",
    b"/activeupdate/Server.ini",
    b"/ActiveUpdate/server.ini",
    b"/activeupdate./server.ini",
    b"//activeupdate/server.ini",
    b"/./activeupdate/server.ini",
    b"/x/../activeupdate/server.ini",
    b"/%2e%2e/activeupdate/server.ini",
    b"/activeupdate/...",
    b"/activeupdate/~",
    b"/activeupdate/server.ini;x",
    b"/activeupdate/server.ini%20",
    b"/activeupdate/server.ini%3Fx",
    b"/activeupdate/server.ini%23x",
    b"/activeupdate/%252e%252e/server.ini",
    b"/activeupdate/%c3%a4",
    b"/activeupdate/\xc3\xa4",
    b"/activeupdate/C:",
    b"/activeupdate/staging",
    b"/data/blobs",
    b"/metrics",
];

/// No paths of a tree.
const REFUSED: &[&[u8]] = &[
    b"/activeupdate/../server.ini",
    b"/activeupdate/..",
    b"/activeupdate/.",
    b"/activeupdate/./server.ini",
    b"/activeupdate/../../../../../../etc/passwd",
    b"/activeupdate/pattern/../server.ini",
    b"/activeupdate/pattern/..",
    b"/activeupdate/pattern/../../fixture.toml",
    b"/activeupdate/%2e%2e/server.ini",
    b"/activeupdate/%2E%2e/server.ini",
    b"/activeupdate/.%2e/server.ini",
    b"/activeupdate/pattern/%2e/vsapi329.zip",
    b"/activeupdate//server.ini",
    b"/activeupdate/pattern//vsapi329.zip",
    b"/activeupdate//etc/passwd",
    b"/activeupdate/server.ini/",
    b"/activeupdate/pattern/",
    b"/activeupdate/pattern%2Fvsapi329.zip",
    b"/activeupdate/pattern%2fvsapi329.zip",
    b"/activeupdate%2Fserver.ini",
    b"/activeupdate/..%2f..%2fetc%2fpasswd",
    b"/activeupdate/pattern%5Cvsapi329.zip",
    b"/activeupdate/..%5c..%5cetc",
    b"/activeupdate/pattern\\vsapi329.zip",
    b"/activeupdate/..\\server.ini",
    b"/activeupdate/server.ini%00",
    b"/activeupdate/%00/server.ini",
    b"/activeupdate/server.ini%00.zip",
    b"/activeupdate/server.ini%0a",
    b"/activeupdate/server.ini%0d%0aX-Injected:%20yes",
    b"/activeupdate/%1b[31m",
    b"/activeupdate/%7f",
    b"/activeupdate/%c2%85",
    b"/activeupdate/%ff",
    b"/activeupdate/%c0%ae%c0%ae/server.ini",
    b"/activeupdate/%c0%af",
    b"/activeupdate/%ed%a0%80",
    b"/activeupdate/%f8%80%80%80%af",
    b"/activeupdate/%c3",
    b"/activeupdate/\xff",
    b"/activeupdate/\xc3\xa4%\xc3\xa4",
    b"/activeupdate/%\xe2\x82\xac",
    b"/activeupdate/%2\xe2\x82\xac",
    b"/activeupdate/%",
    b"/activeupdate/%2",
    b"/activeupdate/%zz",
    b"/activeupdate/%+1",
    b"/activeupdate/% 1",
    b"/activeupdate/%u002e",
    b"/%2factiveupdate/server.ini",
];
