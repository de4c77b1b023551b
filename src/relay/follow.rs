//! A reader of a fill: gives bytes as they arrive, whatever range it is of (R2.2).
//!
//! A reader whose next byte does not come in a moment says where it waits: the fill may open a lane there.
//!
//! Invariant: it gives the bytes of its range in order, each once, or an error; it never ends early without one.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::base::range::ByteRange;
use crate::relay::fill::{Fill, FillError, Phase, Progress};

/// How long a reader waits for the lanes there are before it asks for one: on any line that is worth it they bring what is
/// near in this time, and it leaves half of the 100 ms that a far range may take beyond the upstream's round trip (R2.2).
const PATIENCE: Duration = Duration::from_millis(50);

/// A reader's place in a fill.
#[derive(Clone, Debug)]
pub struct Follower {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
}

impl Follower {
    /// A reader of a fill.
    pub fn new(fill: Arc<Fill>) -> Self {
        Self { progress: fill.watch(), fill }
    }

    /// Waits until the first byte of a range is there; gives the file and how much of the range can be read at once.
    pub async fn available(&mut self, range: ByteRange) -> Result<(Arc<File>, ByteRange), Arc<FillError>> {
        let fill = self.fill.clone();
        if tokio::time::timeout(PATIENCE, self.reached(range.start())).await.is_err() {
            let _want = fill.lanes().want(range.start());
            self.reached(range.start()).await;
        }
        let now = self.progress.borrow();
        if let Phase::Failed(error) = &now.phase {
            return Err(error.clone());
        }
        let run = now.written.run_from(range.start()).min(range.len());
        drop(now);
        if run == 0 && !range.is_empty() {
            // It is complete without the range: the file is not the one that was asked for.
            return Err(Arc::new(FillError::Changed));
        }
        let file = fill.file().ok_or_else(|| Arc::new(FillError::Stopping))?;
        Ok((file.clone(), ByteRange::new(range.start(), range.start() + run)))
    }

    /// Waits until a byte is there, or the fill is over.
    async fn reached(&mut self, at: u64) {
        let reached = self.progress.wait_for(|now| match now.phase {
            Phase::Running => now.written.run_from(at) > 0,
            Phase::Complete(_) | Phase::Failed(_) => true,
        });
        // The sender is the fill's own, which this reader holds.
        let _ = reached.await;
    }
}
