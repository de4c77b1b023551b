//! Two ways of doing the same, one after the other in turns, so that what else the machine does weighs on both.
//!
//! Criterion measures one thing after another, minutes apart; a ratio needs neighbours. Each turn gives one ratio, and the
//! median of those is what counts.

use std::fmt;

/// One reading of one way: time, or another quantity in nanoseconds.
pub(crate) type Nanos = f64;

/// How many turns: one where the bench is only tried (`-- --test`), none where a profiler watches (`-- --profile-time`).
pub(crate) fn turns(wanted: usize) -> usize {
    let is_given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    match () {
        () if is_given("--profile-time") => 0,
        () if is_given("--test") => 1,
        () => wanted,
    }
}

/// The medians of the two ways, and of their ratios with the quartiles.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) plain: Nanos,
    pub(crate) ours: Nanos,
    pub(crate) ratio: [f64; 3],
}

impl Compared {
    /// Compares readings that were taken in turns, if there are any.
    pub(crate) fn of(turns: &[(Nanos, Nanos)]) -> Option<Self> {
        (!turns.is_empty()).then(|| Self {
            plain: quantile(turns.iter().map(|(plain, _)| *plain), 0.5),
            ours: quantile(turns.iter().map(|(_, ours)| *ours), 0.5),
            ratio: [0.25, 0.5, 0.75].map(|at| quantile(turns.iter().map(|(plain, ours)| ours / plain), at)),
        })
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, middle, high] = self.ratio;
        let (plain, ours) = (self.plain / 1e3, self.ours / 1e3);
        write!(
            f,
            "plain {plain:.1} us, ours {ours:.1} us, ratio {middle:.2} (quartiles {low:.2} to {high:.2})"
        )
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rank"
)]
fn quantile(values: impl Iterator<Item = f64>, at: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}
