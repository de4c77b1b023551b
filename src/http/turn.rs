//! How much of its body a connection gives before the others of its worker have their turn.
//!
//! A connection is one task, and tasks have their turns in the order in which they were woken: whoever asks next waits for a turn of
//! each who was there before. So turns are as large as a socket may want while few bodies are under way, and share a round while many
//! are. Never reads a byte. Invariant: in a round, a turn of each body under way, all together give no more than
//! [`BODY_ROUND_BYTES`], or than the least that a turn has each.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::base::limits::{
    BODY_FIRST_TURN_BYTES_MIN, BODY_ROUND_BYTES, BODY_TURN_BYTES, BODY_TURN_BYTES_MIN,
};

/// The bodies under way on one worker.
#[derive(Debug, Default)]
pub struct Turns {
    under_way: Cell<u64>,
}

/// A connection's turns.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    number: Cell<u64>,
    /// How many bytes were given in this one.
    given: Cell<u64>,
}

/// A body's part of its connection's turns; it is under way until this is dropped.
#[derive(Debug)]
pub struct Share {
    turn: Rc<Turn>,
    /// The least that it had in the last turn in which it gave something.
    least: u64,
    /// Which turn that was; none has the number 0.
    last: u64,
}

impl Turns {
    /// How many bytes a turn has.
    fn turn_bytes(&self, least: u64) -> u64 {
        (BODY_ROUND_BYTES / self.under_way.get().max(1)).clamp(least, BODY_TURN_BYTES)
    }
}

impl Turn {
    /// The turns of a connection of this worker.
    pub fn new(turns: Rc<Turns>) -> Self {
        Self { turns, number: Cell::default(), given: Cell::default() }
    }

    /// Begins the next one: the connection's task runs.
    pub fn begin(&self) {
        self.number.set(self.number.get() + 1);
        self.given.set(0);
    }
}

impl Share {
    /// A body that is under way from here on.
    pub fn of(turn: Rc<Turn>) -> Self {
        turn.turns.under_way.set(turn.turns.under_way.get() + 1);
        Self { turn, least: BODY_FIRST_TURN_BYTES_MIN, last: 0 }
    }

    /// How many bytes may be given in this turn; where none are left, the body is asked again in the next one.
    pub fn poll_left(&self, cx: &Context<'_>) -> Poll<u64> {
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
        let Turn { number, given, .. } = &*self.turn;
        given.set(given.get() + bytes);
        self.least = self.least_now();
        self.last = number.get();
    }

    fn least_now(&self) -> u64 {
        let goes_on = self.last == 0 || self.last == self.turn.number.get();
        if goes_on { self.least } else { (2 * self.least).min(BODY_TURN_BYTES_MIN) }
    }
}

/// Has every task that is ready now run before this one goes on.
pub async fn let_others_in() {
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

impl Drop for Share {
    fn drop(&mut self) {
        let under_way = &self.turn.turns.under_way;
        under_way.set(under_way.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Bodies of as many connections of one worker.
    fn shares(count: usize) -> Vec<Share> {
        let turns = Rc::new(Turns::default());
        (0..count).map(|_| Share::of(Rc::new(Turn::new(turns.clone())))).collect()
    }

    /// What a body gives in one turn, a chunk at a time.
    fn turn(share: &mut Share) -> u64 {
        share.turn.begin();
        let mut given = 0;
        while let Poll::Ready(left) = share.poll_left(&Context::from_waker(Waker::noop())) {
            share.gave(left.min(10_000));
            given += left.min(10_000);
        }
        given
    }

    #[test]
    fn a_body_alone_has_whole_turns_from_its_first_byte_on() {
        let mut alone = shares(1).remove(0);
        assert_eq!([turn(&mut alone), turn(&mut alone)], [BODY_TURN_BYTES; 2]);
    }

    #[test]
    fn a_round_of_any_number_of_bodies_stays_within_its_bytes_or_the_least_of_each() {
        for count in [1, 2, 7, 8, 9, 100, 256, 257, 2000] {
            let mut shares = shares(count);
            for least in [16, 32, 64, 128, 128].map(|kib| kib << 10) {
                let turns: Vec<_> = shares.iter_mut().map(turn).collect();
                let round: u64 = turns.iter().sum();
                assert!(round <= BODY_ROUND_BYTES.max(least * count as u64), "{count}: {round}");
                assert!(turns.iter().all(|bytes| *bytes == turns[0] && *bytes >= least), "{count}");
            }
        }
    }

    #[test]
    fn turns_grow_again_when_others_end_and_one_connection_has_one_turn_for_all_its_bodies() {
        let mut many = shares(2000);
        let first = [(); 5].map(|()| turn(&mut many[0]) >> 10);
        assert_eq!(first, [16, 32, 64, 128, 128]);
        many.truncate(1);
        assert_eq!(turn(&mut many[0]), BODY_TURN_BYTES);
        let next = Share::of(many[0].turn.clone());
        assert!(next.poll_left(&Context::from_waker(Waker::noop())).is_pending(), "the turn is used up");
    }
}
