//! A set of bytes as sorted, separate, non-empty runs: what a fill has written so far.

use crate::base::range::ByteRange;

/// Which bytes are there. Invariant: runs are sorted, non-empty, and neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    runs: Vec<ByteRange>,
}

impl Intervals {
    /// Adds a run; what is there already stays there once.
    pub fn insert(&mut self, added: ByteRange) {
        if added.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|run| run.end() < added.start());
        let last = self.runs.partition_point(|run| run.start() <= added.end());
        let merged = self.runs[first..last]
            .iter()
            .fold(added, |all, run| ByteRange::new(all.start().min(run.start()), all.end().max(run.end())));
        self.runs.splice(first..last, [merged]);
    }

    /// How many bytes are there without a gap from `at` on.
    pub fn run_from(&self, at: u64) -> u64 {
        let next = self.runs.partition_point(|run| run.end() <= at);
        match self.runs.get(next) {
            Some(run) if run.start() <= at => run.end() - at,
            _ => 0,
        }
    }

    /// The first run that ends after `at`.
    pub fn next(&self, at: u64) -> Option<ByteRange> {
        self.runs.get(self.runs.partition_point(|run| run.end() <= at)).copied()
    }

    /// One past the last byte that is there; 0 where none is.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end())
    }

    /// How many bytes are there in all.
    pub fn total(&self) -> u64 {
        self.runs.iter().map(|run| run.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intervals_behave_as_a_set_of_bytes(adds in prop::collection::vec((0u64..64, 0u64..16), 0..24)) {
            let mut intervals = Intervals::default();
            let mut model = [false; 96];
            for (start, len) in adds {
                intervals.insert(ByteRange::new(start, start + len));
                for at in start..start + len {
                    model[usize::try_from(at).unwrap()] = true;
                }
            }
            prop_assert_eq!(intervals.total(), model.iter().filter(|there| **there).count() as u64);
            for at in 0..96 {
                let run = model[at..].iter().take_while(|there| **there).count() as u64;
                prop_assert_eq!(intervals.run_from(at as u64), run);
                let next = intervals.next(at as u64).map(|run| usize::try_from(run.start()).unwrap().max(at));
                prop_assert_eq!(next, model[at..].iter().position(|there| *there).map(|ahead| at + ahead));
            }
            let end = model.iter().rposition(|there| *there).map_or(0, |last| last as u64 + 1);
            prop_assert_eq!(intervals.end(), end);
            for pair in intervals.runs.windows(2) {
                prop_assert!(pair[0].end() < pair[1].start());
            }
        }
    }
}
