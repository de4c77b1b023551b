//! A disk that says no in the middle of a refresh: the current generation stays, and the next refresh mends all (R1.4, R1.8).

use std::fs;
use std::path::Path;

use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

fn serves(relay: &Running, version: u32, from: &[u32]) {
    assert_eq!(get(relay, "server.ini").whole(200), site::view(version, from).as_bytes());
    for path in site::paths(version, from) {
        assert!(get(relay, &path).whole(200) == site::bytes(&path, version), "{path}");
    }
}

/// Puts a file in the place of a folder, so that nothing can be made in it; gives what puts the folder back.
fn block(folder: &Path) -> impl FnOnce() + use<> {
    let (folder, away) = (folder.to_owned(), folder.with_extension("away"));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    move || {
        fs::remove_file(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
    }
}

#[test]
fn a_folder_that_takes_no_files_fails_the_refresh_alone_r1_4() {
    let site = Site::with(5, &[4]);
    for name in ["staging", "trees/activeupdate", "blobs"] {
        let mut settings = settings(site.text());
        settings.fill.attempts = 1;
        site.publish(5, &[4]);
        let relay = Running::refreshed(settings);
        serves(&relay, 5, &[4]);
        site.publish(6, &[5]);
        let unblock = block(&relay.data().join(name));
        assert!(matches!(relay.refresh(), Last::Failed(_)), "{name}");
        assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes(), "{name}");
        unblock();
        assert!(matches!(relay.refresh(), Last::New(number) if number.0 == 2), "{name}");
        serves(&relay, 6, &[5]);
        let relay = relay.restart();
        serves(&relay, 6, &[5]);
        relay.stop();
    }
}

#[test]
fn a_generation_that_cannot_get_its_name_is_not_shown_and_is_made_again_r1_4() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(settings(&origin.url("/")));
    site.publish(6, &[5]);
    let gate = Gate::default();
    origin.script("/pattern/a6.zip", Fault::StallBeforeHead(gate.clone()));
    let wanted = relay.want_refresh(0);
    gate.wait_reached();
    // Something stands where the generation is to go.
    let taken = relay.data().join("trees/activeupdate/2");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("letter"), "mine").unwrap();
    gate.open();
    assert!(matches!(relay.wait_refreshes(wanted), Last::Failed(reason) if reason.contains("store")));
    serves(&relay, 5, &[4]);
    let before = origin.seen().body_bytes("/pattern/a6.zip");
    assert!(matches!(relay.refresh(), Last::New(number) if number.0 == 3));
    assert_eq!(origin.seen().body_bytes("/pattern/a6.zip"), before, "what was fetched is taken over");
    serves(&relay, 6, &[5]);
    let relay = relay.restart();
    serves(&relay, 6, &[5]);
    relay.stop();
}
