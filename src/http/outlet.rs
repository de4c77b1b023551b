//! What a body's connection has for its bytes: turns, buffers to read them into, and, where answers are written straight to its
//! socket, the way to have what is in memory of a file sent from there.
//!
//! Never reads a file. Invariant: what is handed over is in memory, and no longer than one look at that covers.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::base::range::ByteRange;
use crate::disk::mapping::Mapping;
use crate::http::buffers::Buffers;
use crate::http::turn::Turn;
use crate::net::spans::{By, Spans};

/// A connection's outlet.
#[derive(Clone, Debug, Default)]
pub struct Outlet {
    /// Its turns; over HTTP/2, where an answer's task is not its connection's, the runtime's.
    pub turn: Option<Rc<Turn>>,
    /// What is read, is read into these.
    pub buffers: Buffers,
    /// A socket that sends files.
    pub files: Option<Files>,
}

/// A socket that sends files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where it learns what is of them.
    pub spans: Rc<Spans>,
    /// How it sends what does not change any more.
    pub by: By,
}

impl Files {
    /// How it sends bytes of a file that is a blob by now, or not yet: what the kernel sends from the pages of a file must not be cut
    /// before the other side has it, and what is left of a fill that failed may be.
    pub fn by_now(&self, is_blob: bool) -> By {
        if is_blob { self.by } else { By::Copy }
    }

    /// Hands over what is in memory from the start of a run on; `None` where its first byte is not.
    pub fn hand(&self, mapping: &Mapping, turns: &Arc<Semaphore>, by: By, run: ByteRange) -> Option<Bytes> {
        let there = mapping.resident_bytes(run);
        (there > 0).then(|| self.spans.hand(mapping, turns, by, run.first(there)))
    }
}
