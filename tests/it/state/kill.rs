//! SIGKILL at random moments of a stream of changes, one life after the other on one folder: every acknowledged change is there,
//! none half, none twice.
//!
//! The child is this test program once more, told its folder by the environment; it says `MADE` for each change that is
//! acknowledged. Without a folder in the environment it does nothing.

use std::collections::VecDeque;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay::disk::Disk;
use forebay::policy::tree::Tree;
use forebay::state::State;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{OFTEN, author, next_of, numbered, open, opened};
use crate::process::Process;
use crate::served::WITHIN;

const FOLDER: &str = "FOREBAY_TEST_STATE";

/// Changes under way at once, so that groups are of several.
const AT_ONCE: usize = 3;

/// The latest moment, counted from the first acknowledged change, in microseconds: some hundred changes, and a few snapshots.
const LATEST_MICROS: u64 = 60_000;

fn kills() -> u64 {
    if env::var("FOREBAY_CRASHES").is_ok_and(|crashes| crashes == "all") { 200 } else { 8 }
}

fn begin(folder: &Path) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([
        "state::kill::makes_changes_in_the_folder_that_its_environment_names",
        "--exact",
        "--nocapture",
    ]);
    Process::start(command.env(FOLDER, folder))
}

/// Makes changes until somebody ends it, or so many.
pub(super) fn make_for_ever(state: &State, most: u64) {
    let mut under_way = VecDeque::new();
    for _ in 0..most {
        while under_way.len() < AT_ONCE {
            let plan = |tree: &Tree| Ok(numbered(next_of(tree)));
            under_way.push_back(state.plan(author(), plan).unwrap());
        }
        let done = under_way.pop_front().unwrap().wait().unwrap();
        println!("MADE {}", done.serial.unwrap());
    }
}

#[test]
fn makes_changes_in_the_folder_that_its_environment_names() {
    if let Ok(folder) = env::var(FOLDER) {
        make_for_ever(&open(&PathBuf::from(folder), &Disk::default(), OFTEN).unwrap(), u64::MAX);
    }
}

#[test]
fn sigkill_in_a_stream_of_changes_loses_none_that_was_acknowledged_r5_4() {
    let (folder, mut tree) = (TempDir::new().unwrap(), Tree::default());
    let (mut last, mut more) = (0, 0);
    for life in 0..kills() {
        let child = begin(folder.path());
        child.wait_line(WITHIN, |line| line.starts_with("MADE"));
        // The moment is what is tested; nothing is waited for.
        std::thread::sleep(Duration::from_micros(life.wrapping_mul(0x9e37_79b9) % LATEST_MICROS));
        child.signal(Signal::KILL);
        let ended = child.wait_exit(WITHIN);
        let made = ended.stdout.lines().filter_map(|line| line.strip_prefix("MADE ")?.parse::<u64>().ok());
        let made: Vec<_> = made.collect();
        assert!(made.windows(2).all(|pair| pair[1] == pair[0] + 1), "{made:?}");
        let acknowledged = made.last().copied().expect("one was made at least");

        let state = opened(folder.path());
        let found = next_of(state.current().tree()) - 1;
        assert!(found >= acknowledged, "life {life}: {found} changes of {acknowledged} are there");
        assert!(
            found <= acknowledged + AT_ONCE as u64,
            "life {life}: {found} changes, {acknowledged} were made"
        );
        for number in last + 1..=found {
            tree = tree.changed(&numbered(number)).unwrap().tree;
        }
        assert_eq!(state.current().tree(), &tree, "life {life}: not what {found} changes make");
        more += found - acknowledged;
        last = found;
    }
    println!("{} lives: {last} changes, {more} of them were there before they were acknowledged", kills());
    assert!(last > kills() * 3, "only {last} changes");
}
