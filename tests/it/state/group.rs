//! Changes that come while others are synced are synced together, and none is acknowledged or decided by before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use forebay::disk::{Disk, Step, Verdict, When};
use forebay::policy::tree::change::Action;
use forebay::policy::tree::setting::Values;
use forebay::state::record::Serial;
use forebay::state::{ChangeError, Keep, State, WAITING_MAX};
use tempfile::TempDir;

use super::{agent, author, domain, make_next, open, opened};

/// A disk that counts its syncs; each says that it is there, then waits until it may go on.
struct Gated {
    disk: Disk,
    syncs: Arc<AtomicUsize>,
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gated {
    fn new() -> Self {
        let (here, reached) = channel();
        let (open, may) = channel();
        let (here, may) = (Mutex::new(here), Mutex::new(may));
        let syncs = Arc::new(AtomicUsize::new(0));
        let count = syncs.clone();
        let disk = Disk::with_seam(move |when, step| {
            // The first is that of the empty journal.
            if when == When::Before
                && matches!(step, Step::Sync(_))
                && count.fetch_add(1, Ordering::SeqCst) > 0
            {
                here.lock().unwrap().send(()).unwrap();
                // Whoever no longer gates lets everything pass.
                let _ = may.lock().unwrap().recv();
            }
            Verdict::Done
        });
        Self { disk, syncs, reached, open }
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }
}

fn add(state: &State, number: u64) -> Result<forebay::state::Pending, ChangeError> {
    let add = Action::AddAgent { agent: agent(number), domain: domain(1), values: Values::default() };
    state.change(author(), vec![add])
}

#[test]
fn changes_that_wait_are_synced_together_and_acknowledged_after_that_r5_4() {
    let folder = TempDir::new().unwrap();
    make_next(&opened(folder.path())).unwrap();
    let gated = Gated::new();
    let state = open(folder.path(), &gated.disk, Keep::default()).unwrap();
    gated.syncs.store(1, Ordering::SeqCst);
    let first = add(&state, 0).unwrap();
    gated.reached.recv().unwrap();
    // The thread waits for its first sync: all these come meanwhile.
    let waiting: Vec<_> = (1..=500).map(|number| add(&state, number).unwrap()).collect();
    let again = add(&state, 500).unwrap();
    assert_eq!(state.current().tree().agent_count(), 0, "nothing is decided by before it is synced");
    gated.open.send(()).unwrap();
    first.wait().unwrap();
    gated.reached.recv().unwrap();
    assert_eq!(state.current().tree().agent_count(), 1);
    gated.open.send(()).unwrap();
    let serials: Vec<_> =
        waiting.into_iter().map(|pending| pending.wait().unwrap().serial.unwrap().0).collect();
    assert_eq!(serials, (3..=502).collect::<Vec<_>>(), "in the order in which they came");
    let again = again.wait().unwrap_err();
    assert_eq!(again.to_string(), "there is an agent 'a500' already", "asked of what those before it left");
    assert_eq!(gated.syncs() - 1, 2, "501 changes, two syncs");
    drop(state);
    assert_eq!(opened(folder.path()).current().tree().agent_count(), 501);
}

/// From many threads, without a gate: fewer syncs than changes, whatever the disk's speed.
#[test]
fn changes_of_many_threads_share_syncs_r5_4() {
    let folder = TempDir::new().unwrap();
    make_next(&opened(folder.path())).unwrap();
    let gated = Gated::new();
    let state = open(folder.path(), &gated.disk, Keep::default()).unwrap();
    gated.syncs.store(1, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let made = (0..8).map(|thread| {
            let state = &state;
            scope.spawn(move || {
                let pending: Vec<_> =
                    (0..20).map(|number| add(state, thread * 100 + number).unwrap()).collect();
                for pending in pending {
                    pending.wait().unwrap();
                }
            })
        });
        let made: Vec<_> = made.collect();
        drop(gated.open);
        for thread in made {
            thread.join().unwrap();
        }
    });
    let syncs = gated.syncs.load(Ordering::SeqCst) - 1;
    println!("160 changes of 8 threads: {syncs} syncs");
    assert!(syncs < 160, "{syncs} syncs");
    assert_eq!(state.current().tree().agent_count(), 160);
}

#[test]
fn a_change_that_is_to_follow_another_is_not_made_once_a_third_came_between_r5_4() {
    let folder = TempDir::new().unwrap();
    make_next(&opened(folder.path())).unwrap();
    let gated = Gated::new();
    let state = open(folder.path(), &gated.disk, Keep::default()).unwrap();
    gated.syncs.store(1, Ordering::SeqCst);
    let (last, _) = state.current_after();
    let between = add(&state, 0).unwrap();
    gated.reached.recv().unwrap();
    // The change between is not decided by yet, so nobody could have seen it.
    let after = |last: Serial, number| {
        let add = Action::AddAgent { agent: agent(number), domain: domain(1), values: Values::default() };
        state.change_after(last, author(), vec![add]).unwrap()
    };
    let (outrun, next, twin) = (after(last, 1), after(last.next(), 2), after(last.next(), 3));
    drop(gated.open);
    between.wait().unwrap();
    assert!(matches!(outrun.wait(), Err(ChangeError::Outrun(Serial(2)))));
    assert_eq!(next.wait().unwrap().serial, Some(Serial(3)));
    assert!(matches!(twin.wait(), Err(ChangeError::Outrun(Serial(3)))), "of two, the first");
    assert_eq!(state.current_after().0, Serial(3));
    drop(state);
    assert_eq!(opened(folder.path()).current().tree().agent_count(), 2);
}

#[test]
fn more_changes_than_may_wait_are_refused_and_the_others_made_r5_4() {
    let folder = TempDir::new().unwrap();
    make_next(&opened(folder.path())).unwrap();
    let gated = Gated::new();
    let state = open(folder.path(), &gated.disk, Keep::default()).unwrap();
    gated.syncs.store(1, Ordering::SeqCst);
    let first = add(&state, 0).unwrap();
    gated.reached.recv().unwrap();
    let max = u64::try_from(WAITING_MAX).unwrap();
    let waiting: Vec<_> = (1..=max).map(|number| add(&state, number).unwrap()).collect();
    assert!(matches!(add(&state, max + 1), Err(ChangeError::Busy)));
    drop(gated.open);
    first.wait().unwrap();
    // Whoever goes away without waiting has its change made all the same, also when the relay stops.
    drop(waiting);
    drop(state);
    assert_eq!(opened(folder.path()).current().tree().agent_count(), WAITING_MAX + 1);
}
