//! The scrubber: looks at every stored blob again, now and then, and takes out what is bad (R1.5).
//!
//! A pass goes through the store in the order of the blobs' names, one read at a time on one blocking thread, at the pace of
//! `scrub.bytes_per_sec`; where it is outlives a restart. An administrator's pass begins anew, takes the place of the one
//! under way, and has a pace of its own. A bad blob is quarantined while no fill commits and no sweep runs; in the same turn
//! every entry that names it falls back, and then [`mend`](crate::relay::mend) fetches it. A file that came under the name
//! meanwhile is looked at itself.
//!
//! Never decides what is kept. Invariant: an entry whose blob was condemned is not held until a commit brings the blob anew.

mod runner;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::settings::ScrubSettings;
use crate::relay::mend::Mend;
use crate::relay::resources::Resources;
use crate::relay::scrub::runner::Runner;
use crate::relay::tree::Tree;
use crate::store::scrub::{Bookmark, Pass};

/// After a start, before a pass is begun: agents that waited for the relay come first.
const START_REST: Duration = Duration::from_mins(1);

/// Between two looks at the wall clock, which may jump.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// What the scrubber is asked to do, and how far it is.
#[derive(Debug)]
pub struct Scrubber {
    /// Guards what is wanted of it.
    wanted: Mutex<Wanted>,
    /// Wakes it when something else is wanted.
    wake: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Wanted {
    settings: ScrubSettings,
    /// What an administrator asked for and nobody has begun yet.
    asked: Option<Rate>,
}

/// Bytes a second; as many as the disk gives where there is no bound.
pub type Rate = Option<u64>;

/// How far the scrubber is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// How many passes have ended since the start.
    pub ended: u64,
    /// Blobs that were in the store when the pass under way was begun or gone on with.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The pass under way.
    pub pass: Option<Pass>,
    /// The last one that ended.
    pub last: Option<Pass>,
}

/// Whose pass it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The relay's own, at the settings' pace.
    Background,
    /// An administrator's.
    Asked(Rate),
}

impl Scrubber {
    /// One that has not begun.
    pub fn new(settings: ScrubSettings) -> Self {
        Self {
            wanted: Mutex::new(Wanted { settings, asked: None }),
            wake: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Takes new settings.
    pub fn set(&self, settings: ScrubSettings) {
        self.wanted().settings = settings;
        self.wake.notify_one();
    }

    /// Asks for a pass over everything, now; one that was asked for before and is under way will do. Gives how many passes
    /// will have ended when it has.
    pub fn ask(&self, rate: Rate) -> u64 {
        let mut wanted = self.wanted();
        wanted.asked = Some(rate);
        self.wake.notify_one();
        self.progress.borrow().ended + 1
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a pass is to be begun or gone on with.
    async fn turn(&self, bookmark: &Bookmark, rested: &mut bool, now: impl Fn() -> Timestamp) -> Mode {
        loop {
            let wait = {
                let mut wanted = self.wanted();
                if let Some(rate) = wanted.asked.take() {
                    return Mode::Asked(rate);
                }
                match (wanted.settings.every_days, &bookmark.pass) {
                    (0, _) => LOOK_EVERY,
                    (_, Some(_)) => Duration::ZERO,
                    (days, None) => {
                        let rest = if *rested { Duration::ZERO } else { START_REST };
                        due_in(bookmark.last.as_ref(), days, now()).max(rest)
                    }
                }
            };
            if wait.is_zero() {
                return Mode::Background;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait.min(LOOK_EVERY)) => {}
            }
            *rested = true;
        }
    }
}

/// How long until the next pass. A clock that went back so far that it would not come for long makes it due.
fn due_in(last: Option<&Pass>, every_days: u64, now: Timestamp) -> Duration {
    let Some(last) = last else { return Duration::ZERO };
    Duration::from_hours(24 * every_days).saturating_sub(now.duration_since(last.begun).unsigned_abs())
}

/// Scrubs whenever it is time or asked to, until the relay stops.
pub async fn run(
    resources: Arc<Resources>,
    trees: Vec<Arc<Tree>>,
    bookmark: Bookmark,
    mends: mpsc::Sender<Mend>,
) {
    let scrubber = &resources.scrubber;
    scrubber.progress.send_modify(|progress| progress.last.clone_from(&bookmark.last));
    let mut runner = Runner::new(resources.clone(), trees, bookmark, mends);
    let mut rested = false;
    loop {
        let mode = tokio::select! {
            mode = scrubber.turn(runner.bookmark(), &mut rested, || resources.clock.wall()) => mode,
            () = resources.stop.cancelled() => return,
        };
        runner.scrub(mode).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_pass_is_due_so_many_days_after_the_last_began_also_when_the_clock_jumped_r1_5() {
        let last = Pass { ended: Some(at(5 * DAY)), ..Pass::begin(at(0)) };
        let due = |now| due_in(Some(&last), 30, at(now)).as_secs().cast_signed();
        assert_eq!(due_in(None, 30, at(0)), Duration::ZERO);
        assert_eq!((due(6 * DAY), due(30 * DAY), due(40 * DAY)), (24 * DAY, 0, 0));
        assert_eq!(due(-3600), 30 * DAY - 3600);
        assert_eq!(due(-31 * DAY), 0, "a clock that was far ahead");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_rests_goes_on_at_once_with_what_it_left_and_off_means_off_r1_5() {
        let settings = ScrubSettings { every_days: 30, bytes_per_sec: 1 };
        let scrubber = Arc::new(Scrubber::new(settings));
        let turn = async |bookmark: &Bookmark| {
            let begun = Instant::now();
            (scrubber.turn(bookmark, &mut false, || at(0)).await, begun.elapsed())
        };
        let nothing = Bookmark::default();
        assert_eq!(turn(&nothing).await, (Mode::Background, START_REST));
        let under_way = Bookmark { pass: Some(Pass::begin(at(-1))), ..Bookmark::default() };
        assert_eq!(turn(&under_way).await, (Mode::Background, Duration::ZERO));
        let done = Bookmark { last: Some(Pass::begin(at(-29 * DAY))), ..Bookmark::default() };
        let slept = tokio::time::timeout(Duration::from_hours(23), turn(&done)).await;
        assert!(slept.is_err());
        scrubber.set(ScrubSettings { every_days: 0, ..settings });
        assert!(tokio::time::timeout(Duration::from_hours(9999), turn(&under_way)).await.is_err());
        assert_eq!(scrubber.ask(Some(7)), 1);
        assert_eq!(turn(&nothing).await, (Mode::Asked(Some(7)), Duration::ZERO));
    }
}
