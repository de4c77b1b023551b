//! A worker's connections in the order in which they became idle: the one at the front is told to go when room is wanted, and each to
//! rest when it has been idle for a while.
//!
//! A connection is idle when no request of it is being answered and nothing is left to be sent: [`Place`] is told of both. Each
//! change costs a few writes to a list of its worker's own: no lock, no allocation. Invariant: who has begun to speak since it
//! was told to go stays.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::net::call::{Call, Word};
use crate::net::places::{Floor, Parting, Places};
use crate::net::queues::{Queues, Waiting};

/// A worker's idle connections.
#[derive(Debug)]
pub struct Idle {
    places: Arc<Places>,
    floor: Arc<Floor>,
    queues: RefCell<Queues>,
    drain: CancellationToken,
    /// All were told to stop.
    stopped: Cell<bool>,
}

/// What one connection tells of itself, from accept to close.
#[derive(Debug)]
pub struct Place {
    idle: Rc<Idle>,
    slot: usize,
    call: Rc<Call>,
    state: Cell<State>,
    /// Who wants to know that no answer is being given any more.
    waker: RefCell<Option<Waker>>,
    /// What was sent broke off, and only the close would show an end.
    cut: Cell<bool>,
}

/// A request that is being answered, while it is held.
#[derive(Debug)]
pub struct Busy(Rc<Place>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    answers: usize,
    /// Bytes wait for the client to take them.
    blocked: bool,
    heard: Heard,
    /// An answer waits for the upstream.
    waits: bool,
}

/// What came since the last request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Heard {
    #[default]
    Nothing,
    /// A part of a head.
    Part,
    /// Frames: bytes alone begin no request.
    Frames,
}

impl Idle {
    /// A worker's, by its number among those that share the places; once `drain` is cancelled, all its connections are told to stop.
    pub fn new(places: Arc<Places>, worker: usize, drain: CancellationToken) -> Rc<Self> {
        let floor = places.floor(worker);
        Rc::new(Self { places, floor, queues: RefCell::default(), drain, stopped: Cell::default() })
    }

    /// The places of all workers.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A connection that has just come.
    pub fn enter(self: &Rc<Self>) -> Rc<Place> {
        let call = Rc::new(Call::default());
        if self.stopped.get() {
            call.tell(Word::Stop);
        }
        let slot = self.queues.borrow_mut().enter(call.clone());
        let place = Place {
            idle: self.clone(),
            slot,
            call,
            state: Cell::default(),
            waker: RefCell::default(),
            cut: Cell::default(),
        };
        place.settle();
        Rc::new(place)
    }

    /// Tells as many to go as are wanted, those to rest who have been idle for a while, and once all to stop; for ever.
    pub async fn tend(self: Rc<Self>) {
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled(), if !self.stopped.get() => {
                    self.stopped.set(true);
                    self.queues.borrow().stop();
                }
                () = self.floor.asked.notified() => {
                    for _ in 0..self.floor.wanted.swap(0, Ordering::Relaxed) {
                        self.tell_first(self.places.now_ms());
                    }
                }
                _ = round.tick() => self.queues.borrow_mut().let_rest(self.places.now_ms()),
            }
        }
    }

    fn tell_first(&self, now_ms: u64) {
        let first = self.queues.borrow_mut().pop(now_ms);
        if let Some(call) = first {
            call.tell(Word::Go);
            self.publish();
        }
    }

    /// Lets the others see since when the first of each queue has waited.
    fn publish(&self) {
        let queues = self.queues.borrow();
        self.floor.idle_since_ms.store(queues.idle_since_ms(), Ordering::Relaxed);
        self.floor.head_since_ms.store(queues.since_ms(Waiting::ForHead), Ordering::Relaxed);
    }
}

impl Place {
    /// Begins a request.
    pub fn begin(self: &Rc<Self>) -> Busy {
        self.change(|state| {
            state.answers += 1;
            if state.heard == Heard::Part {
                state.heard = Heard::Nothing;
            }
        });
        Busy(self.clone())
    }

    /// From here on frames are spoken: bytes alone begin no request.
    pub fn speaks_frames(&self) {
        self.change(|state| state.heard = Heard::Frames);
    }

    /// Whatever came so far was no request: a connection begins.
    pub fn begins(&self) {
        self.change(|state| state.heard = Heard::Nothing);
    }

    /// Notes that bytes came.
    pub fn heard(&self) {
        if self.state.get().heard == Heard::Nothing {
            self.change(|state| state.heard = Heard::Part);
        }
    }

    /// Notes whether bytes wait for the client to take them.
    pub fn blocked(&self, blocked: bool) {
        if self.state.get().blocked != blocked {
            self.change(|state| state.blocked = blocked);
            self.wake();
        }
    }

    /// Has the connection end in a reset: what was sent broke off, and a close would pass for its end.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    /// Whether an answer is being given, and none waits for the upstream; also while its last bytes wait for the client.
    pub fn is_answering(&self) -> bool {
        let State { answers, blocked, waits, .. } = self.state.get();
        (answers > 0 || blocked) && !waits
    }

    /// Wakes once when that is no longer so.
    pub fn wake_when_changed(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    /// Waits until the connection is to go. Whoever waits polls the connection before this: what has come by then counts.
    pub async fn dismissed(&self) {
        loop {
            poll_fn(|cx| self.call.poll_heard(Word::Go, cx)).await;
            // The system is asked for bytes that have come before the connection looks again.
            tokio::task::yield_now().await;
            if self.may_go() {
                self.idle.places.tally.connections_dismissed.one();
                return;
            }
            self.settle();
        }
    }

    /// Waits until the connection has been idle for a while, and is to hold no more than it must; gives for how long it has been.
    /// Whoever waits polls the connection before this.
    pub async fn rests(&self) -> Duration {
        loop {
            poll_fn(|cx| self.call.poll_heard(Word::Rest, cx)).await;
            if let Some(since_ms) = self.idle.queues.borrow().resting_since_ms(self.slot) {
                return Duration::from_millis(self.idle.places.now_ms().saturating_sub(since_ms));
            }
        }
    }

    /// Waits until the relay stops: what is under way is ended, and nothing begun.
    pub async fn stopped(&self) {
        poll_fn(|cx| self.call.poll_heard(Word::Stop, cx)).await;
    }

    /// The same, for other tasks than the connection's own.
    pub fn drain(&self) -> &CancellationToken {
        &self.idle.drain
    }

    /// Whether the connection is to end in a reset.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Lets the connection take its time once it is dismissed; `None` where enough others do.
    pub fn part(&self) -> Option<Parting<'_>> {
        self.idle.places.part()
    }

    fn may_go(&self) -> bool {
        let State { answers, blocked, heard, .. } = self.state.get();
        let is_overdue = || self.idle.queues.borrow().taken_from(self.slot) == Some(Waiting::ForHead);
        answers == 0 && !blocked && (heard != Heard::Part || is_overdue())
    }

    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.get();
        change(&mut state);
        self.state.set(state);
        self.settle();
    }

    /// Puts the connection where it belongs now, if it is elsewhere.
    fn settle(&self) {
        let waiting = match self.state.get() {
            State { answers: 0, blocked: false, heard: Heard::Part, .. } => Some(Waiting::ForHead),
            State { answers: 0, blocked: false, .. } => Some(Waiting::ForByte),
            _ => None,
        };
        let mut queues = self.idle.queues.borrow_mut();
        let now = queues.waiting(self.slot);
        if now == waiting || (now, waiting) == (Some(Waiting::AtRest), Some(Waiting::ForByte)) {
            return;
        }
        queues.leave(self.slot);
        if let Some(waiting) = waiting {
            queues.join(self.slot, waiting, self.idle.places.now_ms());
        }
        drop(queues);
        self.idle.publish();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.idle.queues.borrow_mut().remove(self.slot);
        self.idle.publish();
    }
}

impl Busy {
    /// Has the connection end in a reset, as [`Place::cut`].
    pub fn cut(&self) {
        self.0.cut();
    }

    /// Notes whether the answer waits for the upstream.
    pub fn waits(&self, waits: bool) {
        let mut state = self.0.state.get();
        if state.waits != waits {
            state.waits = waits;
            self.0.state.set(state);
            self.0.wake();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| (state.answers, state.waits) = (state.answers - 1, false));
        self.0.wake();
    }
}

/// From one look at who may rest to the next.
const ROUND: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::net::places::IDLE_GRACE_MS;
    use crate::net::queues::REST_AFTER_MS;

    fn idle() -> Rc<Idle> {
        let places = Places::new(9, 1, Arc::default(), Arc::new(SystemClock::default()));
        Idle::new(Arc::new(places), 0, CancellationToken::new())
    }

    async fn goes(place: &Place) -> bool {
        timeout(Duration::from_millis(20), place.dismissed()).await.is_ok()
    }

    #[tokio::test]
    async fn whoever_has_been_idle_longest_goes_first() {
        let idle = idle();
        let [first, second, third] = [(); 3].map(|()| idle.enter());
        drop(first.begin());
        drop(third);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(!goes(&first).await && goes(&second).await);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(goes(&first).await);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(!goes(&first).await, "it was told once");
    }

    #[tokio::test]
    async fn who_is_answered_or_has_bytes_to_take_or_speaks_up_stays() {
        let idle = idle();
        let place = idle.enter();
        let busy = place.begin();
        place.blocked(true);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(!goes(&place).await, "it is answered");
        drop(busy);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(!goes(&place).await, "it has bytes to take");
        place.blocked(false);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        place.heard();
        assert!(!goes(&place).await, "it spoke after it was told");
        assert_eq!(idle.queues.borrow().waiting(place.slot), Some(Waiting::ForHead));
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(!goes(&place).await, "its head has only begun");
        place.begins();
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(goes(&place).await);
    }

    async fn rests(place: &Place) -> bool {
        timeout(Duration::from_millis(20), place.rests()).await.is_ok()
    }

    fn let_rest(idle: &Idle, after_ms: u64) {
        idle.queues.borrow_mut().let_rest(idle.places.now_ms() + after_ms);
    }

    #[tokio::test]
    async fn who_has_been_idle_for_a_while_rests_once_and_is_still_the_first_to_go() {
        let idle = idle();
        let [first, second, busy] = [(); 3].map(|()| idle.enter());
        let answering = busy.begin();
        let_rest(&idle, REST_AFTER_MS / 2);
        assert!(!rests(&first).await, "not yet");
        let_rest(&idle, REST_AFTER_MS);
        assert!(rests(&first).await && !rests(&busy).await);
        let_rest(&idle, REST_AFTER_MS);
        assert!(!rests(&first).await, "it was told once");
        second.heard();
        assert!(!rests(&second).await, "it spoke after it was told");
        drop(second.begin());
        drop(answering);
        idle.tell_first(idle.places.now_ms() + IDLE_GRACE_MS);
        assert!(goes(&first).await, "the others became idle after it");
        let_rest(&idle, REST_AFTER_MS);
        assert!(rests(&second).await && rests(&busy).await);
    }
}
