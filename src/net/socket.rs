//! A connection's socket: what it is given to write that is of a mapped file, the kernel sends from the file.
//!
//! Never reads a file's bytes on the worker, nor has the kernel wait for the disk there: what left the memory while the other side
//! took its time is brought back elsewhere first. Not noticed is what leaves within the second that a [look](crate::disk::mapping::LOOK_HOLDS)
//! holds: then the kernel waits. Invariant: as many bytes are taken as were sent, of whatever kind; a file that is shorter than it was
//! ends in an error.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::base::range::ByteRange;
use crate::disk::mapping::LOOK_BYTES_MAX;
use crate::net::spans::{By, Found, Span, Spans};

/// A socket and the spans that are handed to its connection.
pub struct Socket {
    stream: TcpStream,
    spans: Rc<Spans>,
    /// The other side did not take all at once: time has passed since the bytes at hand were looked for in memory. They are looked for
    /// again, where that look is too old to hold.
    waited: bool,
    bringing: Option<Bringing>,
}

/// A run that is brought back into memory.
type Bringing = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl Socket {
    /// The socket of a connection.
    pub fn new(stream: TcpStream, spans: Rc<Spans>) -> Self {
        Self { stream, spans, waited: false, bringing: None }
    }

    /// Writes slices of which one is of a span, up to its end at most.
    fn poll_span(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        Found { before, span, run }: &Found,
    ) -> Poll<io::Result<usize>> {
        let run = chunk(*run);
        if self.waited && span.mapping.resident_bytes(run) < run.len() {
            let bringing = self.bringing.insert(Box::pin(bring(span.clone(), run)));
            let brought = ready!(bringing.as_mut().poll(cx));
            self.bringing = None;
            brought?;
        }
        let (head, mapped) = (&slices[..*before], &slices[*before]);
        let taken = match span.by {
            By::File if head.is_empty() => ready!(self.poll_file(cx, span, run))?,
            By::File => ready!(self.poll_head_and_file(cx, head, span, run))?,
            By::Copy => {
                let mut parts = [IoSlice::new(&[]); PARTS_MAX];
                let parts = &mut parts[..=*before];
                parts.copy_from_slice(&slices[..=*before]);
                parts[*before] = IoSlice::new(&mapped[..len(run)]);
                ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?
            }
        };
        let before: usize = head.iter().map(|slice| slice.len()).sum();
        if taken > before {
            self.spans.sent(mapped, taken - before);
        }
        Poll::Ready(Ok(taken))
    }

    /// Has the kernel send from the file.
    fn poll_file(&self, cx: &mut Context<'_>, span: &Span, run: ByteRange) -> Poll<io::Result<usize>> {
        self.poll_try(cx, || self.send_file(span, run))
    }

    /// The same after what is in memory, so that both leave together.
    fn poll_head_and_file(
        &self,
        cx: &mut Context<'_>,
        head: &[IoSlice<'_>],
        span: &Span,
        run: ByteRange,
    ) -> Poll<io::Result<usize>> {
        let whole: usize = head.iter().map(|slice| slice.len()).sum();
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let send = || Ok(sendmsg(&self.stream, head, &mut SendAncillaryBuffer::default(), flags)?);
        let taken = ready!(self.poll_try(cx, send))?;
        if taken < whole {
            return Poll::Ready(Ok(taken));
        }
        // What fails here fails again at the next write, which says so.
        let file = self.stream.try_io(Interest::WRITABLE, || self.send_file(span, run));
        Poll::Ready(Ok(taken + file.unwrap_or(0)))
    }

    fn send_file(&self, span: &Span, run: ByteRange) -> io::Result<usize> {
        let mut offset = run.start();
        match sendfile(&self.stream, span.mapping.file(), Some(&mut offset), len(run)) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
            Ok(count) => Ok(count),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what may find that the other side takes nothing now, once it does.
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Brings a run back into memory, once it has a turn; both end with the thread.
async fn bring(span: Span, run: ByteRange) -> io::Result<()> {
    // A task of its own, as for every read of a blob: others would wait for a turn that nobody uses.
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let turn = span.turns.clone().acquire_owned().await.map_err(io::Error::other)?;
        let brought = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            span.mapping.bring(run)
        });
        brought.await.map_err(io::Error::other)?
    }));
    task.await.map_err(io::Error::other)?
}

/// Whether an error of a write is of the file, not of the connection.
fn is_of_the_file(error: &io::Error) -> bool {
    // The kernel finds no page where a mapped file was cut.
    let fault = [Errno::FAULT, Errno::IO].map(|errno| Some(errno.raw_os_error()));
    error.kind() == io::ErrorKind::UnexpectedEof || fault.contains(&error.raw_os_error())
}

/// As much of a run as one look at what is in memory covers.
fn chunk(run: ByteRange) -> ByteRange {
    ByteRange::new(run.start(), run.end().min(run.start().saturating_add(LOOK_BYTES_MAX)))
}

fn len(run: ByteRange) -> usize {
    usize::try_from(run.len()).expect("a slice's length is addressable")
}

/// Slices of one write, as many as hyper gives at most.
const PARTS_MAX: usize = 64;

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.spans.is_empty() {
            return Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        }
        if let Some(bringing) = &mut this.bringing {
            let brought = ready!(bringing.as_mut().poll(cx));
            (this.bringing, this.waited) = (None, false);
            if let Err(error) = brought {
                this.spans.broke();
                return Poll::Ready(Err(error));
            }
        }
        let slices = &slices[..slices.len().min(PARTS_MAX)];
        let written = match this.spans.find(slices.iter().map(|slice| &**slice)) {
            Some(found) => this.poll_span(cx, slices, &found),
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, slices),
        };
        this.waited = written.is_pending();
        if let Poll::Ready(Err(error)) = &written
            && is_of_the_file(error)
        {
            this.spans.broke();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("stream", &self.stream)
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
