//! How long to wait before the next attempt: longer each time, and never as long as another agent.

use std::time::Duration;

use rand::RngExt as _;

/// Waits that grow.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

/// The first wait, where nobody says another.
const FIRST: Duration = Duration::from_secs(2);

/// The longest: a relay that comes back is found soon.
const LONGEST: Duration = Duration::from_mins(5);

impl Default for Backoff {
    fn default() -> Self {
        Self { first: FIRST, next: FIRST }
    }
}

impl Backoff {
    /// The next wait: half of what has grown so far, and a random part of the other half.
    pub(super) fn wait(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(LONGEST);
        now / 2 + (now / 2).mul_f64(rand::rng().random_range(0.0..=1.0))
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The relay says how long the first wait is to be.
    pub(super) fn begin_with(&mut self, first: Duration) {
        self.first = first.clamp(Duration::from_millis(1), LONGEST);
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        let first = backoff.wait();
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        for _ in 0..20 {
            assert!(backoff.wait() <= LONGEST);
        }
        assert!(backoff.wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
        backoff.begin_with(Duration::from_hours(9));
        assert!(backoff.wait() <= LONGEST);
    }
}
