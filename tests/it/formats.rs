//! Data folders of every format so far, kept in `fixtures/data/format-N`, are served by this program without the upstream.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::config::settings::Settings;
use forebay::disk::{Disk, Verdict, When};
use forebay::store::Store;
use forebay::store::format::FORMAT;
use tempfile::TempDir;

use crate::raw;
use crate::relay::{Running, settings};
use crate::site;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/data");

/// A copy of a format's folder.
fn copy(format: u32) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_all(&PathBuf::from(FIXTURES).join(format!("format-{format}")), copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Settings for an upstream that nobody is.
fn without_upstream() -> Settings {
    settings("http://127.0.0.1:9/")
}

/// What the generations' journals say is held: path and hash, the newer generation's where both have one.
fn held(data: &Path) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    for number in 1..=2 {
        let path = data.join(format!("trees/activeupdate/{number}/journal"));
        for line in fs::read_to_string(path).unwrap().lines() {
            let (_, record) = line.split_once(' ').unwrap();
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            let text = |name: &str| record["held"][name].as_str().map(str::to_owned);
            held.extend(text("path").zip(text("id")));
        }
    }
    held
}

/// Every held file is served as its journal says, from a folder of this program's format.
fn assert_served(relay: &Running, held: &BTreeMap<String, String>) {
    assert_eq!(relay.generation(), 2);
    for (path, hash) in held {
        let bytes = raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[]).whole(200);
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash, "{path}");
    }
    let number = fs::read_to_string(relay.data().join("FORMAT")).unwrap();
    assert_eq!(number, format!("{FORMAT}\n"));
}

#[test]
fn a_folder_of_each_format_is_served_without_the_upstream_r11_4() {
    for format in 1..=FORMAT {
        let data = copy(format);
        let held = held(data.path());
        assert!(held.len() > 50, "the fixture of format {format} holds little: {}", held.len());
        assert!(held.keys().any(|path| !site::is_signature(path)), "only signatures");
        let relay = Running::start_on(without_upstream(), data);
        relay.wait_refreshes(1);
        assert_served(&relay, &held);
        assert_served(&relay.restart(), &held);
    }
}

#[test]
fn a_migration_that_is_cut_at_any_step_is_done_at_the_next_start_r11_4() {
    let mut cut_at = 0;
    loop {
        let data = copy(1);
        let held = held(data.path());
        let steps = Arc::new(AtomicUsize::new(0));
        let count = steps.clone();
        let failing = Disk::with_seam(move |when, _| match when {
            When::Before if count.fetch_add(1, Ordering::Relaxed) >= cut_at => {
                Verdict::Failed(io::Error::other("the disk is gone"))
            }
            _ => Verdict::Done,
        });
        // Once the migration is whole, only what comes after it fails.
        drop(Store::open(data.path(), failing));
        let migrated = fs::read_to_string(data.path().join("FORMAT")).unwrap() != "1\n";
        let relay = Running::start_on(without_upstream(), data);
        assert_served(
            &relay,
            &held.iter().take(3).map(|(path, hash)| (path.clone(), hash.clone())).collect(),
        );
        if migrated {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 5, "only {cut_at} steps were cut");
}
