//! The scrubber: looks at every stored blob again, now and then, and takes out what is bad (R1.5).
//!
//! A pass goes through the store in the order of the blobs' names, one read at a time on one blocking thread, at the pace of
//! `scrub.bytes_per_sec`; where it is outlives a restart. An administrator's pass begins anew, takes the place of the one
//! under way, and has a pace of its own. A bad blob is quarantined while no fill commits and no sweep runs; in the same turn
//! every entry that names it falls back, and then [`mend`](crate::relay::mend) fetches it. A file that came under the name
//! meanwhile is looked at itself.
//!
//! Never decides what is kept. Invariant: an entry whose blob was condemned is not held until a commit brings the blob anew.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::settings::ScrubSettings;
use crate::relay::mend::{Lost, Mend};
use crate::relay::resources::Resources;
use crate::relay::tree::Tree;
use crate::store::blobs::BlobName;
use crate::store::eviction::Candidate;
use crate::store::quarantine::Removal;
use crate::store::scrub::{Found, Look, OPEN_COST_BYTES, Pace, Pass, Place, Suspect};

/// After a start, before a pass is begun: agents that waited for the relay come first.
const START_REST: Duration = Duration::from_mins(1);

/// Between two looks at the wall clock, which may jump.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Between two notes of how far a pass is: a crash costs it no more than this.
const PLACE_EVERY: Duration = Duration::from_mins(1);

/// Names taken from the index at a time.
const BATCH: usize = 256;

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

/// Why a pass went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It looked at everything.
    Whole,
    /// Something else is wanted first: an administrator's pass, none at all, or the relay's end.
    Interrupted,
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
    async fn turn(&self, place: &Place, rested: &mut bool, now: impl Fn() -> Timestamp) -> Mode {
        loop {
            let wait = {
                let mut wanted = self.wanted();
                if let Some(rate) = wanted.asked.take() {
                    return Mode::Asked(rate);
                }
                match (wanted.settings.every_days, &place.pass) {
                    (0, _) => LOOK_EVERY,
                    (_, Some(_)) => Duration::ZERO,
                    (days, None) => {
                        let rest = if *rested { Duration::ZERO } else { START_REST };
                        due_in(place.last.as_ref(), days, now()).max(rest)
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
pub async fn run(resources: Arc<Resources>, trees: Vec<Arc<Tree>>, place: Place, mends: mpsc::Sender<Mend>) {
    let scrubber = &resources.scrubber;
    scrubber.progress.send_modify(|progress| progress.last.clone_from(&place.last));
    let mut runner = Runner {
        resources: resources.clone(),
        trees,
        mends,
        place,
        mode: Mode::Background,
        pace: Pace::default(),
        owed: 0,
        kept: Duration::ZERO,
    };
    let mut rested = false;
    loop {
        let mode = tokio::select! {
            mode = scrubber.turn(&runner.place, &mut rested, || resources.clock.wall()) => mode,
            () = resources.stop.cancelled() => return,
        };
        runner.scrub(mode).await;
    }
}

/// The scrubber at work.
struct Runner {
    resources: Arc<Resources>,
    trees: Vec<Arc<Tree>>,
    mends: mpsc::Sender<Mend>,
    place: Place,
    mode: Mode,
    pace: Pace,
    /// Bytes read for which it has not rested yet: what is found is acted on before.
    owed: u64,
    /// When the place was kept last.
    kept: Duration,
}

impl Runner {
    async fn scrub(&mut self, mode: Mode) {
        self.mode = mode;
        let now = self.resources.clock.wall();
        let kept = self.place.pass.take().filter(|_| mode == Mode::Background);
        let goes_on = kept.is_some();
        self.place.pass = Some(kept.unwrap_or_else(|| Pass::begin(now)));
        let store = self.resources.store.clone();
        let total = blocking(move || {
            Ok(store.index().blobs().fold((0, 0), |(blobs, bytes), name| (blobs + 1, bytes + name.size)))
        });
        let (blobs, bytes) = total.await.unwrap_or_default();
        info!(blobs, bytes, goes_on, asked = mode != Mode::Background, "scrubbing: stored files are checked");
        self.resources.scrubber.progress.send_modify(|progress| {
            (progress.blobs, progress.bytes) = (blobs, bytes);
            progress.pass.clone_from(&self.place.pass);
        });
        let mut end = self.pass().await;
        if end == End::Whole && !self.finish() {
            end = End::Interrupted;
        }
        if end == End::Interrupted {
            self.resources.scrubber.progress.send_modify(|progress| progress.pass = None);
        }
        self.keep_place().await;
    }

    async fn pass(&mut self) -> End {
        loop {
            let (store, after) = (self.resources.store.clone(), self.pass_now().after);
            let names = blocking(move || {
                Ok(store.index().blobs_after(after).take(BATCH).map(Candidate::name).collect::<Vec<_>>())
            });
            let names = names.await.unwrap_or_default();
            if names.is_empty() {
                return if self.is_interrupted() { End::Interrupted } else { End::Whole };
            }
            for name in names {
                if self.check(name).await.is_break() {
                    return End::Interrupted;
                }
                let pass = self.place.pass.clone();
                self.resources.scrubber.progress.send_modify(|progress| progress.pass = pass);
                if self.resources.clock.monotonic() >= self.kept + PLACE_EVERY {
                    self.keep_place().await;
                }
            }
        }
    }

    /// Looks at one blob, until it is known what it is or something else is wanted.
    async fn check(&mut self, name: BlobName) -> ControlFlow<()> {
        let tally = self.resources.tally.clone();
        let mut taken = Removal::Replaced;
        while taken == Removal::Replaced {
            self.rest().await?;
            let store = self.resources.store.clone();
            let mut look = blocking(move || store.look(name)).await;
            self.owed += OPEN_COST_BYTES;
            while let Ok(Look::More(check)) = look {
                self.rest().await?;
                let before = check.done();
                look = blocking(move || check.go_on()).await;
                let done = match &look {
                    Ok(Look::More(check)) => check.done(),
                    _ => name.size,
                };
                tally.scrubbed_bytes.add(done - before);
                self.owed += done - before;
            }
            taken = match look {
                Ok(Look::Bad(suspect)) => self.take_out(suspect).await,
                Ok(_) => {
                    self.pass_now().count(name, None);
                    break;
                }
                Err(error) => {
                    warn!(blob = %name.id, %error, "a blob could not be checked");
                    self.pass_now().skip(name);
                    return ControlFlow::Continue(());
                }
            };
        }
        if taken != Removal::Swept {
            tally.scrubbed_blobs.one();
        }
        ControlFlow::Continue(())
    }

    /// Takes a bad blob out, says so, and has it fetched anew.
    async fn take_out(&mut self, suspect: Suspect) -> Removal {
        let (name, flaw) = (suspect.name, suspect.flaw.to_string());
        let (resources, trees) = (self.resources.clone(), self.trees.clone());
        let taken = blocking(move || Ok(take_out(&resources, &trees, &suspect))).await;
        let lost = match taken {
            Ok((Removal::Out, lost)) => lost,
            Ok((Removal::Swept, _)) => {
                self.pass_now().pass_by(name);
                return Removal::Swept;
            }
            Ok((Removal::Replaced, _)) => return Removal::Replaced,
            Err(error) => {
                error!(blob = %name.id, %error, "a damaged blob could not be taken out");
                Vec::new()
            }
        };
        let files: BTreeSet<_> =
            lost.iter().map(|lost| format!("{}/{}", lost.tree.name, lost.entry.path())).collect();
        let files: Vec<_> = files.into_iter().collect();
        error!(blob = %name.id, size = name.size, files = %files.join(", "), "a stored file is damaged: {flaw}; it is served no more");
        self.resources.tally.bad_blobs.one();
        self.resources.swept.send_modify(|count| *count += 1);
        self.pass_now().count(name, Some(Found { blob: name.id, size: name.size, flaw, files }));
        if !lost.is_empty() && self.mends.try_send(Mend { blob: name, lost }).is_err() {
            warn!(blob = %name.id, "too many files wait to be fetched anew: this one is when an agent asks for it");
        }
        self.keep_place().await;
        Removal::Out
    }

    /// Notes that the pass is whole; false where an administrator asked for another one meanwhile.
    fn finish(&mut self) -> bool {
        let scrubber = &self.resources.scrubber;
        let mut wanted = scrubber.wanted();
        if wanted.asked.is_some() && self.mode == Mode::Background {
            return false;
        }
        // Who asked during an administrator's pass was told that this one will do.
        wanted.asked = None;
        let mut pass = self.place.pass.take().unwrap_or_default();
        pass.ended = Some(self.resources.clock.wall());
        let (blobs, bytes, bad, skipped) = (pass.blobs, pass.bytes, pass.bad, pass.skipped);
        info!(blobs, bytes, bad, skipped, "scrubbing: all stored files were checked");
        self.place.last = Some(pass);
        scrubber.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.pass = None;
            progress.last.clone_from(&self.place.last);
        });
        true
    }

    /// Rests as the pace wants it after what was read.
    async fn rest(&mut self) -> ControlFlow<()> {
        let (bytes, rate) = (std::mem::take(&mut self.owed), self.rate());
        let until = Instant::now() + self.pace.rest(self.resources.clock.monotonic(), bytes, rate);
        loop {
            if self.is_interrupted() {
                return ControlFlow::Break(());
            }
            if self.rate() != rate {
                self.pace = Pace::default();
                return ControlFlow::Continue(());
            }
            tokio::select! {
                () = self.resources.scrubber.wake.notified() => {}
                () = self.resources.stop.cancelled() => {}
                () = tokio::time::sleep_until(until) => return ControlFlow::Continue(()),
            }
        }
    }

    fn rate(&self) -> Rate {
        match self.mode {
            Mode::Asked(rate) => rate,
            Mode::Background => Some(self.resources.scrubber.wanted().settings.bytes_per_sec),
        }
    }

    /// Whether something else is wanted than to go on.
    fn is_interrupted(&mut self) -> bool {
        let mut wanted = self.resources.scrubber.wanted();
        let other = match self.mode {
            Mode::Background => wanted.asked.is_some() || wanted.settings.every_days == 0,
            Mode::Asked(_) => {
                if let Some(rate) = wanted.asked.take() {
                    self.mode = Mode::Asked(rate);
                }
                false
            }
        };
        other || self.resources.stop.is_cancelled()
    }

    async fn keep_place(&mut self) {
        self.kept = self.resources.clock.monotonic();
        let (store, place) = (self.resources.store.clone(), self.place.clone());
        if let Err(error) = blocking(move || store.keep_scrub_place(&place).map_err(io::Error::other)).await {
            warn!(%error, "how far scrubbing is could not be written down");
        }
    }

    fn pass_now(&mut self) -> &mut Pass {
        self.place.pass.get_or_insert_default()
    }
}

/// Takes a blob out of the store and from all entries that hold it, between commits and sweeps.
fn take_out(resources: &Resources, trees: &[Arc<Tree>], suspect: &Suspect) -> (Removal, Vec<Lost>) {
    let _naming = resources.naming.write().unwrap_or_else(PoisonError::into_inner);
    let taken = resources.store.quarantine(suspect);
    let lost = match taken {
        Removal::Out => trees.iter().flat_map(|tree| tree.lose(suspect.name)).collect(),
        Removal::Replaced | Removal::Swept => Vec::new(),
    };
    (taken, lost)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| io::Error::other(error.to_string()))?
}

#[cfg(test)]
mod tests {
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
        let turn = async |place: &Place| {
            let begun = Instant::now();
            (scrubber.turn(place, &mut false, || at(0)).await, begun.elapsed())
        };
        let nothing = Place::default();
        assert_eq!(turn(&nothing).await, (Mode::Background, START_REST));
        let under_way = Place { pass: Some(Pass::begin(at(-1))), ..Place::default() };
        assert_eq!(turn(&under_way).await, (Mode::Background, Duration::ZERO));
        let done = Place { last: Some(Pass::begin(at(-29 * DAY))), ..Place::default() };
        let slept = tokio::time::timeout(Duration::from_hours(23), turn(&done)).await;
        assert!(slept.is_err());
        scrubber.set(ScrubSettings { every_days: 0, ..settings });
        assert!(tokio::time::timeout(Duration::from_hours(9999), turn(&under_way)).await.is_err());
        assert_eq!(scrubber.ask(Some(7)), 1);
        assert_eq!(turn(&nothing).await, (Mode::Asked(Some(7)), Duration::ZERO));
    }
}
