//! Time as it is passed in: parts ask a clock, tests bring their own.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Wall time for people, monotonic time for deadlines (R11.4).
pub trait Clock: Debug + Send + Sync {
    /// The wall clock; it may jump.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
