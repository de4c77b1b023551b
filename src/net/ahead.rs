//! A stream whose first bytes can be looked at before anybody reads them.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one look reads at most: what clients say first fits, and what follows is soon handed over.
const LOOK_BYTES: usize = 2048;

/// A stream with what was read ahead of its reader. Invariant: its reader gets every byte that was not skipped, in order.
#[derive(Debug)]
pub struct Ahead<S> {
    stream: S,
    bytes: Vec<u8>,
}

impl<S> Ahead<S> {
    /// Nothing is read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// Has bytes read again that its reader read last and did not use.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.bytes.splice(..0, bytes.iter().copied());
    }

    /// What was read ahead and not skipped.
    pub fn seen(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops the first `count` of those bytes: nobody is to read them.
    pub fn skip(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

impl<S: AsyncRead + Unpin> Ahead<S> {
    /// Reads more ahead, up to 2,048 bytes; gives how many, 0 at the stream's end.
    pub async fn look(&mut self) -> io::Result<usize> {
        // What is read lies on the stack: a connection that waits here has no buffer.
        poll_fn(|cx| {
            let mut more = [MaybeUninit::uninit(); LOOK_BYTES];
            let mut more = ReadBuf::uninit(&mut more);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
            self.bytes.extend_from_slice(more.filled());
            Poll::Ready(Ok(more.filled().len()))
        })
        .await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.bytes.len().min(buffer.remaining());
        buffer.put_slice(&this.bytes[..count]);
        this.bytes.drain(..count);
        if this.bytes.is_empty() {
            this.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_looked_at_is_read_first_and_nothing_is_lost() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut stream = Ahead::new(near);
        far.write_all(b"abc").await.unwrap();
        assert_eq!(stream.look().await.unwrap(), 3);
        far.write_all(b"def").await.unwrap();
        assert_eq!(stream.look().await.unwrap(), 3);
        assert_eq!(stream.seen(), b"abcdef");
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        stream.put_back(&two);
        far.write_all(b"gh").await.unwrap();
        drop(far);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcdefgh");
        assert_eq!(stream.look().await.unwrap(), 0);
    }
}
