//! Every step that the relay takes on its data folder fails once, is torn once and is lost once: an error for whoever needed
//! it, and never a wrong byte, then or after the next start (design.md, invariants 1 to 4; R1.5).
//!
//! A *life* is a start on what an earlier life left, agents that ask for everything, a release and its sweep, and a stop. One
//! step of it gets a fault; the next life has none, and must be as if nothing had been. `FOREBAY_SEEDS` says how many steps
//! of each kind get each fault (default 2; 1000 is all of them).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use forebay::disk::{Disk, Verdict, When};
use forebay::store::Store;
use tempfile::TempDir;

use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// What a step gets.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Failed,
    Torn,
    Lost,
}

/// Counts steps by their name, and gives one of them a fault.
#[derive(Default)]
struct Seam {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    /// Which step by name and number, from 0.
    victim: Option<(&'static str, usize, Fault)>,
    hit: Mutex<bool>,
}

impl Seam {
    fn disk(self: &Arc<Self>) -> Disk {
        let seam = self.clone();
        Disk::with_seam(move |when, step| {
            if when == When::After {
                return Verdict::Done;
            }
            let number = {
                let mut counts = seam.counts.lock().unwrap();
                let count = counts.entry(step.name()).or_default();
                *count += 1;
                *count - 1
            };
            match seam.victim {
                Some((name, victim, fault)) if (name, victim) == (step.name(), number) => {
                    *seam.hit.lock().unwrap() = true;
                    match fault {
                        Fault::Failed => Verdict::Failed(io::Error::other("a fault of the test")),
                        Fault::Torn => Verdict::Torn(7),
                        Fault::Lost => Verdict::Lost,
                    }
                }
                _ => Verdict::Done,
            }
        })
    }
}

const FROM: [u32; 2] = [4, 5];

const LIVES_AT_ONCE: usize = 8;

/// Asks for every file of both releases; whatever comes must be of one of them. Gives how many were right.
fn ask_for_all(relay: &Running, what: &str) -> usize {
    let mut right = 0;
    for version in [6, 7] {
        for path in site::paths(version, &FROM) {
            let asked = Client::connect(relay.v4()).exchange("GET", &format!("/activeupdate/{path}"), &[]);
            let Ok(answer) = asked else { continue };
            if answer.head.status != 200 || answer.end != End::Complete {
                continue;
            }
            let truths = [6, 7].map(|version| site::bytes(&path, version));
            assert!(truths.contains(&answer.body), "{path} is wrong: {what}");
            right += 1;
        }
    }
    right
}

/// One life; `None` where the relay did not start.
fn live(site: &Site, data: TempDir, disk: &Disk, what: &str) -> (TempDir, Option<usize>) {
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 1;
    settings.fill.prefetch_at_once = 1;
    site.publish(6, &FROM);
    let relay = match Running::try_start(settings, data, disk) {
        Ok(relay) => relay,
        Err((_, data)) => return (data, None),
    };
    relay.wait_refreshes(1);
    ask_for_all(&relay, what);
    site.publish(7, &FROM);
    relay.refresh();
    let right = ask_for_all(&relay, what);
    (relay.stop().1, Some(right))
}

/// That the index says what the files say.
fn assert_index(data: &TempDir, what: &str) {
    let store = Store::open(data.path(), Disk::default()).unwrap();
    let index: HashSet<_> = store.index().blobs().map(|blob| format!("{}.{}", blob.id, blob.size)).collect();
    assert_eq!(index, site::blobs(data.path()), "{what}");
}

fn seeds() -> usize {
    std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2)
}

/// So many numbers below `count`, the first and the last among them.
fn spread(count: usize, seeds: usize) -> impl Iterator<Item = usize> {
    let seeds = seeds.min(count);
    (0..seeds).map(move |seed| if seeds == 1 { 0 } else { seed * (count - 1) / (seeds - 1) })
}

/// What a life takes after another one: both a first start and a later one have their steps.
fn lives(earlier: usize) {
    let before = |site: &Site| {
        let mut data = tempfile::tempdir().unwrap();
        for _ in 0..earlier {
            data = live(site, data, &Disk::default(), "before").0;
        }
        data
    };
    let counting = Arc::new(Seam::default());
    let site = Site::new();
    let (_, whole) = live(&site, before(&site), &counting.disk(), "counting");
    let whole = whole.unwrap();
    let counts = counting.counts.lock().unwrap().clone();
    let cases = counts.iter().flat_map(|(name, count)| {
        spread(*count, seeds())
            .flat_map(|number| [Fault::Failed, Fault::Torn, Fault::Lost].map(|fault| (*name, number, fault)))
    });
    let (cases, tried) = (Mutex::new(cases.collect::<Vec<_>>()), AtomicUsize::new(0));
    let one = |(name, number, fault): (&'static str, usize, Fault)| {
        let what = format!("step '{name}' number {number}: {fault:?}");
        let seam = Arc::new(Seam { victim: Some((name, number, fault)), ..Seam::default() });
        let site = Site::new();
        let (data, _) = live(&site, before(&site), &seam.disk(), &what);
        // Threads take turns: now and then a life has a step less.
        tried.fetch_add(usize::from(*seam.hit.lock().unwrap()), Ordering::Relaxed);
        let (data, right) = live(&site, data, &Disk::default(), &what);
        if matches!(fault, Fault::Lost) && fs::read(data.path().join("FORMAT")).unwrap().is_empty() {
            assert_eq!(right, None, "a folder whose number the disk forgot is refused: {what}");
            return;
        }
        assert_eq!(right, Some(whole), "the next life does not get everything: {what}");
        assert_index(&data, &what);
    };
    let next = || cases.lock().unwrap().pop();
    // A life mostly waits.
    thread::scope(|scope| {
        for _ in 0..LIVES_AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    one(case);
                }
            });
        }
    });
    let tried = tried.into_inner();
    println!("{earlier} lives before; {tried} faults in steps: {counts:?}");
    assert!(tried > counts.len() * 4, "only {tried} faults were met");
    for name in
        ["create", "write", "sync", "rename", "sync folder", "remove", "list", "index insert", "index close"]
    {
        assert!(counts.contains_key(name), "no step '{name}' was taken: {counts:?}");
    }
}

#[test]
fn no_fault_in_a_first_life_makes_a_wrong_byte_or_harms_the_next_r1_5() {
    lives(0);
}

#[test]
fn no_fault_in_a_later_life_makes_a_wrong_byte_or_harms_the_next_r1_5() {
    lives(1);
}
