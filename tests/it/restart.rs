//! Relays that start on what others left: without the upstream, with a lost index, damaged journals, lost blobs (R1.6).

use std::fs;
use std::path::{Path, PathBuf};

use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

/// Every file of a release with its entity tag, and the manifest's.
fn answers(relay: &Running, version: u32, from: &[u32]) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for path in site::paths(version, from) {
        let answer = get(relay, &path);
        let etag = answer.head.header("etag").unwrap_or_default().to_owned();
        assert!(answer.whole(200) == site::bytes(&path, version), "{path}");
        answers.push((path, etag));
    }
    let manifest = get(relay, "server.ini");
    answers.push(("server.ini".into(), manifest.head.header("etag").unwrap().to_owned()));
    assert_eq!(manifest.whole(200), site::view(version, from).as_bytes());
    answers
}

fn journal(data: &Path, generation: &str) -> PathBuf {
    data.join("trees/activeupdate").join(generation).join("journal")
}

/// A relay that holds release 5 as generation 1, stopped, and its origin.
fn stopped() -> (Site, Origin, forebay::config::settings::Settings, tempfile::TempDir) {
    let site = Site::with(5, &[4, 3]);
    let origin = Origin::start(site.dir());
    let (settings, data) = Running::refreshed(settings(&origin.url("/"))).stop();
    (site, origin, settings, data)
}

#[test]
fn a_lost_or_damaged_index_is_made_again_without_the_upstream_r1_6() {
    let (_site, origin, settings, data) = stopped();
    let relay = Running::start_on(settings, data);
    let before = answers(&relay, 5, &[4, 3]);
    let (mut settings, mut data) = relay.stop();
    drop(origin);
    let garble: [&dyn Fn(&Path); 4] = [
        &|file| fs::remove_file(file).unwrap(),
        &|file| fs::write(file, [0xa5; 5000]).unwrap(),
        &|file| fs::File::options().write(true).open(file).unwrap().set_len(100).unwrap(),
        &|file| fs::write(file, []).unwrap(),
    ];
    for garble in garble {
        let entries = fs::read_dir(data.path().join("index")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .for_each(|path| garble(&path));
        let relay = Running::start_on(settings, data);
        assert_eq!(answers(&relay, 5, &[4, 3]), before);
        (settings, data) = relay.stop();
    }
    fs::remove_dir_all(data.path().join("index")).unwrap();
    let relay = Running::start_on(settings, data);
    assert_eq!(answers(&relay, 5, &[4, 3]), before);
    relay.stop();
}

#[test]
fn what_a_damaged_journal_lost_is_fetched_again_and_nothing_else_r1_6() {
    type Damage = dyn Fn(&mut Vec<u8>);
    let damage: [&Damage; 3] = [
        &|text| text.truncate(text.len() - 5),
        &|text| {
            let at = text.len() - 20;
            text[at] ^= 1;
        },
        // The line of the first held file.
        &|text| {
            let at = text.iter().position(|byte| *byte == b'\n').unwrap() + 40;
            text[at] ^= 1;
        },
    ];
    for damage in damage {
        let (_site, origin, settings, data) = stopped();
        let path = journal(data.path(), "1");
        let mut text = fs::read(&path).unwrap();
        // Each file stands there twice: when it came, and when its generation was published.
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let mut seen = std::collections::HashSet::new();
        text = lines.into_iter().filter(|line| seen.insert(line.clone())).flatten().collect();
        damage(&mut text);
        fs::write(&path, text).unwrap();
        let before = origin.seen().body_bytes_total();
        let relay = Running::start_on(settings, data);
        assert!(!matches!(relay.wait_refreshes(1), Last::Failed(_)));
        answers(&relay, 5, &[4, 3]);
        let fetched = origin.seen().body_bytes_total() - before;
        assert!(fetched <= site::PACKAGE_BYTES as u64, "{fetched} bytes were fetched again");
        let relay = relay.restart();
        assert_eq!(relay.wait_refreshes(1), Last::Same, "all of it is known again");
        answers(&relay, 5, &[4, 3]);
        assert_eq!(origin.seen().body_bytes_total() - before, fetched);
        relay.stop();
    }
}

#[test]
fn a_generation_whose_journal_or_manifest_is_lost_is_left_out_r1_6() {
    let damage: [&dyn Fn(&Path); 4] = [
        &|folder| fs::remove_file(folder.join("journal")).unwrap(),
        &|folder| fs::write(folder.join("journal"), []).unwrap(),
        &|folder| fs::write(folder.join("manifest"), site::manifest(6, &[5, 4]) + ";").unwrap(),
        &|folder| fs::remove_file(folder.join("manifest")).unwrap(),
    ];
    for damage in damage {
        let (site, origin, settings, data) = stopped();
        let relay = Running::start_on(settings, data);
        relay.wait_refreshes(1);
        site.publish(6, &[5, 4]);
        relay.refresh();
        assert_eq!(relay.generation(), 2);
        let (settings, data) = relay.stop();
        damage(&data.path().join("trees/activeupdate/2"));
        origin.always("*", Fault::Status(503));
        let relay = Running::start_on(settings, data);
        assert_eq!(relay.generation(), 1, "the one before is whole");
        answers(&relay, 5, &[4, 3]);
        origin.behave();
        assert!(
            matches!(relay.refresh(), Last::New(number) if number.0 == 3),
            "its number is not used again"
        );
        assert_eq!(get(&relay, "server.ini").whole(200), site::view(6, &[5, 4]).as_bytes());
        relay.stop();
    }
}

#[test]
fn what_an_unfinished_generation_has_is_not_fetched_again_r1_4() {
    for kept in ["with the index", "without the index"] {
        let (site, origin, settings, data) = stopped();
        site.publish(6, &[5, 4]);
        let gate = Gate::default();
        let held = format!("/{}", site::increment(4, 6));
        origin.script(&held, Fault::StallBeforeHead(gate.clone()));
        let mut settings = settings;
        settings.fill.prefetch_at_once = 64;
        let relay = Running::start_on(settings, data);
        gate.wait_reached();
        // All but the one that is held: signatures, then payloads, of which the engine is there already.
        relay.wait_progress(|progress| progress.files > 0 && progress.files_done == progress.files - 1);
        let (settings, data) = relay.stop();
        assert_eq!(site::generations(data.path(), "activeupdate"), ["1", "2.next"]);
        if kept == "without the index" {
            fs::remove_dir_all(data.path().join("index")).unwrap();
        }
        let before = origin.seen().requests.len();
        let relay = Running::start_on(settings, data);
        assert!(matches!(relay.wait_refreshes(1), Last::New(_)));
        let seen = origin.seen();
        let sent = seen.requests[before..].iter().filter(|request| request.body_bytes > 0);
        let mut sent: Vec<_> = sent.map(|request| request.path.as_str()).collect();
        sent.sort_unstable();
        assert_eq!(sent, [&held, "/server.ini"], "{kept}");
        answers(&relay, 6, &[5, 4]);
        relay.stop();
    }
}

#[test]
fn a_blob_that_is_lost_or_cut_is_fetched_again_r1_5() {
    let damage: [&dyn Fn(&Path); 3] = [
        &|file| fs::remove_file(file).unwrap(),
        &|file| fs::File::options().write(true).open(file).unwrap().set_len(50).unwrap(),
        &|file| fs::write(file, []).unwrap(),
    ];
    for damage in damage {
        let (_site, origin, settings, data) = stopped();
        for path in site::paths(5, &[4, 3]) {
            damage(&site::blob_file(data.path(), &site::bytes(&path, 5)));
        }
        let relay = Running::start_on(settings, data);
        relay.wait_refreshes(1);
        let before = origin.seen().body_bytes_total();
        answers(&relay, 5, &[4, 3]);
        answers(&relay, 5, &[4, 3]);
        let all: usize = site::paths(5, &[4, 3]).iter().map(|path| site::bytes(path, 5).len()).sum();
        assert_eq!(origin.seen().body_bytes_total() - before, all as u64, "each once");
        relay.stop();
    }
}

#[test]
fn a_lost_blob_that_many_ask_for_is_fetched_once_r2_1() {
    let (_site, origin, settings, data) = stopped();
    let path = site::package(5);
    fs::remove_file(site::blob_file(data.path(), &site::bytes(&path, 5))).unwrap();
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    let address = relay.v4();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                let answer = raw::fetch(address, &format!("/activeupdate/{path}"), &[]);
                assert!(answer.whole(200) == site::bytes(&path, 5));
            });
        }
    });
    assert_eq!(origin.seen().body_bytes("/pattern/a5.zip"), 2 * site::PACKAGE_BYTES as u64);
    relay.stop();
}

#[test]
fn a_lost_blob_that_an_older_generation_had_too_is_fetched_again_r1_5() {
    let (site, origin, settings, data) = stopped();
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    // The engine's signature is taken over by a 304, so that what was held before is what is held.
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let path = "engine/e1.sig";
    fs::remove_file(site::blob_file(relay.data(), &site::bytes(path, 6))).unwrap();
    assert!(get(&relay, path).whole(200) == site::bytes(path, 6));
    assert_eq!(origin.seen().body_bytes("/engine/e1.sig"), 2 * site::bytes(path, 6).len() as u64);
    relay.stop();
}

#[test]
fn a_lost_blob_is_an_error_that_shows_while_the_upstream_is_down_r1_5() {
    let (_site, origin, mut settings, data) = stopped();
    drop(origin);
    settings.fill.attempts = 1;
    fs::remove_file(site::blob_file(data.path(), &site::bytes(&site::package(5), 5))).unwrap();
    let relay = Running::start_on(settings, data);
    assert_eq!(get(&relay, &site::package(5)).head.status, 502);
    assert!(get(&relay, site::ENGINE).whole(200) == site::bytes(site::ENGINE, 5));
    relay.stop();
}

#[test]
fn what_stands_among_generations_and_is_none_is_left_alone_r1_6() {
    let (_site, _origin, settings, data) = stopped();
    let trees = data.path().join("trees/activeupdate");
    fs::create_dir(trees.join("notes")).unwrap();
    fs::write(trees.join("7"), "a file").unwrap();
    fs::create_dir(trees.join("9.next")).unwrap();
    fs::write(data.path().join("staging/stray.part"), "half").unwrap();
    let relay = Running::start_on(settings, data);
    answers(&relay, 5, &[4, 3]);
    assert!(!relay.data().join("staging/stray.part").exists());
    let (_, data) = relay.stop();
    assert!(data.path().join("trees/activeupdate/notes").is_dir());
}

#[test]
fn fewer_generations_to_keep_count_from_the_start_r1_7() {
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(crate::relay::settings(site.text()));
    for version in 6..8 {
        site.publish(version, &[version - 1]);
        assert!(matches!(relay.refresh(), Last::New(_)));
    }
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["1", "2", "3"]);
    let (mut settings, data) = relay.stop();
    settings.trees[0].keep_generations = 1;
    let relay = Running::start_on(settings, data);
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["3"]);
    assert_eq!(relay.wait_refreshes(1), Last::Same);
    relay.stop();
}
