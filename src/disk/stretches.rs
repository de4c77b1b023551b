//! Which stretches of a file were in memory lately, so that those who send the same file one after the other need not ask the kernel
//! about each piece.
//!
//! Never asks by itself, and knows no clock. Invariant: what is said to be in memory was found there by a look that was made
//! [`LOOK_HOLDS`] before at most. What was not found there is not remembered, so that it is found as soon as it is.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::range::ByteRange;
use crate::disk::mapping::{LOOK_BYTES_MAX, LOOK_HOLDS, PAGE_BYTES};

/// What is known of a file's stretches: 8 bytes for each, made with the mapping, 2 KiB for 64 MiB.
#[derive(Debug)]
pub(super) struct Stretches {
    /// For each stretch that was found in memory, all of it: until when that holds, in milliseconds. Each stands for itself, and
    /// nothing else is known by it: workers read and write them in any order.
    until_ms: Box<[AtomicU64]>,
    len: u64,
}

impl Stretches {
    /// Those of a file of so many bytes. Nothing is known of it.
    pub(super) fn of(len: u64) -> Self {
        Self { until_ms: (0..len.div_ceil(STRETCH_BYTES)).map(|_| AtomicU64::new(0)).collect(), len }
    }

    /// How many bytes from the start of a run on are in memory, of [`LOOK_BYTES_MAX`] at most. What is not remembered is looked for:
    /// `look` says of each page from an offset on whether it is there. It is widened to whole stretches, so that they can be
    /// remembered however runs lie: by as much as one stretch.
    pub(super) fn resident_bytes(
        &self,
        run: ByteRange,
        now: Duration,
        look: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> u64 {
        let run = ByteRange::new(run.start(), run.first(LOOK_BYTES_MAX).end().min(self.len));
        if run.is_empty() {
            return 0;
        }
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let first = run.start() / STRETCH_BYTES;
        let stretches = &self.until_ms[index(first)..index(run.end().div_ceil(STRETCH_BYTES))];
        let holds = |until_ms: &AtomicU64| now_ms < until_ms.load(Ordering::Relaxed);
        let Some(known) = stretches.iter().position(|until_ms| !holds(until_ms)) else { return run.len() };
        let from = (first + known as u64) * STRETCH_BYTES;
        let to = run.end().next_multiple_of(STRETCH_BYTES).min(self.len);
        let mut pages = [0; LOOK_PAGES];
        let looked = &mut pages[..index((to - from).div_ceil(PAGE_BYTES))];
        if look(from, looked).is_err() {
            looked.fill(0);
        }
        let is_there = |page: &u8| page & 1 == 1;
        for (until_ms, pages) in stretches[known..].iter().zip(looked.chunks(STRETCH_PAGES)) {
            if pages.iter().all(is_there) {
                until_ms.store(now_ms.saturating_add(LOOK_HOLDS_MS), Ordering::Relaxed);
            }
        }
        let passed = run.start().saturating_sub(from) / PAGE_BYTES;
        let there = looked[index(passed)..].iter().take_while(|page| is_there(page)).count() as u64;
        (from + (passed + there) * PAGE_BYTES).min(run.end()).saturating_sub(run.start())
    }
}

/// What is remembered as one. Larger ones would have runs of few bytes looked for with much around them; smaller ones take more memory.
pub(super) const STRETCH_BYTES: u64 = 256 << 10;

#[allow(clippy::cast_possible_truncation, reason = "a second")]
const LOOK_HOLDS_MS: u64 = LOOK_HOLDS.as_millis() as u64;

#[allow(clippy::cast_possible_truncation, reason = "a few dozen")]
const STRETCH_PAGES: usize = (STRETCH_BYTES / PAGE_BYTES) as usize;

/// The pages of the stretches that a look begins and ends within.
#[allow(clippy::cast_possible_truncation, reason = "a few hundred")]
const LOOK_PAGES: usize = ((LOOK_BYTES_MAX + STRETCH_BYTES) / PAGE_BYTES) as usize;

fn index(count: u64) -> usize {
    usize::try_from(count).expect("what is mapped is addressable")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A file, some of whose pages are in memory, and when each was last.
    struct Model {
        stretches: Stretches,
        len: u64,
        now: Duration,
        resident: Vec<bool>,
        last: Vec<Option<Duration>>,
        looks: Cell<usize>,
    }

    impl Model {
        fn new(len: u64) -> Self {
            let pages = index(len.div_ceil(PAGE_BYTES));
            Self {
                stretches: Stretches::of(len),
                len,
                now: Duration::from_hours(30),
                resident: vec![false; pages],
                last: vec![None; pages],
                looks: Cell::new(0),
            }
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
            self.sees();
        }

        fn has(&mut self, run: ByteRange, is_there: bool) {
            let pages = self.resident.len();
            let (start, end) = (index(run.start() / PAGE_BYTES), index(run.end().div_ceil(PAGE_BYTES)));
            self.resident[start.min(pages)..end.min(pages)].fill(is_there);
            self.sees();
        }

        fn sees(&mut self) {
            for (last, _) in self.last.iter_mut().zip(&self.resident).filter(|(_, there)| **there) {
                *last = Some(self.now);
            }
        }

        fn told(&self, run: ByteRange) -> u64 {
            self.stretches.resident_bytes(run, self.now, |from, pages| {
                self.looks.set(self.looks.get() + 1);
                assert_eq!(from % STRETCH_BYTES, 0);
                let there = &self.resident[index(from / PAGE_BYTES)..];
                // What the other bits are is nobody's to rely on.
                pages.iter_mut().zip(there).for_each(|(page, there)| *page = 0xfe | u8::from(*there));
                assert!(pages.len() <= there.len(), "nothing beyond the file is asked for");
                Ok(())
            })
        }

        /// What of a run can be told of.
        fn within(&self, run: ByteRange) -> ByteRange {
            ByteRange::new(run.start(), run.first(LOOK_BYTES_MAX).end().min(self.len))
        }

        /// How many bytes from the start of a run on lie in pages of which something holds.
        fn bytes_while(&self, run: ByteRange, holds: impl Fn(usize) -> bool) -> u64 {
            let run = self.within(run);
            if run.is_empty() {
                return 0;
            }
            let mut pages = run.start() / PAGE_BYTES..run.end().div_ceil(PAGE_BYTES);
            let end = pages.find(|page| !holds(index(*page))).map_or(run.end(), |page| page * PAGE_BYTES);
            end.min(run.end()).saturating_sub(run.start())
        }

        /// Whether all stretches that a run lies in are in memory now.
        fn is_there_and_around(&self, run: ByteRange) -> bool {
            let run = self.within(run);
            let start = index(run.start() / STRETCH_BYTES) * STRETCH_PAGES;
            let end = index(run.end().div_ceil(STRETCH_BYTES)) * STRETCH_PAGES;
            self.resident.iter().take(end).skip(start).all(|there| *there)
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Passes(Duration),
        Has(ByteRange, bool),
        Told(ByteRange),
    }

    fn run() -> impl Strategy<Value = ByteRange> {
        let edge =
            (0..9u64, 0..3u64).prop_map(|(stretch, off)| (stretch * STRETCH_BYTES + off).saturating_sub(1));
        let offset = prop_oneof![edge, 0..2 * LOOK_BYTES_MAX];
        let len = prop_oneof![1..9000u64, Just(STRETCH_BYTES), 1..2 * LOOK_BYTES_MAX];
        (offset, len).prop_map(|(start, len)| ByteRange::new(start, start + len))
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => (0..900u64).prop_map(|ms| Act::Passes(Duration::from_millis(ms))),
            2 => (run(), any::<bool>()).prop_map(|(run, is_there)| Act::Has(run, is_there)),
            4 => run().prop_map(Act::Told),
        ]
    }

    proptest! {
        #[test]
        fn what_is_told_was_there_within_the_second_and_what_is_there_is_told(
            len in prop_oneof![1..9000u64, 1..2 * LOOK_BYTES_MAX],
            warm in any::<bool>(),
            acts in prop::collection::vec(act(), 1..60),
        ) {
            let mut model = Model::new(len);
            model.has(ByteRange::whole(len), warm);
            for act in acts {
                match act {
                    Act::Passes(time) => model.passes(time),
                    Act::Has(run, is_there) => model.has(run, is_there),
                    Act::Told(run) => {
                        let told = model.told(run);
                        let is_there = |page: usize| model.resident[page];
                        let was_there =
                            |page: usize| model.last[page].is_some_and(|last| model.now < last + LOOK_HOLDS);
                        let least = model.bytes_while(run, is_there);
                        let most = model.bytes_while(run, |page| is_there(page) || was_there(page));
                        prop_assert!((least..=most).contains(&told), "{run:?}: {told} of {least} to {most}");
                        if model.is_there_and_around(run) {
                            let looks = model.looks.get();
                            prop_assert_eq!((model.told(run), model.looks.get()), (told, looks));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_look_holds_for_a_second_in_each_stretch_that_was_all_there() {
        let len = 3 * STRETCH_BYTES + 5000;
        let mut model = Model::new(len);
        model.has(ByteRange::whole(len), true);
        model.has(ByteRange::new(STRETCH_BYTES, STRETCH_BYTES + 1), false);
        // The first is all there, the second begins with what is not, and the last one is short.
        let whole = ByteRange::whole(len);
        assert_eq!((model.told(whole), model.looks.get()), (STRETCH_BYTES, 1));
        model.has(whole, false);
        assert_eq!((model.told(whole), model.looks.get()), (STRETCH_BYTES, 2), "the first is not looked at");
        let last = ByteRange::new(2 * STRETCH_BYTES + 7, len + 9);
        assert_eq!((model.told(last), model.looks.get()), (STRETCH_BYTES + 5000 - 7, 2));
        model.passes(LOOK_HOLDS.checked_sub(MS).unwrap());
        assert_eq!((model.told(last), model.looks.get()), (STRETCH_BYTES + 5000 - 7, 2));
        model.passes(MS);
        assert_eq!((model.told(last), model.looks.get()), (0, 3));
        assert_eq!((model.told(whole), model.looks.get()), (0, 4));
        model.has(whole, true);
        assert_eq!(model.told(whole), len, "what was not there is not remembered");
    }

    #[test]
    fn a_look_that_fails_finds_nothing() {
        let stretches = Stretches::of(2 * STRETCH_BYTES);
        let fails = |_, pages: &mut [u8]| {
            pages.fill(1);
            Err(io::ErrorKind::Other.into())
        };
        let run = ByteRange::new(9, 2 * STRETCH_BYTES);
        let now = Duration::from_secs(9);
        assert_eq!(stretches.resident_bytes(run, now, fails), 0);
        let finds = |_, pages: &mut [u8]| {
            pages.fill(1);
            Ok(())
        };
        assert_eq!(stretches.resident_bytes(run.first(5), now, finds), 5);
        assert_eq!(
            stretches.resident_bytes(run, now, fails),
            STRETCH_BYTES - 9,
            "what is remembered is there"
        );
    }
}
