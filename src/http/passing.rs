//! Bodies that pass from one side to the other as they come: an answer's to an agent, a request's to a server.
//!
//! Each holds what the other side has not taken, a frame at a time. Invariant: a body that breaks off, or of which nothing comes
//! for too long, ends in an error; what concerns a connection is in no trailer.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use crate::relay::cache::hops::stripped;

/// How long a request that asks whether to go on waits for the word (RFC 9110 section 10.1.1: not for ever).
const EXPECTED: Duration = Duration::from_secs(2);

/// A body that comes.
#[derive(Debug)]
pub struct Passing {
    body: Incoming,
    size: Option<u64>,
    /// What was looked at ahead: a frame, or the end.
    ahead: Poll<Option<Frame<Bytes>>>,
    silence: Duration,
    /// Runs while nothing comes.
    deadline: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// A request's body, on its way to a server.
pub struct Sending {
    passing: Passing,
    /// What is waited for before the first byte.
    word: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Passing {
    /// A body of which something must come every so often.
    pub fn new(body: Incoming, silence: Duration) -> Self {
        let size = body.size_hint().exact();
        Self { body, size, ahead: Poll::Pending, silence, deadline: None, waiting: false }
    }

    /// How many bytes it has, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Looks ahead without waiting; the error is that it broke off with nothing of it there.
    pub fn look(&mut self) -> io::Result<()> {
        // Who reads it next waits for it.
        match Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(()),
            Poll::Ready(frame) => {
                self.ahead = Poll::Ready(frame.transpose().map_err(io::Error::other)?);
                Ok(())
            }
        }
    }

    /// The next frame, of at most so many bytes, or the end.
    pub fn poll(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match std::mem::replace(&mut self.ahead, Poll::Pending) {
            Poll::Ready(ahead) => Poll::Ready(ahead.map(Ok)),
            Poll::Pending => Pin::new(&mut self.body).poll_frame(cx),
        };
        if let Poll::Ready(frame) = next {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| {
                let frame = frame.map_err(io::Error::other)?;
                match frame.into_data() {
                    Ok(data) => Ok(Frame::data(self.first(most, data))),
                    Err(frame) => Ok(clean(frame)),
                }
            }));
        }
        let silence = self.silence;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(silence)));
        if !self.waiting {
            deadline.as_mut().reset(Instant::now() + silence);
            self.waiting = true;
        }
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no byte came for {} s", silence.as_secs_f32()),
            )))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The first so many bytes; the others come next.
    fn first(&mut self, most: u64, mut data: Bytes) -> Bytes {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if data.len() <= most {
            return data;
        }
        let first = data.split_to(most);
        self.ahead = Poll::Ready(Some(Frame::data(data)));
        first
    }
}

/// What concerns a connection is in no trailer.
fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(stripped(&trailers)),
        Err(frame) => frame,
    }
}

impl Sending {
    /// A body that comes from an agent. With a word to wait for, nothing is read before it is given.
    pub fn new(passing: Passing, word: Option<Arc<Notify>>) -> Self {
        let word = word.map(|word| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                let _ = tokio::time::timeout(EXPECTED, word.notified()).await;
            })
        });
        Self { passing, word }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(word) = &mut self.word {
            if word.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.word = None;
        }
        self.passing.poll(u64::MAX, cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.passing.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.passing.body.size_hint()
    }
}
