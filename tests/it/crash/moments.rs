//! SIGKILL at random moments, release after release, while agents fetch and compare: each next relay goes on where the ended
//! one was.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::ground::{Dice, Release, all, check_blobs, check_index, complete, names};
use super::load::{Load, Releases, Seen};
use crate::origin::Origin;
use crate::raw;
use crate::served::{Place, Served};
use crate::site::Site;

const AGENTS: u64 = 4;

/// The latest moment, counted from when the relay listens, in milliseconds: a refresh comes each second.
const LATEST_MS: usize = 1600;

/// Large enough to be read from the disk in pieces.
const LARGE: usize = 300_000;

/// One upstream and one data folder for many lives.
struct Ground {
    site: Site,
    origin: Origin,
    releases: Releases,
    place: Place,
    /// The newest release that an agent or a check saw whole.
    newest: u32,
    /// What was said to be complete.
    complete: HashSet<String>,
}

impl Ground {
    fn new() -> Self {
        let first = Release { version: 5, large: LARGE };
        let site = first.site();
        let origin = Origin::start(site.dir());
        Self {
            origin,
            site,
            releases: Releases::between(first, first.version),
            place: Place::new(),
            newest: 0,
            complete: HashSet::new(),
        }
    }

    fn configure(&self, prefetch: &str) {
        let mut text = format!(
            "data = {:?}\nlisten = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"127.0.0.1:0\"\n",
            self.place.data()
        );
        let _ = write!(
            text,
            "log.level = \"debug\"\nlog.access = \"off\"\n[[tree]]\nupstream = {:?}\nrefresh_secs = 1\nprefetch = {prefetch:?}\n",
            self.origin.url("/")
        );
        fs::write(self.place.config(), text).unwrap();
    }

    /// One life under load to a random moment.
    fn live(&mut self, relay: Served, dice: &mut Dice) -> Seen {
        let load = Load::start(relay.agents[0], AGENTS, &self.releases, dice.below(1 << 30) as u64);
        let mut left = dice.below(LATEST_MS);
        while left > 0 {
            let pause = dice.below(700).min(left);
            left -= pause.max(1);
            // The moment is what is tested; nothing is waited for.
            std::thread::sleep(Duration::from_millis(pause as u64));
            if dice.below(2) == 0 {
                self.releases.next().publish(&self.site);
            }
        }
        relay.signal(Signal::KILL);
        let ended = relay.wait_exit();
        self.complete.extend(complete(&ended.stderr));
        let seen = load.stop();
        self.newest = self.newest.max(seen.newest);
        seen
    }

    /// The next relay, before anything new comes: it shows what was shown, and asks for nothing of it that was complete.
    fn next(&mut self, at: usize) -> Served {
        let last = self.origin.last_connection();
        let relay = self.place.serve(&[]);
        self.check(&relay, last, at);
        relay
    }

    fn check(&mut self, relay: &Served, last: usize, at: usize) {
        let get = |path: &str| raw::fetch(relay.agents[0], &format!("/activeupdate/{path}"), &[]);
        let view = get("server.ini");
        if view.head.status == 503 {
            assert_eq!(self.newest, 0, "life {at}: what was shown is gone");
            return;
        }
        let version = self.releases.of_view(&view.whole(200)).expect("a release that there was");
        assert!(version >= self.newest, "life {at}: shows {version} after {}", self.newest);
        self.newest = version;
        let release = Release { version, large: LARGE };
        for path in release.paths() {
            let (bytes, states) = (get(&path).whole(200), self.releases.states(release, &path));
            assert!(states.iter().any(|state| **state == bytes), "life {at}: wrong bytes: {path}");
        }
        let seen = self.origin.seen();
        for path in release.paths().iter().filter(|path| self.complete.contains(*path)) {
            let url = format!("/{path}");
            let again =
                seen.of(&url).filter(|request| request.connection > last && request.body_bytes > 0).count();
            assert_eq!(again, 0, "life {at}: {path} was complete, and is lost");
        }
    }
}

#[test]
fn sigkill_at_random_moments_under_load_loses_nothing_that_was_complete_r1_5_r1_6() {
    let mut ground = Ground::new();
    let mut dice = Dice(11);
    let mut sum = Seen::default();
    let lives = if all() { 200 } else { 8 };
    for at in 0..lives {
        check_blobs(&ground.place.data());
        if at % 10 == 9 {
            check_index(&ground.place.data());
        }
        ground.configure(["all", "none", "used"][at % 3]);
        let relay = ground.next(at);
        let seen = ground.live(relay, &mut dice);
        sum.whole += seen.whole;
        sum.broken += seen.broken;
        sum.refused += seen.refused;
    }
    println!("{lives} lives, {} releases: {sum:?}", ground.releases.newest().version - 4);
    assert!(sum.whole > 10 * lives, "{sum:?}");
    ground.configure("all");
    let relay = ground.next(lives);
    ground.place.command(&["refresh"]).succeeded();
    let last = ground.origin.last_connection();
    ground.check(&relay, last, lives);
    assert_eq!(ground.newest, ground.releases.newest().version, "the newest release is served");
    relay.stop();
    let data = ground.place.data();
    check_blobs(&data);
    check_index(&data);
    assert_eq!(names(&data.join("staging")), [""; 0]);
}
