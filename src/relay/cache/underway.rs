//! What all answers on their way have reserved of the disk, as one sum with a bound.
//!
//! Invariant: what was reserved is given back when its answer is over, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sum.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<AtomicU64>);

/// The part of one answer.
#[derive(Debug)]
pub struct Share {
    sum: UnderWay,
    bytes: u64,
}

impl UnderWay {
    /// A share with nothing in it.
    pub fn share(&self) -> Share {
        Share { sum: self.clone(), bytes: 0 }
    }

    /// The bytes of all shares.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Makes it so many bytes, where all shares stay within `most`; whether they do.
    pub fn grow(&mut self, bytes: u64, most: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let within = |sum: u64| sum.checked_add(more).filter(|sum| *sum <= most);
        let grown = self.sum.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.sum.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_bound_and_give_back_what_they_had_r1_8() {
        let sum = UnderWay::default();
        let (mut one, mut two) = (sum.share(), sum.share());
        assert!(one.grow(6, 10) && two.grow(4, 10) && !one.grow(7, 10));
        assert_eq!(sum.bytes(), 10);
        drop(two);
        assert!(one.grow(10, 10) && one.grow(3, 10));
        assert_eq!(sum.bytes(), 10);
        drop(one);
        assert_eq!(sum.bytes(), 0);
    }
}
