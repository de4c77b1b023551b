//! How long something took, many times: a histogram.
//!
//! Knows no clock. Invariant: those of two parts add up to that of the whole.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of times, in microseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// Notes a time; one beyond the histogram's end counts as its end.
    pub fn note(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX).max(1));
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this many per cent were not above.
    pub fn at_percent(&self, percent: f64) -> Duration {
        // A bucket's upper end may lie above what was seen.
        Duration::from_micros(self.0.value_at_percentile(percent).min(self.0.max()))
    }

    /// The longest, to three digits.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, DIGITS);
        Self(histogram.expect("the bounds are constants that the crate takes"))
    }
}

/// Two days: an agent that waits for all of the longest run, and then some.
const MICROS_MAX: u64 = 2 * 86_400 * 1_000_000;

/// Digits of a time that are kept.
const DIGITS: u8 = 3;
