//! Each step on the disk fails once, is torn once and is lost once, in a life that makes changes, snapshots and new journals: what
//! was acknowledged is there in the next life.
//!
//! A step that is lost says that it was done: what it was to do may be missing then, but never half there or passed over in silence.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use forebay::disk::{Disk, Verdict, When};
use tempfile::TempDir;

use super::{OFTEN, after, check, make_next, next_of, open};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Failed,
    Torn,
    Lost,
}

/// Counts steps by their name, and gives one of them a fault.
#[derive(Default)]
struct Seam {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    victim: Option<(&'static str, usize, Fault)>,
}

impl Seam {
    fn disk(self: &Arc<Self>) -> Disk {
        let seam = self.clone();
        Disk::with_seam(move |when, step| {
            if when == When::After {
                return Verdict::Done;
            }
            let mut counts = seam.counts.lock().unwrap();
            let count = counts.entry(step.name()).or_default();
            *count += 1;
            match seam.victim {
                Some((name, victim, fault)) if name == step.name() && victim == *count => match fault {
                    Fault::Failed => Verdict::Failed(io::Error::other("a fault of the test")),
                    Fault::Torn => Verdict::Torn(7),
                    Fault::Lost => Verdict::Lost,
                },
                _ => Verdict::Done,
            }
        })
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.counts.lock().unwrap().clone()
    }
}

/// Enough for two snapshots and the removal of what is old.
const CHANGES: u64 = 30;

/// One life: changes until there are so many, each tried again when it fails. Gives how many were acknowledged at its end; `None`
/// where it did not start.
fn live(folder: &Path, disk: &Disk) -> Option<u64> {
    let state = open(folder, disk, OFTEN).ok()?;
    let mut acknowledged = next_of(state.current().tree()) - 1;
    for _ in 0..CHANGES {
        match make_next(&state) {
            Ok(done) => {
                acknowledged += 1;
                assert_eq!(done.serial.unwrap().0, acknowledged);
            }
            Err(error) => assert!(error.to_string().contains("could not be written"), "{error}"),
        }
        assert_eq!(state.current().tree(), &after(acknowledged), "what is refused is not decided by");
    }
    Some(acknowledged)
}

/// So many numbers from 1 on as `FOREBAY_SEEDS` says (default 3; 1000 is all of them), the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let seeds = std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    let seeds = count.min(seeds);
    (0..seeds).map(move |seed| if seeds == 1 { 1 } else { 1 + seed * (count - 1) / (seeds - 1) })
}

fn lives(earlier: bool) {
    let before = || {
        let folder = TempDir::new().unwrap();
        if earlier {
            live(folder.path(), &Disk::default()).unwrap();
        }
        folder
    };
    let counting = Arc::new(Seam::default());
    let whole = live(before().path(), &counting.disk()).unwrap();
    let counts = counting.counts();
    for name in ["create folder", "create", "write", "sync", "rename", "sync folder", "remove", "list"] {
        assert!(counts.contains_key(name), "no step '{name}' was taken: {counts:?}");
    }
    let (mut met, mut tried) = (0, 0);
    for (name, count) in &counts {
        for number in spread(*count) {
            for fault in [Fault::Failed, Fault::Torn, Fault::Lost] {
                let seam = Arc::new(Seam { victim: Some((*name, number, fault)), ..Seam::default() });
                let folder = before();
                let held = if earlier { CHANGES } else { 0 };
                let acknowledged = live(folder.path(), &seam.disk()).unwrap_or(held);
                tried += 1;
                met += usize::from(seam.counts().get(name).is_some_and(|count| *count >= number));
                let what = format!("step '{name}' number {number}: {fault:?}");
                if fault == Fault::Lost {
                    // A disk that lies about a write is found out, or lost the newest changes alone.
                    let Ok(state) = open(folder.path(), &Disk::default(), OFTEN) else { continue };
                    let changes = next_of(state.current().tree()) - 1;
                    assert!(changes <= acknowledged, "{what}");
                    assert_eq!(state.current().tree(), &after(changes), "{what}");
                    continue;
                }
                let changes = check(folder.path());
                assert!(changes >= acknowledged, "{what}: {changes} of {acknowledged} changes are there");
                // A change that failed may be there; each was tried but once.
                assert!(changes <= whole, "{what}");
            }
        }
    }
    println!("{met} faults in steps: {counts:?}");
    // A life with a fault may end before a later step.
    assert!(met * 3 >= tried * 2, "only {met} of {tried} faults were met");
}

#[test]
fn no_fault_in_a_first_life_costs_an_acknowledged_change_r5_4() {
    lives(false);
}

#[test]
fn no_fault_in_a_later_life_costs_an_acknowledged_change_r5_4() {
    lives(true);
}
