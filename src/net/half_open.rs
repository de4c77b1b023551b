//! A stream whose client may end its side once it has asked: it still gets its answer.
//!
//! hyper takes the end of a client's side for the client's leaving, which it may be: nothing tells the two apart before bytes
//! are sent. Invariant: the end is held back while an answer is being given, and passed on while one waits for the upstream, so
//! that a client that has left gives up its place.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::idle::Place;

/// A stream and the place of its connection.
#[derive(Debug)]
pub struct HalfOpen<S> {
    stream: S,
    place: Rc<Place>,
    ended: bool,
}

impl<S> HalfOpen<S> {
    /// Holds back the end of a stream.
    pub fn new(stream: S, place: Rc<Place>) -> Self {
        Self { stream, place, ended: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfOpen<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            let before = buffer.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            if !matches!(read, Poll::Ready(Ok(()))) || buffer.filled().len() > before {
                return read;
            }
            this.ended = buffer.remaining() > 0;
        }
        if this.place.is_answering() {
            this.place.wake_when_changed(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HalfOpen<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
