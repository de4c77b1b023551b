//! A worker's connections in the order in which they became idle: the one at the front is told to go when room is wanted, and each to
//! rest when it has been idle for a while.
//!
//! A connection is idle when no request of it is being answered and nothing is left to be sent: [`Place`] is told of both. Each
//! change costs a few writes to a list of its worker's own: no lock, no allocation. Invariant: who has begun to speak since it
//! was told to go stays.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::net::places::{Floor, HEAD_GRACE_MS, IDLE_GRACE_MS, NOBODY, Parting, Places};

/// A worker's idle connections.
#[derive(Debug)]
pub struct Idle {
    places: Arc<Places>,
    floor: Arc<Floor>,
    queues: RefCell<Queues>,
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

/// How a connection is told to go, or to rest.
#[derive(Debug, Default)]
struct Call {
    told: Notify,
    /// What it waited for when it was told to go.
    from: Cell<Option<Waiting>>,
    rest: Notify,
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

/// What a connection without a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The first byte of something.
    ForByte,
    /// The same, for so long that it was told to rest.
    AtRest,
    /// The rest of a head, or of what comes before it.
    ForHead,
}

impl Idle {
    /// A worker's, by its number among those that share the places.
    pub fn new(places: Arc<Places>, worker: usize) -> Rc<Self> {
        let floor = places.floor(worker);
        Rc::new(Self { places, floor, queues: RefCell::default() })
    }

    /// The places of all workers.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A connection that has just come.
    pub fn enter(self: &Rc<Self>) -> Rc<Place> {
        let call = Rc::new(Call::default());
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

    /// Tells as many to go as are wanted, and those to rest who have been idle for a while; for ever.
    pub async fn tend(self: Rc<Self>) {
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
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
        if let Some((call, waiting)) = first {
            call.from.set(Some(waiting));
            call.told.notify_one();
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
            self.call.told.notified().await;
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
            self.call.rest.notified().await;
            let queues = self.idle.queues.borrow();
            let slot = &queues.slots[self.slot];
            if slot.waiting == Some(Waiting::AtRest) {
                return Duration::from_millis(self.idle.places.now_ms().saturating_sub(slot.since_ms));
            }
        }
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
        answers == 0 && !blocked && (heard != Heard::Part || self.call.from.get() == Some(Waiting::ForHead))
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

/// Queues through one table of slots, one for each thing that is waited for.
#[derive(Debug)]
struct Queues {
    slots: Vec<Slot>,
    unused: Vec<usize>,
    ends: [Ends; 3],
}

#[derive(Debug)]
struct Slot {
    call: Option<Rc<Call>>,
    waiting: Option<Waiting>,
    since_ms: u64,
    before: usize,
    after: usize,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: usize,
    last: usize,
}

/// How long a connection is idle before it rests: an agent that takes one file after the other asks sooner, and what it gave up would
/// be made again for each.
const REST_AFTER_MS: u64 = 1000;

/// From one look at who may rest to the next.
const ROUND: Duration = Duration::from_millis(500);

/// In place of a slot's number: there is none.
const NONE: usize = usize::MAX;

impl Default for Queues {
    fn default() -> Self {
        Self { slots: Vec::new(), unused: Vec::new(), ends: [Ends { first: NONE, last: NONE }; 3] }
    }
}

impl Queues {
    fn enter(&mut self, call: Rc<Call>) -> usize {
        let slot = Slot { call: Some(call), waiting: None, since_ms: 0, before: NONE, after: NONE };
        if let Some(at) = self.unused.pop() {
            self.slots[at] = slot;
            return at;
        }
        self.slots.push(slot);
        self.slots.len() - 1
    }

    fn remove(&mut self, at: usize) {
        self.leave(at);
        self.slots[at].call = None;
        self.unused.push(at);
    }

    fn waiting(&self, at: usize) -> Option<Waiting> {
        self.slots[at].waiting
    }

    fn since_ms(&self, waiting: Waiting) -> u64 {
        self.slots.get(self.ends[waiting as usize].first).map_or(NOBODY, |slot| slot.since_ms)
    }

    /// Since when whoever waits longest for a byte has. Who rests was idle before all who do not.
    fn idle_since_ms(&self) -> u64 {
        self.since_ms(Waiting::AtRest).min(self.since_ms(Waiting::ForByte))
    }

    /// Tells those to rest who have waited for a byte for long enough. Who has nothing to give up does not listen.
    fn let_rest(&mut self, now_ms: u64) {
        while let Some(slot) = self.slots.get(self.ends[Waiting::ForByte as usize].first)
            && now_ms.saturating_sub(slot.since_ms) >= REST_AFTER_MS
        {
            let (at, since_ms) = (self.ends[Waiting::ForByte as usize].first, slot.since_ms);
            if let Some(call) = &slot.call {
                call.rest.notify_one();
            }
            self.leave(at);
            self.join(at, Waiting::AtRest, since_ms);
        }
    }

    fn join(&mut self, at: usize, waiting: Waiting, now_ms: u64) {
        let ends = &mut self.ends[waiting as usize];
        let last = std::mem::replace(&mut ends.last, at);
        if last == NONE {
            ends.first = at;
        } else {
            self.slots[last].after = at;
        }
        let slot = &mut self.slots[at];
        (slot.waiting, slot.since_ms) = (Some(waiting), now_ms);
        (slot.before, slot.after) = (last, NONE);
    }

    fn leave(&mut self, at: usize) {
        let Slot { before, after, .. } = self.slots[at];
        let Some(waiting) = self.slots[at].waiting.take() else { return };
        let ends = &mut self.ends[waiting as usize];
        if before == NONE {
            ends.first = after;
        } else {
            self.slots[before].after = after;
        }
        if after == NONE {
            self.ends[waiting as usize].last = before;
        } else {
            self.slots[after].before = before;
        }
    }

    /// Takes out whoever has waited longest for a byte; where nobody has for long enough, for a head that is overdue.
    fn pop(&mut self, now_ms: u64) -> Option<(Rc<Call>, Waiting)> {
        let after = |grace_ms: u64, waiting: Waiting| {
            (now_ms.saturating_sub(self.since_ms(waiting)) >= grace_ms).then_some(waiting)
        };
        let resting = after(IDLE_GRACE_MS, Waiting::AtRest);
        let idle = resting.or_else(|| after(IDLE_GRACE_MS, Waiting::ForByte));
        let waiting = idle.or_else(|| after(HEAD_GRACE_MS, Waiting::ForHead))?;
        let first = self.ends[waiting as usize].first;
        let call = self.slots.get(first)?.call.clone()?;
        self.leave(first);
        Some((call, waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::base::clock::SystemClock;

    fn idle() -> Rc<Idle> {
        let places = Places::new(9, 1, Arc::default(), Arc::new(SystemClock::default()));
        Idle::new(Arc::new(places), 0)
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

    #[test]
    fn queues_are_those_of_a_plain_list_whatever_happens() {
        let mut queues = Queues::default();
        let mut model: Vec<(usize, Waiting)> = Vec::new();
        let slots: Vec<_> = (0..8).map(|_| queues.enter(Rc::default())).collect();
        let mut seed = 1u64;
        for step in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = slots[usize::try_from(seed >> 40).unwrap() % slots.len()];
            let waiting = if seed >> 63 == 0 { Waiting::ForByte } else { Waiting::ForHead };
            match (seed >> 33) % 3 {
                0 => {
                    queues.leave(at);
                    queues.join(at, waiting, step);
                    model.retain(|one| one.0 != at);
                    model.push((at, waiting));
                }
                1 => {
                    queues.leave(at);
                    model.retain(|one| one.0 != at);
                }
                _ => {
                    let popped = queues.pop(u64::MAX).is_some();
                    let first = model.iter().position(|one| one.1 == Waiting::ForByte);
                    let first = first.or((!model.is_empty()).then_some(0));
                    assert_eq!(popped, first.map(|first| model.remove(first)).is_some());
                }
            }
            for (slot, waiting) in slots.iter().map(|&at| (at, queues.waiting(at))) {
                assert_eq!(waiting, model.iter().find(|one| one.0 == slot).map(|one| one.1));
            }
        }
    }
}
