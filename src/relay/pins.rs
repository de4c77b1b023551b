//! Which generation an agent is on: that of the manifest it last took, for an hour (R1.4).
//!
//! A fixed table of 8-byte slots in sets of four, without locks: an agent's set comes from its hash, the oldest slot of a
//! full set gives way. Invariant: the table never grows; what is lost or mistaken costs an agent only that it is served
//! from the current generation, or from another kept one.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;

use crate::base::limits::{PIN_SECS, PINS_MAX};
use crate::base::tree::GenerationNumber;

const WAYS: usize = 4;
const TAG_BITS: u32 = 20;
const TIME_BITS: u32 = 24;
const NUMBER_BITS: u32 = 20;

/// The table of one tree.
#[derive(Debug)]
pub struct Pins {
    hash: RandomState,
    slots: Box<[AtomicU64]>,
}

/// One slot: a tag of the agent, when it took the manifest (seconds), the generation's number; 0 is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    tag: u64,
    taken_secs: u64,
    number: u64,
}

impl Slot {
    fn pack(self) -> u64 {
        (self.tag << (TIME_BITS + NUMBER_BITS)) | (self.taken_secs << NUMBER_BITS) | self.number
    }

    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self {
            tag: packed >> (TIME_BITS + NUMBER_BITS),
            taken_secs: (packed >> NUMBER_BITS) & low(TIME_BITS),
            number: packed & low(NUMBER_BITS),
        })
    }

    /// Seconds since it was taken, with the clock's 24 bits (194 days) running over.
    fn age_secs(self, now_secs: u64) -> u64 {
        now_secs.wrapping_sub(self.taken_secs) & low(TIME_BITS)
    }
}

impl Default for Pins {
    fn default() -> Self {
        let slots = (0..PINS_MAX).map(|_| AtomicU64::new(0)).collect();
        Self { hash: RandomState::default(), slots }
    }
}

impl Pins {
    /// Notes that an agent took the manifest of a generation. `now_secs` is monotonic.
    pub fn set(&self, agent: impl std::hash::Hash, number: GenerationNumber, now_secs: u64) {
        let (tag, set) = self.place(agent);
        let pinned = Slot { tag, taken_secs: now_secs & low(TIME_BITS), number: number.0 & low(NUMBER_BITS) };
        let slots = set.iter().map(|slot| Slot::unpack(slot.load(Ordering::Relaxed)));
        let own_or_oldest = slots.enumerate().max_by_key(|(_, slot)| match slot {
            Some(slot) if slot.tag == tag => u64::MAX,
            None => u64::MAX - 1,
            Some(slot) => slot.age_secs(now_secs),
        });
        let (index, _) = own_or_oldest.expect("a set has four slots");
        set[index].store(pinned.pack(), Ordering::Relaxed);
    }

    /// The generation an agent is on, if it took a manifest in the last hour. Only the low 20 bits of the number are
    /// kept: compare with [`Pins::same`].
    pub fn find(&self, agent: impl std::hash::Hash, now_secs: u64) -> Option<u64> {
        let (tag, set) = self.place(agent);
        set.iter()
            .filter_map(|slot| Slot::unpack(slot.load(Ordering::Relaxed)))
            .find(|slot| slot.tag == tag && slot.age_secs(now_secs) <= PIN_SECS)
            .map(|slot| slot.number)
    }

    /// Whether what [`Pins::find`] gave is this generation.
    pub fn same(found: u64, number: GenerationNumber) -> bool {
        found == number.0 & low(NUMBER_BITS)
    }

    fn place(&self, agent: impl std::hash::Hash) -> (u64, &[AtomicU64]) {
        let hash = self.hash.hash_one(agent);
        // A tag is never 0, so a slot in use never is.
        let tag = (hash >> (64 - TAG_BITS)).max(1);
        let sets = self.slots.len() / WAYS;
        let set = usize::try_from(hash & low(TIME_BITS + NUMBER_BITS)).unwrap_or(0) % sets;
        (tag, &self.slots[set * WAYS..(set + 1) * WAYS])
    }
}

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_stays_on_the_generation_it_last_took_for_an_hour_r1_4() {
        let pins = Pins::default();
        pins.set("a", GenerationNumber(7), 1_000);
        pins.set("b", GenerationNumber(8), 1_000);
        assert_eq!(pins.find("a", 1_000 + PIN_SECS), Some(7));
        assert_eq!(pins.find("a", 1_001 + PIN_SECS), None);
        pins.set("a", GenerationNumber(8), 2_000);
        assert_eq!(pins.find("a", 2_000), Some(8));
        assert_eq!(pins.find("c", 2_000), None);
    }

    #[test]
    fn more_agents_than_slots_push_out_the_oldest_and_nothing_grows() {
        let pins = Pins::default();
        let agents = 2 * PINS_MAX as u64;
        for agent in 0..agents {
            pins.set(agent, GenerationNumber(1 + agent % 1_000), agent / 1_000);
        }
        let now = agents / 1_000;
        let recent = (agents - 1_000..agents).filter(|agent| pins.find(*agent, now).is_some()).count();
        assert!(recent > 990, "{recent} of the last 1000 are known");
        let old = (0..1_000).filter(|agent| pins.find(*agent, now) == Some(1 + *agent % 1_000)).count();
        assert!(old < 500, "{old} of the first 1000 are known");
    }
}
