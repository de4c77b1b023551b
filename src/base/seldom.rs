//! What happens again and again is told seldom: at once the first time, then once in a while with how often it happened.
//!
//! Never logs itself. Invariant: every occurrence is counted in one telling at most, and none is lost while it goes on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// From one telling of the same thing to the next: a flood leaves a few lines a minute, and none is old news.
pub const PAUSE: Duration = Duration::from_secs(10);

/// One kind of occurrence.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Guards when it was last told, and how often it happened since.
    told: Mutex<Option<Told>>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Duration,
    since: u64,
}

impl Seldom {
    /// Notes an occurrence at a monotonic time. When it is to be told: how many there were since the last one that was, this
    /// one counted.
    pub fn note(&self, now: Duration) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *told {
            Some(last) if now.saturating_sub(last.at) < PAUSE => {
                last.since += 1;
                None
            }
            last => {
                let count = last.map_or(0, |last| last.since) + 1;
                *last = Some(Told { at: now, since: 0 });
                Some(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_by_number_after_a_pause() {
        let seldom = Seldom::default();
        let start = Duration::from_secs(100);
        assert_eq!(seldom.note(start), Some(1));
        for ms in 0..500 {
            assert_eq!(seldom.note(start + Duration::from_millis(ms)), None);
        }
        assert_eq!(seldom.note(start + PAUSE), Some(501));
        assert_eq!(seldom.note(start + PAUSE), None);
        assert_eq!(seldom.note(start + 3 * PAUSE), Some(2));
        assert_eq!(seldom.note(start + 9 * PAUSE), Some(1));
    }
}
