//! A timer as fine as the machine's: tokio's own wakes up to a millisecond late, which would be most of a small answer's latency.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tokio::io::unix::AsyncFd;

/// A timer of one thread.
#[derive(Debug)]
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Makes it; within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let file = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "unsound for types that lie about their descriptor; an OwnedFd does not, and is ours alone"
        )]
        let registered = AsyncFd::new(file)?;
        Ok(Self(registered))
    }

    /// Waits for so long. Cut off, it leaves nothing behind.
    pub(super) async fn wait(&self, time: Duration) -> io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            // Nothing at all would disarm it.
            tv_nsec: i64::from(time.subsec_nanos()).max(i64::from(time.as_secs() == 0)),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut count) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_wakes_after_the_time_and_again_after_it_was_cut_off() {
        let timer = Timer::new().unwrap();
        let time = Duration::from_micros(300);
        for _ in 0..20 {
            tokio::select! {
                biased;
                waited = timer.wait(Duration::from_hours(1)) => panic!("an hour went by: {waited:?}"),
                () = std::future::ready(()) => {}
            }
            let begun = Instant::now();
            timer.wait(time).await.unwrap();
            assert!(begun.elapsed() >= time);
        }
        timer.wait(Duration::ZERO).await.unwrap();
    }
}
