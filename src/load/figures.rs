//! What was seen, in figures: counts, bytes and histograms of latencies.
//!
//! A thread has its own; they are added up at the end. Knows no clock. Invariant: each request is counted once, as whole, dropped or
//! failed, and only whole ones have a latency: a quick error makes no run look faster.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::fault::{Failure, Fault};
use crate::load::latency::Latency;
use crate::load::told::figures::Told;
use crate::load::wanted::Outcome;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `server.ini`.
    Manifest,
    /// A component's full file.
    Package,
    /// A file from one version to the next.
    Increment,
    /// Beside a package or an increment.
    Signature,
    /// A call of an agent that is told, before it updates.
    CheckIn,
    /// The same after it.
    Report,
    /// For a stream of events: whole once it has begun.
    Events,
}

/// The figures of a run, or of a part of one.
#[derive(Clone, Debug)]
pub struct Figures {
    /// By [`Kind::ALL`].
    pub kinds: [OfKind; Kind::ALL.len()],
    /// From the sending of a request to the end of its answer.
    pub from_send: Latency,
    /// From an agent's arrival to its being updated.
    pub updates: Latency,
    /// Errors by [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// The first error of each kind.
    pub first_faults: [Option<String>; Fault::ALL.len()],
    /// Errors that were statuses.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests over IPv4 and over IPv6.
    pub families: [u64; 2],
    /// Connections that were made.
    pub connections: u64,
    /// Connections that the server had closed when the next request came; it was sent again.
    pub connections_lost: u64,
    /// Bodies that there was nothing to compare with.
    pub uncompared: u64,
    /// Requests that were under way when the run ended early.
    pub cut: u64,
    /// Agents by what became of them.
    pub agents: Agents,
    /// What was seen of being told.
    pub told: Told,
}

/// The figures of one kind of request.
#[derive(Clone, Debug)]
pub struct OfKind {
    /// Requests with a whole, right answer.
    pub whole: u64,
    /// Requests that the agent dropped.
    pub dropped: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Bytes of bodies, those of dropped and failed requests too.
    pub bytes: u64,
    /// From the moment that the schedule had to the first byte of the body; empty bodies have none.
    pub first_byte: Latency,
    /// From the same moment to the end.
    pub last_byte: Latency,
}

/// Agents by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// They have all that they wanted.
    pub updated: u64,
    /// They gave up.
    pub gave_up: u64,
    /// A request of theirs failed.
    pub failed: u64,
}

/// A request that has ended. Moments count from the start of the run.
#[derive(Debug)]
pub struct Sample {
    /// What it was for.
    pub kind: Kind,
    /// When it was due.
    pub due: Duration,
    /// When it was begun.
    pub begun: Duration,
    /// When the first byte of its body came.
    pub first_byte: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
    /// Bytes of its body.
    pub bytes: u64,
    /// Whether it went over IPv6.
    pub is_ipv6: bool,
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Manifest,
        Self::Package,
        Self::Increment,
        Self::Signature,
        Self::CheckIn,
        Self::Report,
        Self::Events,
    ];

    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Package => "package",
            Self::Increment => "increment",
            Self::Signature => "signature",
            Self::CheckIn => "check_in",
            Self::Report => "report",
            Self::Events => "events",
        }
    }

    /// Whether only agents that are told ask for it.
    pub fn is_of_told(self) -> bool {
        matches!(self, Self::CheckIn | Self::Report | Self::Events)
    }
}

impl Figures {
    /// Counts a request that had a whole, right answer.
    pub fn note_whole(&mut self, sample: &Sample) {
        self.note(sample);
        if sample.kind != Kind::Events {
            self.from_send.note(sample.ended.saturating_sub(sample.begun));
        }
        let of_kind = &mut self.kinds[sample.kind as usize];
        of_kind.whole += 1;
        of_kind.last_byte.note(sample.ended.saturating_sub(sample.due));
        if let Some(first) = sample.first_byte {
            of_kind.first_byte.note(first.saturating_sub(sample.due));
        }
    }

    /// Counts a request that its agent dropped.
    pub fn note_dropped(&mut self, sample: &Sample) {
        self.note(sample);
        self.kinds[sample.kind as usize].dropped += 1;
    }

    /// Counts a request that failed.
    pub fn note_failed(&mut self, sample: &Sample, failure: &Failure) {
        self.note(sample);
        self.kinds[sample.kind as usize].failed += 1;
        self.note_fault(failure);
    }

    /// Counts an error that ended no request.
    pub fn note_fault(&mut self, failure: &Failure) {
        let place = failure.fault as usize;
        self.faults[place] += 1;
        self.first_faults[place].get_or_insert_with(|| failure.what.clone());
        if let Some(status) = failure.status {
            *self.statuses.entry(status).or_default() += 1;
        }
    }

    /// Takes in an update that ended so, after so long.
    pub fn note_update(&mut self, outcome: Outcome, after: Duration) {
        if outcome == Outcome::Updated {
            self.updates.note(after);
        }
    }

    /// Adds the figures of another part.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.kinds.iter_mut().zip(&other.kinds) {
            own.whole += other.whole;
            own.dropped += other.dropped;
            own.failed += other.failed;
            own.bytes += other.bytes;
            own.first_byte.add(&other.first_byte);
            own.last_byte.add(&other.last_byte);
        }
        self.from_send.add(&other.from_send);
        self.updates.add(&other.updates);
        for (place, count) in other.faults.iter().enumerate() {
            self.faults[place] += count;
            if let (None, Some(first)) = (&self.first_faults[place], &other.first_faults[place]) {
                self.first_faults[place] = Some(first.clone());
            }
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (own, other) in self.families.iter_mut().zip(other.families) {
            *own += other;
        }
        self.connections += other.connections;
        self.connections_lost += other.connections_lost;
        self.uncompared += other.uncompared;
        self.cut += other.cut;
        self.agents.updated += other.agents.updated;
        self.agents.gave_up += other.agents.gave_up;
        self.agents.failed += other.agents.failed;
        self.told.add(&other.told);
    }

    /// All errors.
    pub fn errors(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// All requests that have ended.
    pub fn requests(&self) -> u64 {
        self.kinds.iter().map(|of_kind| of_kind.whole + of_kind.dropped + of_kind.failed).sum()
    }

    /// All requests that had a whole, right answer.
    pub fn whole(&self) -> u64 {
        self.kinds.iter().map(|of_kind| of_kind.whole).sum()
    }

    /// All bytes of bodies.
    pub fn bytes(&self) -> u64 {
        self.kinds.iter().map(|of_kind| of_kind.bytes).sum()
    }

    /// A histogram over all kinds, but for events: streams are opened all at once, and wait for each other.
    pub fn over_kinds(&self, which: impl Fn(&OfKind) -> &Latency) -> Latency {
        let mut all = Latency::default();
        for (kind, of_kind) in Kind::ALL.iter().zip(&self.kinds) {
            if *kind != Kind::Events {
                all.add(which(of_kind));
            }
        }
        all
    }

    fn note(&mut self, sample: &Sample) {
        self.families[usize::from(sample.is_ipv6)] += 1;
        self.kinds[sample.kind as usize].bytes += sample.bytes;
    }
}

impl Agents {
    /// Counts an agent that is done.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Updated => self.updated += 1,
            Outcome::GaveUp => self.gave_up += 1,
            Outcome::Failed => self.failed += 1,
        }
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            kinds: std::array::from_fn(|_| OfKind::default()),
            from_send: Latency::default(),
            updates: Latency::default(),
            faults: [0; Fault::ALL.len()],
            first_faults: [const { None }; Fault::ALL.len()],
            statuses: BTreeMap::new(),
            families: [0; 2],
            connections: 0,
            connections_lost: 0,
            uncompared: 0,
            cut: 0,
            agents: Agents::default(),
            told: Told::default(),
        }
    }
}

impl Default for OfKind {
    fn default() -> Self {
        let [first_byte, last_byte] = [Latency::default(), Latency::default()];
        Self { whole: 0, dropped: 0, failed: 0, bytes: 0, first_byte, last_byte }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(kind: Kind, due: u64, begun: u64, ended: u64) -> Sample {
        let [due, begun, ended] = [due, begun, ended].map(Duration::from_millis);
        Sample { kind, due, begun, first_byte: Some(begun), ended, bytes: 10, is_ipv6: false }
    }

    #[test]
    fn a_wait_for_the_server_is_part_of_the_latency_though_nothing_was_sent_r12_1() {
        let mut figures = Figures::default();
        // A server that answers in 1 ms stalls for a second, while a request a millisecond was due.
        for due in 0..1000 {
            figures.note_whole(&sample(Kind::Manifest, due, 1000 + due, 1001 + due));
        }
        assert_eq!(figures.from_send.at_percent(99.0).as_millis(), 1);
        let corrected = figures.over_kinds(|of_kind| &of_kind.last_byte).at_percent(50.0);
        assert!((1000..=1002).contains(&corrected.as_millis()), "{corrected:?}");
    }

    #[test]
    fn errors_and_dropped_requests_have_no_latency_but_are_counted() {
        let mut figures = Figures::default();
        let failure = Failure { status: Some(500), ..Failure::new(Fault::Status, "first") };
        figures.note_failed(&sample(Kind::Package, 0, 0, 1), &failure);
        figures.note_failed(&sample(Kind::Package, 0, 0, 1), &Failure { what: "second".into(), ..failure });
        figures.note_dropped(&sample(Kind::Package, 0, 0, 1));
        assert_eq!((figures.requests(), figures.errors(), figures.whole(), figures.bytes()), (3, 2, 0, 30));
        assert_eq!(figures.over_kinds(|of_kind| &of_kind.last_byte).count(), 0);
        assert_eq!(figures.first_faults[Fault::Status as usize].as_deref(), Some("first"));
        assert_eq!(figures.statuses, BTreeMap::from([(500, 2)]));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_percentiles_are_those_of_the_sorted_times_r12_1(
            times in prop::collection::vec(1_u64..100_000, 1..300), split in 0_usize..300,
        ) {
            let split = split.min(times.len());
            let mut parts = [Figures::default(), Figures::default()];
            let mut whole = Figures::default();
            for (index, time) in times.iter().enumerate() {
                let kind = Kind::ALL[index % 4];
                parts[usize::from(index >= split)].note_whole(&sample(kind, 0, 0, *time));
                whole.note_whole(&sample(kind, 0, 0, *time));
            }
            let [mut one, other] = parts;
            one.add(&other);
            prop_assert_eq!((one.requests(), one.bytes()), (whole.requests(), whole.bytes()));
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let all = one.over_kinds(|of_kind| &of_kind.last_byte);
            for percent in [50_u16, 90, 99, 100] {
                let right = sorted[(sorted.len() * usize::from(percent)).div_ceil(100) - 1];
                let (right, seen) = (Duration::from_millis(right), all.at_percent(f64::from(percent)));
                prop_assert!(seen.abs_diff(right) <= right / 500, "{:?} at {}: {:?}", right, percent, seen);
            }
        }
    }
}
