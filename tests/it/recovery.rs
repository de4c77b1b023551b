//! Random lives of a data folder, each ended by a cut at a random place of a journal (R1.4, R1.6).
//!
//! The model is what was acknowledged: generations that were published, and bytes that agents got. A life is a series of
//! releases and requests; then the newest journal loses its tail, as a disk that lied about a sync would lose it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use forebay::config::settings::{Prefetch, Settings};
use forebay::disk::Disk;
use forebay::relay::refresh::Last;
use forebay::store::Store;
use forebay::store::blobs::BlobName;
use forebay::store::generations::Record;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// What happens to a relay, one after the other.
#[derive(Clone, Debug)]
enum Step {
    /// The upstream publishes the next release, and the relay takes it.
    Release,
    /// An agent asks for the n-th file of the current release.
    Ask(usize),
    /// The relay is stopped and started again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![1 => Just(Step::Release), 4 => (0usize..16).prop_map(Step::Ask), 1 => Just(Step::Restart)]
}

fn prefetch() -> impl Strategy<Value = Prefetch> {
    prop_oneof![Just(Prefetch::All), Just(Prefetch::Used), Just(Prefetch::None)]
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

fn from(version: u32) -> [u32; 2] {
    [version - 1, version - 2]
}

/// What is left of a life.
struct Left {
    settings: Settings,
    data: TempDir,
    /// The current release.
    version: u32,
    /// The files of it that were held.
    held: HashSet<String>,
    /// The files that agents got; those of the last fills may be held by now too.
    got: HashSet<String>,
}

fn live(site: &Site, settings: Settings, steps: &[Step]) -> Left {
    let (mut version, mut got) = (5, HashSet::new());
    let mut relay = Running::refreshed(settings);
    for step in steps {
        match step {
            Step::Release => {
                version += 1;
                site.publish(version, &from(version));
                assert!(matches!(relay.refresh(), Last::New(_)));
            }
            Step::Ask(number) => {
                let paths = site::paths(version, &from(version));
                let path = &paths[number % paths.len()];
                assert!(get(&relay, path).whole(200) == site::bytes(path, version), "{path}");
                got.insert(path.clone());
            }
            Step::Restart => {
                relay = relay.restart();
                relay.wait_refreshes(1);
            }
        }
    }
    let snapshot = relay.tree(0).snapshot().unwrap();
    let held = snapshot.current().generation.files().filter(|listed| listed.entry.held().is_some());
    let held = held.map(|listed| listed.entry.path().to_string()).collect();
    let (settings, data) = relay.stop();
    Left { settings, data, version, held, got }
}

fn newest_journal(data: &Path) -> std::path::PathBuf {
    let newest =
        site::generations(data, "activeupdate").into_iter().max_by_key(|name| name.parse::<u64>().ok());
    data.join("trees/activeupdate").join(newest.unwrap()).join("journal")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn what_a_cut_leaves_is_a_prefix_of_what_was_acknowledged_r1_4(
        steps in prop::collection::vec(step(), 1..6),
        prefetch in prefetch(),
        kept_percent in 0usize..=100,
    ) {
        let site = Site::with(5, &from(5));
        let mut first = settings(site.text());
        first.trees[0].prefetch = prefetch;
        let Left { settings, data, version, held, got } = live(&site, first, &steps);
        let path = newest_journal(data.path());
        let whole = fs::read(&path).unwrap();
        let kept = whole.len() * kept_percent / 100;
        fs::write(&path, &whole[..kept]).unwrap();

        // On the disk: the records are a prefix, each with its blob.
        let tree = forebay::base::tree::TreeName::parse("activeupdate").unwrap();
        let store = Store::open(data.path(), Disk::default()).unwrap();
        let stored = store.stored_tree(&tree).unwrap();
        let lines = whole[..kept].split(|byte| *byte == b'\n').count() - 1;
        let newest = stored.published.iter().find(|found| path.starts_with(format!(
            "{}/trees/activeupdate/{}", data.path().display(), found.head.number
        )));
        prop_assert_eq!(newest.map(|found| found.records.len() + 1), (lines > 0).then_some(lines));
        for record in newest.iter().flat_map(|found| &found.records) {
            if let Record::Held(named) = record {
                let bytes = site::bytes(named.path.as_str(), version);
                let blob = BlobName { id: forebay::base::blob::BlobId::of(&bytes), size: bytes.len() as u64 };
                let path = named.path.as_str();
                prop_assert!(held.contains(path) || got.contains(path), "{} was never there", path);
                prop_assert_eq!(named.blob, blob);
                prop_assert!(store.holds(blob));
            }
        }
        drop(stored);
        store.close();
        drop(store);

        // In service: whatever was lost, agents get the current release, whole and right.
        let relay = Running::start_on(settings, data);
        relay.wait_refreshes(1);
        prop_assert_eq!(get(&relay, "server.ini").whole(200), site::view(version, &from(version)).into_bytes());
        for path in site::paths(version, &from(version)) {
            prop_assert!(get(&relay, &path).whole(200) == site::bytes(&path, version), "{}", path);
        }
        relay.stop();
    }

    #[test]
    fn a_life_that_is_not_cut_loses_nothing_r1_6(
        steps in prop::collection::vec(step(), 1..6), prefetch in prefetch(),
    ) {
        let site = Site::with(5, &from(5));
        let mut first = settings(site.text());
        first.trees[0].prefetch = prefetch;
        let Left { settings, data, version, held, .. } = live(&site, first, &steps);
        let away = site.dir().with_extension("away");
        fs::rename(site.dir(), &away).unwrap();
        let relay = Running::start_on(settings, data);
        for path in &held {
            prop_assert!(get(&relay, path).whole(200) == site::bytes(path, version), "{}", path);
        }
        relay.stop();
        fs::rename(&away, site.dir()).unwrap();
    }
}
