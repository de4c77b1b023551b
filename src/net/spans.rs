//! Spans: what a connection is about to send of files that are mapped, in the order in which it will.
//!
//! Bodies hand them over, and the connection's [`Socket`](crate::net::socket::Socket) finds them again among the bytes that it is
//! given to write. Never holds bytes of its own. Invariant: a span that is never found again costs nothing but its place here;
//! its bytes are sent like any others.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::base::address::normalised;
use crate::base::range::ByteRange;
use crate::config::settings::Sendfile;
use crate::disk::mapping::Mapping;

/// The spans of one connection.
#[derive(Debug)]
pub struct Spans {
    queue: RefCell<VecDeque<Span>>,
    within_machine: bool,
    /// A file turned out to be shorter than it was, or could not be read, when its bytes were to be sent.
    broken: Cell<bool>,
}

/// A run of a file.
#[derive(Clone, Debug)]
pub struct Span {
    /// The file.
    pub mapping: Mapping,
    /// Who reads it from the disk holds one of these.
    pub turns: Arc<Semaphore>,
    /// How it is sent.
    pub by: By,
    /// The slice that was handed over.
    bytes: Bytes,
}

/// How the kernel is told to send a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// From its file, by `sendfile`: what the other side gets are pages of the file.
    File,
    /// From its mapping, by `writev`: the kernel copies them.
    Copy,
}

/// What a write begins with.
#[derive(Debug)]
pub struct Found {
    /// How many slices come before the span.
    pub before: usize,
    /// The span that the slice after them is of.
    pub span: Span,
    /// What of its file that slice is.
    pub run: ByteRange,
}

impl Spans {
    /// A connection's, by its two addresses.
    pub fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        let (local, peer) = (normalised(local.ip()), normalised(peer.ip()));
        let within_machine = peer.is_loopback() || peer == local;
        Self { queue: RefCell::default(), within_machine, broken: Cell::default() }
    }

    /// How spans are sent on this connection under a setting. Within a machine `sendfile` spares nothing: the copy that the sender
    /// does not make is made by the reader, from memory that no cache holds.
    pub fn by(&self, sendfile: Sendfile) -> By {
        match sendfile {
            Sendfile::On => By::File,
            Sendfile::Auto if !self.within_machine => By::File,
            Sendfile::Auto | Sendfile::Off => By::Copy,
        }
    }

    /// Notes that a run of a file is handed over; gives the slice to be written.
    pub fn hand(&self, mapping: &Mapping, turns: &Arc<Semaphore>, by: By, run: ByteRange) -> Bytes {
        let bytes = mapping.slice(run);
        let mut queue = self.queue.borrow_mut();
        if queue.len() == SPANS_MAX {
            queue.pop_front();
        }
        queue.push_back(Span { mapping: mapping.clone(), turns: turns.clone(), by, bytes: bytes.clone() });
        bytes
    }

    /// Whether nothing was handed over that was not sent.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// The first of these slices that is of a span; `None` where none is.
    pub fn find<'s>(&self, slices: impl IntoIterator<Item = &'s [u8]>) -> Option<Found> {
        let mut queue = self.queue.borrow_mut();
        for (before, slice) in slices.into_iter().enumerate() {
            let Some(index) = queue.iter().position(|span| span.holds(slice)) else { continue };
            // Spans are sent in order: what was handed over before was copied on its way.
            queue.drain(..index);
            let span = queue.front()?.clone();
            let start = span.mapping.offset_of(slice)?;
            return Some(Found { before, span, run: ByteRange::new(start, start + slice.len() as u64) });
        }
        None
    }

    /// Notes that the first `count` bytes of a slice were sent.
    pub fn sent(&self, slice: &[u8], count: usize) {
        let mut queue = self.queue.borrow_mut();
        let is_done = |span: &mut Span| {
            span.holds(slice)
                && slice.as_ptr().addr() + count == span.bytes.as_ptr().addr() + span.bytes.len()
        };
        queue.pop_front_if(is_done);
    }

    /// Notes that a file could not be sent to its end.
    pub fn broke(&self) {
        self.broken.set(true);
    }

    /// Whether that was so: the connection ends.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }
}

impl Span {
    /// Whether a slice is of this span. An address cannot be anything else's while the span is here.
    fn holds(&self, slice: &[u8]) -> bool {
        let (start, from) = (self.bytes.as_ptr().addr(), slice.as_ptr().addr());
        from >= start && from - start < self.bytes.len() && slice.len() <= self.bytes.len() - (from - start)
    }
}

/// Spans that wait on one connection: hyper queues 16 buffers at most before it has them written.
const SPANS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_off_towards_this_machine_whichever_address_it_goes_by() {
        for (local, peer, auto) in [
            ("192.0.2.1:80", "192.0.2.7:9", By::File),
            ("[2001:db8::1]:80", "[2001:db8::7]:9", By::File),
            ("127.0.0.1:80", "127.0.0.9:9", By::Copy),
            ("[::1]:80", "[::1]:9", By::Copy),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:9", By::Copy),
            ("192.0.2.1:80", "192.0.2.1:9", By::Copy),
            ("[2001:db8::1]:80", "[2001:db8::1]:9", By::Copy),
        ] {
            let spans = Spans::new(local.parse().unwrap(), peer.parse().unwrap());
            assert_eq!(spans.by(Sendfile::Auto), auto, "{local} and {peer}");
            assert_eq!([spans.by(Sendfile::On), spans.by(Sendfile::Off)], [By::File, By::Copy]);
        }
    }
}
