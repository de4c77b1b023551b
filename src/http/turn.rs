//! How much of its body a connection gives before the others of its worker have their turn.
//!
//! A connection is one task, and tasks have their turns in the order in which they were woken: whoever asks next waits for a turn of
//! each who was there before. So turns are as large as a socket may want while few bodies are under way, and share a round while many
//! are; and who had a turn lets others have their first. Never reads a byte. Invariant: in a round, a turn of each body under way, all
//! together give no more than [`BODY_ROUND_BYTES`], or than the least that a turn has each.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::limits::{
    BODY_FIRST_TURN_BYTES_MIN, BODY_ROUND_BYTES, BODY_TURN_BYTES, BODY_TURN_BYTES_MIN,
};

/// The bodies under way on one worker.
#[derive(Debug, Default)]
pub struct Turns {
    /// Those that are asked for count.
    under_way: Cell<u64>,
    /// How many had their first turn so far.
    begun: Cell<u64>,
    /// The tasks whose next turn was put off while first turns are had, and how often they were let go on.
    put_off: RefCell<Vec<Waker>>,
    let_go_on: Cell<u64>,
}

/// A connection's turns.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    number: Cell<u64>,
    /// How many bytes were given in this one.
    given: Cell<u64>,
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
    /// The least that it had in the last turn in which it gave something.
    least: u64,
    /// Which turn that was; none has the number 0.
    last: u64,
    next: Next,
}

/// When a body has its next turn.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// When it is asked, unless others had their first turn since so many had.
    Now { begun: u64 },
    /// When all that were put off are let go on, after so many times.
    PutOff { let_go_on: u64 },
}

impl Turns {
    /// How many bytes a turn has.
    fn turn_bytes(&self, least: u64) -> u64 {
        let part = BODY_ROUND_BYTES / self.under_way.get().max(1);
        if part < BODY_TURN_BYTES_MIN { least } else { part.min(BODY_TURN_BYTES) }
    }

    /// Whether so many bodies are under way that each begins with the least.
    fn is_crowded(&self) -> bool {
        self.turn_bytes(0) == 0
    }

    fn one_more(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    fn one_less(&self) {
        self.under_way.set(self.under_way.get() - 1);
    }

    /// Has a task woken when first turns are over.
    fn put_off(self: &Rc<Self>, waker: Waker) {
        let mut put_off = self.put_off.borrow_mut();
        put_off.push(waker);
        if put_off.len() == 1 {
            // One task looks for all: a crowd that is asked again and again has no time left for those who come.
            tokio::task::spawn_local(self.clone().look());
        }
    }

    /// Lets all go on that were put off once nobody has had a first turn while every ready task ran, or enough have.
    async fn look(self: Rc<Self>) {
        let since = self.begun.get();
        loop {
            let before = self.begun.get();
            let_others_in().await;
            let begun = self.begun.get();
            if begun == before || begun - since >= FIRST_TURNS_MAX {
                break;
            }
        }
        self.let_go_on.set(self.let_go_on.get() + 1);
        self.put_off.take().into_iter().for_each(Waker::wake);
    }
}

impl Turn {
    /// The turns of a connection of this worker.
    pub fn new(turns: Rc<Turns>) -> Self {
        Self { turns, number: Cell::default(), given: Cell::default() }
    }

    /// Notes that a request is being answered.
    pub fn asked(self: &Rc<Self>) -> Asking {
        self.turns.one_more();
        Asking { turn: self.clone(), number: self.number.get() }
    }

    /// Begins the next one: the connection's task runs.
    pub fn begin(&self) {
        self.number.set(self.number.get() + 1);
        self.given.set(0);
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
        Self { turn, least: BODY_FIRST_TURN_BYTES_MIN, last: 0, next: Next::Now { begun: 0 } }
    }

    /// How many bytes may be given in this turn; where none are left, or the turn is put off, the body is asked again in a later one.
    pub fn poll_left(&mut self, cx: &Context<'_>) -> Poll<u64> {
        if self.is_put_off(cx) {
            return Poll::Pending;
        }
        match self.turn.turns.turn_bytes(self.least_now()).saturating_sub(self.turn.given.get()) {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            left => Poll::Ready(left),
        }
    }

    /// Notes that so many were given.
    pub fn gave(&mut self, bytes: u64) {
        let Turn { turns, number, given } = &*self.turn;
        given.set(given.get() + bytes);
        self.least = self.least_now();
        if self.last == 0 {
            turns.begun.set(turns.begun.get() + 1);
        }
        (self.last, self.next) = (number.get(), Next::Now { begun: turns.begun.get() });
    }

    /// Whether this turn is put off: where others had their first one since this body had its last, more may be about to.
    fn is_put_off(&mut self, cx: &Context<'_>) -> bool {
        let Turn { turns, number, .. } = &*self.turn;
        let (begun, let_go_on) = (turns.begun.get(), turns.let_go_on.get());
        let begins_or_goes_on = self.last == 0 || self.last == number.get();
        match self.next {
            Next::Now { begun: before } if begins_or_goes_on || before == begun => false,
            Next::Now { .. } => {
                turns.put_off(cx.waker().clone());
                self.next = Next::PutOff { let_go_on };
                true
            }
            Next::PutOff { let_go_on: before } if before == let_go_on => true,
            Next::PutOff { .. } => {
                self.next = Next::Now { begun };
                false
            }
        }
    }

    fn least_now(&self) -> u64 {
        let goes_on = self.last == 0 || self.last == self.turn.number.get();
        if goes_on { self.least } else { (2 * self.least).min(BODY_TURN_BYTES_MIN) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
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

/// First turns for which the others wait at most: a round of the smallest. Many who come one after the other hold nobody up for long.
const FIRST_TURNS_MAX: u64 = BODY_ROUND_BYTES / BODY_FIRST_TURN_BYTES_MIN;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    /// Bodies of as many connections of one worker.
    fn shares(count: usize) -> Vec<Share> {
        let turns = Rc::new(Turns::default());
        (0..count).map(|_| Share::of(Rc::new(Turn::new(turns.clone())))).collect()
    }

    /// What a body gives in one turn, a chunk at a time; one that is put off is none.
    async fn turn(share: &mut Share) -> u64 {
        let mut given = 0;
        while given == 0 {
            share.turn.begin();
            while let Poll::Ready(left) = left(share) {
                share.gave(left.min(10_000));
                given += left.min(10_000);
            }
            let_others_in().await;
        }
        given
    }

    /// The next turn of each of several.
    async fn turns(shares: &mut [Share]) -> Vec<u64> {
        let mut given = Vec::new();
        for share in shares {
            given.push(turn(share).await);
        }
        given
    }

    fn left(share: &mut Share) -> Poll<u64> {
        share.poll_left(&Context::from_waker(Waker::noop()))
    }

    /// Whether a body is put off in its next turn, however often it is asked.
    fn is_put_off(share: &mut Share) -> bool {
        share.turn.begin();
        let asked = [left(share).is_pending(), left(share).is_pending()];
        assert_eq!(asked[0], asked[1]);
        asked[0]
    }

    /// Runs a test as a task among those that it starts.
    fn on_a_worker(test: impl Future<Output = ()> + 'static) {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async { tokio::task::spawn_local(test).await.unwrap() });
    }

    #[test]
    fn a_body_alone_has_whole_turns_from_its_first_byte_on() {
        on_a_worker(async {
            let mut alone = shares(1).remove(0);
            assert_eq!([turn(&mut alone).await, turn(&mut alone).await], [BODY_TURN_BYTES; 2]);
        });
    }

    #[test]
    fn a_round_of_any_number_of_bodies_stays_within_its_bytes_or_the_least_of_each() {
        on_a_worker(async {
            for count in [1, 2, 7, 8, 9, 100, 256, 257, 2000] {
                let mut shares = shares(count);
                for least in [8, 16, 32, 64, 128, 128].map(|kib| kib << 10) {
                    let turns = turns(&mut shares).await;
                    let round: u64 = turns.iter().sum();
                    assert!(round <= BODY_ROUND_BYTES.max(least * count as u64), "{count}: {round}");
                    assert!(turns.iter().all(|bytes| *bytes == turns[0] && *bytes >= least), "{count}");
                }
            }
        });
    }

    #[test]
    fn turns_grow_again_when_others_end_and_one_connection_has_one_turn_for_all_its_bodies() {
        on_a_worker(async {
            let mut many = shares(2000);
            let mut first = Vec::new();
            for _ in 0..6 {
                first.push(turn(&mut many[0]).await >> 10);
            }
            assert_eq!(first, [8, 16, 32, 64, 128, 128]);
            many.truncate(1);
            assert_eq!(turn(&mut many[0]).await, BODY_TURN_BYTES);
            let mut next = Share::of(many[0].turn.clone());
            assert!(left(&mut next).is_pending(), "the turn is used up");
        });
    }

    #[test]
    fn who_had_a_turn_waits_while_others_have_their_first_but_not_for_ever() {
        on_a_worker(async {
            let mut first = shares(1).remove(0);
            let turns = first.turn.turns.clone();
            let newcomer = || Share::of(Rc::new(Turn::new(turns.clone())));
            let mut second = newcomer();
            turn(&mut first).await;
            assert!(!is_put_off(&mut first), "nobody began since");
            assert!(!is_put_off(&mut second), "it is its first");
            turn(&mut second).await;
            assert!(is_put_off(&mut first));
            // While others come it waits for a round of them, and not at all once none comes.
            let mut came = 0;
            while is_put_off(&mut first) {
                turn(&mut newcomer()).await;
                came += 1;
            }
            assert!((FIRST_TURNS_MAX..FIRST_TURNS_MAX + 5).contains(&came), "{came}");
            turn(&mut first).await;
            turn(&mut newcomer()).await;
            assert!(is_put_off(&mut first));
            let_others_in().await;
            let_others_in().await;
            let_others_in().await;
            assert!(!is_put_off(&mut first), "no more came");
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
        turn.begin();
        assert!(!lets_in(waited));
        let many: Vec<_> = (0..2000).map(|_| turn.asked()).collect();
        assert!(!lets_in(turn.asked()), "it is one of a crowd");
        drop(many);
        assert!(lets_in(turn.asked()));
        assert_eq!(turn.turns.under_way.get(), 0);
    }
}
