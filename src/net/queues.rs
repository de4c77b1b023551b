//! Connections of one worker that wait, in the order in which they began to: a queue for each thing that is waited for, all through one
//! table of slots, so that to join and to leave is a few writes.
//!
//! Never tells anybody to go. Invariant: a connection is in one queue at most.

use std::rc::Rc;

use crate::net::call::{Call, Word};
use crate::net::places::{HEAD_GRACE_MS, IDLE_GRACE_MS, NOBODY};

/// Queues through one table of slots, one for each thing that is waited for.
#[derive(Debug)]
pub(super) struct Queues {
    slots: Vec<Slot>,
    unused: Vec<usize>,
    ends: [Ends; 3],
}

/// What a connection without a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The first byte of something.
    ForByte,
    /// The same, for so long that it was told to rest.
    AtRest,
    /// The rest of a head, or of what comes before it.
    ForHead,
}

#[derive(Debug)]
struct Slot {
    call: Option<Rc<Call>>,
    waiting: Option<Waiting>,
    /// What it waited for when it was taken out to be told to go.
    taken_from: Option<Waiting>,
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
pub(super) const REST_AFTER_MS: u64 = 1000;

/// In place of a slot's number: there is none.
const NONE: usize = usize::MAX;

impl Default for Queues {
    fn default() -> Self {
        Self { slots: Vec::new(), unused: Vec::new(), ends: [Ends { first: NONE, last: NONE }; 3] }
    }
}

impl Queues {
    pub(super) fn enter(&mut self, call: Rc<Call>) -> usize {
        let slot = Slot {
            call: Some(call),
            waiting: None,
            taken_from: None,
            since_ms: 0,
            before: NONE,
            after: NONE,
        };
        if let Some(at) = self.unused.pop() {
            self.slots[at] = slot;
            return at;
        }
        self.slots.push(slot);
        self.slots.len() - 1
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.leave(at);
        self.slots[at].call = None;
        self.unused.push(at);
    }

    /// Tells everybody that the relay stops.
    pub(super) fn stop(&self) {
        self.slots.iter().filter_map(|slot| slot.call.as_ref()).for_each(|call| call.tell(Word::Stop));
    }

    pub(super) fn waiting(&self, at: usize) -> Option<Waiting> {
        self.slots[at].waiting
    }

    /// What a connection waited for when it was taken out last.
    pub(super) fn taken_from(&self, at: usize) -> Option<Waiting> {
        self.slots[at].taken_from
    }

    /// Since when a connection has been idle that rests; `None` where it does not.
    pub(super) fn resting_since_ms(&self, at: usize) -> Option<u64> {
        let slot = &self.slots[at];
        (slot.waiting == Some(Waiting::AtRest)).then_some(slot.since_ms)
    }

    /// Since when whoever waits longest for something has; [`NOBODY`] where nobody does.
    pub(super) fn since_ms(&self, waiting: Waiting) -> u64 {
        self.slots.get(self.ends[waiting as usize].first).map_or(NOBODY, |slot| slot.since_ms)
    }

    /// Since when whoever waits longest for a byte has. Who rests was idle before all who do not.
    pub(super) fn idle_since_ms(&self) -> u64 {
        self.since_ms(Waiting::AtRest).min(self.since_ms(Waiting::ForByte))
    }

    /// Tells those to rest who have waited for a byte for long enough. Who has nothing to give up does not listen.
    pub(super) fn let_rest(&mut self, now_ms: u64) {
        while let Some(slot) = self.slots.get(self.ends[Waiting::ForByte as usize].first)
            && now_ms.saturating_sub(slot.since_ms) >= REST_AFTER_MS
        {
            let (at, since_ms) = (self.ends[Waiting::ForByte as usize].first, slot.since_ms);
            if let Some(call) = &slot.call {
                call.tell(Word::Rest);
            }
            self.leave(at);
            self.join(at, Waiting::AtRest, since_ms);
        }
    }

    pub(super) fn join(&mut self, at: usize, waiting: Waiting, now_ms: u64) {
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

    pub(super) fn leave(&mut self, at: usize) {
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
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Rc<Call>> {
        let after = |grace_ms: u64, waiting: Waiting| {
            (now_ms.saturating_sub(self.since_ms(waiting)) >= grace_ms).then_some(waiting)
        };
        let resting = after(IDLE_GRACE_MS, Waiting::AtRest);
        let idle = resting.or_else(|| after(IDLE_GRACE_MS, Waiting::ForByte));
        let waiting = idle.or_else(|| after(HEAD_GRACE_MS, Waiting::ForHead))?;
        let first = self.ends[waiting as usize].first;
        let call = self.slots.get(first)?.call.clone()?;
        self.leave(first);
        self.slots[first].taken_from = Some(waiting);
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
