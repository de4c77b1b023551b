//! Where a fill's lanes go: which one is opened for whom, and where each stops. No I/O, no clock.
//!
//! The *main lane* brings the file from its start on, and in the end whatever no other lane brought. A *far lane* begins where a
//! reader waits far ahead of all lanes, and goes on to where other bytes begin that are there or on their way. A lane is asked
//! for first, and runs from its answer on. Other far lanes stop where it begins from the first; the main lane, for which more
//! readers wait, does not wait for an answer: where it comes first, the far lane has lost its place.
//!
//! Invariant: no byte is two lanes' to write. A lane writes what it claimed, and a claim ends where another's place begins.

use std::collections::BTreeMap;

use crate::base::intervals::Intervals;
use crate::base::range::ByteRange;
use crate::store::unfinished::Voucher;

/// How far ahead of all lanes a reader must wait for one of its own: on a line of 20 Mbit/s a lane needs as long for so much
/// as a new request takes to be answered.
pub(super) const DISTANCE_MIN: u64 = 256 << 10;

/// Far lanes that one fill opens in its life: agents that ask for scattered bytes must not make it a thousand requests.
pub(super) const OPENED_MAX: u64 = 64;

/// Far lanes that brought less than [`GAIN_MIN`] and broke, after which a fill opens no more: the upstream is not well.
pub(super) const FAILURES_MAX: u32 = 3;

/// What a lane must have brought for its end not to count as a failure.
const GAIN_MIN: u64 = 64 << 10;

/// What a fill's lanes have, are doing, and are wanted for.
#[derive(Debug, Default)]
pub(super) struct Plan {
    size: u64,
    lanes_max: usize,
    /// What is below belongs to the main lane: it is staged or being written. Never falls.
    front: u64,
    /// What far lanes wrote.
    ahead: Intervals,
    lanes: Vec<Lane>,
    /// Where readers wait, and how many at each place.
    wants: BTreeMap<u64, usize>,
    /// What vouches for all that readers may have seen, and so for what far lanes bring.
    voucher: Option<Voucher>,
    opened: u64,
    failures: u32,
}

#[derive(Debug)]
struct Lane {
    number: u64,
    start: u64,
    /// The end of what it has written or is writing.
    claimed: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Running,
}

/// A far lane to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Tells the fill's lanes apart.
    pub(super) number: u64,
    /// What to ask for.
    pub(super) run: ByteRange,
    /// Where, and under which tag.
    pub(super) voucher: Voucher,
}

/// How a far lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It came to its stop, to another lane, or was told to stop.
    Done,
    /// It broke.
    Broken,
    /// The origin does not give parts of this state of the file.
    Refused,
}

impl Plan {
    /// A plan for a file of so many bytes with at most so many far lanes at once.
    pub(super) fn new(size: u64, lanes_max: usize) -> Self {
        Self { size, lanes_max, ..Self::default() }
    }

    /// Notes that a reader waits at a place.
    pub(super) fn want(&mut self, at: u64) {
        *self.wants.entry(at).or_default() += 1;
    }

    /// Whether no lane will ever be opened for a reader who waits at a place: the main lane is near, or past it, or there are no others.
    pub(super) fn is_near(&self, at: u64) -> bool {
        self.lanes_max == 0 || at < self.front.saturating_add(DISTANCE_MIN)
    }

    /// Notes that it waits no more.
    pub(super) fn unwant(&mut self, at: u64) {
        if let Some(count) = self.wants.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.wants.remove(&at);
            }
        }
    }

    /// Whether [`Plan::open`] would give a lane.
    pub(super) fn can_open(&self) -> bool {
        self.voucher.is_some()
            && self.lanes.len() < self.lanes_max
            && self.opened < OPENED_MAX
            && self.failures < FAILURES_MAX
            && self.farthest().is_some()
    }

    /// A lane for the reader who waits farthest from all lanes behind it, if it is far enough; it begins where the first of the
    /// readers near that one waits.
    pub(super) fn open(&mut self) -> Option<Order> {
        if !self.can_open() {
            return None;
        }
        let (start, voucher) = (self.first_near(self.farthest()?), self.voucher.clone()?);
        let number = self.opened;
        self.opened += 1;
        let run = ByteRange::new(start, self.stop_after(start).unwrap_or(self.size));
        self.lanes.push(Lane { number, start, claimed: start, state: State::Asked });
        Some(Order { number, run, voucher })
    }

    fn farthest(&self) -> Option<u64> {
        let far = self.wants.keys().filter_map(|at| Some((self.distance(*at)?, *at)));
        far.filter(|(distance, _)| *distance >= DISTANCE_MIN).max().map(|(_, at)| at)
    }

    /// The first reader of those near a place whom a lane that brings that place could serve on its way.
    fn first_near(&self, at: u64) -> u64 {
        let near = self.wants.range(at.saturating_sub(DISTANCE_MIN) + 1..at).map(|(near, _)| *near);
        let mut fit = near.filter(|near| {
            self.distance(*near).is_some_and(|distance| distance >= DISTANCE_MIN)
                && self.stop_after(*near).is_none_or(|stop| stop > at)
        });
        fit.next().unwrap_or(at)
    }

    /// How far the nearest lane is behind a place; `None` where the place is passed or being written.
    fn distance(&self, at: u64) -> Option<u64> {
        let passed = at < self.front
            || at >= self.size
            || self.ahead.run_from(at) > 0
            || self.lanes.iter().any(|lane| lane.start <= at && at < lane.claimed);
        let fronts = self.lanes.iter().map(|lane| lane.claimed).filter(|front| *front <= at);
        (!passed).then(|| at - fronts.fold(self.front, u64::max))
    }

    /// Where, after a place, other bytes begin that are there or asked for: a request from there need not go further.
    pub(super) fn stop_after(&self, at: u64) -> Option<u64> {
        let lanes = self.lanes.iter().map(|lane| lane.start).filter(|start| *start > at);
        lanes.chain(self.ahead.next(at).map(ByteRange::start)).min()
    }

    /// Whether a lane whose answer has come still has its place; from then on it is its own.
    pub(super) fn begin(&mut self, number: u64) -> bool {
        let Some(at) = self.lanes.iter().position(|lane| lane.number == number) else { return false };
        let start = self.lanes[at].start;
        let taken = start <= self.front
            || self.ahead.run_from(start) > 0
            || self.lanes.iter().any(|lane| lane.start <= start && start < lane.claimed);
        if !taken {
            self.lanes[at].state = State::Running;
        }
        !taken
    }

    /// Gives a far lane the next bytes to write, at most so many; how many. None are left where another's place begins.
    pub(super) fn claim(&mut self, number: u64, count: u64) -> u64 {
        let Some(at) = self.lanes.iter().position(|lane| lane.number == number) else { return 0 };
        let Lane { start, claimed, .. } = self.lanes[at];
        let others = self.lanes.iter().map(|lane| lane.start).filter(|other| *other > start);
        let given = self.room(claimed, others).min(count);
        self.lanes[at].claimed += given;
        given
    }

    /// Notes what a far lane wrote of what it claimed.
    pub(super) fn wrote(&mut self, run: ByteRange) {
        self.ahead.insert(run);
    }

    /// Notes that a far lane has ended, after so many bytes.
    pub(super) fn end(&mut self, number: u64, gained: u64, ended: Ended) {
        self.lanes.retain(|lane| lane.number != number);
        match ended {
            Ended::Refused => self.failures = FAILURES_MAX,
            Ended::Broken if gained < GAIN_MIN => self.failures += 1,
            Ended::Broken | Ended::Done => {}
        }
    }

    /// Whether there is no far lane.
    pub(super) fn is_still(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Where a request of the main lane from a place on need not go further: far lanes' bytes that the same tag vouches for
    /// begin there.
    pub(super) fn stop_for(&self, at: u64, voucher: Option<&Voucher>) -> Option<u64> {
        self.stop_after(at).filter(|_| voucher.is_some() && self.is_of(voucher))
    }

    /// Gives the main lane what it is to write next of a transfer that this vouches for, up to `end`: up to where, and what of
    /// that is to be compared with what far lanes wrote.
    pub(super) fn claim_main(&mut self, end: u64, voucher: Option<&Voucher>) -> (u64, Intervals) {
        if self.is_of(voucher) {
            return (self.claim_front(end), Intervals::default());
        }
        self.front = self.front.max(end);
        (end, self.ahead.clone())
    }

    /// Whether the main lane, `at` so far in a transfer that this vouches for, stands where far lanes go on, or did.
    pub(super) fn is_met(&self, at: u64, voucher: Option<&Voucher>) -> bool {
        at == self.front && self.is_of(voucher) && (self.is_followed() || self.written_at_front() > 0)
    }

    fn claim_front(&mut self, end: u64) -> u64 {
        if end <= self.front {
            return end;
        }
        let running = self.running().map(|lane| lane.start.max(self.front));
        let room = self.room(self.front, running);
        self.front = end.min(self.front + room);
        self.front
    }

    /// Has the main lane pass over what is there.
    pub(super) fn pass(&mut self, end: u64) {
        self.front = self.front.max(end);
    }

    /// How many bytes stand at the front that far lanes wrote.
    pub(super) fn written_at_front(&self) -> u64 {
        self.ahead.run_from(self.front)
    }

    /// Whether a far lane is bringing what stands at the front.
    pub(super) fn is_followed(&self) -> bool {
        self.running().any(|lane| lane.start <= self.front)
    }

    /// Whether this vouches for what far lanes wrote.
    pub(super) fn is_of(&self, voucher: Option<&Voucher>) -> bool {
        let name = |voucher: &Voucher| Some((voucher.origin.clone(), voucher.validator.strong()?.to_owned()));
        self.voucher.as_ref().and_then(name) == voucher.and_then(name)
    }

    /// Notes what vouches for all that the main lane has staged. False where far lanes wrote what it does not vouch for, and
    /// what was not compared yet.
    pub(super) fn vouch(&mut self, voucher: Option<&Voucher>) -> bool {
        if self.is_of(voucher) {
            return true;
        }
        let passed = self.ahead.end() <= self.front && self.lanes.is_empty();
        if passed {
            self.voucher = voucher.cloned();
        }
        passed
    }

    fn running(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| lane.state == State::Running)
    }

    /// How many bytes from a place on are nobody's, where others begin at these places.
    fn room(&self, at: u64, others: impl Iterator<Item = u64>) -> u64 {
        let written = self.ahead.next(at).map(ByteRange::start);
        others.chain(written).fold(self.size, u64::min).saturating_sub(at)
    }
}

#[cfg(test)]
mod tests;
