//! Choices that a seed decides (SplitMix64): the same seed makes the same choices, as far as threads allow.

use std::ops::Range;

/// A run of choices.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The run of a seed, one of several.
    pub(super) fn new(seed: u64, run: u64) -> Self {
        Self(seed ^ (run + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range that is not empty.
    pub(super) fn within(&mut self, range: Range<usize>) -> usize {
        let count = (range.end - range.start) as u64;
        range.start + usize::try_from(self.number() % count).unwrap()
    }

    /// One of several.
    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.within(0..all.len())]
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.within(0..times) == 0
    }
}
