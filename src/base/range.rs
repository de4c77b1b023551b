//! A run of bytes, and how it is counted.
//!
//! Invariant: `start <= end`; `end` is the first byte that no longer belongs.

use std::ops::Range;

/// The bytes from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The bytes from `start` up to `end`; an end before the start gives the empty range at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// All bytes of something `len` bytes long.
    pub fn whole(len: u64) -> Self {
        Self { start: 0, end: len }
    }

    /// The first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether no byte is in it.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The first `count` bytes, all where there are not more.
    #[must_use]
    pub fn first(self, count: u64) -> Self {
        Self { start: self.start, end: self.end.min(self.start.saturating_add(count)) }
    }

    /// What is left after the first `count` bytes.
    #[must_use]
    pub fn advanced(self, count: u64) -> Self {
        Self { start: self.start.saturating_add(count).min(self.end), end: self.end }
    }
}

impl From<Range<u64>> for ByteRange {
    fn from(range: Range<u64>) -> Self {
        Self::new(range.start, range.end)
    }
}
