//! Threads that stand back when the machine is busy.
//!
//! A fill is woken for each piece that its upstream sends. On a busy core it would push a data worker aside each time, just to take that
//! piece; it has as much of the core without that, in longer turns that find more pieces. Invariant: who stands back has the same share of
//! a core as others.

use std::io;
use std::mem;

use tracing::debug;

/// Has the calling thread stand back: woken, it waits until whoever runs has had their turn (`SCHED_BATCH`, sched(7)). Where that may not be,
/// or the relay was started with another policy than the usual one, all is as before.
pub(super) fn stand_back() {
    // Not `thread-priority`: that sets the niceness along with it, which is its user's.
    // SAFETY: the C library's structure is of integers, and is read alone.
    #[allow(unsafe_code)]
    let done = unsafe {
        if libc::sched_getscheduler(0) != libc::SCHED_OTHER {
            return;
        }
        let none: libc::sched_param = mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none)
    };
    if done != 0 {
        debug!(error = %io::Error::last_os_error(), "a thread cannot be made to stand back");
    }
}
