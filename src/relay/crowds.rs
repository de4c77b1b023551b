//! Crowds that have their first bytes: fills that have brought enough for a turn stand back until these have had theirs.
//!
//! A data worker says when the first turns of a crowd begin and end. What a fill brings meanwhile nobody takes yet, and on a machine of few
//! cores it brings it in the crowd's time. Invariant: a fill stands back so long in all and no longer, however many crowds come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::base::limits::CROWD_TURN_BYTES;

/// How long a fill stands back, all crowds together: some thousands have their first bytes in that time, and no file ends noticeably later.
const STANDS_BACK: Duration = Duration::from_millis(100);

/// How many crowds there are, each of one worker.
#[derive(Debug, Default)]
pub struct Crowds {
    now: watch::Sender<usize>,
}

/// A crowd that has its first bytes, until this is dropped.
#[derive(Debug)]
pub struct Crowd(Arc<Crowds>);

/// How long a fill may stand back yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandsBack {
    left: Duration,
}

impl Crowds {
    /// A crowd begins to have its first bytes.
    pub fn begin(self: Arc<Self>) -> Crowd {
        self.now.send_modify(|now| *now += 1);
        Crowd(self)
    }

    /// Whether no crowd has its first bytes.
    pub fn have_passed(&self) -> bool {
        *self.now.borrow() == 0
    }

    /// Waits until no crowd has its first bytes.
    pub async fn passed(&self) {
        // The sender is here.
        let _ = self.now.subscribe().wait_for(|now| *now == 0).await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.now.send_modify(|now| *now -= 1);
    }
}

impl Default for StandsBack {
    fn default() -> Self {
        Self { left: STANDS_BACK }
    }
}

impl StandsBack {
    /// Waits until no crowd has its first bytes, or as long as is left; not where the fill has brought less than one turn.
    pub(super) async fn until_passed(&mut self, crowds: &Crowds, brought: u64) {
        if brought < CROWD_TURN_BYTES || crowds.have_passed() || self.left.is_zero() {
            return;
        }
        let since = Instant::now();
        // Whichever comes first.
        let _ = timeout_at(since + self.left, crowds.passed()).await;
        self.left = self.left.saturating_sub(since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fill_stands_back_until_all_crowds_have_passed() {
        let crowds = Arc::<Crowds>::default();
        let (first, second) = (crowds.clone().begin(), crowds.clone().begin());
        let mut stands_back = StandsBack::default();
        let mut standing = Box::pin(stands_back.until_passed(&crowds, CROWD_TURN_BYTES));
        assert!((&mut standing).now_or_never().is_none());
        drop(first);
        assert!((&mut standing).now_or_never().is_none(), "there is another");
        tokio::time::advance(Duration::from_millis(30)).await;
        drop(second);
        standing.await;
        assert_eq!(stands_back.left, Duration::from_millis(70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_stands_back_so_long_in_all_however_many_crowds_come() {
        let crowds = Arc::<Crowds>::default();
        let mut stands_back = StandsBack::default();
        for (left_ms, stood_ms) in [(100, 40), (60, 40), (20, 20), (0, 0), (0, 0)] {
            assert_eq!(stands_back.left, Duration::from_millis(left_ms));
            let (since, crowd) = (Instant::now(), crowds.clone().begin());
            tokio::select! {
                () = stands_back.until_passed(&crowds, CROWD_TURN_BYTES) => {}
                () = async {
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    drop(crowd);
                    pending::<()>().await;
                } => {}
            }
            assert_eq!(since.elapsed(), Duration::from_millis(stood_ms));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_that_has_not_brought_a_turn_goes_on() {
        let crowds = Arc::<Crowds>::default();
        let _crowd = crowds.clone().begin();
        assert!(StandsBack::default().until_passed(&crowds, CROWD_TURN_BYTES - 1).now_or_never().is_some());
    }
}
