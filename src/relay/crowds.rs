//! Crowds that have their first bytes: fills that have brought enough for a turn give way until these have had theirs.
//!
//! A data worker says when the first turns of a crowd begin and end. What a fill brings meanwhile the crowd does not take yet, and on a
//! machine of few cores it is brought in the crowd's time. Who reads at the front of another fill waits too, so that a fill gives way for
//! moments. Invariant: it does so for a bounded time in all, however many crowds come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::base::limits::CROWD_TURN_BYTES;

/// How long a fill gives way, to all crowds together: some thousands have their first bytes in that time, and no file ends noticeably later.
const GIVES_WAY: Duration = Duration::from_millis(100);

/// How many crowds there are, each of one worker.
#[derive(Debug, Default)]
pub struct Crowds {
    now: watch::Sender<usize>,
}

/// A crowd that has its first bytes, until this is dropped.
#[derive(Debug)]
pub struct Crowd(Arc<Crowds>);

/// How long a fill may give way yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: Duration,
}

impl Crowds {
    /// A crowd begins to have its first bytes.
    pub fn begin(self: Arc<Self>) -> Crowd {
        // Nobody waits for a crowd to begin.
        self.now.send_if_modified(|now| {
            *now += 1;
            false
        });
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
        self.0.now.send_if_modified(|now| {
            *now -= 1;
            *now == 0
        });
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: GIVES_WAY }
    }
}

impl Allowance {
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
    async fn a_fill_gives_way_until_all_crowds_have_passed() {
        let crowds = Arc::<Crowds>::default();
        let (first, second) = (crowds.clone().begin(), crowds.clone().begin());
        let mut allowance = Allowance::default();
        let mut standing = Box::pin(allowance.until_passed(&crowds, CROWD_TURN_BYTES));
        assert!((&mut standing).now_or_never().is_none());
        drop(first);
        assert!((&mut standing).now_or_never().is_none(), "there is another");
        tokio::time::advance(Duration::from_millis(30)).await;
        drop(second);
        standing.await;
        assert_eq!(allowance.left, Duration::from_millis(70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_gives_way_so_long_in_all_however_many_crowds_come() {
        let crowds = Arc::<Crowds>::default();
        let mut allowance = Allowance::default();
        for (left_ms, stood_ms) in [(100, 40), (60, 40), (20, 20), (0, 0), (0, 0)] {
            assert_eq!(allowance.left, Duration::from_millis(left_ms));
            let (since, crowd) = (Instant::now(), crowds.clone().begin());
            tokio::select! {
                () = allowance.until_passed(&crowds, CROWD_TURN_BYTES) => {}
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
        assert!(Allowance::default().until_passed(&crowds, CROWD_TURN_BYTES - 1).now_or_never().is_some());
    }
}
