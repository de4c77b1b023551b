//! A reader of a fill: gives bytes as they arrive, whatever range it is of (R2.2).
//!
//! Invariant: it gives the bytes of its range in order, each once, or an error; it never ends early without one.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::base::range::ByteRange;
use crate::relay::fill::{Fill, FillError, Phase, Progress};

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
        let reached = self.progress.wait_for(|now| match now.phase {
            Phase::Running => now.written.run_from(range.start()) > 0,
            Phase::Complete(_) | Phase::Failed(_) => true,
        });
        let now = reached.await.map_err(|_| Arc::new(FillError::Stopping))?;
        if let Phase::Failed(error) = &now.phase {
            return Err(error.clone());
        }
        let run = now.written.run_from(range.start()).min(range.len());
        drop(now);
        if run == 0 && !range.is_empty() {
            // It is complete without the range: the file is not the one that was asked for.
            return Err(Arc::new(FillError::Changed));
        }
        let file = self.fill.file().ok_or_else(|| Arc::new(FillError::Stopping))?;
        Ok((file.clone(), ByteRange::new(range.start(), range.start() + run)))
    }
}
