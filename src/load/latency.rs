//! How long something took, many times: a histogram.
//!
//! Knows no clock. Takes a quarter of a megabyte, once there is a time. Invariant: those of two parts add up to that of the whole.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of times, in microseconds, to three digits; there is none before the first time.
#[derive(Clone, Debug, Default)]
pub struct Latency(Option<Histogram<u64>>);

impl Latency {
    /// Notes a time; one beyond the histogram's end counts as its end.
    pub fn note(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX).max(1);
        self.0.get_or_insert_with(empty).saturating_record(micros);
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that this many per cent were not above; nothing where none was noted.
    pub fn at_percent(&self, percent: f64) -> Duration {
        let Some(histogram) = &self.0 else { return Duration::ZERO };
        // A bucket's upper end may lie above what was seen.
        Duration::from_micros(histogram.value_at_percentile(percent).min(histogram.max()))
    }

    /// The longest, to three digits.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.as_ref().map_or(0, Histogram::max))
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            self.0.get_or_insert_with(empty).add(other).expect("all histograms have the same bounds");
        }
    }
}

/// Two days: an agent that waits for all of the longest run, and then some.
const MICROS_MAX: u64 = 2 * 86_400 * 1_000_000;

/// Digits of a time that are kept.
const DIGITS: u8 = 3;

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, DIGITS).expect("the bounds are constants that the crate takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_parts_noted_is_what_the_whole_would_have_and_nothing_is_nothing_r12_1() {
        let (mut none, mut whole, mut parts) =
            (Latency::default(), Latency::default(), [Latency::default(), Latency::default()]);
        none.add(&Latency::default());
        assert_eq!((none.count(), none.at_percent(99.0), none.max()), (0, Duration::ZERO, Duration::ZERO));
        for number in 0..1000 {
            let time = Duration::from_millis(number);
            whole.note(time);
            parts[usize::from(number % 3 == 0)].note(time);
        }
        let [one, other] = parts;
        none.add(&one);
        none.add(&other);
        for percent in [0.0, 50.0, 99.0, 100.0] {
            assert_eq!(none.at_percent(percent), whole.at_percent(percent), "{percent}");
        }
        assert_eq!((none.count(), none.max()), (1000, whole.max()));
    }
}
