//! What is left of one limit of bytes, and the connections that wait for some of it.
//!
//! What a second gives is there as it passes, and kept for a tenth of one. While more is wanted than is left, connections wait, and what
//! comes is dealt out now and then, piece by piece, in the order of a virtual time that moves on by what each connection was given
//! (start-time fair queueing, Goyal, Vin and Cheng 1996). Whoever wants less leaves the rest to the others. Transfers of one connection have
//! one share together. Invariant: over any time, what was given is at most what the limit allows for that time, a tenth of a second's
//! more, and a piece.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::relay::limits::Connection;

/// The part of a second for which is kept what nobody wanted.
const KEPT: u64 = 10;

/// The part of a second that a piece is: some thousand pieces a second cost little, and make equal shares of a few hundred connections
/// within a second or two.
const PIECES: u64 = 2048;

/// A piece's bounds, in bytes: below the one heads cost more than bodies, above the other shares are coarse.
const PIECE_BYTES_MIN: u64 = 1 << 10;
const PIECE_BYTES_MAX: u64 = 64 << 10;

/// Pieces of one deal, where there is so much that it would be more: each costs some hundred nanoseconds.
const DEAL_PIECES: u64 = 1024;

/// Connections that may be remembered beside those that wait, before those are forgotten whose share is even.
const SLACK: usize = 64;

/// What is left of a limit. `T` is how whoever waits is told.
#[derive(Debug)]
pub struct Meter<T> {
    per_sec: u64,
    /// Bytes; below zero where more passed than was given.
    left: i64,
    /// Until when what came is in `left`.
    filled: Duration,
    connections: HashMap<Connection, Flow<T>>,
    /// Connections that wait, by their virtual start; of two alike, who came first.
    order: BTreeSet<(Start, Connection)>,
    /// The virtual start of what was given last.
    now: u128,
    came: u64,
    /// More was wanted than was left, and not half of what may be kept has come since: nothing is given but by deals, or the quickest to ask
    /// would have most.
    contended: bool,
}

/// A place in the order.
type Start = (u128, u64);

/// What one connection has and wants.
#[derive(Debug)]
struct Flow<T> {
    /// The virtual time up to which it has had its share.
    finish: u128,
    /// Its transfers that wait.
    waiting: VecDeque<Waiting<T>>,
    /// Where it stands in the order, while it waits.
    start: Option<Start>,
}

#[derive(Debug)]
struct Waiting<T> {
    transfer: T,
    wanted: u64,
    /// What it was dealt so far, in one deal.
    given: u64,
}

impl<T> Default for Flow<T> {
    fn default() -> Self {
        Self { finish: 0, waiting: VecDeque::new(), start: None }
    }
}

impl<T> Meter<T> {
    /// A limit of which all is left.
    pub fn new(per_sec: u64, now: Duration) -> Self {
        Self {
            per_sec,
            left: signed(kept(per_sec)),
            filled: now,
            connections: HashMap::new(),
            order: BTreeSet::new(),
            now: 0,
            came: 0,
            contended: false,
        }
    }

    /// Makes it another limit, from now on.
    pub fn set(&mut self, per_sec: u64, now: Duration) {
        if self.per_sec == per_sec {
            return;
        }
        self.fill(now);
        self.per_sec = per_sec;
        // What was owed was owed at another rate.
        self.left = self.left.clamp(-signed(piece(per_sec)), signed(kept(per_sec)));
        self.filled = now;
    }

    /// Gives at once, where nobody has to wait: at most as much as is wanted, at least one byte.
    pub fn take(&mut self, now: Duration, connection: Connection, wanted: u64) -> Option<u64> {
        self.fill(now);
        // Also where nothing has come since a deal: that may have left enough.
        if self.order.is_empty() && self.left >= signed(kept(self.per_sec) / 2) {
            self.contended = false;
        }
        if self.contended || self.left <= 0 {
            self.contended = true;
            return None;
        }
        let given = wanted.min(self.left.unsigned_abs().max(piece(self.per_sec)));
        let flow = self.connections.entry(connection).or_default();
        let start = flow.finish.max(self.now);
        // What nobody else wanted counts little: who had it is not to wait until all others have had as much.
        flow.finish = start + u128::from(given.min(piece(self.per_sec)));
        self.now = start;
        self.left -= signed(given);
        self.contended = self.left <= 0;
        Some(given)
    }

    /// Has a transfer wait for the next deal.
    pub fn wait(&mut self, connection: Connection, wanted: u64, transfer: T) {
        self.contended = true;
        self.came += 1;
        let flow = self.connections.entry(connection).or_default();
        flow.waiting.push_back(Waiting { transfer, wanted, given: 0 });
        if flow.start.is_none() {
            let start = (flow.finish.max(self.now), self.came);
            flow.start = Some(start);
            self.order.insert((start, connection));
        }
    }

    /// Deals what is left out to those who wait, piece by piece; they are told how much they have in all.
    pub fn deal(&mut self, now: Duration, mut tell: impl FnMut(T, u64)) {
        self.fill(now);
        if self.order.is_empty() {
            return;
        }
        let piece = piece(self.per_sec).max(self.left.max(0).unsigned_abs() / DEAL_PIECES);
        let mut dealt_to = Vec::new();
        while self.left > 0
            && let Some((start, connection)) = self.order.pop_first()
        {
            let Some(flow) = self.connections.get_mut(&connection) else { continue };
            flow.start = None;
            let Some(first) = flow.waiting.front_mut() else { continue };
            let given = (first.wanted - first.given).min(piece);
            if first.given == 0 {
                dealt_to.push(connection);
            }
            first.given += given;
            self.left -= signed(given);
            self.now = self.now.max(start.0);
            flow.finish = flow.finish.max(start.0) + u128::from(given);
            if first.given == first.wanted
                && let Some(Waiting { transfer, given, .. }) = flow.waiting.pop_front()
            {
                tell(transfer, given);
            }
            if !flow.waiting.is_empty() {
                self.came += 1;
                let start = (flow.finish, self.came);
                flow.start = Some(start);
                self.order.insert((start, connection));
            }
        }
        for connection in dealt_to {
            let Some(flow) = self.connections.get_mut(&connection) else { continue };
            if let Some(Waiting { transfer, given, .. }) = flow.waiting.pop_front_if(|first| first.given > 0)
            {
                tell(transfer, given);
            }
            if flow.waiting.is_empty()
                && let Some(start) = flow.start.take()
            {
                self.order.remove(&(start, connection));
            }
        }
        if self.connections.len() > 2 * self.order.len() + SLACK {
            let now = self.now;
            self.connections.retain(|_, flow| flow.start.is_some() || flow.finish > now);
        }
    }

    /// Takes back what was given and not used.
    pub fn give_back(&mut self, connection: Connection, bytes: u64) {
        self.left = self.left.saturating_add(signed(bytes)).min(signed(kept(self.per_sec)));
        if let Some(flow) = self.connections.get_mut(&connection) {
            flow.finish = flow.finish.saturating_sub(bytes.into());
        }
    }

    /// Notes that more passed than was given: it is owed.
    pub fn owe(&mut self, connection: Connection, bytes: u64) {
        self.left = self.left.saturating_sub(signed(bytes));
        self.contended = true;
        let flow = self.connections.entry(connection).or_default();
        flow.finish = flow.finish.max(self.now) + u128::from(bytes);
    }

    /// Takes out transfers of a connection that wait; gives whether there was one.
    pub fn leave(&mut self, connection: Connection, is_it: impl Fn(&T) -> bool) -> bool {
        let Some(flow) = self.connections.get_mut(&connection) else { return false };
        let before = flow.waiting.len();
        flow.waiting.retain(|one| !is_it(&one.transfer));
        if flow.waiting.is_empty()
            && let Some(start) = flow.start.take()
        {
            self.order.remove(&(start, connection));
        }
        self.connections.get(&connection).is_some_and(|flow| flow.waiting.len() < before)
    }

    /// Those who wait.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        let flows = self.order.iter().filter_map(|(_, connection)| self.connections.get(connection));
        flows.flat_map(|flow| flow.waiting.iter().map(|one| &one.transfer))
    }

    /// Whether anybody waits.
    pub fn is_waited_for(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether a new one would be the same.
    pub fn is_whole(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.order.is_empty() && self.left >= signed(kept(self.per_sec))
    }

    /// Adds what has come since.
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_nanos();
        let came = passed * u128::from(self.per_sec) / NANOS;
        if came == 0 {
            return;
        }
        let most = kept(self.per_sec);
        let room = u128::try_from(i128::from(most) - i128::from(self.left)).unwrap_or(0);
        if came >= room {
            (self.left, self.filled) = (signed(most), now);
        } else {
            self.left += i64::try_from(came).unwrap_or(i64::MAX);
            // The part of a byte that has come is not lost.
            let taken = came * NANOS / u128::from(self.per_sec);
            self.filled += Duration::from_nanos(u64::try_from(taken).unwrap_or(u64::MAX));
        }
    }
}

const NANOS: u128 = 1_000_000_000;

/// The most that is kept.
fn kept(per_sec: u64) -> u64 {
    (per_sec / KEPT).max(piece(per_sec))
}

/// The least that is given to who wants as much.
fn piece(per_sec: u64) -> u64 {
    (per_sec / PIECES).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
