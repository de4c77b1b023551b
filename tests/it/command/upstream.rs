//! `forebay check upstream`: what happens on the way to an upstream, as the relay would go (R4.3, R4.5, R11.2).

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::process::{Ended, forebay, run};
use crate::relay::{Running, settings};
use crate::served::{FIXTURE, Place, WITHIN};
use crate::site::Site;

/// Checks a URL, with these settings where they are not empty.
fn check(url: &str, settings: &str, arguments: &[&str]) -> Ended {
    let place = Place::new();
    let mut command = forebay(["check", "upstream", url]);
    command.args(arguments);
    if !settings.is_empty() {
        place.configure("", url, settings);
        command.arg("--config").arg(place.config());
    }
    run(&mut command, WITHIN)
}

/// The lines hold these words in this order.
fn assert_tells(ended: &Ended, words: &[&str]) {
    let mut rest = ended.stdout.as_str();
    for word in words {
        let Some(at) = rest.find(word) else { panic!("'{word}' is not next in:\n{}", ended.stdout) };
        rest = &rest[at + word.len()..];
    }
}

/// The one line on standard error.
fn complaint(ended: &Ended) -> &str {
    assert_eq!((ended.status.code(), ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    ended.stderr.strip_prefix("forebay: ").unwrap_or_else(|| panic!("{ended:?}"))
}

#[test]
fn it_shows_names_attempts_answer_and_tree_in_their_order_r4_3() {
    let origin = Origin::start(FIXTURE.as_ref());
    let (port, settings) = (origin.address().port(), "[upstream]\nhosts = [\"127.0.0.1 mirror.test\"]\n");
    let ended = check(&format!("http://mirror.test:{port}/"), settings, &[]).succeeded();
    let address = origin.address();
    assert_tells(
        &ended,
        &[
            &format!("GET http://mirror.test:{port}/server.ini"),
            &format!("route to mirror.test:{port}: directly"),
            "AAAA of mirror.test: none (upstream.hosts, ",
            "A of mirror.test: 127.0.0.1 (upstream.hosts, ",
            &format!("attempt 1: {address} (IPv4)"),
            &format!("{address} is the connection ("),
            "answer: 200 OK, first byte ",
            "etag: \"",
            "answer: 206 Partial Content",
            "ranges: work, and what broke off resumes",
            "an ActiveUpdate tree: server.ini has ",
            " components (",
        ],
    );
    assert_eq!(ended.stderr, "");
    // The URL of the manifest itself means the same.
    let ended = check(&origin.url("/server.ini"), "", &[]).succeeded();
    assert_tells(&ended, &["127.0.0.1 (written as an address", "an ActiveUpdate tree"]);
}

#[test]
fn json_is_one_object_with_each_step_r11_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let ended = check(&origin.url("/"), "", &["--json"]).succeeded();
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["answered"], true);
    assert_eq!(value["url"], origin.url("/"));
    assert!(value["tree"]["files"].as_u64().unwrap() > 10, "{value}");
    assert!(value["tree"]["components"]["pattern"].as_u64().unwrap() > 0, "{value}");
    let steps: Vec<&str> =
        value["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    for step in ["request", "route", "asked", "answered", "attempt", "won", "answer"] {
        assert!(steps.contains(&step), "{step} in {steps:?}");
    }
    let dead = nobody();
    let ended = check(&format!("http://{dead}/"), "", &["--json"]);
    assert!(complaint(&ended).contains("Connection refused"));
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&value["answered"], &value["tree"]), (&Value::Bool(false), &Value::Null));
    assert!(value["reason"].as_str().unwrap().contains("Connection refused"), "{value}");
}

#[test]
fn where_no_answer_comes_it_ends_with_1_and_a_plain_reason_r4_3() {
    let dead = nobody();
    let refused = check(&format!("http://{dead}/"), "", &[]);
    assert!(complaint(&refused).contains(&format!("{dead}: Connection refused")));
    assert_tells(&refused, &[&format!("attempt 1: {dead}"), &format!("{dead} failed: Connection refused")]);

    let unknown = check(
        "http://mirror.test/",
        "[upstream]\nnameservers = \"127.0.0.1:1\"\nconnect_secs = 1\nnat64_prefix = \"off\"\n",
        &[],
    );
    assert!(complaint(&unknown).contains("no answer from the upstream: "), "{unknown:?}");
    assert_tells(&unknown, &["AAAA of mirror.test: asked", "directly to mirror.test:80 failed: "]);

    let origin = Origin::start(FIXTURE.as_ref());
    let gate = Gate::default();
    origin.always("*", Fault::StallBeforeHead(gate.clone()));
    let silent = check(&origin.url("/"), "[fill]\nfirst_byte_secs = 1\n", &[]);
    assert!(complaint(&silent).contains("no first byte within 1 s"), "{silent:?}");
    gate.open();
}

#[test]
fn a_bad_certificate_is_shown_with_what_is_wrong_and_a_good_one_with_its_end_r4_3() {
    let authority = Authority::new();
    let site = Site::with(5, &[4]);
    let mut serving = settings(site.text());
    serving.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    serving.tls.certificates = vec![authority.sign("mirror", &["mirror.test", "second.test"]).0];
    let mut relay = Running::refreshed(serving);
    let port = relay.handle().running().tls[0].port();
    let url = format!("https://mirror.test:{port}/activeupdate/");
    let hosts = "hosts = [\"127.0.0.1 mirror.test\", \"127.0.0.1 wrong.test\"]\n";
    let untrusted = check(&url, &format!("[upstream]\n{hosts}"), &[]);
    assert!(complaint(&untrusted).contains("UnknownIssuer"), "{untrusted:?}");
    let names = "certificate for mirror.test: names mirror.test second.test, from CN=authority of a test";
    assert_tells(&untrusted, &["connected, TLS begins", names, "expires ", "NOT trusted: "]);
    let trusting = format!("[upstream]\n{hosts}ca_file = {:?}\n", authority.file());
    let good = check(&url, &trusting, &[]).succeeded();
    assert_tells(&good, &[names, "; trusted", "TLS 1.3", "is the connection", "an ActiveUpdate tree"]);
    let wrong = check(&format!("https://wrong.test:{port}/activeupdate/"), &trusting, &[]);
    assert!(complaint(&wrong).contains("not valid for name"), "{wrong:?}");
    let not_tls = check(&format!("https://{}/", relay.v4()), "", &[]);
    assert!(complaint(&not_tls).contains("TLS: "), "{not_tls:?}");
    relay.stop();
}

#[test]
fn what_answers_and_is_no_tree_is_said_to_be_none_r11_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("server.ini"), "<html>\nsorry\n").unwrap();
    let origin = Origin::start(folder.path());
    let page = check(&origin.url("/"), "", &[]).succeeded();
    assert_tells(
        &page,
        &["answer: 200 OK", "no ActiveUpdate tree: server.ini: line 1: this is not a server.ini"],
    );
    let missing = check(&origin.url("/below/"), "", &[]).succeeded();
    assert_tells(
        &missing,
        &["answer: 404", "no ActiveUpdate tree: server.ini: the upstream has no such file"],
    );
    origin.script("/server.ini", Fault::Status(503));
    let down = check(&origin.url("/"), "", &[]).succeeded();
    assert_tells(
        &down,
        &["answer: 503", "no ActiveUpdate tree: server.ini: the upstream answered with status 503"],
    );
}

#[test]
fn servers_without_ranges_are_told_apart_r2_3() {
    let origin = Origin::start(FIXTURE.as_ref());
    origin.always("*", Fault::NoRange);
    let ended = check(&origin.url("/"), "", &[]).succeeded();
    assert_tells(&ended, &["ranges: are ignored: what broke off starts over"]);
}

#[test]
fn the_route_and_each_way_that_failed_are_shown_r4_5() {
    let origin = Origin::start(FIXTURE.as_ref());
    let dead = nobody();
    let route = format!("[[route]]\nvia = [\"http://{dead}\", \"direct\"]\n");
    let ended = check(&origin.url("/"), &route, &[]).succeeded();
    let place = origin.address();
    assert_tells(
        &ended,
        &[
            &format!("route to {place}: by http://{dead}"),
            &format!("{dead} failed: Connection refused"),
            &format!("by http://{dead} to {place} failed: "),
            &format!("route to {place}: directly"),
            "answer: 200 OK",
        ],
    );
}

#[test]
fn a_redirect_is_followed_as_far_as_the_relay_would_r4_6() {
    let (origin, other) = (Origin::start(FIXTURE.as_ref()), Origin::start(FIXTURE.as_ref()));
    origin.always("/server.ini", Fault::Redirect(format!("http://127.0.0.2:{}/x", other.address().port())));
    let ended = check(&origin.url("/"), "", &[]);
    assert!(complaint(&ended).contains("redirects to where it may not"), "{ended:?}");
    assert_tells(&ended, &["answer: 302", "location: http://127.0.0.2:", "127.0.0.2 is not connected to: "]);
}

#[test]
fn what_is_no_url_of_an_upstream_is_refused_without_credentials_in_the_message_r11_3() {
    for (url, word) in [
        ("ftp://mirror.test/", "the scheme is 'ftp'"),
        ("mirror.test", "no URL"),
        ("/srv/activeupdate", "no URL"),
        ("http://mirror.test/?a=b", "a query"),
        ("http://user:3cret@mirror.test/", "credentials"),
    ] {
        let ended = run(&mut forebay(["check", "upstream", url]), WITHIN);
        let complaint = complaint(&ended);
        assert!(complaint.contains(word) && !complaint.contains("3cret"), "{complaint}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn what_a_server_says_cannot_act_on_the_terminal_r11_2() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = b"HTTP/1.1 404 No\r\nServer: \x9b31mred\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(head).unwrap();
    });
    let ended = check(&url, "", &[]).succeeded();
    assert!(!ended.stdout.contains(['\u{1b}', '\u{9b}']) && ended.stdout.contains("31mred"), "{ended:?}");
    serving.join().unwrap();
}

/// An address on which nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
