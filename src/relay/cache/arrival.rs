//! An answer on its way into the cache: its head, the file that its bytes are written to, and those who read them meanwhile.
//!
//! Bytes that the store cannot take any more go on to the one reader who asked for them. Invariant: a reader gets every byte in
//! order and then the end, or an error; an answer that broke off has no end.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::timeout;

use crate::base::range::ByteRange;
use crate::relay::cache::answer::Head;
use crate::relay::cache::vary::Selecting;

/// Pieces that wait for the one who reads what the store did not take.
const BEYOND_MAX: usize = 4;

/// How long an answer is fetched on after its last reader left: the next agent may want it soon, and a server that trickles must
/// not hold room for nobody.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// An answer on its way.
#[derive(Debug)]
pub struct Arrival {
    /// Its head.
    pub head: Head,
    /// What selects it.
    pub selecting: Selecting,
    /// How many bytes it has, where its server said so.
    pub size: Option<u64>,
    file: Arc<File>,
    progress: watch::Sender<Progress>,
    joined: Notify,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    written: u64,
    phase: Phase,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Running,
    /// All bytes came, and what came after them.
    Complete(Option<Arc<HeaderMap>>),
    /// The store takes no more: what is written stays, the rest goes by another way.
    Beyond,
    /// It broke off.
    Broken(Arc<str>),
}

/// A reader of an answer on its way.
#[derive(Clone, Debug)]
pub struct Arriving {
    arrival: Arc<Arrival>,
    progress: watch::Receiver<Progress>,
    /// Where what the store did not take comes, for the one who asked.
    beyond: Option<Arc<Mutex<mpsc::Receiver<Piece>>>>,
}

/// What came for the reader beyond the store.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// The end, with what came after the bytes.
    End(Option<Arc<HeaderMap>>),
    /// It broke off.
    Broken(Arc<str>),
}

/// What a reader finds next.
#[derive(Debug)]
pub enum Next {
    /// A run of this file.
    File(Arc<File>, ByteRange),
    /// These bytes.
    Bytes(Bytes),
    /// The end, with what came after the bytes.
    End(Option<Arc<HeaderMap>>),
}

impl Arrival {
    /// An answer whose bytes will be written to a file; with where the first reader gets what the store does not take.
    pub fn new(
        head: Head,
        selecting: Selecting,
        size: Option<u64>,
        file: Arc<File>,
    ) -> (Arc<Self>, mpsc::Sender<Piece>, Arriving) {
        let progress = watch::Sender::new(Progress::default());
        let arrival = Arc::new(Self { head, selecting, size, file, progress, joined: Notify::new() });
        let (sender, receiver) = mpsc::channel(BEYOND_MAX);
        let first =
            Arriving { beyond: Some(Arc::new(Mutex::new(receiver))), ..Arriving::new(arrival.clone()) };
        (arrival, sender, first)
    }

    /// Tells readers that bytes are there, so many in all.
    pub(super) fn note_written(&self, written: u64) {
        self.progress.send_modify(|progress| progress.written = written);
    }

    /// Tells them that all are.
    pub(super) fn complete(&self, trailers: Option<Arc<HeaderMap>>) {
        self.progress.send_modify(|progress| progress.phase = Phase::Complete(trailers));
    }

    /// Tells them that the store takes no more.
    pub(super) fn go_beyond(&self) {
        self.progress.send_modify(|progress| progress.phase = Phase::Beyond);
    }

    /// Tells them that it broke off, where it is not over.
    pub(super) fn break_off(&self, reason: &str) {
        self.progress.send_modify(|progress| {
            if matches!(progress.phase, Phase::Running) {
                progress.phase = Phase::Broken(reason.into());
            }
        });
    }

    /// Why it broke off, if it did.
    pub fn broken(&self) -> Option<Arc<str>> {
        match &self.progress.borrow().phase {
            Phase::Broken(reason) => Some(reason.clone()),
            Phase::Running | Phase::Complete(_) | Phase::Beyond => None,
        }
    }

    /// Waits until nobody has read it for too long.
    pub(super) async fn given_up(&self) {
        loop {
            self.progress.closed().await;
            // A permit of a reader from before has it wait once more.
            if timeout(UNREAD_MAX, self.joined.notified()).await.is_err() && !self.is_read() {
                return;
            }
        }
    }

    /// Whether anybody reads it.
    pub(super) fn is_read(&self) -> bool {
        self.progress.receiver_count() > 0
    }
}

impl Arriving {
    /// One more reader.
    pub fn new(arrival: Arc<Arrival>) -> Self {
        let progress = arrival.progress.subscribe();
        arrival.joined.notify_one();
        Self { progress, arrival, beyond: None }
    }

    /// What it reads.
    pub fn arrival(&self) -> &Arc<Arrival> {
        &self.arrival
    }

    /// Waits for what stands at an offset; a run has no more than `most` bytes, and at least one.
    pub async fn next(&mut self, at: u64, most: u64) -> io::Result<Next> {
        let progress = {
            let reached =
                self.progress.wait_for(|now| now.written > at || !matches!(now.phase, Phase::Running));
            reached.await.map_err(|_| broken("the relay is stopping"))?.clone()
        };
        if progress.written > at {
            let run = ByteRange::new(at, progress.written.min(at.saturating_add(most)));
            return Ok(Next::File(self.arrival.file.clone(), run));
        }
        match progress.phase {
            Phase::Complete(trailers) => Ok(Next::End(trailers)),
            Phase::Broken(reason) => Err(broken(&reason)),
            Phase::Running | Phase::Beyond => self.beyond().await,
        }
    }

    async fn beyond(&mut self) -> io::Result<Next> {
        let pieces = self.beyond.as_ref().ok_or_else(|| broken("the store could not take all of it"))?;
        match pieces.lock().await.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Next::Bytes(bytes)),
            Some(Piece::End(trailers)) => Ok(Next::End(trailers)),
            Some(Piece::Broken(reason)) => Err(broken(&reason)),
            None => Err(broken("the relay is stopping")),
        }
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::other(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use hyper::StatusCode;
    use tokio::time::Instant;

    use super::*;
    use crate::relay::cache::answer::Now;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up_in_time_and_one_that_is_read_is_not_r3_2() {
        let now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };
        let head = Head::new(StatusCode::OK, HeaderMap::new(), Duration::ZERO, now);
        let file = Arc::new(tempfile::tempfile().unwrap());
        let (arrival, _beyond, first) = Arrival::new(head, Vec::new(), None, file);
        let begun = Instant::now();
        assert!(timeout(UNREAD_MAX * 10, arrival.given_up()).await.is_err(), "it is read");
        drop(first);
        // Who comes in between, and leaves, has it go on for as long again.
        assert!(timeout(UNREAD_MAX / 2, arrival.given_up()).await.is_err());
        drop(Arriving::new(arrival.clone()));
        assert!(timeout(UNREAD_MAX / 2, arrival.given_up()).await.is_err());
        arrival.given_up().await;
        assert!(begun.elapsed() <= UNREAD_MAX * 13);
    }
}
