//! A server that does wrong is found out, whatever it does: by its kind, with an exit code of its own.

use std::path::Path;
use std::time::Duration;

use super::ground::{Said, play};
use crate::cache::server::{Act, Server};
use crate::origin::Origin;
use crate::origin::answer::Validators;
use crate::origin::fault::{Fault, Gate};
use crate::served::FIXTURE;

const PACKAGE: &str = "/pattern/vsapi329.zip";
const SIGNATURE: &str = "/pattern/vsapi329.sig";

/// A few agents that take every full file, from an origin that does one thing wrong with one file.
fn faulty(path: &str, fault: Fault, arguments: &str) -> Said {
    let origin = Origin::start(Path::new(FIXTURE));
    origin.always(path, fault);
    play(&origin.url("/"), &format!("--agents 4 --connections 2 --mix full {arguments}"))
}

#[test]
fn short_bodies_resets_and_closes_are_told_apart_r1_5() {
    for (fault, kind) in [
        (Fault::CloseAfter(1000), "short-body"),
        (Fault::ResetAfter(1000), "reset"),
        (Fault::CloseAfter(0), "short-body"),
        (Fault::GarbageHead, "not-http"),
    ] {
        let said = faulty(PACKAGE, fault, "").failed_by(kind);
        assert_eq!((said.at("/errors/total"), said.at("/agents/failed")), (4, 4), "{said:?}");
        let first = said.json["errors"]["first"][kind].as_str().unwrap();
        assert!(first.starts_with("pattern/vsapi329.zip: "), "{first}");
    }
    faulty(SIGNATURE, Fault::WrongLength { declared: 100_000 }, "").failed_by("short-body");
}

#[test]
fn lengths_that_are_not_the_manifests_are_found_r1_5() {
    for fault in [
        Fault::WrongLength { declared: 300_000 },
        Fault::WrongLength { declared: 10 },
        Fault::TooLong { by: 1 },
        Fault::Html,
        Fault::ContentEncodingGzip,
    ] {
        faulty(PACKAGE, fault, "").failed_by("wrong-length");
    }
    faulty(PACKAGE, Fault::Chunked, "").passed();
}

#[test]
fn one_changed_byte_is_found_by_what_came_before_or_by_the_local_tree_r1_5() {
    let last = 200_000;
    let changed = |arguments: &str, from_second: bool| {
        let origin = Origin::start(Path::new(FIXTURE));
        // Without validators nothing says that the file is another one now.
        origin.set_validators(Validators::None);
        if from_second {
            origin.script(PACKAGE, Fault::Late { by: Duration::ZERO });
        }
        origin.script(PACKAGE, Fault::ChangedFrom(last));
        play(&origin.url("/"), &format!("--agents 4 --connections 1 --mix full {arguments}"))
    };
    let said = changed("", true).failed_by("wrong-bytes");
    assert_eq!(said.at("/errors/total"), 3, "all after the first");
    assert_eq!(
        changed("", false).passed().at("/agents/updated"),
        4,
        "all alike, and nothing to compare with"
    );
    let said = changed(&format!("--tree {FIXTURE}"), false).failed_by("wrong-bytes");
    assert_eq!(said.at("/errors/total"), 4);
    let first = said.json["errors"]["first"]["wrong-bytes"].as_str().unwrap();
    assert!(first.contains("other bytes than in the local tree"), "{first}");
}

#[test]
fn a_new_entity_tag_stands_for_other_bytes_but_not_in_the_local_tree_r3_1() {
    let changed = |arguments: &str| faulty(PACKAGE, Fault::ChangedFrom(100), arguments);
    // Each answer but the first names the same new state.
    changed("").passed();
    changed(&format!("--tree {FIXTURE}")).failed_by("wrong-bytes");
}

#[test]
fn statuses_are_counted_and_a_redirect_is_never_followed() {
    assert_eq!(faulty(PACKAGE, Fault::Status(500), "").failed_by("status").at("/errors/by_status/500"), 4);
    assert_eq!(faulty(PACKAGE, Fault::Status(403), "").failed_by("refused").at("/errors/by_status/403"), 4);
    // Without Retry-After nobody is told to come back.
    assert_eq!(faulty(PACKAGE, Fault::Status(503), "").failed_by("status").at("/errors/by_status/503"), 4);
    let elsewhere = Origin::start(Path::new(FIXTURE));
    let said = faulty("*", Fault::Redirect(elsewhere.url("/server.ini")), "").failed_by("status");
    assert_eq!(said.at("/errors/by_status/302"), 4);
    assert_eq!(elsewhere.seen().connections, 0);
}

#[test]
fn a_server_that_stalls_is_found_in_time() {
    for fault in [Fault::StallBeforeHead(Gate::default()), Fault::StallAfter(1000, Gate::default())] {
        let said = faulty(PACKAGE, fault, "--timeout 300ms").failed_by("timeout");
        let first = said.json["errors"]["first"]["timeout"].as_str().unwrap();
        assert!(first.contains("within 300ms"), "{first}");
    }
}

#[test]
fn what_is_no_manifest_is_found_and_ends_its_agents() {
    let said = faulty("/server.ini", Fault::Html, "").failed_by("manifest");
    assert_eq!((said.at("/requests/total"), said.at("/agents/failed")), (4, 4));
    assert!(said.json["errors"]["first"]["manifest"].as_str().unwrap().contains("HTML"), "{said:?}");
}

#[test]
fn a_budget_allows_some_errors_and_no_more() {
    let with = |budget: &str| faulty(PACKAGE, Fault::Status(500), &format!("--errors-max {budget}")).code;
    assert_eq!([with("4"), with("3"), with("50%"), with("0.1%")], [Some(0), Some(4), Some(0), Some(4)]);
}

#[test]
fn a_connection_that_the_server_closes_between_requests_is_no_error_but_an_unanswered_request_is() {
    let manifest = "[PATTERN]\nP.4=a.zip,1,3\n";
    let closing = Server::start(move |_, _| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{manifest}", manifest.len());
        vec![Act::Send(answer.into_bytes()), Act::Close]
    });
    let said = play(&closing.url("/"), "--agents 5 --connections 1 --mix current").passed();
    assert_eq!((said.at("/connections/made"), said.at("/connections/lost")), (5, 4));
    let mute = Server::start(|_, _| vec![Act::Close]);
    play(&mute.url("/"), "--agents 5 --connections 1").failed_by("reset");
}
