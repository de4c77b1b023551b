//! What of a generation is fetched before it becomes visible: all, what agents use, or signatures alone (R1.4, R1.5).

use forebay::config::settings::{Prefetch, Settings};
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

fn lazy(origin: &Origin, prefetch: Prefetch) -> Settings {
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = prefetch;
    settings.fill.attempts = 1;
    settings
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

/// Payload bytes that the origin sent: of packages and increments.
fn payload_bytes(origin: &Origin) -> u64 {
    let payload = |path: &str| !site::is_signature(path) && path != "/server.ini";
    origin
        .seen()
        .requests
        .iter()
        .filter(|request| payload(&request.path))
        .map(|request| request.body_bytes)
        .sum()
}

#[test]
fn with_none_signatures_come_and_payloads_are_only_asked_after_r1_4() {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    assert_eq!(relay.generation(), 1);
    assert_eq!(payload_bytes(&origin), 0);
    let seen = origin.seen();
    for path in site::paths(5, &[4, 3]) {
        let method = if site::is_signature(&path) { "GET" } else { "HEAD" };
        let asked: Vec<_> = seen.of(&format!("/{path}")).map(|request| request.method.clone()).collect();
        assert_eq!(asked, [method], "{path}");
    }
    assert!(get(&relay, &site::package(5)).whole(200) == site::bytes(&site::package(5), 5));
    assert_eq!(payload_bytes(&origin), site::PACKAGE_BYTES as u64);
    relay.stop();
}

#[test]
fn with_used_what_agents_fetched_before_comes_also_after_a_restart_r1_4() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::Used));
    assert_eq!(payload_bytes(&origin), 0, "nobody has used anything yet");
    get(&relay, &site::package(5)).whole(200);
    let relay = relay.restart();
    relay.wait_refreshes(1);
    site.publish(6, &[5]);
    let before = payload_bytes(&origin);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(payload_bytes(&origin) - before, site::PACKAGE_BYTES as u64);
    assert_eq!(origin.seen().body_bytes("/pattern/a6.zip"), site::PACKAGE_BYTES as u64);
    assert_eq!(origin.seen().body_bytes(&format!("/{}", site::ENGINE)), 0);
    relay.stop();
}

#[test]
fn with_none_a_package_that_is_not_there_refuses_the_generation_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    site.publish(6, &[5]);
    site.remove(&site::package(6));
    assert!(matches!(relay.refresh(), Last::Failed(reason) if reason.contains("pattern/a6.zip")));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    relay.stop();
}

#[test]
fn with_none_a_length_that_is_not_the_manifests_refuses_the_generation_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    site.publish(6, &[5]);
    site.put(&site::package(6), b"short");
    assert!(matches!(relay.refresh(), Last::Failed(reason)
        if reason.contains("pattern/a6.zip") && reason.contains("length")));
    assert_eq!(relay.generation(), 1);
    relay.stop();
}

#[test]
fn with_none_an_increment_that_is_not_there_is_withheld_until_it_appears_r1_5() {
    let site = Site::with(5, &[4, 3]);
    site.remove(&site::increment(4, 5));
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    let withheld = site::view(5, &[3]);
    assert_eq!(get(&relay, "server.ini").whole(200), withheld.as_bytes());
    site.publish(5, &[4, 3]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4, 3]).as_bytes());
    // The older generation still withholds it, and a restart mixes nothing up.
    let relay = relay.restart();
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4, 3]).as_bytes());
    let snapshot = relay.tree(0).snapshot().unwrap();
    let withheld: Vec<_> =
        snapshot.published().iter().map(|published| published.generation.withheld()).collect();
    assert_eq!(withheld, [0, 1]);
    relay.stop();
}

#[test]
fn a_server_without_head_is_asked_by_get_r1_5() {
    let site = Site::with(5, &[4, 3]);
    site.remove(&site::increment(4, 5));
    let origin = Origin::start(site.dir());
    for path in site::paths(5, &[4, 3]).iter().filter(|path| !site::is_signature(path)) {
        origin.script(&format!("/{path}"), Fault::Status(405));
    }
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[3]).as_bytes());
    relay.stop();
}

#[test]
fn an_increment_that_goes_while_it_is_listed_is_withheld_without_a_storm_of_refreshes_r1_5() {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(lazy(&origin, Prefetch::None));
    site.remove(&site::increment(4, 5));
    for _ in 0..5 {
        assert_eq!(get(&relay, &site::increment(4, 5)).head.status, 502);
    }
    // The first failed request asks for the refresh.
    relay.wait_progress(|progress| matches!(progress.last, Some(Last::New(_))) && progress.ended == 2);
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[3]).as_bytes());
    assert_eq!(get(&relay, &site::increment(4, 5)).head.status, 404);
    relay.stop();
}

#[test]
fn a_head_that_fails_once_does_not_end_the_refresh_r1_4() {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    origin.script(&format!("/{}", site::package(5)), Fault::Status(503));
    origin.script(&format!("/{}", site::increment(4, 5)), Fault::ResetAfter(0));
    let relay = Running::refreshed(settings);
    assert_eq!(relay.generation(), 1, "{:?}", relay.wait_refreshes(1));
    relay.stop();
}
