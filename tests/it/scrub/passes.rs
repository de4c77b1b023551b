//! Passes: their pace, over restarts, beside sweeps and beside agents.

use std::time::{Duration, Instant};

use forebay::config::settings::ScrubSettings;
use forebay::disk::Disk;
use forebay::relay::refresh::Last;

use super::{BIG, Ground, SMALL, bytes, flip, get, quarantined, scrub, wait};
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// A pace at which each small file takes a fifth of a second.
const SLOW: ScrubSettings = ScrubSettings { every_days: 1, bytes_per_sec: 100_000 };

#[test]
fn a_pass_keeps_its_rate_and_an_administrators_own_goes_before_it_r1_5() {
    let ground = Ground::new();
    let scrubber = &ground.relay.tree(0).resources.scrubber;
    let begun = Instant::now();
    let until = scrubber.ask(Some(1 << 20));
    wait(&ground.relay, |progress| progress.ended >= until);
    // The first read is free, and so are those of the last bytes.
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    let until = scrubber.ask(Some(1));
    wait(&ground.relay, |progress| progress.pass.is_some());
    assert_eq!(scrubber.ask(None), until, "the one under way will do");
    assert_eq!(wait(&ground.relay, |progress| progress.ended >= until).last.unwrap().blobs, 2);
    let stopping = Instant::now();
    scrubber.ask(Some(1));
    wait(&ground.relay, |progress| progress.pass.is_some());
    ground.relay.stop();
    assert!(stopping.elapsed() < Duration::from_secs(20), "a slow pass holds up no stop");
}

#[test]
fn a_restart_in_the_middle_of_a_pass_goes_on_with_it_r1_5() {
    let site = Site::with(20, &(1..20).collect::<Vec<_>>());
    let mut settings = settings(site.text());
    settings.scrub = SLOW;
    let mut relay = Running::refreshed(settings);
    let bad = site::blob_file(relay.data(), &site::bytes(&site::package(20), 20));
    flip(&bad, 5);
    let mut reloaded = crate::relay::settings(site.text());
    reloaded.scrub = SLOW;
    relay.handle().reload(reloaded).unwrap();
    wait(&relay, |progress| progress.pass.as_ref().is_some_and(|pass| pass.blobs >= 3));
    let (mut settings, data) = relay.stop();
    let text = std::fs::read(data.path().join("scrub.json")).unwrap();
    let bookmark: forebay::store::scrub::Bookmark = serde_json::from_slice(&text).unwrap();
    let begun = bookmark.pass.unwrap();
    assert!(begun.blobs >= 3 && bookmark.last.is_none());
    settings.scrub.bytes_per_sec = 1 << 40;
    let relay = Running::start_on(settings, data);
    let pass = wait(&relay, |progress| progress.ended == 1).last.unwrap();
    assert_eq!((pass.begun, pass.blobs, pass.bad), (begun.begun, 42, 1));
    assert!(get(&relay, &site::package(20)).whole(200) == site::bytes(&site::package(20), 20));
    let (settings, data) = relay.stop();
    let relay = Running::start_on(settings, data);
    let progress = wait(&relay, |progress| progress.last.is_some());
    assert_eq!((progress.ended, progress.last), (0, Some(pass)), "known over a restart, and not due again");
    relay.stop();
}

#[test]
fn a_place_that_is_damaged_has_the_pass_begin_anew_r1_5() {
    let ground = Ground::new();
    assert_eq!(scrub(&ground.relay).blobs, 2);
    let (settings, data) = ground.relay.stop();
    for text in ["", "{}", "{\"pass\":7}", "\u{1b}["] {
        std::fs::write(data.path().join("scrub.json"), text).unwrap();
        drop(forebay::store::Store::open(data.path(), Disk::default()).unwrap().bookmark());
    }
    let relay = Running::start_on(settings, data);
    assert_eq!(scrub(&relay).blobs, 2);
    relay.stop();
}

#[test]
fn blobs_that_are_swept_during_a_pass_are_no_error_r1_5() {
    let site = Site::with(5, &[4]);
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 1;
    let relay = Running::refreshed(settings);
    let mut version = 5;
    for _ in 0..3 {
        let until = relay.tree(0).resources.scrubber.ask(Some(100_000));
        wait(&relay, |progress| progress.pass.as_ref().is_some_and(|pass| pass.blobs >= 1));
        let mut sweeps = relay.tree(0).resources.swept.subscribe();
        version += 1;
        site.publish(version, &[version - 1]);
        assert!(matches!(relay.refresh(), Last::New(_)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(super::WITHIN, sweeps.changed()).await })
            .unwrap()
            .unwrap();
        relay.tree(0).resources.scrubber.ask(None);
        let pass = wait(&relay, |progress| progress.ended >= until).last.unwrap();
        assert_eq!((pass.bad, pass.skipped), (0, 0), "{pass:?}");
    }
    assert!(quarantined(relay.data()).is_empty());
    relay.stop();
}

#[test]
fn agents_get_every_byte_while_files_are_checked_r1_5() {
    let ground = Ground::new();
    let (relay, address) = (&ground.relay, ground.relay.v4());
    let sent = ground.origin.seen().body_bytes_total();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for turn in 0..50 {
                    let path = if turn % 10 == 0 { BIG } else { SMALL };
                    let answer = crate::raw::fetch(address, &format!("/activeupdate/{path}"), &[]);
                    assert!(answer.whole(200) == bytes(path));
                }
            });
        }
        for _ in 0..5 {
            assert_eq!(scrub(relay).bad, 0);
        }
    });
    assert_eq!(ground.origin.seen().body_bytes_total(), sent);
    ground.relay.stop();
}
