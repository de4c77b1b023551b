//! Where a body hands what is in memory of a blob to its connection, to be sent from the blob's file.
//!
//! Never reads a file. Invariant: what is handed over is in memory, and no longer than one look at that covers.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::base::range::ByteRange;
use crate::http::reading::poll_turn;
use crate::net::spans::{By, Spans};
use crate::store::blobs::OpenBlob;

/// A socket that sends files.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Where it learns what is of them.
    pub spans: Rc<Spans>,
    /// How it sends them.
    pub by: By,
}

impl Outlet {
    /// Hands over what is in memory from the start of a run on; nothing where its first byte is not.
    pub fn poll_span(&self, blob: &OpenBlob, run: ByteRange, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(mapping) = blob.mapping().filter(|_| !blob.is_condemned()) else { return Poll::Ready(None) };
        let there = mapping.resident_bytes(run);
        if there == 0 {
            return Poll::Ready(None);
        }
        ready!(poll_turn(there, cx));
        let run = ByteRange::new(run.start(), run.start() + there);
        Poll::Ready(Some(self.spans.hand(mapping, blob.turns(), self.by, run)))
    }
}
