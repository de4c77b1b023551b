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
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::base::limits::{
    BODY_ROUND_BYTES, BODY_TURN_BYTES, BODY_TURNS_AT_ONCE, CROWD_BODIES, CROWD_FIRST_TURN_BYTES,
    CROWD_FIRST_TURNS, CROWD_TURN_BYTES,
};
use crate::relay::crowds::{Crowd, Crowds};

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
    /// While a crowd has its first turns: whoever fetches stands back.
    crowd: RefCell<Option<Crowd>>,
    crowds: Arc<Crowds>,
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
    /// Those of a worker, whose crowds are told of.
    pub fn new(crowds: Arc<Crowds>) -> Self {
        Self { crowds, ..Self::default() }
    }

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
            while self.crowd.borrow().is_some() || self.may_let_on() {
                let due = self.due().await;
                if due.is_none() {
                    *self.crowd.borrow_mut() = None;
                }
                self.let_on(due.unwrap_or(BODY_TURNS_AT_ONCE));
            }
        }
    }

    /// How many later turns are due: one for so many first ones as whoever is ready has had meanwhile; `None` once nobody has any.
    async fn due(&self) -> Option<usize> {
        let (start, mut had) = (self.begun.get(), 0);
        while had < CROWD_FIRST_TURNS {
            let_others_in().await;
            let before = std::mem::replace(&mut had, self.begun.get() - start);
            if had == before {
                return None;
            }
        }
        Some(had / CROWD_FIRST_TURNS)
    }

    /// A body has its first turn.
    fn begins(&self) {
        self.begun.set(self.begun.get() + 1);
        if self.is_crowded() && self.crowd.borrow().is_none() {
            *self.crowd.borrow_mut() = Some(self.crowds.clone().begin());
            self.wanted.notify_one();
        }
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
            turns.begins();
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
mod tests;
