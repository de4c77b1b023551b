//! A simulated week of automatic update (R9): a relay and its agents on virtual clocks, days of it in a blink.
//!
//! The plan, the machine of notices with its records, the agent tree and its decisions are the production's; sockets, disks and clocks
//! are not there. Machines are switched on and off, roam, are told, update or fail to; the relay restarts, its clock jumps, releases
//! appear, also while it is down, settings change, administrators start updates. What comes of it is held against rules that know nothing of how it came about.
//!
//! `world`: the relay, what happens, and when; `fleet`: machines, the agents on them, and the agent tree; `life`: what those do; `changes`:
//! what administrators and users do; `rules`: what nobody may be told, checked at each telling; `current`: who must be up to date at the end; `dice`: chances.
//! A week is its seed's: `FOREBAY_SEEDS` says how many there are, and what fails names its own.

mod changes;
mod current;
mod dice;
mod fleet;
mod life;
mod rules;
mod world;

use std::ops::AddAssign;

use world::World;

/// Weeks of a small fleet.
const SEEDS: u64 = 200;

/// For each week of a large fleet there are so many of a small one.
const SMALL_FOR_LARGE: u64 = 40;

/// What came about, so that a week in which nothing did shows nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Happened {
    told_of_generations: u64,
    told_of_missed: u64,
    told_by_schedule: u64,
    told_by_administrators: u64,
    told_again: u64,
    updates: u64,
    scans: u64,
    kept_from_starting: u64,
    expected_current: u64,
}

impl AddAssign for Happened {
    fn add_assign(&mut self, other: Self) {
        self.told_of_generations += other.told_of_generations;
        self.told_of_missed += other.told_of_missed;
        self.told_by_schedule += other.told_by_schedule;
        self.told_by_administrators += other.told_by_administrators;
        self.told_again += other.told_again;
        self.updates += other.updates;
        self.scans += other.scans;
        self.kept_from_starting += other.kept_from_starting;
        self.expected_current += other.expected_current;
    }
}

fn seeds() -> u64 {
    std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn weeks(count: u64, agents: usize) {
    let mut all = Happened::default();
    for seed in 0..count {
        let happened = World::new(seed, agents).live();
        println!("seed {seed} of {agents} agents: {happened:?}");
        all += happened;
    }
    let Happened { told_of_generations, told_by_schedule, told_by_administrators, told_again, .. } = all;
    let told =
        [told_of_generations, all.told_of_missed, told_by_schedule, told_by_administrators, told_again];
    for told in told {
        assert!(told > count, "{all:?}");
    }
    assert!(all.updates > told_by_schedule && all.scans > count && all.kept_from_starting > count, "{all:?}");
    assert!(all.expected_current > count * agents as u64 / 4, "{all:?}");
}

#[test]
fn in_any_week_of_200_agents_the_right_ones_are_told_and_end_up_to_date_r9() {
    weeks(seeds(), 200);
}

#[test]
fn in_any_week_of_10_000_agents_the_right_ones_are_told_and_end_up_to_date_r9() {
    weeks(seeds().div_ceil(SMALL_FOR_LARGE), 10_000);
}
