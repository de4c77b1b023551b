//! The mirror from end to end, inside one process: what the upstream has is what agents get (R1.1).

use std::path::Path;

use crate::origin::Origin;
use crate::raw;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";

#[test]
fn every_file_of_the_tree_comes_byte_for_byte_over_both_families_r1_1_r4_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    for file in forebay::fixture::Fixture::default().files() {
        let target = format!("/activeupdate/{}", file.path);
        let expected = std::fs::read(Path::new(FIXTURE).join(file.path.as_str())).unwrap();
        for address in [relay.v4(), relay.v6()] {
            assert!(raw::fetch(address, &target, &[]).whole(200) == expected, "{target} over {address}");
        }
    }
    assert_eq!(raw::fetch(relay.v4(), "/activeupdate/ini_xml.zip", &[]).head.status, 404);
    relay.stop();
}

#[test]
fn what_was_fetched_is_served_without_the_upstream_after_a_restart_r1_6() {
    let origin = Origin::start(Path::new(FIXTURE));
    let relay = Running::refreshed(settings(&origin.url("/")));
    assert_eq!(relay.generation(), 1);
    let before = raw::fetch(relay.v4(), "/activeupdate/pattern/vsapi329.zip", &[]);
    drop(origin);
    let relay = relay.restart();
    let after = raw::fetch(relay.v4(), "/activeupdate/pattern/vsapi329.zip", &[]);
    assert_eq!(before.head.header("etag"), after.head.header("etag"), "R3.1");
    assert!(before.whole(200) == after.whole(200));
    relay.stop();
}
