//! What one transfer asks before it passes bytes: a grant of each limit that holds for it, one after the other.
//!
//! Which limits those are is looked at again whenever the agent tree has changed, also while it waits. Invariant: what was given and
//! did not pass goes back when the transfer ends, however it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;

use crate::policy::caller::Who;
use crate::policy::limit::Limit;
use crate::policy::sources::Kind;
use crate::relay::limits::{Asked, Connection, Limits, Ticket};
use crate::relay::live::Live;

/// A transfer, as limits know it.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Whose it is.
    pub who: Who,
    /// Where to.
    pub address: IpAddr,
    /// What passes.
    pub kind: Kind,
    /// On which connection.
    pub connection: Connection,
}

/// A transfer's gate.
#[derive(Debug)]
pub struct Gate {
    limits: Arc<Limits>,
    live: Arc<ArcSwap<Live>>,
    transfer: Transfer,
    /// At which change of the agent tree its limits were looked at; `None` before they were.
    seen: Option<u64>,
    /// Those that hold for it.
    holding: Vec<Limit>,
    /// How many of them have given for the next grant, and how much.
    asked: usize,
    held: u64,
    /// What is left of the last grant, of all of them.
    granted: u64,
    ticket: Option<Arc<Ticket>>,
    /// It had to wait for this grant.
    slowed: bool,
}

impl Gate {
    /// A transfer that begins.
    pub fn new(limits: Arc<Limits>, live: Arc<ArcSwap<Live>>, transfer: Transfer) -> Self {
        Self {
            limits,
            live,
            transfer,
            seen: None,
            holding: Vec::new(),
            asked: 0,
            held: 0,
            granted: 0,
            ticket: None,
            slowed: false,
        }
    }

    /// How many bytes may pass now, where so many are wanted: any number where nothing is limited, else at least one.
    pub fn poll(&mut self, cx: &Context<'_>, wanted: u64) -> Poll<u64> {
        self.look();
        if self.holding.is_empty() {
            return Poll::Ready(u64::MAX);
        }
        while self.granted == 0 {
            let Some(limit) = self.holding.get(self.asked).copied() else {
                (self.granted, self.held, self.asked) = (self.held, 0, 0);
                break;
            };
            let wanted = if self.asked == 0 { wanted } else { self.held };
            let given = if let Some(ticket) = &self.ticket {
                ready!(ticket.poll(cx))
            } else {
                self.slowed &= self.asked > 0;
                match self.limits.ask(limit, self.transfer.connection, wanted) {
                    Asked::Given(given) => given,
                    Asked::Waits(ticket) => {
                        (self.ticket, self.slowed) = (Some(ticket), true);
                        continue;
                    }
                }
            };
            self.ticket = None;
            let beyond = self.held.saturating_sub(given);
            for before in self.holding[..self.asked].iter().filter(|_| beyond > 0) {
                self.limits.give_back(*before, self.transfer.connection, beyond);
            }
            (self.held, self.asked) = (given, self.asked + 1);
        }
        Poll::Ready(self.granted)
    }

    /// Notes that so many bytes passed: more than was granted, where a read had begun before a limit became less.
    pub fn passed(&mut self, bytes: u64) {
        if self.holding.is_empty() {
            return;
        }
        if self.slowed {
            self.limits.tally.slowed_bytes.add(bytes);
        }
        let beyond = bytes.saturating_sub(self.granted);
        if beyond > 0 {
            for limit in &self.holding {
                self.limits.owe(*limit, self.transfer.connection, beyond);
            }
        }
        self.granted = self.granted.saturating_sub(bytes);
    }

    /// Looks at what holds, where the agent tree has changed since it was looked at last.
    fn look(&mut self) {
        let change = self.limits.changes.load(Ordering::Acquire);
        if self.seen.replace(change) == Some(change) {
            return;
        }
        let Transfer { who, address, kind, .. } = self.transfer;
        let live = self.live.load();
        // Who is not let in any more has what held before: what is on its way ends whole.
        let Ok(caller) = live.policy.again(&live.agents.tree(), who, address) else { return };
        if !caller.byte_limits(kind).eq(self.holding.iter().copied()) {
            self.let_go();
            self.holding = caller.byte_limits(kind).collect();
        }
    }

    /// Gives back what was given, and waits no longer.
    fn let_go(&mut self) {
        let connection = self.transfer.connection;
        if let (Some(ticket), Some(limit)) = (self.ticket.take(), self.holding.get(self.asked)) {
            self.limits.leave(*limit, connection, &ticket);
        }
        for (at, limit) in self.holding.iter().enumerate() {
            let held = if at < self.asked { self.held } else { 0 };
            if held + self.granted > 0 {
                self.limits.give_back(*limit, connection, held + self.granted);
            }
        }
        (self.asked, self.held, self.granted) = (0, 0, 0);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.let_go();
    }
}
