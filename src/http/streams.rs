//! The requests under way on one HTTP/2 connection, and for how long nothing may happen to them.
//!
//! Invariant: a connection without requests ends after the head's deadline, one whose client takes nothing after the stall's;
//! while the relay is the one to act, the deadlines of its fills count and none here.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// The streams of one connection.
#[derive(Debug)]
pub struct Streams {
    /// What one answer may have waiting for the client.
    send_buffer_bytes: usize,
    open: Cell<usize>,
    /// How many of them wait for the relay.
    ours: Cell<usize>,
    moved: Notify,
}

/// One request, from its head to the end of its answer's body.
#[derive(Debug)]
pub struct Stream {
    streams: Rc<Streams>,
    turn: Turn,
}

/// Who is to act on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The relay: it makes the answer.
    Relay,
    /// The client: it makes room for more.
    Client,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing was asked for.
    Idle,
    /// What was asked for is not taken.
    Stalled,
}

impl Streams {
    /// None yet; so many bytes of each answer may wait for the client while there are few.
    pub fn new(send_buffer_bytes: usize) -> Self {
        Self { send_buffer_bytes, open: Cell::default(), ours: Cell::default(), moved: Notify::new() }
    }

    /// Begins a request; it is the relay's turn.
    pub fn begin(self: &Rc<Self>) -> Stream {
        self.open.set(self.open.get() + 1);
        self.ours.set(self.ours.get() + 1);
        self.moved.notify_one();
        Stream { streams: self.clone(), turn: Turn::Relay }
    }

    /// Whether any request is under way.
    pub fn any(&self) -> bool {
        self.open.get() > 0
    }

    /// Waits until nothing was asked for, or nothing was taken, for so long.
    pub async fn quiet(&self, idle: Duration, stall: Duration) -> Quiet {
        loop {
            let (deadline, quiet) = match (self.open.get(), self.ours.get()) {
                (0, _) => (idle, Quiet::Idle),
                (_, 0) => (stall, Quiet::Stalled),
                _ => {
                    self.moved.notified().await;
                    continue;
                }
            };
            if timeout(deadline, self.moved.notified()).await.is_err() {
                return quiet;
            }
        }
    }
}

impl Stream {
    /// How many bytes the answer may have waiting: the connection's share, by the streams that are open. A client that
    /// takes single bytes of a hundred answers holds little more than one that takes four.
    pub fn share_bytes(&self) -> usize {
        let most = self.streams.send_buffer_bytes;
        (SHARES * most / self.streams.open.get().max(1)).clamp(FRAME_BYTES.min(most), most)
    }

    /// Notes that something moved, and whose turn it is.
    pub fn moved(&mut self, turn: Turn) {
        let ours = &self.streams.ours;
        match (self.turn, turn) {
            (Turn::Relay, Turn::Client) => ours.set(ours.get() - 1),
            (Turn::Client, Turn::Relay) => ours.set(ours.get() + 1),
            _ => {}
        }
        self.turn = turn;
        self.streams.moved.notify_one();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.moved(Turn::Client);
        self.streams.open.set(self.streams.open.get() - 1);
    }
}

/// Answers that may each have a full buffer waiting on one connection: they keep any line full.
const SHARES: usize = 4;

/// A frame of data as h2 makes them: less would cost more than it saves.
const FRAME_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_is_to_act_is_waited_for() {
        let (idle, stall) = (Duration::from_secs(15), Duration::from_mins(1));
        let streams = Rc::new(Streams::new(64 << 10));
        assert_eq!(streams.quiet(idle, stall).await, Quiet::Idle);
        let mut stream = streams.begin();
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, streams.quiet(idle, stall)).await.is_err(), "the relay is to act");
        stream.moved(Turn::Client);
        assert_eq!(streams.quiet(idle, stall).await, Quiet::Stalled);
        let other = streams.begin();
        assert!(timeout(hour, streams.quiet(idle, stall)).await.is_err());
        drop(other);
        assert_eq!(streams.quiet(idle, stall).await, Quiet::Stalled);
        drop(stream);
        assert_eq!(streams.quiet(idle, stall).await, Quiet::Idle);
    }

    #[test]
    fn many_answers_share_what_few_have_each() {
        let streams = Rc::new(Streams::new(64 << 10));
        let mut open = Vec::new();
        for (count, kib) in [(1, 64), (4, 64), (8, 32), (16, 16), (100, 16)] {
            open.resize_with(count, || streams.begin());
            assert_eq!(open[0].share_bytes(), kib << 10, "{count}");
        }
    }
}
