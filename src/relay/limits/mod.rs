//! Limits (R10.1): what agents and domains may have in a second, of requests and of bytes, over all workers.
//!
//! The policy says which limits hold for whom, and how much each is ([`policy::limit`](crate::policy::limit)). A request counts
//! against its agent's and its domain's ([`admission`]): over one of them it waits, in a queue of bounded length, and where that is
//! full it is refused with the moment to come back at, spread at random. A transfer, an answer's body or a tunnel, asks for a
//! *grant* before it passes bytes, by its [`gate`]: of its agent's limit, of its domain's programs', of its domain's ([`meter`]), in
//! this order, so that what waits for the one takes nothing of the next. It is slowed and never cut. A connection has one *share* of
//! a limit, as large as that of any other connection which wants it at that moment.
//!
//! Whoever has no limit asks nothing here. Never knows HTTP. Invariants: a table holds what is not whole, so that it is bounded by
//! what has happened in the last seconds; no task is woken while it is locked.

pub mod admission;
pub mod gate;
pub mod meter;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::task::AtomicWaker;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::base::tally::Tally;
use crate::policy::limit::{Holder, Limit};
use crate::relay::limits::admission::{Admission, Full, Waits};
use crate::relay::limits::meter::Meter;
use crate::state::record::Serial;

/// From one deal to those who wait to the next: bytes come in no larger lumps than a slow line has anyway, and waking a thousand
/// connections fifty times a second costs little.
const PACE: Duration = Duration::from_millis(20);

/// Limits that a table may hold before those are let go that are whole.
const TABLE_MAX: usize = 1024;

/// What is left of all limits.
#[derive(Debug)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
    /// Guards what is left of each limit. Taken by who has a limit alone, for microseconds, and by the deals.
    tables: Mutex<Tables>,
    /// Counts the changes of the agent tree, so that each transfer under way sees that there was one.
    changes: AtomicU64,
    /// Somebody waits.
    waits: Notify,
    connections: AtomicU64,
}

/// A connection by number, to tell its transfers from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(u64);

/// A request over a limit is not answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Exceeded {
    /// Over what one agent may send.
    #[error("the agent sends more requests than it may have answered: it may ask again in {0} s")]
    Agent(u64),
    /// Over what all of its domain may.
    #[error("the agent's domain sends more requests than it may have answered: ask again in {0} s")]
    Domain(u64),
}

impl Exceeded {
    /// When to ask again.
    pub fn retry_secs(self) -> u64 {
        let (Self::Agent(secs) | Self::Domain(secs)) = self;
        secs
    }
}

#[derive(Debug, Default)]
struct Tables {
    bytes: Table<Meter<Arc<Ticket>>>,
    requests: Table<Admission>,
    /// Whose bytes are waited for.
    waited_for: HashSet<Holder, RandomState>,
}

type Table<T> = HashMap<Holder, T, RandomState>;

/// What a transfer waits with.
#[derive(Debug, Default)]
struct Ticket {
    /// What it was given; 0 until then.
    given: AtomicU64,
    waker: AtomicWaker,
}

/// What is said to a transfer that asks.
enum Asked {
    Given(u64),
    Waits(Arc<Ticket>),
}

impl Limits {
    /// Limits of which all is left.
    pub fn new(clock: Arc<dyn Clock>, tally: Arc<Tally>) -> Self {
        Self {
            clock,
            tally,
            tables: Mutex::default(),
            changes: AtomicU64::default(),
            waits: Notify::new(),
            connections: AtomicU64::default(),
        }
    }

    /// A number for a connection.
    pub fn connection(&self) -> Connection {
        Connection(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Decides over a request that counts against these limits: for how long it waits, or when it is to be sent again. `random`
    /// spreads those who are sent away.
    pub fn admit(&self, limits: impl Iterator<Item = Limit>, random: u32) -> Result<Duration, Exceeded> {
        let now = self.clock.monotonic();
        let mut tables = self.tables();
        let mut admitted = [None; 2];
        let mut longest = Duration::ZERO;
        for (limit, place) in limits.zip(&mut admitted) {
            let admission = tables.admission(limit, now);
            match admission.look(now) {
                Ok(Waits(wait)) => longest = longest.max(wait),
                Err(Full(_)) => {
                    let secs = spread(admission.send_away(now), random);
                    return Err(match limit.holder {
                        Holder::Agent(_) | Holder::Address(_) => Exceeded::Agent(secs),
                        Holder::Domain(_) | Holder::Programs(_) => Exceeded::Domain(secs),
                    });
                }
            }
            *place = Some(limit);
        }
        // Whom one limit sends away takes nothing of the other.
        for limit in admitted.into_iter().flatten() {
            tables.admission(limit, now).enter(now);
        }
        if !longest.is_zero() {
            self.tally.requests_delayed.one();
        }
        Ok(longest)
    }

    /// Asks for bytes of a limit.
    fn ask(&self, limit: Limit, connection: Connection, wanted: u64) -> Asked {
        let now = self.clock.monotonic();
        let mut tables = self.tables();
        let meter = tables.meter(limit, now);
        if let Some(given) = meter.take(now, connection, wanted.max(1)) {
            return Asked::Given(given);
        }
        let ticket = Arc::new(Ticket::default());
        meter.wait(connection, wanted.max(1), ticket.clone());
        if tables.waited_for.insert(limit.holder) {
            drop(tables);
            self.waits.notify_one();
        }
        Asked::Waits(ticket)
    }

    /// Gives back what was given of a limit and not used.
    fn give_back(&self, limit: Limit, connection: Connection, bytes: u64) {
        if let Some(meter) = self.tables().bytes.get_mut(&limit.holder) {
            meter.give_back(connection, bytes);
        }
    }

    /// Notes that more passed than a limit gave.
    fn owe(&self, limit: Limit, connection: Connection, bytes: u64) {
        let now = self.clock.monotonic();
        self.tables().meter(limit, now).owe(connection, bytes);
    }

    /// Waits for a limit no longer.
    fn leave(&self, limit: Limit, connection: Connection, ticket: &Arc<Ticket>) {
        let mut tables = self.tables();
        let Some(meter) = tables.bytes.get_mut(&limit.holder) else { return };
        if !meter.leave(connection, |other| Arc::ptr_eq(other, ticket)) {
            meter.give_back(connection, ticket.given.load(Ordering::Acquire));
        }
    }

    /// Gives those who wait what has come; gives whether anybody still waits.
    fn deal(&self) -> bool {
        let now = self.clock.monotonic();
        let mut told = Vec::new();
        let mut tables = self.tables();
        let Tables { bytes, waited_for, .. } = &mut *tables;
        waited_for.retain(|holder| {
            let Some(meter) = bytes.get_mut(holder) else { return false };
            meter.deal(now, |ticket, given| {
                ticket.given.store(given, Ordering::Release);
                told.push(ticket);
            });
            meter.is_waited_for()
        });
        let waits = !waited_for.is_empty();
        drop(tables);
        for ticket in &told {
            ticket.waker.wake();
        }
        waits
    }

    /// Has all transfers under way look at what holds for them now.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        let tables = self.tables();
        let meters = tables.waited_for.iter().filter_map(|holder| tables.bytes.get(holder));
        let waiting: Vec<_> = meters.flat_map(Meter::waiting).cloned().collect();
        drop(tables);
        for ticket in &waiting {
            ticket.waker.wake();
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deals out what comes, and follows the changes of the agent tree, until the relay stops.
pub async fn run(limits: Arc<Limits>, mut changes: watch::Receiver<Serial>, stop: CancellationToken) {
    let mut beat = interval(PACE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waits = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => match changed {
                Ok(()) => limits.changed(),
                Err(_) => return,
            },
            () = limits.waits.notified(), if !waits => {
                waits = true;
                beat.reset();
            }
            _ = beat.tick(), if waits => waits = limits.deal(),
        }
    }
}

impl Tables {
    fn meter(&mut self, Limit { holder, per_sec }: Limit, now: Duration) -> &mut Meter<Arc<Ticket>> {
        make_room(&mut self.bytes, &holder, |meter| meter.is_whole(now));
        let meter = self.bytes.entry(holder).or_insert_with(|| Meter::new(per_sec.get(), now));
        meter.set(per_sec.get(), now);
        meter
    }

    fn admission(&mut self, Limit { holder, per_sec }: Limit, now: Duration) -> &mut Admission {
        make_room(&mut self.requests, &holder, |admission| admission.is_whole(now));
        let admission = self.requests.entry(holder).or_insert_with(|| Admission::new(per_sec.get()));
        admission.set(per_sec.get(), now);
        admission
    }
}

/// Lets those go of which all is left, before a table would grow for another one.
fn make_room<T>(table: &mut Table<T>, holder: &Holder, mut is_whole: impl FnMut(&mut T) -> bool) {
    if table.len() >= TABLE_MAX && table.len() == table.capacity() && !table.contains_key(holder) {
        table.retain(|_, one| !is_whole(one));
        // Where most went, the room goes too; where most stayed, the next look is far.
        table.shrink_to(2 * table.len());
    }
}

/// Whole seconds for who is sent away: at least one, and up to half as long again, so that those who came together do not come back
/// together.
fn spread(away: Duration, random: u32) -> u64 {
    let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX).max(1000);
    let more_ms = (away_ms / 2).max(1000) * u64::from(random) / u64::from(u32::MAX);
    (away_ms + more_ms).div_ceil(1000)
}

impl Ticket {
    /// What the transfer was given, once it was.
    fn poll(&self, cx: &Context<'_>) -> Poll<u64> {
        self.waker.register(cx.waker());
        match self.given.load(Ordering::Acquire) {
            0 => Poll::Pending,
            given => Poll::Ready(given),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::policy::tree::id::{AgentId, DomainId};

    fn limits() -> Limits {
        Limits::new(Arc::new(SystemClock::default()), Arc::default())
    }

    fn limit(holder: Holder, per_sec: u64) -> Limit {
        Limit { holder, per_sec: NonZeroU64::new(per_sec).unwrap() }
    }

    #[test]
    fn whom_the_domain_sends_away_has_used_nothing_of_its_own_r10_1() {
        let limits = limits();
        let own = limit(Holder::Agent(AgentId::parse("a").unwrap()), 1000);
        let domain = limit(Holder::Domain(DomainId::try_from(1).ok()), 1);
        let both = || [own, domain].into_iter();
        while limits.admit(both(), 0).is_ok() {}
        let full = limits.admit(both(), u32::MAX).unwrap_err();
        assert!(matches!(full, Exceeded::Domain(secs) if secs >= 3), "{full:?}");
        let now = limits.clock.monotonic();
        assert_eq!(limits.tables().admission(own, now).look(now), Ok(Waits(Duration::ZERO)));
        let mut free = 0;
        while limits.admit([own].into_iter(), 0).is_ok_and(|wait| wait.is_zero()) {
            free += 1;
        }
        // Two went on before.
        assert!((990..=1010).contains(&free), "{free}");
        assert!(limits.tally.requests_delayed.value() >= 1);
    }

    #[test]
    fn those_who_are_sent_away_together_come_back_apart_r10_1() {
        let secs: HashSet<_> =
            (0..1000).map(|number| spread(Duration::from_secs(40), u32::MAX / 1000 * number)).collect();
        assert!(secs.iter().all(|secs| (40..=60).contains(secs)) && secs.len() > 15, "{secs:?}");
        assert_eq!(spread(Duration::ZERO, 0), 1);
    }

    #[test]
    fn a_table_holds_no_more_than_what_is_in_use_r10_1() {
        let limits = limits();
        for number in 0..50_000u32 {
            let address = Holder::Address(std::net::Ipv4Addr::from_bits(number).into());
            // So fast that it is whole again before the next look.
            assert!(matches!(limits.ask(limit(address, 1 << 40), Connection(1), 1), Asked::Given(1)));
            assert!(limits.admit([limit(address, 1 << 40)].into_iter(), 0).is_ok());
        }
        let tables = limits.tables();
        assert!(tables.bytes.len() <= 4 * TABLE_MAX, "{}", tables.bytes.len());
        assert!(tables.requests.len() <= 4 * TABLE_MAX, "{}", tables.requests.len());
    }
}
