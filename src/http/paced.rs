//! The far end of a tunnel, of which is read what may pass to the agent.
//!
//! Never holds a byte. Invariant: nothing is read before it was granted; what is written passes as it is.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::copy::Passed;
use crate::relay::limits::gate::Gate;

/// What is asked for at a time: many reads' worth, so that a tunnel has as large a share as any other transfer.
const WANTED_BYTES: u64 = 256 << 10;

/// A stream and its gate.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    gate: Gate,
    passed: Rc<Passed>,
}

impl<S> Paced<S> {
    /// Has a gate asked before a stream is read. Of what passes it is told when the gate holds it up.
    pub fn new(stream: S, gate: Gate, passed: Rc<Passed>) -> Self {
        Self { stream, gate, passed }
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let granted = this.gate.poll(cx, WANTED_BYTES);
        this.passed.slowed(granted.is_pending());
        let granted = usize::try_from(ready!(granted)).unwrap_or(usize::MAX);
        let most = buffer.remaining().min(granted);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let read = Pin::new(&mut this.stream).poll_read(cx, &mut part);
        let count = part.filled().len();
        buffer.advance(count);
        this.gate.passed(count as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
