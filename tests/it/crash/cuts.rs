//! Power cuts: a relay on a small kernel of its own, whose disk keeps what was synced and no more. After each cut a relay
//! without an upstream serves all that was said to be published, byte for byte.
//!
//! Invariant: what is checked was printed by the guest before the cut, and a line is printed after what it tells of.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use forebay::app::Relay;
use forebay::app::handle::RelayHandle;
use forebay::base::tree::TreeName;
use forebay::config::settings::Listen;
use forebay::disk::Disk;
use forebay::net::inherited::Inherited;
use forebay::store::Store;
use forebay::store::generations::Record;
use serde::{Deserialize, Serialize};

use super::child::log;
use super::ground::{Dice, Release, all, check_blobs, check_index, complete};
use super::load::{Load, Releases};
use crate::machine::{self, Machine};
use crate::raw;
use crate::relay::settings;

/// What the guest runs.
const LIVES: &str = "crash::cuts::lives_in_a_guest_when_its_environment_says_so";

/// The guest's data folder.
const DATA: &str = "/mnt/disk/data";

/// A checkpoint lies in the large package.
const LARGE: usize = 9 << 20;

/// Between two releases; the relay looks each second.
const RELEASES_MS: u64 = 700;

/// So many at most in one life: they lie in the guest's memory.
const RELEASES_MAX: usize = 12;

/// The latest moment of a cut, counted from when the relay listens, in milliseconds.
const LATEST_MS: usize = 4000;

/// Cuts of one disk, one after the other.
const CUTS_PER_DISK: usize = 4;

/// What the guest does.
#[derive(Debug, Serialize, Deserialize)]
enum Guest {
    /// Serves agents and takes releases from this one on, until the power is cut.
    Live(u32),
    /// Serves without an upstream, and compares with what was said before the cut.
    Check(Said),
}

/// What the guest said before the cuts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Said {
    /// The newest release that there may be.
    newest: u32,
    /// The number of the newest published generation; 0 for none.
    published: u64,
    /// The files that were complete.
    complete: HashSet<String>,
}

impl Said {
    /// Adds what was printed by a guest that began with this release: its kernel prints on the same console, also within a line.
    fn add(&mut self, first: u32, printed: &str) {
        let number = |line: &str, key: &str| -> Option<u64> {
            let digits = line.split_once(key)?.1;
            digits.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok()
        };
        let published = printed.lines().filter(|line| line.contains("a new generation is published"));
        let last = published.filter_map(|line| number(line, " generation=")).max();
        let newest = printed.lines().filter_map(|line| number(line, "RELEASE ")).max();
        self.published = self.published.max(last.unwrap_or(0));
        self.newest = first.max(u32::try_from(newest.unwrap_or(0)).unwrap());
        self.complete.extend(complete(printed));
    }
}

fn release(version: u32) -> Release {
    Release { version, large: LARGE }
}

fn start(upstream: &str) -> RelayHandle {
    let mut settings = settings(upstream);
    // The guest has no IPv6.
    settings.listen = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap()]);
    settings.socks.listen = settings.listen.clone();
    settings.data = DATA.into();
    settings.trees[0].refresh = Duration::from_secs(1);
    Relay::start_on(settings, &Inherited::default(), &Disk::default()).unwrap()
}

/// Until the power is cut.
fn live(first: u32) {
    log();
    let releases = Releases::between(release(FIRST), first);
    println!("RELEASE {first}");
    let site = release(first).site();
    let relay = start(site.text());
    println!("READY");
    let load = Load::start(relay.running().listen[0], 2, &releases, first.into());
    for _ in 1..RELEASES_MAX {
        std::thread::sleep(Duration::from_millis(RELEASES_MS));
        let next = releases.next();
        println!("RELEASE {}", next.version);
        next.publish(&site);
    }
    load.stop();
}

fn check(said: &Said) {
    let data = Path::new(DATA);
    check_blobs(data);
    let candidate = candidate(data, said);
    let relay = start("http://127.0.0.1:9/");
    let shown = compare(&relay, said);
    let newer = (shown + 1..=said.newest).flat_map(|version| {
        let [package, increment] = [format!("{version}.zip"), format!(".{version}")];
        let own = move |path: &String| path.ends_with(&package) || path.ends_with(&increment);
        release(version).paths().into_iter().filter(own)
    });
    let complete: Vec<_> = newer.filter(|path| said.complete.contains(path)).collect();
    assert!(complete.is_empty() || candidate, "{complete:?} were complete, and nothing names them");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(relay.shutdown());
    check_blobs(data);
    check_index(data);
    println!("CHECKED release {shown}, complete beyond it {}", complete.len());
}

/// Asks for all that is shown; gives the release, 0 where there is none.
fn compare(relay: &RelayHandle, said: &Said) -> u32 {
    let Some(snapshot) = relay.trees()[0].snapshot() else {
        assert_eq!(said.published, 0, "a generation was published, and is lost");
        return 0;
    };
    let number = snapshot.current().generation.number().0;
    assert!(number >= said.published, "generation {number} after {}", said.published);
    let get = |path: &str| {
        let path = format!("/activeupdate/{path}");
        raw::fetch(relay.running().listen[0], &path, &[]).whole(200)
    };
    let releases = Releases::between(release(FIRST), said.newest);
    let shown = releases.of_view(&get("server.ini")).expect("a release that there was");
    for path in release(shown).paths() {
        let (bytes, states) = (get(&path), releases.states(release(shown), &path));
        assert!(states.iter().any(|state| **state == bytes), "wrong bytes: {path}");
    }
    shown
}

/// Whether a generation was being fetched. It knows what was complete of it.
fn candidate(data: &Path, said: &Said) -> bool {
    let store = Store::open(data, Disk::default()).unwrap();
    let stored = store.stored_tree(&TreeName::parse("activeupdate").unwrap()).unwrap();
    let Some(next) = stored.next else { return false };
    let same = |version: &u32| release(*version).manifest().as_bytes() == next.manifest;
    let version = (FIRST..=said.newest).find(same).expect("the manifest of a release");
    for path in release(version).paths().iter().filter(|path| said.complete.contains(*path)) {
        let held = next.records.iter().find_map(|record| match record {
            Record::Held(held) if held.path.as_str() == path => Some(held.blob),
            _ => None,
        });
        assert!(held.is_some_and(|blob| store.holds(blob)), "{path} was complete, and is lost");
    }
    true
}

#[test]
fn a_power_cut_leaves_all_that_was_said_to_be_complete_and_no_wrong_byte_r1_5() {
    let Some(()) = machine::ready() else { return };
    let machine = Machine::new();
    let mut dice = Dice(3);
    let mut said = Said::default();
    for cut in 0..if all() { 20 } else { 1 } {
        if cut > 0 && cut % CUTS_PER_DISK == 0 {
            machine.new_disk();
            said = Said::default();
        }
        let after = Duration::from_millis(dice.below(LATEST_MS) as u64);
        let first = said.newest.max(FIRST);
        let printed = machine.cut(LIVES, &Guest::Live(first), after);
        said.add(first, &printed);
        let checked = machine.check(LIVES, &Guest::Check(said.clone()));
        // The line begins with the test's name.
        let found = checked.lines().find_map(|line| Some(line.split_once("CHECKED ")?.1));
        let found = found.unwrap_or_else(|| panic!("cut {cut}: {checked}"));
        println!(
            "cut {cut} after {after:?}: generation {}, {} files said; {found}",
            said.published,
            said.complete.len()
        );
    }
}

#[test]
fn lives_in_a_guest_when_its_environment_says_so() {
    match machine::guest() {
        None => {}
        Some(Guest::Live(first)) => live(first),
        Some(Guest::Check(said)) => check(&said),
    }
}

/// The first release of all.
const FIRST: u32 = 5;
