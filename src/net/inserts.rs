//! A stream on which messages may be put in between those that its driver writes.
//!
//! Invariant: a message goes out where the driver flushes, after all that it wrote before; one that was begun goes out whole before
//! anything else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The messages of one stream that wait to be put in.
#[derive(Debug, Default)]
pub struct Inserts {
    waiting: RefCell<VecDeque<Bytes>>,
    /// A part of the first was written.
    begun: Cell<bool>,
    /// What the driver wrote since it flushed last may not have gone out.
    unflushed: Cell<bool>,
    /// Who waits until all are out.
    waker: RefCell<Option<Waker>>,
}

/// A stream, and what is put in.
#[derive(Debug)]
pub struct Inserting<S> {
    stream: S,
    inserts: Rc<Inserts>,
}

impl Inserts {
    /// Puts a message in at the next flush. Who does so is polled by what drives the stream, which flushes after.
    pub fn put(&self, message: Bytes) {
        self.waiting.borrow_mut().push_back(message);
    }

    /// Waits until all are out.
    pub async fn out(&self) {
        poll_fn(|cx| {
            if self.waiting.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether all that the driver wrote has gone out.
    pub fn is_flushed(&self) -> bool {
        !self.unflushed.get()
    }

    fn first(&self) -> Option<Bytes> {
        self.waiting.borrow().front().cloned()
    }

    /// Notes that so much of the first was written.
    fn took(&self, count: usize) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(first) = waiting.front_mut() {
            first.advance(count);
            self.begun.set(!first.is_empty());
            if first.is_empty() {
                waiting.pop_front();
            }
        }
        if waiting.is_empty()
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// What of the messages is to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The one that was begun.
    Begun,
    /// All.
    All,
}

impl<S> Inserting<S> {
    /// Puts messages in on a stream.
    pub fn new(stream: S, inserts: Rc<Inserts>) -> Self {
        Self { stream, inserts }
    }

    /// The stream itself; nothing waits any more.
    pub fn into_inner(self) -> S {
        debug_assert!(self.inserts.first().is_none(), "a message is left");
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> Inserting<S> {
    fn poll_out(&mut self, cx: &mut Context<'_>, due: Due) -> Poll<io::Result<()>> {
        while due == Due::All || self.inserts.begun.get() {
            let Some(message) = self.inserts.first() else { break };
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &message))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.inserts.took(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inserting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inserting<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.inserts.unflushed.set(true);
        ready!(this.poll_out(cx, Due::Begun))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.inserts.unflushed.set(true);
        ready!(this.poll_out(cx, Due::Begun))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx, Due::All))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.inserts.unflushed.set(false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx, Due::Begun))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_message_waits_for_a_flush_and_one_that_was_begun_is_ended_before_anything_else() {
        let (near, mut far) = tokio::io::duplex(4);
        let inserts = Rc::new(Inserts::default());
        let mut stream = Inserting::new(near, inserts.clone());
        let mut got = [0; 16];

        inserts.put(Bytes::from_static(b"first"));
        inserts.put(Bytes::from_static(b"next"));
        stream.write_all(b"own").await.unwrap();
        assert_eq!(far.read(&mut got).await.unwrap(), 3, "no flush yet");
        assert!(timeout(SOON, stream.flush()).await.is_err(), "the peer takes four bytes");
        assert_eq!((far.read(&mut got).await.unwrap(), &got[..4]), (4, &b"firs"[..]));
        // What the driver writes in between comes after the one that was begun, and before the others.
        stream.write_all(b"100").await.unwrap();
        assert_eq!((far.read(&mut got).await.unwrap(), &got[..4]), (4, &b"t100"[..]));

        assert!(timeout(SOON, inserts.out()).await.is_err());
        let (flushed, ()) = tokio::join!(stream.flush(), inserts.out());
        flushed.unwrap();
        assert_eq!((far.read(&mut got).await.unwrap(), &got[..4]), (4, &b"next"[..]));
        drop(stream.into_inner());
        assert_eq!(far.read(&mut got).await.unwrap(), 0);
    }
}
