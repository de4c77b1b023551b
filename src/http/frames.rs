//! A stream under HTTP/2 that counts the frames which ask for nothing, and ends where a client sends a flood of them.
//!
//! h2 bounds what streams, resets, heads and small data hold. Pings, settings, priorities, window updates and frames of unknown
//! types it answers or drops one by one, for ever. Never looks into a frame. Invariant: bytes pass unchanged.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::base::tally::Tally;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// For how long a count goes on before it begins anew.
const WINDOW: Duration = Duration::from_secs(1);

/// What a client takes for one more frame: it makes room by a window update or two for some frames of data.
const BYTES_PER_FRAME: u64 = 1024;

/// A stream of HTTP/2 frames.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    tally: Arc<Tally>,
    parser: Parser,
    /// Frames that ask for nothing, in a window.
    most: u64,
    count: u64,
    since: Instant,
    taken_bytes: u64,
}

impl<S> Frames<S> {
    /// Counts the frames of a stream from its preface on; more than `most` a second end it.
    pub fn new(stream: S, most: u32, tally: Arc<Tally>) -> Self {
        Self {
            stream,
            tally,
            parser: Parser::default(),
            most: most.into(),
            count: 0,
            since: Instant::now(),
            taken_bytes: 0,
        }
    }

    /// Counts what came.
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count += self.parser.read(bytes);
        if self.count <= self.most + self.taken_bytes / BYTES_PER_FRAME {
            return Ok(());
        }
        if self.since.elapsed() < WINDOW {
            self.tally.http2_floods.one();
            return Err(io::Error::other("a flood of frames that ask for nothing"));
        }
        (self.count, self.since, self.taken_bytes) = (0, Instant::now(), 0);
        Ok(())
    }

    fn taken(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.taken_bytes += *count as u64;
        }
        written
    }
}

/// Where in a sequence of frames a stream is.
#[derive(Debug)]
struct Parser {
    /// Bytes that belong to no head: the preface's, then a payload's.
    skipped: usize,
    head: [u8; HEAD_BYTES],
    head_len: usize,
}

/// A frame's head: length, type, flags, stream (RFC 9113 section 4.1).
const HEAD_BYTES: usize = 9;

impl Default for Parser {
    fn default() -> Self {
        Self { skipped: PREFACE.len(), head: [0; HEAD_BYTES], head_len: 0 }
    }
}

impl Parser {
    /// Reads on; gives how many frames began that ask for nothing.
    fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.skipped > 0 {
                let skipped = self.skipped.min(bytes.len());
                self.skipped -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let more = (HEAD_BYTES - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + more].copy_from_slice(&bytes[..more]);
            self.head_len += more;
            bytes = &bytes[more..];
            if self.head_len == HEAD_BYTES {
                self.head_len = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skipped = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                count += u64::from(asks_for_nothing(kind, flags, self.skipped));
            }
        }
        count
    }
}

/// All but the frames that bring a request: heads, and data or its end.
fn asks_for_nothing(kind: u8, flags: u8, len: usize) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    match kind {
        HEADERS => false,
        DATA => len == 0 && flags & END_STREAM == 0,
        _ => true,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        match read {
            Poll::Ready(Ok(())) => Poll::Ready(this.came(&buffer.filled()[before..])),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.taken(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.taken(written)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let ping = frame(6, 0, &[0; 8]);
        let frames = [frame(4, 0, &[]), frame(1, 4, &[9; 300]), ping, frame(0, 0, b"data"), frame(0, 0, b"")];
        let ends = [frame(0, 1, b""), frame(77, 0, &[6; 20]), frame(9, 0, &vec![0; 70_000])];
        let all = [PREFACE, &frames.concat(), &ends.concat()].concat();
        for piece in [1, 2, 7, 9, 100, all.len()] {
            let mut parser = Parser::default();
            let count: u64 = all.chunks(piece).map(|bytes| parser.read(bytes)).sum();
            assert_eq!(count, 5, "in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_the_stream_and_a_client_that_takes_its_answers_does_not_flood() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut frames = Frames::new(near, 10, Arc::default());
        let mut scrap = [0; 4096];
        far.write_all(PREFACE).await.unwrap();
        for _ in 0..4 {
            tokio::time::advance(WINDOW).await;
            far.write_all(&frame(6, 0, &[0; 8]).repeat(10)).await.unwrap();
            assert!(frames.read(&mut scrap).await.unwrap() > 0);
        }
        frames.write_all(&vec![0; 50 * 1024]).await.unwrap();
        far.write_all(&frame(8, 0, &[0; 4]).repeat(50)).await.unwrap();
        assert!(frames.read(&mut scrap).await.unwrap() > 0);
        far.write_all(&frame(8, 0, &[0; 4]).repeat(50)).await.unwrap();
        assert!(frames.read(&mut scrap).await.is_err());
        assert_eq!(frames.tally.http2_floods.value(), 1);
    }
}
