//! SIGKILL while a file is applied: the tree is what it was or what the file says, never half of it.

use std::sync::Arc;
use std::time::Duration;

use forebay::app::AGENTS;
use forebay::base::clock::SystemClock;
use forebay::disk::Disk;
use forebay::state::{Keep, State};
use rustix::process::Signal;

use super::large::fleet;
use super::{file, place};
use crate::process::{Process, forebay};
use crate::served::WITHIN;

/// The latest moment after the difference was shown, in microseconds: the change is written by then.
const LATEST_MICROS: u64 = 400_000;

#[test]
fn sigkill_while_a_file_is_applied_leaves_all_of_it_or_nothing_r5_4() {
    let place = place();
    let sizes = [(200, 4_000), (300, 2_000)];
    let files = sizes.map(|(domains, agents)| {
        file(&place, &format!("{agents}.toml"), &fleet(domains, agents)).to_str().unwrap().to_owned()
    });
    let found = || {
        let clock = Arc::new(SystemClock::default());
        let state =
            State::open(&Disk::default(), &place.data().join(AGENTS), Keep::default(), clock).unwrap();
        let current = state.current();
        (current.tree().domain_count(), current.tree().agent_count())
    };
    let (mut before, mut made) = ((0, 0), 0);
    let lives: u32 = 12;
    for life in 0..lives {
        let next = usize::from(before == sizes[0]);
        let mut command = forebay(["tree", "apply", &files[next], "--yes", "--config"]);
        let child = Process::start(command.arg(place.config()));
        child.wait_line(WITHIN, |line| line.contains(" agents added") || line.contains("agents REMOVED"));
        // The moment is what is tested; nothing is waited for.
        std::thread::sleep(Duration::from_micros(LATEST_MICROS * u64::from(life) / u64::from(lives)));
        child.signal(Signal::KILL);
        let ended = child.wait_exit(WITHIN);
        let after = found();
        assert!([before, sizes[next]].contains(&after), "life {life}: {after:?} is neither");
        if ended.stdout.contains("done: change") {
            assert_eq!(after, sizes[next], "life {life}: it was acknowledged");
        }
        made += u32::from(after != before);
        before = after;
    }
    println!("{lives} lives, {made} of them made their change");
}
