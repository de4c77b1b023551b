//! How a relay follows its upstream from release to release: what it fetches, what it shows, what it keeps (R1.4, R1.7).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use forebay::base::tree::GenerationNumber;
use forebay::fixture::{self, Fixture, Retired};
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::answer::Validators;
use crate::origin::fault::{Fault, Gate};
use crate::origin::seen::Request;
use crate::raw::{self, Client};
use crate::relay::{Running, settings};
use crate::site::{self, Site};

const BASE: &str = "/activeupdate/";

fn new(number: u64) -> Last {
    Last::New(GenerationNumber(number))
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("{BASE}{path}"), &[])
}

fn get_as(agent: u8, relay: &Running, path: &str) -> raw::answer::Answer {
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, agent));
    Client::connect_from(source, relay.v4()).exchange("GET", &format!("{BASE}{path}"), &[]).unwrap()
}

/// What the origin was asked for since a number of requests.
fn since(origin: &Origin, before: usize) -> Vec<Request> {
    origin.seen().requests[before..].to_vec()
}

#[test]
fn an_unchanged_manifest_costs_one_conditional_request_r1_4() {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(settings(&origin.url("/")));
    let before = origin.seen().requests.len();
    assert_eq!(relay.refresh(), Last::Same);
    let asked = since(&origin, before);
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert_eq!((asked[0].path.as_str(), asked[0].status), ("/server.ini", 304));
    assert_eq!(relay.generation(), 1);
    relay.stop();
}

#[test]
fn the_same_bytes_without_validators_are_no_new_generation_r1_4() {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    origin.set_validators(Validators::None);
    let relay = Running::refreshed(settings(&origin.url("/")));
    let before = origin.seen().requests.len();
    assert_eq!(relay.refresh(), Last::Same);
    let asked = since(&origin, before);
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert_eq!((asked[0].path.as_str(), asked[0].status), ("/server.ini", 200));
    relay.stop();
}

#[test]
fn a_next_release_of_the_fixture_fetches_only_new_bytes_r1_4() {
    let dir = tempfile::tempdir().unwrap();
    let first = Fixture::default();
    first.write(dir.path(), &mut |_| {}).unwrap();
    let origin = Origin::start(dir.path());
    let relay = Running::refreshed(settings(&origin.url("/")));
    let before = origin.seen().requests.len();
    let next = fixture::publish_next(dir.path(), Retired::Remove, &mut |_| {}).unwrap();
    assert_eq!(relay.refresh(), new(2));
    let old: std::collections::HashSet<_> = first.files().into_iter().collect();
    let asked = since(&origin, before);
    for file in next.files() {
        let path = format!("/{}", file.path);
        let of: Vec<_> = asked.iter().filter(|request| request.path == path).collect();
        let bytes: u64 = of.iter().map(|request| request.body_bytes).sum();
        match (old.contains(&file), file.role) {
            (false, _) => assert_eq!((of.len(), bytes), (1, file.size), "{path} is new"),
            (true, fixture::Role::Signature) => {
                assert_eq!((of.len(), of[0].status, bytes), (1, 304, 0), "{path} is unchanged");
            }
            (true, _) => assert!(of.is_empty(), "{path} is unchanged"),
        }
        let expected = std::fs::read(dir.path().join(file.path.as_str())).unwrap();
        assert!(get(&relay, file.path.as_str()).whole(200) == expected, "{path}");
    }
    relay.stop();
}

#[test]
fn signatures_are_fetched_anew_where_only_a_date_vouches_for_them_r1_7() {
    for validators in [Validators::Date, Validators::Weak, Validators::None] {
        let site = Site::with(5, &[4, 3]);
        let origin = Origin::start(site.dir());
        origin.set_validators(validators);
        let relay = Running::refreshed(settings(&origin.url("/")));
        // Within the same second: the dates of the new files are those of the old ones.
        site.publish(6, &[5, 4, 3]);
        assert_eq!(relay.refresh(), new(2), "{validators:?}");
        for path in site::paths(6, &[5, 4, 3]) {
            assert!(get(&relay, &path).whole(200) == site::bytes(&path, 6), "{path} with {validators:?}");
        }
        relay.stop();
    }
}

#[test]
fn agents_see_a_generation_only_as_a_whole_r1_4() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut settings = settings(&origin.url("/"));
    settings.fill.prefetch_at_once = 1;
    let relay = Running::refreshed(settings);
    site.publish(6, &[5, 4]);
    let gate = Gate::default();
    origin.script("/pattern/a6.zip", Fault::StallAfter(100, gate.clone()));
    let wanted = relay.want_refresh(0);
    gate.wait_reached();
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    assert_eq!(relay.generation(), 1);
    assert_eq!(get(&relay, &site::increment(5, 6)).head.status, 404, "not listed yet");
    let signatures = origin.seen();
    assert_eq!(signatures.of("/pattern/a_5.sig").count(), 1, "signatures come before payloads");
    gate.open();
    relay.wait_refreshes(wanted);
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(6, &[5, 4]).as_bytes());
    let asked = origin.seen().requests.len();
    for path in site::paths(6, &[5, 4]) {
        assert!(get(&relay, &path).whole(200) == site::bytes(&path, 6), "{path}");
    }
    assert_eq!(origin.seen().requests.len(), asked, "all of it was there before it was shown");
    relay.stop();
}

#[test]
fn a_manifest_that_changes_while_its_files_are_fetched_starts_the_refresh_over_r1_4() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(settings(&origin.url("/")));
    site.publish(6, &[5, 4]);
    let gate = Gate::default();
    origin.script("/pattern/a6.zip", Fault::StallBeforeHead(gate.clone()));
    let wanted = relay.want_refresh(0);
    gate.wait_reached();
    // The signatures of release 6 are there; now release 7 takes its place.
    site.publish(7, &[6, 5, 4]);
    gate.open();
    assert_eq!(relay.wait_refreshes(wanted), new(2));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(7, &[6, 5, 4]).as_bytes());
    for path in site::paths(7, &[6, 5, 4]) {
        assert!(get(&relay, &path).whole(200) == site::bytes(&path, 7), "{path}");
    }
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["1", "2"]);
    relay.stop();
}

#[test]
fn signatures_that_came_late_are_asked_for_again_after_a_failed_refresh_r1_4() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut settings = settings(&origin.url("/"));
    settings.fill.attempts = 1;
    let relay = Running::refreshed(settings);
    // An index published before its files: the increment's signature is still that of release 5.
    site.publish(6, &[5, 4]);
    site.put("pattern/a_4.sig", &site::bytes("pattern/a_4.sig", 5));
    origin.script("/pattern/a_5.sig", Fault::Status(500));
    origin.script("/pattern/a_5.sig", Fault::Status(500));
    assert!(matches!(relay.refresh(), Last::Failed(reason) if reason.contains("pattern/a_5.sig")));
    site.put("pattern/a_4.sig", &site::bytes("pattern/a_4.sig", 6));
    origin.behave();
    assert_eq!(relay.refresh(), new(2));
    assert!(get(&relay, "pattern/a_4.sig").whole(200) == site::bytes("pattern/a_4.sig", 6));
    relay.stop();
}

#[test]
fn the_last_generations_are_kept_and_what_no_one_names_leaves_the_disk_r1_3_r1_7() {
    let site = Site::with(5, &[4]);
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 2;
    let relay = Running::refreshed(settings);
    for version in [6, 7] {
        site.publish(version, &[version - 1]);
        assert!(matches!(relay.refresh(), Last::New(_)));
    }
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["2", "3"]);
    assert!(get(&relay, &site::package(6)).whole(200) == site::bytes(&site::package(6), 6), "left, but kept");
    assert_eq!(get(&relay, &site::package(5)).head.status, 404, "no generation lists it");
    let (_, data) = relay.stop();
    let named = [6, 7].into_iter().flat_map(|version| {
        let paths = site::paths(version, &[version - 1]);
        paths.into_iter().map(move |path| site::blob(&site::bytes(&path, version)))
    });
    assert_eq!(site::blobs(data.path()), named.collect());
}

#[test]
fn an_agent_finishes_on_the_generation_it_began_with_r1_4() {
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(settings(site.text()));
    let signature = site::increment_signature(4);
    assert_eq!(get_as(2, &relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    site.publish(6, &[5, 4]);
    assert_eq!(relay.refresh(), new(2));
    assert!(get_as(2, &relay, &signature).whole(200) == site::bytes(&signature, 5), "begun before");
    assert_eq!(get_as(3, &relay, "server.ini").whole(200), site::view(6, &[5, 4]).as_bytes());
    assert!(get_as(3, &relay, &signature).whole(200) == site::bytes(&signature, 6), "begun after");
    assert!(get_as(4, &relay, &signature).whole(200) == site::bytes(&signature, 6), "never began");
    assert_eq!(get_as(2, &relay, "server.ini").whole(200), site::view(6, &[5, 4]).as_bytes());
    assert!(get_as(2, &relay, &signature).whole(200) == site::bytes(&signature, 6), "began again");
    relay.stop();
}

#[test]
fn the_committed_fixture_is_one_generation_of_all_its_files_r1_1() {
    let relay = Running::refreshed(settings("fixtures/activeupdate"));
    let progress = relay.wait_progress(|progress| progress.ended == 1);
    let files = Fixture::default().files();
    assert_eq!((progress.files_done, progress.files), (files.len() as u64, files.len() as u64));
    assert_eq!(progress.bytes_done, progress.bytes);
    assert!(Path::new(relay.data()).join("trees/activeupdate/1/manifest").is_file());
    relay.stop();
}

#[test]
fn workers_let_blobs_go_that_were_removed_so_that_the_disk_frees_them() {
    let site = Site::new();
    let release = |version: u32| {
        let bytes = vec![u8::try_from(version).unwrap(); 200_000];
        site.put(&format!("large{version}.zip"), &bytes);
        site.put("server.ini", format!("[PATTERN]\nP.4=large{version}.zip,{version},200000\n").as_bytes());
    };
    release(1);
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 1;
    let relay = Running::refreshed(settings);
    let data = relay.data().to_owned();
    let held = |word: &str| {
        let links =
            std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fd.path().read_link().ok());
        links.filter(|link| link.starts_with(&data) && link.to_string_lossy().contains(word)).count()
    };
    assert_eq!(raw::fetch(relay.v4(), "/activeupdate/large1.zip", &[]).whole(200).len(), 200_000);
    assert_eq!(held("/blobs/"), 1, "a worker has it open");
    release(2);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while held("/blobs/") > 0 {
        assert!(std::time::Instant::now() < deadline, "it is still held");
        std::thread::yield_now();
    }
    relay.stop();
}
