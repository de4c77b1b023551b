//! How much of its body a connection gives before the others of its worker have their turn, and who has the next one.
//!
//! A connection is one task, and tasks have their turns in the order in which they were woken: whoever asks next waits for a turn of
//! each who was woken before. So who had a turn and wants another waits in a queue here, and few of it are woken at a time: in front of
//! whoever asks are their turns alone, however many bodies are under way. A crowd has its first turns before anybody has many, whether it
//! asks at once or waits for one file, whose first bytes wake it at once: while first turns are had, later ones are let on for every so many
//! of them alone. Never reads a byte. Invariants: who waits in the queue has its next turn after all who waited before; as many as may be are
//! let on while anybody waits and nobody in a crowd has a first turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::base::limits::{
    BODY_ROUND_BYTES, BODY_TURN_BYTES, BODY_TURNS_AT_ONCE, CROWD_BODIES, CROWD_FIRST_TURN_BYTES,
    CROWD_FIRST_TURNS, CROWD_TURN_BYTES,
};

/// The bodies under way on one worker.
#[derive(Debug, Default)]
pub struct Turns {
    /// Those that are asked for count.
    under_way: Cell<u64>,
    /// Who had a turn and waits for the next. Who has left meanwhile is passed over.
    queue: RefCell<VecDeque<Weak<Turn>>>,
    /// How many were let on, whose turn is not over.
    let_on: Cell<usize>,
    /// How many first turns were had.
    begun: Cell<usize>,
    /// Wakes who lets on in a crowd.
    wanted: Notify,
}

/// A connection's turns.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    number: Cell<u64>,
    /// How many bytes were given in this one.
    given: Cell<u64>,
    standing: Cell<Standing>,
    /// The connection's task, where it has waited.
    task: RefCell<Option<Waker>>,
}

/// Where a connection stands with its next turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Not in the queue.
    #[default]
    Out,
    /// In the queue.
    Waits,
    /// Let on: its task was woken for its turn.
    LetOn,
    /// It has the turn for which it was let on.
    HasTurn,
}

/// A request while nobody knows of its body yet.
#[derive(Debug)]
pub struct Asking {
    turn: Rc<Turn>,
    /// The turn in which it was asked.
    number: u64,
}

/// A body's part of its connection's turns; it is under way until this is dropped.
#[derive(Debug)]
pub struct Share {
    turn: Rc<Turn>,
    /// What the last turn had in which it gave something.
    bytes: u64,
    /// Which turn that was; none has the number 0.
    last: u64,
}

impl Turns {
    /// How many bytes a body's turn has after one of so many; none before the first.
    fn turn_bytes_after(&self, bytes: u64) -> u64 {
        if self.is_crowded() {
            return (2 * bytes).clamp(CROWD_FIRST_TURN_BYTES, CROWD_TURN_BYTES);
        }
        let part = BODY_ROUND_BYTES / self.under_way.get().max(1);
        part.max(2 * bytes).min(BODY_TURN_BYTES)
    }

    fn is_crowded(&self) -> bool {
        self.under_way.get() > CROWD_BODIES
    }

    fn one_more(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    fn one_less(&self) {
        self.under_way.set(self.under_way.get() - 1);
    }

    /// Lets on who waits in a crowd; a task of the worker for as long as there is one.
    pub async fn tend(self: Rc<Self>) {
        loop {
            self.wanted.notified().await;
            while self.may_let_on() {
                let count = self.due().await;
                self.let_on(count);
            }
        }
    }

    /// How many later turns are due: one for so many first ones as whoever is ready has had meanwhile, all once nobody has any.
    async fn due(&self) -> usize {
        let (start, mut had) = (self.begun.get(), 0);
        while had < CROWD_FIRST_TURNS {
            let_others_in().await;
            let before = std::mem::replace(&mut had, self.begun.get() - start);
            if had == before {
                return BODY_TURNS_AT_ONCE;
            }
        }
        had / CROWD_FIRST_TURNS
    }

    fn may_let_on(&self) -> bool {
        self.let_on.get() < BODY_TURNS_AT_ONCE && !self.queue.borrow().is_empty()
    }

    /// Lets so many on, or as many as may be.
    fn let_on(&self, mut count: usize) {
        while count > 0 && self.may_let_on() {
            let Some(next) = self.queue.borrow_mut().pop_front() else { return };
            if let Some(turn) = next.upgrade().filter(|turn| turn.standing.get() == Standing::Waits) {
                turn.standing.set(Standing::LetOn);
                self.let_on.set(self.let_on.get() + 1);
                count -= 1;
                if let Some(task) = &*turn.task.borrow() {
                    task.wake_by_ref();
                }
            }
        }
    }

    /// One that stood so is not let on any more, or never was.
    fn is_over(&self, standing: Standing) {
        if let Standing::LetOn | Standing::HasTurn = standing {
            self.let_on.set(self.let_on.get() - 1);
        }
        if self.is_crowded() {
            self.wanted.notify_one();
        } else {
            self.let_on(BODY_TURNS_AT_ONCE);
        }
    }
}

impl Turn {
    /// The turns of a connection of this worker.
    pub fn new(turns: Rc<Turns>) -> Self {
        let (number, given) = (Cell::default(), Cell::default());
        Self { turns, number, given, standing: Cell::default(), task: RefCell::default() }
    }

    /// Notes that a request is being answered.
    pub fn asked(self: &Rc<Self>) -> Asking {
        self.turns.one_more();
        Asking { turn: self.clone(), number: self.number.get() }
    }

    /// Runs the connection's task for one turn.
    pub fn have<T>(&self, run: impl FnOnce() -> T) -> T {
        self.number.set(self.number.get() + 1);
        self.given.set(0);
        if self.standing.get() == Standing::LetOn {
            self.standing.set(Standing::HasTurn);
        }
        let ran = run();
        if self.standing.get() == Standing::HasTurn {
            self.leave();
        }
        ran
    }

    /// Whether it may have a turn that is not its first: it was let on for it, or nobody waits.
    fn is_let_on(&self) -> bool {
        let turns = &self.turns;
        let nobody_waits = turns.queue.borrow().is_empty() && turns.let_on.get() < BODY_TURNS_AT_ONCE;
        if self.standing.get() == Standing::Out && nobody_waits {
            self.standing.set(Standing::HasTurn);
            turns.let_on.set(turns.let_on.get() + 1);
        }
        self.standing.get() == Standing::HasTurn
    }

    /// Waits in the queue for the next turn.
    fn wait(self: &Rc<Self>, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        if let Standing::Out | Standing::HasTurn = self.standing.get() {
            self.turns.queue.borrow_mut().push_back(Rc::downgrade(self));
            let before = self.standing.replace(Standing::Waits);
            self.turns.is_over(before);
        }
    }

    /// Does not wait any more.
    fn leave(&self) {
        self.turns.is_over(self.standing.replace(Standing::Out));
    }
}

impl Asking {
    /// Has those counted who asked at the same time, before the body's first turn: whoever is ready runs before this goes on. Who has
    /// waited needs not, nor who is one of a crowd already.
    pub async fn let_others_in(self) {
        let Self { turn, number } = &self;
        if turn.number.get() != *number || turn.turns.is_crowded() {
            return;
        }
        let_others_in().await;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.turn.turns.one_less();
    }
}

impl Share {
    /// A body that is under way from here on.
    pub fn of(turn: Rc<Turn>) -> Self {
        turn.turns.one_more();
        Self { turn, bytes: 0, last: 0 }
    }

    /// How many bytes may be given in this turn; where none are left, the body is asked again in a later one.
    pub fn poll_left(&mut self, cx: &Context<'_>) -> Poll<u64> {
        let Turn { number, given, .. } = &*self.turn;
        let left = self.turn_bytes().saturating_sub(given.get());
        let begins_or_goes_on = self.last == 0 || self.last == number.get();
        if left > 0 && (begins_or_goes_on || self.turn.is_let_on()) {
            return Poll::Ready(left);
        }
        self.turn.wait(cx);
        Poll::Pending
    }

    /// Notes that so many were given.
    pub fn gave(&mut self, bytes: u64) {
        let Turn { turns, number, given, .. } = &*self.turn;
        if self.last == 0 {
            turns.begun.set(turns.begun.get() + 1);
        }
        given.set(given.get() + bytes);
        (self.bytes, self.last) = (self.turn_bytes(), number.get());
    }

    /// How many bytes this turn has.
    fn turn_bytes(&self) -> u64 {
        let Turn { turns, number, .. } = &*self.turn;
        if self.last == number.get() { self.bytes } else { turns.turn_bytes_after(self.bytes) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.turn.leave();
        self.turn.turns.one_less();
    }
}

/// Has every task that is ready now run before this one goes on.
async fn let_others_in() {
    let mut has_waited = false;
    // Not the runtime's own yield, which asks the system for events first, at the price of a call.
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::watch;
    use tokio::task::{JoinHandle, spawn_local};

    use super::*;

    /// What happened on a worker, in order: which body gave how much in a turn.
    type Told = Rc<RefCell<Vec<(usize, u64)>>>;

    /// Bodies on one worker.
    #[derive(Default)]
    struct Worker {
        turns: Rc<Turns>,
        told: Told,
    }

    impl Worker {
        /// A connection whose body has so many turns, a chunk at a time.
        fn body(&self, number: usize, turns: usize) -> JoinHandle<()> {
            self.body_after(std::future::ready(()), number, turns)
        }

        /// The same once something has happened.
        fn body_after(&self, before: impl Future + 'static, number: usize, turns: usize) -> JoinHandle<()> {
            let turn = Rc::new(Turn::new(self.turns.clone()));
            let (mut share, mut left, told) = (Share::of(turn.clone()), turns, self.told.clone());
            let turns = poll_fn(move |cx| {
                let given = turn.have(|| {
                    let mut given = 0;
                    while let Poll::Ready(left) = share.poll_left(cx) {
                        share.gave(left.min(10_000));
                        given += left.min(10_000);
                    }
                    given
                });
                if given > 0 {
                    told.borrow_mut().push((number, given));
                    left -= 1;
                }
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            });
            spawn_local(async move {
                before.await;
                turns.await;
            })
        }

        /// How much a body gave in each of its turns, in KiB.
        fn given_by(&self, number: usize) -> Vec<u64> {
            self.told.borrow().iter().filter(|told| told.0 == number).map(|told| told.1 >> 10).collect()
        }

        async fn told(&self, count: usize) {
            while self.told.borrow().len() < count {
                let_others_in().await;
            }
        }
    }

    fn on_a_worker(test: impl AsyncFnOnce(Worker) + 'static) {
        // As a worker's is.
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.global_queue_interval(2).build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let worker = Worker::default();
            spawn_local(worker.turns.clone().tend());
            spawn_local(test(worker)).await.unwrap();
        });
    }

    #[test]
    fn first_turns_share_a_round_or_are_small_in_a_crowd_and_later_ones_double() {
        for (count, expected) in [
            (1, &[2048, 2048][..]),
            (8, &[2048, 2048]),
            (16, &[1024, 2048, 2048]),
            (128, &[128, 256, 512, 1024, 2048, 2048]),
            (129, &[4, 8, 16, 32, 64, 128, 256, 512]),
            (9000, &[4, 8, 16, 32, 64, 128, 256, 512, 512]),
        ] {
            let turns = Turns { under_way: Cell::new(count), ..Turns::default() };
            let mut last = 0;
            for kib in expected {
                last = turns.turn_bytes_after(last);
                assert_eq!(last >> 10, *kib, "{count}");
            }
        }
    }

    #[test]
    fn whose_others_have_ended_has_whole_turns() {
        on_a_worker(async |worker| {
            let others: Vec<_> = (1..2100).map(|number| worker.body(number, 9)).collect();
            let body = worker.body(0, 11);
            for other in others {
                other.await.unwrap();
            }
            body.await.unwrap();
            assert_eq!(worker.given_by(0), [4, 8, 16, 32, 64, 128, 256, 512, 2048, 2048, 2048]);
        });
    }

    #[test]
    fn all_have_a_turn_before_anybody_has_the_next() {
        on_a_worker(async |worker| {
            let bodies: Vec<_> = (0..500).map(|number| worker.body(number, 5)).collect();
            for body in bodies {
                body.await.unwrap();
            }
            for (round, told) in worker.told.borrow().chunks(500).enumerate() {
                assert!(told.iter().map(|told| told.0).eq(0..500), "round {round}");
            }
        });
    }

    #[test]
    fn a_crowd_that_one_file_wakes_has_its_first_turns_before_later_ones() {
        on_a_worker(async |worker| {
            let file = watch::Sender::new(false);
            let waiting = |number| {
                let mut file = file.subscribe();
                worker.body_after(async move { file.wait_for(|is_there| *is_there).await.is_ok() }, number, 3)
            };
            let bodies: Vec<_> = (0..2000).map(waiting).collect();
            let_others_in().await;
            std::thread::spawn(move || file.send_replace(true)).join().unwrap();
            for body in bodies {
                body.await.unwrap();
            }
            let mut had = [0; 2000];
            let is_first = |told: &(usize, u64)| std::mem::replace(&mut had[told.0], 1) == 0;
            let first: Vec<_> = worker.told.borrow().iter().map(is_first).collect();
            let until = first.iter().rposition(|is_first| *is_first).unwrap();
            let later = until + 1 - 2000;
            assert!(
                later <= 2000 / CROWD_FIRST_TURNS + BODY_TURNS_AT_ONCE,
                "{later} had a later turn before"
            );
        });
    }

    #[test]
    fn later_turns_are_had_also_while_first_ones_go_on_and_on() {
        on_a_worker(async |worker| {
            let bodies: Vec<_> = (0..150).map(|number| worker.body(number, 20)).collect();
            // Many each time that whoever is ready runs.
            let turns = worker.turns.clone();
            let first_turns = spawn_local(async move {
                for _ in 0..150 * 20 {
                    for _ in 0..2 * CROWD_FIRST_TURNS {
                        let turn = Rc::new(Turn::new(turns.clone()));
                        let mut share = Share::of(turn.clone());
                        turn.have(|| share.gave(1));
                    }
                    let_others_in().await;
                }
            });
            for body in bodies {
                body.await.unwrap();
            }
            assert!(!first_turns.is_finished(), "they came to their end before");
        });
    }

    #[test]
    fn whoever_asks_waits_for_the_few_who_were_let_on_however_many_wait() {
        on_a_worker(async |worker| {
            let bodies: Vec<_> = (1..2000).map(|number| worker.body(number, 20)).collect();
            worker.told(17_000).await;
            let before = worker.told.borrow().len();
            let newcomer = worker.body(0, 1);
            newcomer.await.unwrap();
            let waited = worker.told.borrow()[before..].iter().position(|told| told.0 == 0).unwrap();
            assert!(waited <= BODY_TURNS_AT_ONCE, "{waited} had a turn before");
            bodies.iter().for_each(JoinHandle::abort);
        });
    }

    #[test]
    fn who_leaves_at_whatever_moment_holds_nobody_up() {
        on_a_worker(async |worker| {
            let mut seed = 1u64;
            let mut random = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(seed >> 40).unwrap() % below
            };
            for round in 0..200 {
                // A crowd now and then.
                let count = if round % 8 == 0 { 300 } else { 30 };
                let bodies: Vec<_> = (0..count).map(|number| worker.body(number, 1 + random(20))).collect();
                let mut stay = Vec::new();
                for body in bodies {
                    if random(2) == 0 {
                        let so_far = worker.told.borrow().len();
                        worker.told(so_far.min(random(60))).await;
                        body.abort();
                    } else {
                        stay.push(body);
                    }
                    if random(4) == 0 {
                        let_others_in().await;
                    }
                }
                for body in stay {
                    body.await.unwrap();
                }
                let_others_in().await;
                assert_eq!((worker.turns.let_on.get(), worker.turns.under_way.get()), (0, 0));
            }
        });
    }

    #[test]
    fn a_later_turn_is_had_in_the_order_of_the_queue_whoever_wakes_a_task() {
        let (turns, cx) = (Rc::<Turns>::default(), Context::from_waker(Waker::noop()));
        let mut shares: Vec<_> =
            (0..=BODY_TURNS_AT_ONCE).map(|_| Share::of(Rc::new(Turn::new(turns.clone())))).collect();
        let has_turn = |share: &mut Share| share.turn.clone().have(|| share.poll_left(&cx).is_ready());
        assert!(shares.iter_mut().all(has_turn), "they are first turns");
        for share in &mut shares {
            share.turn.clone().have(|| {
                share.gave(BODY_TURN_BYTES);
                assert!(share.poll_left(&cx).is_pending());
            });
        }
        let (last, others) = shares.split_last_mut().unwrap();
        assert!(!has_turn(last));
        assert!(has_turn(&mut others[0]) && has_turn(last));
        assert!(others[1..].iter_mut().all(has_turn));
        assert_eq!(turns.let_on.get(), 0);
    }

    #[test]
    fn one_connection_has_one_turn_for_all_its_bodies() {
        let turn = Rc::new(Turn::new(Rc::default()));
        let cx = Context::from_waker(Waker::noop());
        turn.have(|| {
            let mut first = Share::of(turn.clone());
            assert_eq!(first.poll_left(&cx), Poll::Ready(BODY_TURN_BYTES));
            first.gave(BODY_TURN_BYTES);
            drop(first);
            assert!(Share::of(turn.clone()).poll_left(&cx).is_pending(), "the turn is used up");
        });
    }

    #[test]
    fn others_are_let_in_once_by_who_asks_at_the_same_time_and_is_no_crowd() {
        let lets_in = |asking: Asking| {
            let mut letting = pin!(asking.let_others_in());
            letting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        let turn = Rc::new(Turn::new(Rc::default()));
        assert!(lets_in(turn.asked()));
        let waited = turn.asked();
        turn.have(|| {});
        assert!(!lets_in(waited));
        let many: Vec<_> = (0..2000).map(|_| turn.asked()).collect();
        assert!(!lets_in(turn.asked()), "it is one of a crowd");
        drop(many);
        assert!(lets_in(turn.asked()));
        assert_eq!(turn.turns.under_way.get(), 0);
    }
}
