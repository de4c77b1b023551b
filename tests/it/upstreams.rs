//! Upstreams that are down, lie, stall or send what is no manifest: the relay says why and serves what it has (R1.2, R1.6).

use std::time::Duration;

use forebay::config::settings::{Settings, Upstream};
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// Settings of a relay that asks once and does not wait long.
fn hasty(url: &str) -> Settings {
    let mut settings = settings(url);
    settings.fill.attempts = 1;
    settings.fill.first_byte = Duration::from_millis(500);
    settings.fill.silence = Duration::from_millis(500);
    settings
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

fn failed(last: Last) -> String {
    match last {
        Last::Failed(reason) => reason,
        other => panic!("it did not fail: {other:?}"),
    }
}

/// What an upstream has in place of its manifest, and what the reason must say.
fn malformed() -> Vec<(String, &'static str)> {
    let head = "[PATTERN]\nP.4=pattern/a5.zip,5,9000\n";
    let long = "x".repeat(2000);
    vec![
        (String::new(), "line 1: this is not a server.ini"),
        ("<html><body>Sign in</body></html>".into(), "line 1: this is not a server.ini: it looks like HTML"),
        ("hello\n".into(), "line 1: this is not a server.ini"),
        (format!("{head}P.5=/etc/passwd,1,1\n"), "line 3: P.5: path '/etc/passwd': the path is absolute"),
        (format!("{head}P.5=pattern/../../x,1,1\n"), "line 3: P.5: path 'pattern/../../x'"),
        (format!("{head}P.5=pattern/a\0b,1,1\n"), "line 3: P.5"),
        (format!("{head}P.5=pattern/{long},1,1\n"), "line 3: P.5"),
        (
            format!("{head}P.5=pattern/a5.zip,5,9001\n"),
            "line 3: 'pattern/a5.zip' has 9001 bytes here and 9000 on line 2",
        ),
        (format!("{head}P.5=pattern/b.zip,5,"), "line 3: P.5"),
    ]
}

#[test]
fn a_malformed_manifest_is_refused_with_line_and_cause_r1_6() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(hasty(&origin.url("/")));
    for (text, said) in malformed() {
        site.put("server.ini", text.as_bytes());
        let reason = failed(relay.refresh());
        assert!(reason.contains("server.ini") && reason.contains(said), "{reason}, not: {said}");
        assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    }
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    relay.stop();
}

#[test]
fn an_upstream_that_misbehaves_is_said_and_recovered_from_r1_6() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(hasty(&origin.url("/")));
    let to = origin.url("/server.ini");
    let faults = [
        (Fault::Html, "looks like HTML"),
        (Fault::Status(500), "status 500"),
        (Fault::Status(404), "no such file"),
        (Fault::Redirect(to), "redirects too often, or in a loop"),
        (Fault::GarbageHead, "no answer"),
        (Fault::StallBeforeHead(Gate::default()), "first byte within 0.5 s"),
        (Fault::StallAfter(20, Gate::default()), "silent for 0.5 s"),
        (Fault::ResetAfter(20), "broke off"),
        (Fault::CloseAfter(20), "broke off"),
        (Fault::WrongLength { declared: 1 << 30 }, "too long for a manifest"),
        (Fault::WrongLength { declared: 1000 }, "broke off"),
        (Fault::ContentEncodingGzip, "encoded"),
    ];
    // So that each answer has a body: an unchanged manifest is a 304.
    site.put("server.ini", (site::manifest(5, &[4]) + ";\r\n").as_bytes());
    for (fault, said) in faults {
        origin.always("/server.ini", fault);
        let reason = failed(relay.refresh());
        assert!(
            reason.contains(&origin.url("/server.ini")) && reason.contains(said),
            "{reason}, not: {said}"
        );
        assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
        assert!(get(&relay, &site::package(5)).whole(200) == site::bytes(&site::package(5), 5));
        origin.behave();
    }
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(!relay.tree(0).standing.is_upstream_down());
    relay.stop();
}

#[test]
fn a_304_to_a_request_without_conditions_is_no_manifest_r1_6() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    origin.script("/server.ini", Fault::Status(304));
    let relay = Running::refreshed(hasty(&origin.url("/")));
    assert_eq!(relay.generation(), 0);
    assert_eq!(get(&relay, "server.ini").head.status, 503);
    assert!(matches!(relay.refresh(), Last::New(_)));
    relay.stop();
}

#[test]
fn an_upstream_that_is_down_is_said_while_the_age_rises_r1_6() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(hasty(&origin.url("/")));
    drop(origin);
    let age = |relay: &Running| get(relay, "server.ini").head.header("age").unwrap().parse::<u64>().unwrap();
    let before = age(&relay);
    assert!(failed(relay.refresh()).contains("no answer from the upstream"));
    assert!(relay.tree(0).standing.is_upstream_down());
    let metrics = String::from_utf8(raw::fetch(relay.admin(), "/metrics", &[]).whole(200)).unwrap();
    assert!(metrics.contains("forebay_upstream_down{tree=\"activeupdate\"} 1\n"), "{metrics}");
    // Refreshes keep a second's distance, so the second one is later on the clock.
    failed(relay.refresh());
    assert!(age(&relay) > before, "{} after {before}", age(&relay));
    assert!(get(&relay, &site::package(5)).whole(200) == site::bytes(&site::package(5), 5));
    relay.stop();
}

#[test]
fn the_second_url_is_used_where_the_first_has_no_manifest_r1_2() {
    let (broken, site) = (Site::new(), Site::with(5, &[4]));
    broken.put("server.ini", b"<html>moved</html>");
    let (first, second) = (Origin::start(broken.dir()), Origin::start(site.dir()));
    let mut settings = hasty(&second.url("/"));
    let urls = ["http://127.0.0.1:1/", &first.url("/"), &second.url("/")].map(|url| url.parse().unwrap());
    settings.trees[0].upstream = Upstream::Urls(urls.to_vec());
    let relay = Running::refreshed(settings);
    for path in site::paths(5, &[4]) {
        assert!(get(&relay, &path).whole(200) == site::bytes(&path, 5), "{path}");
        assert_eq!(
            first.seen().of(&format!("/{path}")).count(),
            0,
            "files come from where the manifest does"
        );
    }
    assert_eq!(relay.refresh(), Last::Same);
    drop(second);
    let reason = failed(relay.refresh());
    assert!(reason.contains("no answer"), "{reason}");
    relay.stop();
}

#[test]
fn a_first_url_that_comes_back_is_used_again_r1_2() {
    let site = Site::with(5, &[4]);
    let (first, second) = (Origin::start(site.dir()), Origin::start(site.dir()));
    first.always("*", Fault::Status(503));
    let mut settings = hasty(&second.url("/"));
    let urls = [&first, &second].map(|origin| origin.url("/").parse().unwrap());
    settings.trees[0].upstream = Upstream::Urls(urls.to_vec());
    let relay = Running::refreshed(settings);
    first.behave();
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(first.seen().body_bytes("/pattern/a6.zip"), site::PACKAGE_BYTES as u64);
    assert_eq!(second.seen().body_bytes("/pattern/a6.zip"), 0);
    relay.stop();
}

#[test]
fn a_package_that_lies_about_its_length_or_breaks_off_is_never_published_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(hasty(&origin.url("/")));
    site.publish(6, &[5]);
    let faults = [
        Fault::CloseAfter(100),
        Fault::ResetAfter(100),
        Fault::WrongLength { declared: 100 },
        Fault::WrongLength { declared: 20_000 },
        Fault::Html,
        Fault::ContentEncodingGzip,
    ];
    for fault in faults {
        origin.always("/pattern/a6.zip", fault.clone());
        assert!(failed(relay.refresh()).contains("pattern/a6.zip"), "{fault:?}");
        assert_eq!(relay.generation(), 1, "{fault:?}");
        origin.behave();
    }
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(get(&relay, &site::package(6)).whole(200) == site::bytes(&site::package(6), 6));
    relay.stop();
}

#[test]
fn a_second_url_that_lags_behind_takes_nobody_back_r1_2_r1_4() {
    let (site, behind) = (Site::with(5, &[4]), Site::with(5, &[4]));
    let (first, second) = (Origin::start(site.dir()), Origin::start(behind.dir()));
    let mut settings = hasty(&first.url("/"));
    let urls = [&first, &second].map(|origin| origin.url("/").parse().unwrap());
    settings.trees[0].upstream = Upstream::Urls(urls.to_vec());
    let relay = Running::refreshed(settings);
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    first.always("*", Fault::Status(503));
    assert!(failed(relay.refresh()).contains("lags behind"));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(6, &[5]).as_bytes());
    first.behave();
    assert_eq!(relay.refresh(), Last::Same);
    relay.stop();
}
