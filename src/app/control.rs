//! The runtime of fills, refreshes, the sweep and the admin listener; data workers have their own, before which its threads stand back.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::app::StartError;
use crate::app::background::stand_back;

/// Threads of the control runtime: fills, refreshes and the admin listener wait more than they work.
const CONTROL_THREADS: usize = 2;

/// The control runtime. Dropped, it does not wait: a start that fails may be dropped within another runtime's task.
#[derive(Debug)]
pub struct Control(Option<Runtime>);

impl Control {
    /// Starts it.
    pub(super) fn start() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .on_thread_start(stand_back)
            .enable_all()
            .build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| StartError::System("control runtime", error))
    }

    /// The runtime itself.
    pub(super) fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("the runtime is there until it is dropped")
    }

    /// Ends it; what blocks may take until the deadline.
    pub(super) fn end(mut self, deadline: Duration) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(deadline);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
