//! The machine of notices: what it hears, and what it can be asked.
//!
//! Each call that decides something gives the records of it, which are written down before anything else is done. Never walks over
//! all agents, but where the agent tree changed or the clock jumped. Invariants: an agent has a place while it is under way, and a
//! turn while it waits for one; both only online.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::base::tree::TreeName;
use crate::policy::scope::Scope;
use crate::policy::tree::id::AgentId;
use crate::schedule::notices::ledger::{Lasting, Ledger};
use crate::schedule::notices::notice::{
    Counts, Limits, Notice, Now, Progress, STARTS_MAX, StartId, StartsMax,
};
use crate::schedule::notices::pace::Pace;
use crate::schedule::notices::queue::{Queue, Rank, Turn};
use crate::schedule::notices::record::{NAMED_MAX, Record};
use crate::schedule::notices::shown::Shown;
use crate::schedule::notices::windows::Windows;

/// For how long an agent that waits to be told of a generation may be away: it connects again within seconds where a relay or a line
/// came back, and one that was switched off updates when it starts.
pub const BACK_WITHIN: Duration = Duration::from_mins(15);

/// For how long an administrator's start waits for agents that are offline: each machine that is used daily has been on by then.
pub const STARTED_FOR: Duration = Duration::from_hours(24);

/// Who is told to update, when, how often and how many at once.
#[derive(Debug)]
pub struct Notices {
    pub(super) ledger: Ledger,
    /// Agents that are online, and those of whom something is to be done when a time has passed.
    pub(super) presences: HashMap<AgentId, Presence, RandomState>,
    /// Agents whose moment in a window is to be looked up.
    pub(super) fresh: BTreeSet<AgentId>,
    /// The moments of agents in windows, by the wall clock.
    pub(super) moments: BTreeSet<(Timestamp, AgentId)>,
    /// When something is to be done with an agent: it is told again, or waited for no longer.
    pub(super) timers: BTreeSet<(Duration, AgentId)>,
    /// When starts end.
    pub(super) starts_end: BTreeSet<(Duration, StartId)>,
    pub(super) queue: Queue,
    pub(super) pace: Pace,
    pub(super) windows: Windows,
    /// Until when agents are expected back that a restart of the relay cut off.
    pub(super) back_until: Duration,
    pub(super) tree_changed: bool,
    pub(super) last_look: Option<Now>,
    /// The figures that are counted; the others are looked up.
    pub(super) counts: Counts,
}

/// What is known of an agent until the program ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    pub(super) online: bool,
    /// Its next moment in a window, and that one's day.
    pub(super) planned: Option<(Timestamp, Date)>,
    /// The day of the window whose moment has come.
    pub(super) day_due: Option<Date>,
    pub(super) turn: Option<Turn>,
    /// It is under way, and told again then.
    pub(super) repeat_at: Option<Duration>,
    /// Until when it may be told again of what it was told.
    pub(super) over_at: Option<Duration>,
    /// Until when it may come back to be told of a generation.
    pub(super) away_until: Option<Duration>,
    timer: Option<Duration>,
}

impl Notices {
    /// One that knows nothing yet. The seed is any number; its journal begins with [`compacted`](Self::compacted).
    pub fn new(seed: u64) -> Self {
        Self::with(Ledger::new(seed))
    }

    /// The one that made these records, after a restart: nobody is online.
    pub fn replay(records: impl IntoIterator<Item = Record>, limits: &Limits, now: Now) -> Self {
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|record| ledger.apply(&record));
        let mut notices = Self { back_until: now.mono + BACK_WITHIN, ..Self::with(ledger) };
        // A wall clock that went wrong meanwhile makes a wait neither longer than it was, nor negative.
        let left = |since: Timestamp, whole: Duration| {
            let passed = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
            now.mono + whole.saturating_sub(passed)
        };
        for (agent, lasting) in &notices.ledger.agents {
            let over_at = lasting.told.as_ref().map(|told| left(told.first, limits.repeated_for()));
            let away_until = lasting.waits.generation.as_ref().map(|_| now.mono + BACK_WITHIN);
            let presence = Presence { over_at, away_until, ..Presence::default() };
            notices.presences.insert(*agent, presence);
        }
        for (start, started) in notices.ledger.starts.iter().filter(|(_, started)| !started.over) {
            notices.starts_end.insert((left(started.at, STARTED_FOR), *start));
        }
        let agents: Vec<_> = notices.presences.keys().copied().collect();
        for agent in &agents {
            notices.settle(agent);
        }
        notices
    }

    fn with(ledger: Ledger) -> Self {
        Self {
            ledger,
            presences: HashMap::default(),
            fresh: BTreeSet::new(),
            moments: BTreeSet::new(),
            timers: BTreeSet::new(),
            starts_end: BTreeSet::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            windows: Windows::default(),
            back_until: Duration::ZERO,
            tree_changed: false,
            last_look: None,
            counts: Counts::default(),
        }
    }

    /// The fewest records that say the same as all so far.
    pub fn compacted(&self) -> Vec<Record> {
        self.ledger.compacted()
    }

    /// What outlives a restart.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// An agent has connected.
    pub fn online(&mut self, agent: &AgentId) {
        let presence = self.presences.entry(*agent).or_default();
        if presence.online {
            return;
        }
        presence.online = true;
        presence.away_until = None;
        self.counts.online += 1;
        self.fresh.insert(*agent);
        self.settle(agent);
    }

    /// An agent is not connected any more.
    pub fn offline(&mut self, agent: &AgentId, now: Now) {
        let Some(presence) = self.presences.get_mut(agent).filter(|presence| presence.online) else { return };
        presence.online = false;
        presence.day_due = None;
        presence.away_until = Some(now.mono + BACK_WITHIN);
        self.counts.online -= 1;
        self.fresh.remove(agent);
        self.unplan(agent);
        self.free_place(agent);
        self.settle(agent);
    }

    /// The agent tree has changed.
    pub fn tree_changed(&mut self) {
        self.tree_changed = true;
    }

    /// What holds for one agent has changed otherwise: its user switched its schedule on or off.
    pub fn agent_changed(&mut self, agent: &AgentId) {
        if self.is_online(agent) {
            self.fresh.insert(*agent);
        }
    }

    /// Whether agents are still expected back that a restart of the relay cut off.
    pub fn expects_agents_back(&self, now: Now) -> bool {
        now.mono < self.back_until
    }

    /// A tree shows this. Where that is a new generation, those of these agents whose scope sees something else than before are told: who
    /// is online, and who is [expected back](Self::expects_agents_back). What a tree shows first is not new.
    pub fn generation(
        &mut self,
        tree: &TreeName,
        shown: Shown,
        agents: impl IntoIterator<Item = (AgentId, Scope)>,
        now: Now,
    ) -> Vec<Record> {
        let before = self.ledger.shown.get(tree);
        if before == Some(&shown) {
            return Vec::new();
        }
        let before = before.filter(|before| before.number != shown.number);
        let sees_else = |scope| before.is_some_and(|before| !before.is_same_for(&shown, scope));
        let (number, is_back) = (shown.number, !self.expects_agents_back(now));
        let concerned = agents
            .into_iter()
            .filter(|(agent, scope)| sees_else(*scope) && (!is_back || self.is_online(agent)));
        let concerned: Vec<_> = concerned.map(|(agent, _)| agent).collect();
        for agent in &concerned {
            let presence = self.presences.entry(*agent).or_default();
            if !presence.online {
                presence.away_until = Some(now.mono + BACK_WITHIN);
            }
        }
        let record = |agents: &[AgentId]| {
            let agents = agents.to_vec();
            Record::Generation { tree: tree.clone(), number, agents }
        };
        let mut records: Vec<_> = concerned.chunks(NAMED_MAX).map(record).collect();
        // Last, so that a crash in between has them told once more, and not never.
        records.push(Record::Shows { tree: tree.clone(), shown });
        self.apply(&records, &concerned);
        records
    }

    /// Forgets what trees showed that are there no longer.
    pub fn keep_trees(&mut self, is_there: impl Fn(&TreeName) -> bool) -> Vec<Record> {
        let gone = self.ledger.shown.keys().filter(|tree| !is_there(tree));
        let records: Vec<_> = gone.map(|tree| Record::TreeGone { tree: tree.clone() }).collect();
        self.apply(&records, &[]);
        records
    }

    /// All notices that were told and are waited for, after a restart too.
    pub fn all_told(&self) -> impl Iterator<Item = (AgentId, Notice)> {
        self.ledger.agents.keys().filter_map(|agent| Some((*agent, self.told(agent)?)))
    }

    /// The number of the next start.
    pub fn next_start(&self) -> StartId {
        StartId(self.ledger.last_start.0 + 1)
    }

    /// An administrator has these agents update: now, or as soon as they are online.
    pub fn start(
        &mut self,
        start: StartId,
        agents: impl IntoIterator<Item = AgentId>,
        now: Now,
    ) -> Result<Vec<Record>, StartsMax> {
        let mut records = Vec::new();
        if self.ledger.starts.len() >= STARTS_MAX {
            let ended = self.ledger.starts.iter().find(|(_, started)| started.open.is_empty());
            records.push(Record::Forgotten { start: *ended.ok_or(StartsMax)?.0 });
        }
        let agents: Vec<_> = agents.into_iter().collect();
        let record = |agents: &[AgentId]| Record::Start { start, at: now.wall, agents: agents.to_vec() };
        records.extend(agents.chunks(NAMED_MAX).map(record));
        if agents.is_empty() {
            records.push(record(&[]));
        }
        self.apply(&records, &agents);
        self.starts_end.insert((now.mono + STARTED_FOR, start));
        Ok(records)
    }

    /// An administrator has cancelled a start: who was not told is not, and who was told is not told again.
    pub fn cancel(&mut self, start: StartId) -> Vec<Record> {
        let mut records = Vec::new();
        self.end_start(start, Record::Cancelled { start }, &mut records);
        records
    }

    /// The update of an agent has ended, however: its place is free.
    pub fn reported(&mut self, agent: &AgentId) -> Vec<Record> {
        let mut records = Vec::new();
        if self.ledger.told(agent).is_some() {
            self.counts.reported += 1;
            self.note(Record::Reported { agent: *agent }, &mut records);
            self.free_place(agent);
            self.settle(agent);
        }
        records
    }

    /// What an agent was told and has not reported.
    pub fn told(&self, agent: &AgentId) -> Option<Notice> {
        self.ledger.notice(agent)
    }

    /// The starts that are remembered, in their order.
    pub fn starts(&self) -> impl DoubleEndedIterator<Item = StartId> {
        self.ledger.starts.keys().copied()
    }

    /// How far a start has come; looks at each agent that it waits for.
    pub fn progress(&self, start: StartId) -> Option<Progress> {
        let started = self.ledger.starts.get(&start)?;
        let mut progress = Progress {
            at: started.at,
            over: started.over,
            done: started.done,
            gave_up: started.gave_up,
            cancelled: started.cancelled,
            ..Progress::default()
        };
        for agent in &started.open {
            let waits = self.ledger.waits(agent).is_some_and(|waits| waits.starts.contains(&start));
            let presence = self.presences.get(agent);
            let count = match presence {
                Some(presence) if presence.repeat_at.is_some() && !waits => &mut progress.under_way,
                Some(presence) if presence.online => &mut progress.waiting,
                _ => &mut progress.offline,
            };
            *count += 1;
        }
        Some(progress)
    }

    /// Figures for metrics.
    pub fn counts(&self) -> Counts {
        Counts { waiting: self.queue.len(), planned: self.moments.len(), ..self.counts }
    }

    pub(super) fn is_online(&self, agent: &AgentId) -> bool {
        self.presences.get(agent).is_some_and(|presence| presence.online)
    }

    fn apply(&mut self, records: &[Record], agents: &[AgentId]) {
        for record in records {
            self.ledger.apply(record);
        }
        for agent in agents {
            self.settle(agent);
        }
    }

    /// Does what a record says, and hands it on to be written down.
    pub(super) fn note(&mut self, record: Record, records: &mut Vec<Record>) {
        self.ledger.apply(&record);
        records.push(record);
    }

    /// Nobody is told of a start any more, as a record says.
    pub(super) fn end_start(&mut self, start: StartId, record: Record, records: &mut Vec<Record>) {
        let Some(started) = self.ledger.starts.get(&start).filter(|started| !started.over) else { return };
        let open: Vec<_> = started.open.iter().copied().collect();
        self.apply(std::slice::from_ref(&record), &open);
        records.push(record);
    }

    /// An agent is not under way any more.
    pub(super) fn free_place(&mut self, agent: &AgentId) {
        if let Some(presence) = self.presences.get_mut(agent)
            && presence.repeat_at.take().is_some()
        {
            self.counts.under_way -= 1;
        }
    }

    /// An agent has no moment in a window any more; gives the day of the window in which it had one.
    pub(super) fn unplan(&mut self, agent: &AgentId) -> Option<Date> {
        let (moment, day) = self.presences.get_mut(agent)?.planned.take()?;
        self.moments.remove(&(moment, *agent));
        Some(day)
    }

    /// Puts an agent's turn and timer where what is known of it says.
    pub(super) fn settle(&mut self, agent: &AgentId) {
        let nothing = Lasting::default();
        let Lasting { waits, told, .. } = self.ledger.agents.get(agent).unwrap_or(&nothing);
        let Some(presence) = self.presences.get_mut(agent) else { return };
        let is_under_way = presence.repeat_at.is_some();
        let rank = if !presence.online || is_under_way {
            None
        } else if told.is_some() || !waits.starts.is_empty() {
            Some(Rank::First)
        } else if waits.generation.is_some() || presence.day_due.is_some() {
            Some(Rank::Then)
        } else {
            None
        };
        presence.turn = self.queue.put(agent, presence.turn, rank);
        let over_at = presence.over_at.filter(|_| told.is_some());
        let away_until = presence.away_until.filter(|_| !presence.online && waits.generation.is_some());
        let timer = presence.repeat_at.or_else(|| over_at.into_iter().chain(away_until).min());
        if timer != presence.timer {
            if let Some(before) = presence.timer {
                self.timers.remove(&(before, *agent));
            }
            self.timers.extend(timer.map(|at| (at, *agent)));
            presence.timer = timer;
        }
        if !presence.online && timer.is_none() {
            self.presences.remove(agent);
        }
    }
}
