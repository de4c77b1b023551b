//! Power cuts in a stream of changes: after each, every acknowledged change is there, none half, none twice (R5.4).
//!
//! Invariant: what is expected was printed by the guest before the cut, and a line is printed after its change was acknowledged.

use std::path::Path;
use std::time::Duration;

use forebay::disk::Disk;
use serde::{Deserialize, Serialize};

use super::kill::make_for_ever;
use super::{OFTEN, check, open};
use crate::machine::{self, Machine};

/// What the guest runs.
const LIVES: &str = "state::power::changes_in_a_guest_when_its_environment_says_so";

/// The guest's folder.
const FOLDER: &str = "/mnt/disk/agents";

/// Changes in one life at most: their lines, and the trees that they are compared with, lie in the guest's memory.
const CHANGES_MAX: u64 = 3_000;

/// The latest moment of a cut, counted from the first acknowledged change, in milliseconds.
const LATEST_MS: u64 = 1_500;

/// What the guest does.
#[derive(Debug, Serialize, Deserialize)]
enum Guest {
    /// Makes changes until the power is cut.
    Live,
    /// Compares with how many were acknowledged.
    Check(u64),
}

fn cuts() -> u64 {
    if std::env::var("FOREBAY_CRASHES").is_ok_and(|crashes| crashes == "all") { 10 } else { 1 }
}

#[test]
fn a_power_cut_loses_no_acknowledged_change_and_leaves_none_half_r5_4() {
    let Some(()) = machine::ready() else { return };
    let machine = Machine::new();
    let mut acknowledged = 0;
    for cut in 0..cuts() {
        let after = Duration::from_millis(200 + cut.wrapping_mul(0x9e37_79b9) % LATEST_MS);
        let printed = machine.cut(LIVES, &Guest::Live, after);
        let made = printed.lines().filter_map(|line| line.split_once("MADE ")?.1.trim().parse::<u64>().ok());
        acknowledged = made.max().unwrap_or(acknowledged).max(acknowledged);
        assert!(acknowledged > 0, "{printed}");
        let checked = machine.check(LIVES, &Guest::Check(acknowledged));
        let found = checked.lines().find_map(|line| Some(line.split_once("CHECKED ")?.1));
        let found = found.unwrap_or_else(|| panic!("cut {cut}: {checked}"));
        println!("cut {cut} after {after:?}: {acknowledged} changes acknowledged, {found} found");
    }
}

#[test]
fn changes_in_a_guest_when_its_environment_says_so() {
    match machine::guest() {
        None => {}
        Some(Guest::Live) => {
            let state = open(Path::new(FOLDER), &Disk::default(), OFTEN).unwrap();
            // The first line begins with the test's name.
            println!("\nREADY");
            make_for_ever(&state, CHANGES_MAX);
            // The cut comes later than what is there to be done.
            std::thread::park();
        }
        Some(Guest::Check(acknowledged)) => {
            let found = check(Path::new(FOLDER));
            assert!(found >= acknowledged, "{found} changes of {acknowledged} are there");
            println!("CHECKED {found}");
        }
    }
}
