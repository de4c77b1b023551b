//! A reader of a fill: gives bytes as they arrive, whatever range it is of (R2.2).
//!
//! A reader whose next byte does not come in a moment says where it waits: the fill may open a lane there.
//!
//! Invariant: it gives the bytes of its range in order, each once, or an error; it never ends early without one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::base::range::ByteRange;
use crate::relay::fill::{Fill, FillError, Phase, Progress};
use crate::store::staging::Shown;

/// How long a reader waits for the lanes there are before it asks for one: on any line that is worth it they bring what is
/// near in this time, and it leaves half of the 100 ms that a far range may take beyond the upstream's round trip (R2.2).
const PATIENCE: Duration = Duration::from_millis(50);

/// A reader's place in a fill.
#[derive(Clone, Debug)]
pub struct Follower {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
}

/// What a reader finds.
#[derive(Debug)]
pub struct There<'f> {
    /// Which bytes.
    pub run: ByteRange,
    /// Where they are.
    pub shown: &'f Shown,
    /// Whether all bytes came and are a blob: nobody will write to the file any more.
    pub is_blob: bool,
}

impl Follower {
    /// A reader of a fill.
    pub fn new(fill: Arc<Fill>) -> Self {
        Self { progress: fill.watch(), fill }
    }

    /// What is there from the start of a range on, which is not empty; `None` while its first byte is not.
    pub fn there(&self, range: ByteRange) -> Result<Option<There<'_>>, Arc<FillError>> {
        let (run, is_blob) = {
            let now = self.progress.borrow();
            let is_blob = match &now.phase {
                Phase::Running => false,
                Phase::Complete(_) => true,
                Phase::Failed(error) => return Err(error.clone()),
            };
            (range.first(now.written.run_from(range.start())), is_blob)
        };
        if run.is_empty() {
            // It is complete without the range: the file is not the one that was asked for.
            return if is_blob { Err(Arc::new(FillError::Changed)) } else { Ok(None) };
        }
        let shown = self.fill.shown().ok_or_else(|| Arc::new(FillError::Stopping))?;
        Ok(Some(There { run, shown, is_blob }))
    }

    /// Waits until a byte is there, or the fill is over.
    pub async fn wait(mut self, at: u64) {
        let fill = self.fill.clone();
        // Most readers wait for what the main lane brings next: they need no clock.
        if fill.lanes().plan().is_near(at) {
            return self.reached(at).await;
        }
        if tokio::time::timeout(PATIENCE, self.reached(at)).await.is_err() {
            let _want = fill.lanes().want(at);
            self.reached(at).await;
        }
    }

    async fn reached(&mut self, at: u64) {
        let reached = self.progress.wait_for(|now| match now.phase {
            Phase::Running => now.written.run_from(at) > 0,
            Phase::Complete(_) | Phase::Failed(_) => true,
        });
        // The sender is the fill's own, which this reader holds.
        let _ = reached.await;
    }
}
