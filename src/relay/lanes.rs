//! The far lanes of a fill: upstream requests for what readers far ahead wait for, beside the main one (R2.2, R2.3).
//!
//! [`Lanes`] is what a fill's readers, its main lane and its far lanes share: the plan and the signals between them. A
//! [`Driver`] runs the far lanes within the fill's own task: each asks the origin whose strong tag vouches for all that was
//! staged, writes what it brings where it belongs, and ends when it breaks or is refused: it has no second try, since what it
//! leaves out is a gap that the main lane fills. A lane that comes to where another's place begins closes its connection, so the
//! upstream sends each byte once but for what was on its way then. Never hashes and never decides where a lane goes: that is
//! the plan's.
//!
//! Invariant: while the main lane takes bytes that another tag vouches for, or none, no far lane runs.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tracing::debug;

use crate::base::range::ByteRange;
use crate::relay::batch::{Batch, gather, write_ahead};
use crate::relay::entry::Entry;
use crate::relay::fill::Fill;
use crate::relay::plan::{Ended, Order, Plan};
use crate::relay::tree::Tree;
use crate::store::staging::Ahead;
use crate::store::unfinished::Voucher;
use crate::upstream::{Answer, Part, Request, Transfer};

/// What a fill's readers, its main lane and its far lanes share.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Held for moments, never across an await.
    plan: Mutex<Plan>,
    signal: watch::Sender<Signal>,
    /// Wakes the driver: a lane may be opened, or all are to end.
    wanted: Notify,
    /// Wakes the main lane: a far lane wrote something or ended.
    moved: Notify,
}

/// What far lanes are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Signal {
    #[default]
    Go,
    /// End, and begin none until further notice.
    Halt,
    /// End, and begin none any more.
    Close,
}

impl Signal {
    fn go(&mut self) -> bool {
        let halted = *self == Self::Halt;
        if halted {
            *self = Self::Go;
        }
        halted
    }
}

/// A reader's wish for bytes far ahead; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Want<'f> {
    lanes: &'f Lanes,
    at: u64,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        self.lanes.plan().unwant(self.at);
    }
}

impl Lanes {
    /// For a file of so many bytes; at most so many far lanes at once, and none where the size is not known.
    pub(super) fn new(size: Option<u64>, lanes_max: usize) -> Self {
        let plan = size.map_or(Plan::new(u64::MAX, 0), |size| Plan::new(size, lanes_max));
        Self {
            plan: Mutex::new(plan),
            signal: watch::Sender::new(Signal::Go),
            wanted: Notify::new(),
            moved: Notify::new(),
        }
    }

    /// What goes where; not to be held across an await.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a lane opened for a reader, if it waits far enough ahead, now or later.
    pub(super) fn want(&self, at: u64) -> Want<'_> {
        let can_open = {
            let mut plan = self.plan();
            plan.want(at);
            plan.can_open()
        };
        if can_open {
            self.wanted.notify_one();
        }
        Want { lanes: self, at }
    }

    /// Ends the far lanes, waits for what they are writing, and has none begun until [`Lanes::vouch`] says so.
    pub(super) async fn halt(&self) {
        self.signal.send_replace(Signal::Halt);
        while !self.plan().is_still() {
            self.moved.notified().await;
        }
    }

    /// Notes what vouches for all that the main lane has staged. False while far lanes' bytes that it does not vouch for were
    /// not compared; else far lanes may begin under it.
    pub(super) fn vouch(&self, voucher: Option<&Voucher>) -> bool {
        let (same, vouched) = {
            let mut plan = self.plan();
            (plan.is_of(voucher), plan.vouch(voucher))
        };
        let went = vouched && self.signal.send_if_modified(Signal::go);
        if vouched && (went || !same) {
            self.wanted.notify_one();
        }
        vouched
    }

    /// Ends the far lanes for good; the driver ends with the last of them.
    pub(super) fn close(&self) {
        self.signal.send_replace(Signal::Close);
        self.wanted.notify_one();
    }

    /// Waits until a far lane wrote something or ended.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    fn open(&self) -> Option<Order> {
        if *self.signal.borrow() == Signal::Go { self.plan().open() } else { None }
    }
}

/// Runs the far lanes of one fill.
pub(super) struct Driver<'f> {
    pub(super) tree: &'f Tree,
    pub(super) entry: &'f Entry,
    pub(super) fill: &'f Fill,
    pub(super) ahead: Ahead,
}

impl Driver<'_> {
    /// Opens lanes and drives them until they are closed.
    pub(super) async fn run(&self) {
        let shared = self.fill.lanes();
        let mut lanes = FuturesUnordered::new();
        loop {
            while let Some(order) = shared.open() {
                lanes.push(self.lane(order));
            }
            if lanes.is_empty() && *shared.signal.borrow() == Signal::Close {
                return;
            }
            tokio::select! {
                Some(()) = lanes.next() => {}
                () = shared.wanted.notified() => {}
            }
        }
    }

    async fn lane(&self, order: Order) {
        let mut gained = 0;
        let Err(ended) = self.bring(&order, &mut gained).await;
        debug!(tree = %self.tree.name, path = %self.entry.path(), start = order.run.start(), gained, ?ended, "far lane ended");
        self.fill.lanes().plan().end(order.number, gained, ended);
        self.fill.lanes().moved.notify_one();
    }

    async fn bring(&self, order: &Order, gained: &mut u64) -> Result<Infallible, Ended> {
        let shared = self.fill.lanes();
        let mut signal = shared.signal.subscribe();
        let mut transfer = tokio::select! {
            biased;
            _ = signal.wait_for(|signal| *signal != Signal::Go) => return Err(Ended::Done),
            transfer = self.ask(order) => transfer?,
        };
        if !shared.plan().begin(order.number) {
            return Err(Ended::Done);
        }
        loop {
            let batch = tokio::select! {
                biased;
                _ = signal.wait_for(|signal| *signal != Signal::Go) => return Err(Ended::Done),
                batch = gather(&mut transfer) => batch,
            };
            // What is begun here is ended: a write that nobody waits for could come after what another lane wrote.
            self.take(order, batch, gained).await?;
        }
    }

    async fn ask(&self, order: &Order) -> Result<Transfer, Ended> {
        let upstream = self.tree.upstream();
        // Settings that were reloaded may name others.
        let origin = upstream.origin_named(&order.voucher.origin).ok_or(Ended::Refused)?;
        let tag = order.voucher.validator.strong().ok_or(Ended::Refused)?;
        let request = Request { path: self.entry.path().as_str(), part: Part::Span(order.run, tag) };
        match upstream.fetch(origin, request).await {
            Ok(Answer::Found(transfer))
                if transfer.offset == order.run.start()
                    && transfer.end == Some(order.run.end())
                    && transfer.head.size == self.entry.identity().size =>
            {
                Ok(transfer)
            }
            Err(error) if error.is_passing() => Err(Ended::Broken),
            Ok(_) | Err(_) => Err(Ended::Refused),
        }
    }

    async fn take(&self, order: &Order, batch: Batch, gained: &mut u64) -> Result<(), Ended> {
        let (shared, at, len) = (self.fill.lanes(), order.run.start() + *gained, batch.len());
        if at + len > order.run.end() {
            return Err(Ended::Refused);
        }
        let given = shared.plan().claim(order.number, len);
        let (ahead, pieces) = (self.ahead.clone(), batch.first(given));
        let written = tokio::task::spawn_blocking(move || write_ahead(&ahead, &pieces, at)).await;
        if !matches!(written, Ok(Ok(()))) {
            return Err(Ended::Refused);
        }
        *gained += given;
        let run = ByteRange::new(at, at + given);
        shared.plan().wrote(run);
        self.fill.note_written(run);
        shared.moved.notify_one();
        match batch.ended {
            _ if given < len || at + given == order.run.end() => Err(Ended::Done),
            None => Ok(()),
            Some(_) => Err(Ended::Broken),
        }
    }
}
