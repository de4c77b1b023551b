//! A stream whose client may end its side once it has asked: it still gets its answer.
//!
//! hyper takes the end of a client's side for the client's leaving, which it may be: nothing tells the two apart before bytes
//! are sent. Invariant: the end is held back while an answer is being given, to its last byte, and passed on while one waits
//! for the upstream, so that a client that has left gives up its place. Nothing is done on a stream after its shutdown but that it is
//! dropped: that is how hyper uses one.

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
    closing: Closing,
    ended: bool,
}

/// How a stream ends whose client has ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It is dropped: of a socket that is the same. Nothing can be left on it that nobody has read, for which it would be reset.
    Drop,
    /// By its shutdown, which has something to say: TLS does.
    Shutdown,
}

impl<S> HalfOpen<S> {
    /// Holds back the end of a stream.
    pub fn new(stream: S, place: Rc<Place>, closing: Closing) -> Self {
        Self { stream, place, closing, ended: false }
    }

    /// The stream itself. An end that was held back shows again when it is read.
    pub fn into_inner(self) -> S {
        self.stream
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
        let this = self.get_mut();
        if this.ended && this.closing == Closing::Drop {
            return Pin::new(&mut this.stream).poll_flush(cx);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::net::idle::Idle;
    use crate::net::places::Places;

    fn place() -> Rc<Place> {
        let places = Places::new(9, 1, Arc::default(), Arc::new(SystemClock::default()));
        Idle::new(Arc::new(places), 0, CancellationToken::new()).enter()
    }

    #[tokio::test]
    async fn a_shutdown_is_left_to_the_close_only_where_that_says_the_same() {
        for (closing, client_ends, is_shut) in [
            (Closing::Drop, true, false),
            (Closing::Drop, false, true),
            (Closing::Shutdown, true, true),
            (Closing::Shutdown, false, true),
        ] {
            let (near, mut far) = tokio::io::duplex(64);
            let mut stream = HalfOpen::new(near, place(), closing);
            if client_ends {
                far.shutdown().await.unwrap();
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            }
            stream.write_all(b"answer").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = [0; 6];
            far.read_exact(&mut answer).await.unwrap();
            let ended = timeout(Duration::from_millis(20), far.read(&mut answer)).await;
            assert_eq!(ended.is_ok(), is_shut, "{closing:?}");
            drop(stream);
            assert_eq!(far.read(&mut answer).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_the_answer_and_for_its_last_bytes() {
        let place = place();
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = HalfOpen::new(near, place.clone(), Closing::Drop);
        far.shutdown().await.unwrap();
        let mut bytes = [0; 8];
        let soon = Duration::from_millis(20);

        let busy = place.begin();
        assert!(timeout(soon, stream.read(&mut bytes)).await.is_err(), "an answer is being given");
        // The body has ended, what was made of it has not been taken.
        place.blocked(true);
        drop(busy);
        assert!(timeout(soon, stream.read(&mut bytes)).await.is_err(), "its last bytes wait");
        let read = stream.read(&mut bytes);
        let taken = async {
            tokio::task::yield_now().await;
            place.blocked(false);
        };
        assert_eq!(
            timeout(Duration::from_secs(5), async { tokio::join!(read, taken).0 }).await.unwrap().unwrap(),
            0
        );
    }
}
