//! How many bytes the data folder takes on its disk, and the quota that it stays within (R1.8).
//!
//! Whatever takes room holds a [`Taken`] from before its first byte is written until after its last one is removed. Never
//! removes anything: that is the relay's, which knows what is named. Invariant: a reservation is given only where the sum
//! stays within the quota with a margin for what is small and cannot wait: journals, manifests and the index.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

/// What of a quota is kept for what is noted and not reserved: a 32nd, within these bounds.
const MARGIN_BYTES_MIN: u64 = 8 << 20;
const MARGIN_BYTES_MAX: u64 = 256 << 20;

/// What file systems give out at a time.
const BLOCK_BYTES: u64 = 4096;

/// The room of one data folder; clones are the same room.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    quota: Option<u64>,
    /// Wider than a size: without a quota, files whose manifest says absurd sizes are added up as well.
    taken: u128,
}

/// Bytes that are taken, given back when this is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Room,
    bytes: u64,
}

/// There is no room within the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the quota leaves no room: {missing} bytes more are needed")]
pub struct NoRoom {
    /// How many bytes must go before there is.
    pub missing: u64,
}

impl Room {
    /// Takes another quota; `None` is as much as the disk has.
    pub fn set_quota(&self, quota: Option<u64>) {
        self.sums().quota = quota;
    }

    /// The quota.
    pub fn quota(&self) -> Option<u64> {
        self.sums().quota
    }

    /// How many bytes are taken or reserved.
    pub fn taken(&self) -> u64 {
        u64::try_from(self.sums().taken).unwrap_or(u64::MAX)
    }

    /// How many bytes must go so that so many more can be reserved; 0 where they can be.
    pub fn missing(&self, bytes: u64) -> u64 {
        self.sums().missing(bytes)
    }

    /// Reserves bytes that are to be written.
    pub fn reserve(&self, bytes: u64) -> Result<Taken, NoRoom> {
        let mut taken = self.note(0);
        taken.grow(bytes)?;
        Ok(taken)
    }

    /// Notes bytes that are there, or that cannot wait.
    pub fn note(&self, bytes: u64) -> Taken {
        self.sums().taken += u128::from(bytes);
        Taken { room: self.clone(), bytes }
    }

    /// Notes that bytes which were [kept](Taken::keep) are gone.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut sums = self.sums();
        sums.taken = sums.taken.saturating_sub(bytes.into());
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn missing(&self, bytes: u64) -> u64 {
        let Some(quota) = self.quota else { return 0 };
        let margin = (quota / 32).clamp(MARGIN_BYTES_MIN, MARGIN_BYTES_MAX);
        let missing = (self.taken + u128::from(bytes) + u128::from(margin)).saturating_sub(quota.into());
        u64::try_from(missing).unwrap_or(u64::MAX)
    }
}

impl Taken {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves what is missing to so many bytes.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.bytes);
        let mut sums = self.room.sums();
        match sums.missing(more) {
            0 => {
                sums.taken += u128::from(more);
                self.bytes += more;
                Ok(())
            }
            missing if more > 0 => Err(NoRoom { missing }),
            _ => Ok(()),
        }
    }

    /// Notes that it is so many bytes now.
    pub fn set(&mut self, bytes: u64) {
        let mut sums = self.room.sums();
        sums.taken = (sums.taken + u128::from(bytes)).saturating_sub(self.bytes.into());
        self.bytes = bytes;
    }

    /// Hands the bytes over.
    pub(super) fn take(&mut self) -> Self {
        Self { room: self.room.clone(), bytes: std::mem::take(&mut self.bytes) }
    }

    /// Leaves the bytes taken until they are given back.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// What a file of so many bytes takes on the disk.
pub fn on_disk(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::QUOTA_BYTES_MIN;

    const MIB: u64 = 1 << 20;

    #[derive(Clone, Debug)]
    enum Act {
        Reserve(u64),
        Grow(usize, u64),
        Shrink(usize, u64),
        Keep(usize),
        GiveBack,
        Drop(usize),
        Quota(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..40 * MIB).prop_map(Act::Reserve),
            (0..4 * MIB).prop_map(Act::Reserve),
            (0usize..8, 0..60 * MIB).prop_map(|(which, bytes)| Act::Grow(which, bytes)),
            (0usize..8, 0..40 * MIB).prop_map(|(which, bytes)| Act::Shrink(which, bytes)),
            (0usize..8).prop_map(Act::Keep),
            Just(Act::GiveBack),
            (0usize..8).prop_map(Act::Drop),
            (64..200 * MIB).prop_map(|quota| Act::Quota(quota.max(QUOTA_BYTES_MIN))),
        ]
    }

    #[test]
    fn absurd_sizes_are_counted_without_a_quota_and_refused_with_one_r1_8() {
        let room = Room::default();
        room.note(MIB).keep();
        let absurd = [room.reserve(u64::MAX).unwrap(), room.reserve(on_disk(u64::MAX)).unwrap()];
        assert_eq!(room.taken(), u64::MAX);
        room.set_quota(Some(100 * MIB));
        assert_eq!(room.missing(u64::MAX), u64::MAX);
        drop(absurd);
        assert_eq!(room.taken(), MIB, "what is there is still known");
        assert!(room.reserve(u64::MAX).is_err() && room.reserve(MIB).is_ok());
    }

    proptest! {
        /// The model keeps a list of numbers; the room must agree with their sum, and never reserve beyond the quota.
        #[test]
        fn the_sum_is_what_is_held_and_reservations_stay_within_the_quota_r1_8(
            acts in prop::collection::vec(act(), 1..60),
        ) {
            let room = Room::default();
            room.set_quota(Some(100 * MIB));
            let (mut held, mut kept): (Vec<Taken>, Vec<u64>) = (Vec::new(), Vec::new());
            for act in acts {
                let before = room.taken();
                match act {
                    Act::Reserve(bytes) => match room.reserve(bytes) {
                        Ok(taken) => held.push(taken),
                        Err(NoRoom { missing }) => {
                            prop_assert!(missing > 0 && room.missing(bytes) == missing);
                        }
                    },
                    Act::Grow(which, bytes) if which < held.len() => {
                        let _ = held[which].grow(bytes);
                    }
                    Act::Shrink(which, bytes) if which < held.len() => {
                        let bytes = bytes.min(held[which].bytes());
                        held[which].set(bytes);
                    }
                    Act::Keep(which) if which < held.len() => {
                        let taken = held.remove(which);
                        kept.push(taken.bytes());
                        taken.keep();
                    }
                    Act::GiveBack => {
                        if let Some(bytes) = kept.pop() {
                            room.give_back(bytes);
                        }
                    }
                    Act::Drop(which) if which < held.len() => drop(held.remove(which)),
                    Act::Quota(quota) => room.set_quota(Some(quota)),
                    _ => {}
                }
                let sum = held.iter().map(Taken::bytes).sum::<u64>() + kept.iter().sum::<u64>();
                prop_assert_eq!(room.taken(), sum);
                let quota = room.quota().unwrap();
                prop_assert!(sum <= before || sum <= quota, "{} of {}", sum, quota);
            }
        }
    }
}
