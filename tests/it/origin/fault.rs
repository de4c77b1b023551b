//! What an origin can be told to do wrong, and the gate at which it can be held.
//!
//! Never does I/O. Invariant: a held request goes on when its gate opens, when the origin stops, or loudly after `WAIT_MAX`.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// One thing done wrong in one answer. Offsets count bytes of that answer's body; past its end they mean its end.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset once the client's kernel has that many body bytes.
    ResetAfter(usize),
    /// The connection is closed in order after that many body bytes.
    CloseAfter(usize),
    /// Nothing more comes after that many body bytes, until the gate opens.
    StallAfter(usize, Gate),
    /// The request is read and nothing comes, until the gate opens.
    StallBeforeHead(Gate),
    /// The request is read and nothing comes for so long: a line's round trip.
    Late {
        /// How long.
        by: Duration,
    },
    /// Another status, with a line of text as its body.
    Status(u16),
    /// 200 with a captive portal's page.
    Html,
    /// A Content-Length that is not the body's, too long or too short; the body is sent as it is, then the connection closes.
    WrongLength {
        /// What Content-Length says.
        declared: usize,
    },
    /// 302 to this location.
    Redirect(String),
    /// So many bytes follow the body, and its length says so.
    TooLong {
        /// How many.
        by: usize,
    },
    /// `Range` is ignored: the whole object comes with 200.
    NoRange,
    /// 206 whose Content-Range names a place one byte further on than the bytes come from.
    WrongContentRange,
    /// From this request on the object has other bytes from that offset of the object, and other validators.
    ChangedFrom(usize),
    /// The body comes in chunks, without Content-Length.
    Chunked,
    /// The body comes at this pace.
    Throttle {
        /// Bytes in each second.
        bytes_per_sec: usize,
    },
    /// The body comes compressed, though nobody asked for it.
    ContentEncodingGzip,
    /// Bytes that are not HTTP come in place of a head; then the connection closes.
    GarbageHead,
    /// The body comes one byte at a time.
    Drip {
        /// The pause after each byte.
        every: Duration,
    },
}

impl Fault {
    /// The gate at which this holds the answer.
    pub(super) fn gate(&self) -> Option<&Gate> {
        match self {
            Self::StallAfter(_, gate) | Self::StallBeforeHead(gate) => Some(gate),
            _ => None,
        }
    }
}

/// A handle that holds requests back until it is opened; once open it stays open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Latch>);

impl Gate {
    /// Lets those who wait, and all who come later, pass.
    pub(crate) fn open(&self) {
        self.0.state.lock().unwrap().open = true;
        self.0.changed.notify_all();
    }

    /// Waits until a request has come to the gate; panics after `WAIT_MAX`.
    pub(crate) fn wait_reached(&self) {
        let state = self.0.state.lock().unwrap();
        let (guard, waited) =
            self.0.changed.wait_timeout_while(state, WAIT_MAX, |state| state.reached == 0).unwrap();
        drop(guard);
        assert!(!waited.timed_out(), "no request came to the gate in {WAIT_MAX:?}");
    }

    /// Waits at the gate; false when it was still shut after `WAIT_MAX`.
    pub(crate) fn pass(&self) -> bool {
        let mut state = self.0.state.lock().unwrap();
        state.reached += 1;
        self.0.changed.notify_all();
        state = self.0.changed.wait_timeout_while(state, WAIT_MAX, |state| !state.open).unwrap().0;
        state.open
    }
}

#[derive(Debug, Default)]
struct Latch {
    /// Guards who came and whether the gate is open.
    state: Mutex<LatchState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LatchState {
    reached: usize,
    open: bool,
}

/// The longest that a test waits for the other side: far beyond any right answer on a busy machine, far below a hung job.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);
