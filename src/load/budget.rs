//! How many errors a run may have, and the verdict on it.
//!
//! Invariant: a run that was not played to its end, or that had no whole answer, never passes.

use std::fmt;

use crate::load::plan::Share;

/// How many errors are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// So many.
    Count(u64),
    /// This share of all requests.
    Share(Share),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every agent was served, failed or gave up.
    Played,
    /// `time_max` was over; agents were left.
    TimeOver,
    /// It was stopped from outside; agents were left.
    Stopped,
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All agents were played, within the budget.
    Passed,
    /// More errors than the budget has.
    Errors,
    /// Not one whole answer.
    Nothing,
    /// It ended early.
    Early(End),
}

impl Budget {
    /// Reads a count, or a share such as `0.1%`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        let share = Share::parse(text).map(Self::Share);
        share.map_err(|_| "allowed: a number of errors, or a share of the requests such as 0.1%".into())
    }

    /// Whether so many errors among so many requests are within it.
    pub fn allows(self, errors: u64, requests: u64) -> bool {
        match self {
            Self::Count(count) => errors <= count,
            #[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
            Self::Share(share) => errors as f64 <= share.of(requests),
        }
    }

    /// Judges a run by its errors, its requests, how many of them had a whole answer, and its end.
    pub fn judge(self, errors: u64, requests: u64, whole: u64, end: End) -> Verdict {
        match end {
            _ if !self.allows(errors, requests) => Verdict::Errors,
            End::TimeOver | End::Stopped => Verdict::Early(end),
            End::Played if whole == 0 => Verdict::Nothing,
            End::Played => Verdict::Passed,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl End {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::TimeOver => "time-max",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_and_shares_bound_the_errors_r12_1() {
        let share = Budget::parse("0.1%").unwrap();
        assert!(share.allows(1, 1000) && !share.allows(2, 1000) && share.allows(0, 0) && !share.allows(1, 0));
        let count = Budget::parse("25").unwrap();
        assert!(count.allows(25, 0) && !count.allows(26, u64::MAX >> 12));
        assert_eq!((share.to_string(), count.to_string()), ("0.1%".into(), "25".into()));
        for wrong in ["", "-1", "101%", "1.5", "many"] {
            assert!(Budget::parse(wrong).unwrap_err().contains("0.1%"), "{wrong}");
        }
    }

    #[test]
    fn what_was_not_played_or_never_answered_does_not_pass() {
        let budget = Budget::Count(0);
        assert_eq!(budget.judge(0, 10, 10, End::Played), Verdict::Passed);
        assert_eq!(budget.judge(0, 0, 0, End::Played), Verdict::Nothing);
        assert_eq!(budget.judge(0, 10, 10, End::TimeOver), Verdict::Early(End::TimeOver));
        assert_eq!(budget.judge(1, 10, 9, End::Stopped), Verdict::Errors);
    }

    proptest! {
        #[test]
        fn a_larger_budget_never_allows_less(errors in 0_u64..10_000, requests in 0_u64..10_000, a in 0_u32..100, b in 0_u32..100) {
            let [small, large] = [a.min(b), a.max(b)].map(|percent| Budget::parse(&format!("{percent}%")).unwrap());
            prop_assert!(!small.allows(errors, requests) || large.allows(errors, requests));
        }
    }
}
