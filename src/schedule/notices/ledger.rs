//! The ledger: what of notices outlives a restart.
//!
//! Nothing but a [`Record`] changes it. Invariants: the same records make the same ledger; records that do not fit, since lines of a
//! journal were lost, change nothing that they do not name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::base::tree::{GenerationNumber, TreeName};
use crate::policy::tree::id::AgentId;
use crate::schedule::notices::notice::{Notice, Reason, StartId};
use crate::schedule::notices::record::Record;
use crate::schedule::notices::shown::Shown;

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) seed: u64,
    pub(super) last_notice: u64,
    pub(super) last_start: StartId,
    /// Agents of whom there is anything to say.
    pub(super) agents: HashMap<AgentId, Lasting, RandomState>,
    pub(super) starts: BTreeMap<StartId, Started>,
    /// What each tree showed when agents were told of it last.
    pub(super) shown: BTreeMap<TreeName, Shown>,
}

/// How it stands with an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// What it waits to be told of.
    #[serde(default, skip_serializing_if = "Reasons::is_empty")]
    pub(super) waits: Reasons,
    /// What it was told, and has not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<Told>,
    /// The days of the last two windows that it was told in: a clock that is put back by less than a day leads into one of them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) days: [Option<Date>; 2],
}

/// A notice that an agent was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    pub(super) notice: u64,
    /// The first time, by the wall clock.
    pub(super) first: Timestamp,
    /// How often, in all.
    pub(super) tellings: u8,
    pub(super) reasons: Reasons,
}

/// Why an agent is told: what came while it waited, together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasons {
    /// The newest generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<(TreeName, GenerationNumber)>,
    /// The window's day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) day: Option<Date>,
    /// Administrators' starts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) starts: BTreeSet<StartId>,
}

/// How it stands with an administrator's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// When, by the wall clock.
    pub(super) at: Timestamp,
    /// Whether nobody is told of it any more.
    pub(super) over: bool,
    pub(super) done: u32,
    pub(super) gave_up: u32,
    pub(super) cancelled: u32,
    /// Who waits for it, or was told and has not reported. Said by those agents' own records.
    #[serde(skip)]
    pub(super) open: BTreeSet<AgentId>,
}

/// How a notice ends for the starts that it was for.
#[derive(Clone, Copy)]
enum End {
    Done,
    GaveUp,
}

impl Ledger {
    /// An empty one. Moments in windows are drawn by the seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Does what a record says.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Head { seed, last_notice, last_start } => {
                (self.seed, self.last_notice, self.last_start) = (*seed, *last_notice, *last_start);
            }
            Record::Generation { tree, number, agents } => {
                for agent in agents {
                    let lasting = self.agents.entry(*agent).or_default();
                    lasting.waits.generation = Some((tree.clone(), *number));
                }
            }
            Record::Shows { tree, shown } => drop(self.shown.insert(tree.clone(), shown.clone())),
            Record::TreeGone { tree } => drop(self.shown.remove(tree)),
            Record::Start { start, at, agents } => self.start(*start, *at, agents),
            Record::Cancelled { start } => self.release(*start, |started| &mut started.cancelled),
            Record::Ended { start } => self.release(*start, |started| &mut started.gave_up),
            Record::Forgotten { start } => drop(self.starts.remove(start)),
            Record::Told { agent, notice, at, reasons } => self.tell(*agent, *notice, *at, reasons),
            Record::Again { agent, reasons, .. } => self.change(agent, |lasting| {
                if let Some(told) = &mut lasting.told {
                    told.tellings = told.tellings.saturating_add(1);
                    told.reasons = reasons.clone();
                }
            }),
            Record::Reported { agent } => self.end(agent, End::Done),
            Record::GaveUp { agent } => self.end(agent, End::GaveUp),
            Record::StayedAway { agent } => {
                self.change(agent, |lasting| {
                    if lasting.told.as_ref().is_some_and(|told| told.reasons.day == lasting.days[0]) {
                        lasting.days = [lasting.days[1], None];
                    }
                });
                self.end(agent, End::GaveUp);
            }
            Record::Lapsed { agent } => self.change(agent, |lasting| lasting.waits.generation = None),
            Record::Gone { agent } => {
                let lasting = self.agents.remove(agent).unwrap_or_default();
                let told = lasting.told.map(|told| told.reasons.starts).unwrap_or_default();
                self.close(agent, lasting.waits.starts.into_iter().chain(told), End::GaveUp);
            }
            Record::Agent { agent, holds } => {
                let told = holds.told.iter().flat_map(|told| &told.reasons.starts);
                for start in holds.waits.starts.iter().chain(told) {
                    self.starts.entry(*start).or_default().open.insert(*agent);
                }
                self.agents.insert(*agent, (**holds).clone());
            }
            Record::Started { start, holds } => {
                let open = self.starts.remove(start).unwrap_or_default().open;
                self.starts.insert(*start, Started { open, ..holds.clone() });
            }
        }
    }

    /// Records that make the same ledger, the fewest.
    pub(super) fn compacted(&self) -> Vec<Record> {
        let (last_notice, last_start) = (self.last_notice, self.last_start);
        let head = Record::Head { seed: self.seed, last_notice, last_start };
        let starts =
            self.starts.iter().map(|(start, holds)| Record::Started { start: *start, holds: holds.clone() });
        let agents = self
            .agents
            .iter()
            .map(|(agent, holds)| Record::Agent { agent: *agent, holds: Box::new(holds.clone()) });
        let shown =
            self.shown.iter().map(|(tree, shown)| Record::Shows { tree: tree.clone(), shown: shown.clone() });
        [head].into_iter().chain(shown).chain(starts).chain(agents).collect()
    }

    /// What an agent waits to be told of.
    pub(super) fn waits(&self, agent: &AgentId) -> Option<&Reasons> {
        self.agents.get(agent).map(|lasting| &lasting.waits).filter(|waits| !waits.is_empty())
    }

    /// What an agent was told and has not reported.
    pub(super) fn told(&self, agent: &AgentId) -> Option<&Told> {
        self.agents.get(agent)?.told.as_ref()
    }

    /// The same as the agent was told it: by the strongest reason, of which a start that is over is none.
    pub(super) fn notice(&self, agent: &AgentId) -> Option<Notice> {
        let Told { notice, reasons, .. } = self.told(agent)?;
        let started = |start: Option<&StartId>| start.map(|start| Reason::Administrator { start: *start });
        let of_generation = |(tree, number): &(TreeName, GenerationNumber)| Reason::Generation {
            tree: tree.clone(),
            number: *number,
        };
        let reason = started(reasons.starts.iter().find(|start| self.is_open(**start)))
            .or_else(|| reasons.day.map(|day| Reason::Schedule { day }))
            .or_else(|| reasons.generation.as_ref().map(of_generation))
            .or_else(|| started(reasons.starts.first()))?;
        let agent_settings = !matches!(reason, Reason::Generation { .. });
        Some(Notice { number: *notice, reason, components: true, agent_settings })
    }

    /// Whether an agent was told in the window of a day.
    pub(super) fn was_told_on(&self, agent: &AgentId, day: Date) -> bool {
        self.agents.get(agent).is_some_and(|lasting| lasting.days.contains(&Some(day)))
    }

    /// Whether agents may still be told of a start.
    pub(super) fn is_open(&self, start: StartId) -> bool {
        self.starts.get(&start).is_some_and(|started| !started.over)
    }

    fn start(&mut self, start: StartId, at: Timestamp, agents: &[AgentId]) {
        self.last_start = self.last_start.max(start);
        let started = self.starts.entry(start).or_default();
        started.at = at;
        started.open.extend(agents);
        for agent in agents {
            self.agents.entry(*agent).or_default().waits.starts.insert(start);
        }
    }

    /// Nobody is told of a start any more; who waits for it is counted.
    fn release(&mut self, start: StartId, count: fn(&mut Started) -> &mut u32) {
        let Some(started) = self.starts.get_mut(&start) else { return };
        started.over = true;
        let open = std::mem::take(&mut started.open);
        let (released, told): (BTreeSet<_>, BTreeSet<_>) = open.into_iter().partition(|agent| {
            self.agents.get(agent).is_some_and(|lasting| lasting.waits.starts.contains(&start))
        });
        *count(started) += u32::try_from(released.len()).unwrap_or(u32::MAX);
        started.open = told;
        for agent in &released {
            self.change(agent, |lasting| _ = lasting.waits.starts.remove(&start));
        }
    }

    fn tell(&mut self, agent: AgentId, notice: u64, at: Timestamp, reasons: &Reasons) {
        self.last_notice = self.last_notice.max(notice);
        let lasting = self.agents.entry(agent).or_default();
        lasting.waits = Reasons::default();
        lasting.told = Some(Told { notice, first: at, tellings: 1, reasons: reasons.clone() });
        if let Some(day) = reasons.day.filter(|day| !lasting.days.contains(&Some(*day))) {
            lasting.days = [Some(day), lasting.days[0]];
        }
    }

    fn end(&mut self, agent: &AgentId, end: End) {
        let mut told = None;
        self.change(agent, |lasting| told = lasting.told.take());
        self.close(agent, told.into_iter().flat_map(|told| told.reasons.starts), end);
    }

    fn close(&mut self, agent: &AgentId, starts: impl Iterator<Item = StartId>, end: End) {
        for start in starts {
            let Some(started) = self.starts.get_mut(&start) else { continue };
            if started.open.remove(agent) {
                match end {
                    End::Done => started.done += 1,
                    End::GaveUp => started.gave_up += 1,
                }
            }
        }
    }

    /// Changes what is said of an agent, if anything is; nothing stays of which there is nothing to say.
    fn change(&mut self, agent: &AgentId, change: impl FnOnce(&mut Lasting)) {
        if let Some(lasting) = self.agents.get_mut(agent) {
            change(lasting);
            if *lasting == Lasting::default() {
                self.agents.remove(agent);
            }
        }
    }
}

impl Reasons {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.generation.is_none() && self.day.is_none() && self.starts.is_empty()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_none(days: &[Option<Date>; 2]) -> bool {
    *days == [None; 2]
}
