//! What is damaged, who had it, and what becomes of it.

use std::fs;

use forebay::config::settings::{Prefetch, ScrubSettings};
use forebay::relay::refresh::Last;

use super::{BIG, Ground, SMALL, bytes, flip, get, quarantined, scrub, wait, write_tree};
use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::raw::answer::End;
use crate::raw::{Client, fetch};
use crate::relay::{Running, settings};
use crate::served::metric;
use crate::site::{self, Site};

#[test]
fn the_background_scrub_finds_a_changed_byte_and_fetches_that_file_once_r1_5() {
    let mut ground = Ground::with(|settings| settings.scrub.every_days = 0);
    ground.warm();
    flip(&ground.file(BIG), 1_234_567);
    flip(&ground.file(SMALL), 4999);
    let mut settings = settings(&ground.origin.url("/"));
    settings.data = ground.relay.data().to_owned();
    settings.scrub = ScrubSettings { every_days: 1, bytes_per_sec: 1 << 40 };
    assert!(ground.relay.handle().reload(settings).unwrap().iter().all(|key| key.contains("listen")));
    let pass = wait(&ground.relay, |progress| progress.ended == 1).last.unwrap();
    assert_eq!((pass.blobs, pass.bad, pass.skipped), (2, 2, 0));
    let mut files: Vec<_> = pass.found.iter().flat_map(|found| found.files.clone()).collect();
    files.sort();
    assert_eq!(files, [format!("activeupdate/{BIG}"), format!("activeupdate/{SMALL}")]);
    for path in [BIG, SMALL] {
        ground.wait_sent(path, 2);
    }
    ground.warm();
    for path in [BIG, SMALL] {
        assert_eq!(ground.sent(path), 2 * bytes(path).len() as u64, "{path}");
        assert!(fs::read(ground.file(path)).unwrap() == bytes(path));
    }
    let mut names = [site::blob(&bytes(BIG)), site::blob(&bytes(SMALL))];
    names.sort();
    assert_eq!(quarantined(ground.relay.data()), names);
    let page = String::from_utf8(fetch(ground.relay.admin(), "/metrics", &[]).whole(200)).unwrap();
    assert_eq!(metric(&page, "forebay_bad_blobs_total"), 2);
    assert_eq!(metric(&page, "forebay_scrubbed_blobs_total"), 2);
    assert_eq!(metric(&page, "forebay_scrubbed_bytes_total"), 2_505_000);
    assert_eq!(scrub(&ground.relay).bad, 0);
    ground.relay.stop();
}

#[test]
fn a_damaged_file_is_an_error_and_never_its_wrong_bytes_while_the_upstream_is_down_r1_5() {
    let ground = Ground::new();
    ground.warm();
    flip(&ground.file(BIG), 0);
    flip(&ground.file(SMALL), 0);
    ground.origin.always("*", Fault::Status(503));
    assert_eq!(scrub(&ground.relay).bad, 2);
    for _ in 0..8 {
        for path in [BIG, SMALL] {
            assert_eq!(ground.get(path).head.status, 502, "{path}");
        }
    }
    ground.origin.behave();
    ground.warm();
    for path in [BIG, SMALL] {
        assert_eq!(ground.sent(path), 2 * bytes(path).len() as u64, "{path}");
    }
    let relay = ground.relay.restart();
    for path in [BIG, SMALL] {
        assert!(get(&relay, path).whole(200) == bytes(path));
    }
    relay.stop();
}

#[test]
fn a_transfer_under_way_ends_in_an_error_when_its_file_turns_out_damaged_r1_5() {
    let dir = tempfile::tempdir().unwrap();
    let big: Vec<u8> = bytes(BIG).repeat(12);
    write_tree(dir.path(), &[(BIG, big.clone())]);
    let relay = Running::refreshed(settings(dir.path().to_str().unwrap()));
    let mut client = Client::connect_narrow(relay.v4());
    client.ask("GET", &format!("/activeupdate/{BIG}"), &[]).unwrap();
    assert_eq!(client.read_head("GET").unwrap().status, 200);
    flip(&site::blob_file(relay.data(), &big), big.len() as u64 - 1);
    assert_eq!(scrub(&relay).bad, 1);
    let mut got = Vec::new();
    let end = loop {
        let (bytes, end) = client.read(1 << 20);
        got.extend(bytes);
        if let Some(end) = end {
            break end;
        }
    };
    assert!(!matches!(end, End::Complete) && got.len() < big.len(), "{} bytes, {end:?}", got.len());
    assert!(get(&relay, BIG).whole(200) == big);
    relay.stop();
}

#[test]
fn files_that_were_cut_lengthened_or_taken_away_are_found_and_fetched_anew_r1_5() {
    type Damage = dyn Fn(&std::path::Path);
    let damage: [(&Damage, &str); 4] = [
        (
            &|file| fs::File::options().write(true).open(file).unwrap().set_len(4000).unwrap(),
            "4000 bytes long",
        ),
        (
            &|file| fs::File::options().write(true).open(file).unwrap().set_len(6_000_000).unwrap(),
            "6000000 bytes",
        ),
        (&|file| fs::write(file, []).unwrap(), "0 bytes long"),
        (&|file| fs::remove_file(file).unwrap(), "missing"),
    ];
    for (damage, words) in damage {
        let ground = Ground::new();
        ground.warm();
        damage(&ground.file(BIG));
        damage(&ground.file(SMALL));
        let pass = scrub(&ground.relay);
        assert_eq!(pass.bad, 2, "{words}");
        assert!(pass.found.iter().all(|found| found.flaw.contains(words)), "{pass:?}");
        for path in [BIG, SMALL] {
            ground.wait_sent(path, 2);
        }
        ground.warm();
        assert_eq!(ground.sent(BIG), 2 * bytes(BIG).len() as u64, "{words}");
        ground.relay.stop();
    }
}

#[test]
fn a_blob_of_two_paths_and_two_trees_is_lost_to_all_and_fetched_once_r1_5() {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), &[(BIG, bytes(BIG)), ("pattern/twin.zip", bytes(BIG))]);
    let origin = Origin::start(dir.path());
    let text = format!("[[tree]]\npath = \"/other/\"\nupstream = \"{}\"\n", origin.url("/"));
    let mut settings = settings(&origin.url("/"));
    settings.fill.attempts = 1;
    settings.trees.extend(forebay::config::parse(&text).unwrap().trees);
    let relay = Running::refreshed(settings);
    relay.wait_tree(1, |progress| progress.ended >= 1);
    let all = [
        "/activeupdate/pattern/big.zip",
        "/activeupdate/pattern/twin.zip",
        "/other/pattern/big.zip",
        "/other/pattern/twin.zip",
    ];
    let served = |status| all.iter().all(|path| fetch(relay.v4(), path, &[]).head.status == status);
    let sent =
        || origin.seen().body_bytes("/pattern/big.zip") + origin.seen().body_bytes("/pattern/twin.zip");
    assert!(served(200));
    let before = sent();
    flip(&site::blob_file(relay.data(), &bytes(BIG)), 77);
    origin.always("*", Fault::Status(503));
    let pass = scrub(&relay);
    assert_eq!((pass.blobs, pass.bad), (1, 1));
    assert_eq!(pass.found[0].files, all.map(|path| path[1..].to_owned()), "each file that it is");
    assert!(served(502));
    origin.behave();

    // Once more, with the upstream there.
    let held = |index: usize| {
        let snapshot = relay.tree(index).snapshot().unwrap();
        snapshot.current().generation.files().filter(|listed| listed.entry.held().is_some()).count()
    };
    assert!(served(200));
    wait_until(|| held(0) == 2 && held(1) == 2);
    flip(&site::blob_file(relay.data(), &bytes(BIG)), 77);
    let between = sent();
    assert!(between > before);
    assert_eq!(scrub(&relay).bad, 1);
    origin.wait_for("the file", |seen| {
        seen.body_bytes("/pattern/big.zip") + seen.body_bytes("/pattern/twin.zip") > between
    });
    wait_until(|| held(0) == 2 && held(1) == 2);
    assert!(all.iter().all(|path| fetch(relay.v4(), path, &[]).whole(200) == bytes(BIG)));
    assert_eq!(sent() - between, bytes(BIG).len() as u64);
    relay.stop();
}

/// Looks again and again, until what another thread does is done.
fn wait_until(mut done: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < super::WITHIN, "it was not done in time");
        std::thread::yield_now();
    }
}

#[test]
fn a_damaged_blob_that_nobody_names_is_quarantined_too_r1_5() {
    let ground = Ground::new();
    let store = ground.relay.tree(0).resources.store.clone();
    let mut staged = store.stage(100).unwrap();
    staged.append(b"nobody's").unwrap();
    let name = store.commit(staged, None, jiff::Timestamp::now()).unwrap();
    let file = site::blob_file(ground.relay.data(), b"nobody's");
    assert_eq!(scrub(&ground.relay).blobs, 3);
    flip(&file, 0);
    let pass = scrub(&ground.relay);
    assert_eq!((pass.bad, pass.found[0].files.len(), pass.found[0].blob), (1, 0, name.id));
    assert!(!file.exists() && !store.holds(name) && store.blob(name).unwrap().is_none());
    assert_eq!(quarantined(ground.relay.data()), [site::blob(b"nobody's")]);
    drop(store);
    ground.relay.stop();
}

#[test]
fn what_the_prefetch_rule_left_to_agents_is_fetched_when_one_asks_r1_5() {
    let ground = Ground::with(|settings| settings.trees[0].prefetch = Prefetch::Used);
    assert!(ground.get(SMALL).whole(200) == bytes(SMALL));
    let (settings, data) = ground.relay.stop();
    let mut settings = settings;
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    flip(&site::blob_file(relay.data(), &bytes(SMALL)), 9);
    assert_eq!(scrub(&relay).bad, 1);
    assert_eq!(scrub(&relay).bad, 0);
    assert_eq!(ground.origin.seen().body_bytes(&format!("/{SMALL}")), 5000);
    assert!(get(&relay, SMALL).whole(200) == bytes(SMALL));
    assert_eq!(ground.origin.seen().body_bytes(&format!("/{SMALL}")), 10_000);
    relay.stop();
}

#[test]
fn what_was_held_before_vouches_for_nothing_once_it_is_damaged_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut settings = settings(&origin.url("/"));
    settings.fill.attempts = 1;
    let relay = Running::refreshed(settings);
    let path = "engine/e1.sig";
    flip(&site::blob_file(relay.data(), &site::bytes(path, 5)), 0);
    origin.always("*", Fault::Status(503));
    assert_eq!(scrub(&relay).bad, 1);
    assert_eq!(get(&relay, path).head.status, 502);
    origin.behave();
    // Its entry in the new generation would take it over by a 304.
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(get(&relay, path).whole(200) == site::bytes(path, 6));
    relay.stop();
}

#[test]
fn the_quarantine_counts_for_the_quota_and_gives_way_r1_5_r1_8() {
    let ground = Ground::new();
    flip(&ground.file(SMALL), 9);
    flip(&ground.file(BIG), 9);
    assert_eq!(scrub(&ground.relay).bad, 2);
    for path in [BIG, SMALL] {
        ground.wait_sent(path, 2);
    }
    ground.gets_right();
    let relay = ground.relay.restart();
    let store = relay.tree(0).resources.store.clone();
    let freed = store.drop_quarantined(1).unwrap();
    assert!([8192, 2_502_656].contains(&freed), "one of the two: {freed}");
    let before = store.room().taken();
    assert_eq!(freed + store.drop_quarantined(u64::MAX).unwrap(), 8192 + 2_502_656);
    assert!(store.room().taken() < before);
    assert!(quarantined(relay.data()).is_empty());
    assert_eq!(store.drop_quarantined(u64::MAX).unwrap(), 0);
    drop(store);
    for path in [BIG, SMALL] {
        assert!(get(&relay, path).whole(200) == bytes(path));
    }
    relay.stop();
}
