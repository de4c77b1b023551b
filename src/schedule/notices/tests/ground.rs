//! A machine of notices with made-up agents, its journal and both clocks.
//!
//! Invariant: after each step, what the journal's records make, read back from their text, is what the machine holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::base::blob::BlobId;
use crate::base::tree::{GenerationNumber, TreeName};
use crate::policy::scope::Scope;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::Schedule;
use crate::schedule::notices::machine::Notices;
use crate::schedule::notices::notice::{Agents, Holds, Limits, Notice, Now, Reason, StartId};
use crate::schedule::notices::record::Record;
use crate::schedule::notices::shown::Shown;

pub(super) struct Ground {
    pub(super) notices: Notices,
    pub(super) agents: Made,
    pub(super) limits: Limits,
    pub(super) now: Now,
    pub(super) journal: Vec<String>,
    /// Off where replaying after each step would take too long.
    pub(super) is_checked: bool,
}

/// What holds for agents: for all alike, but for those that are named.
pub(super) struct Made {
    pub(super) all: Holds,
    pub(super) others: BTreeMap<AgentId, Holds>,
    pub(super) gone: BTreeSet<AgentId>,
}

impl Agents for Made {
    fn holds(&self, agent: &AgentId) -> Option<Holds> {
        let holds = self.others.get(agent).unwrap_or(&self.all);
        (!self.gone.contains(agent)).then(|| holds.clone())
    }
}

pub(super) fn agent(number: usize) -> AgentId {
    AgentId::parse(&format!("pc-{number}")).unwrap()
}

pub(super) fn tree() -> TreeName {
    TreeName::parse("main").unwrap()
}

pub(super) fn mins(count: u64) -> Duration {
    Duration::from_mins(count)
}

pub(super) fn daily(at: &str, window_mins: u16) -> (Schedule, TimeZone) {
    let schedule = serde_json::json!({ "kind": "daily", "at": at, "window_mins": window_mins });
    (serde_json::from_value(schedule).unwrap(), TimeZone::UTC)
}

impl Ground {
    /// At midnight, for agents that are told of generations and have no schedule; so many of them online.
    pub(super) fn new(online: usize) -> Self {
        let notices = Notices::new(7);
        let mut ground = Self {
            agents: Made {
                all: Holds { schedule: None, told_of_generations: true },
                others: BTreeMap::new(),
                gone: BTreeSet::new(),
            },
            limits: Limits { under_way_max: 1000, per_sec: 1000, ..Limits::default() },
            now: Now { wall: "2026-03-02T00:00Z".parse().unwrap(), mono: Duration::from_secs(1_000_000) },
            journal: Vec::new(),
            is_checked: true,
            notices,
        };
        ground.write(&ground.notices.compacted());
        // What the tree shows first.
        ground.generation(0, []);
        (0..online).for_each(|number| ground.notices.online(&agent(number)));
        ground
    }

    pub(super) fn write(&mut self, records: &[Record]) {
        self.journal.extend(records.iter().map(|record| serde_json::to_string(record).unwrap()));
        if self.is_checked {
            assert_eq!(self.replayed(&self.journal).ledger(), self.notices.ledger());
        }
    }

    pub(super) fn replayed(&self, journal: &[String]) -> Notices {
        let records = journal.iter().map(|line| serde_json::from_str(line).unwrap());
        Notices::replay(records, &self.limits, self.now)
    }

    /// The program ends and starts again, with its journal made short or not.
    pub(super) fn restart(&mut self, compacted: bool) {
        if compacted {
            let records = self.notices.compacted();
            self.journal.clear();
            self.write(&records);
        }
        self.notices = self.replayed(&self.journal);
    }

    pub(super) fn poll(&mut self) -> Vec<(AgentId, Notice)> {
        let step = self.notices.poll(&self.agents, &self.limits, self.now);
        self.write(&step.records);
        step.tell
    }

    /// Who is told now, by number.
    pub(super) fn told(&mut self) -> Vec<usize> {
        let told = self.poll();
        told.iter().map(|(agent, _)| agent.as_str()[3..].parse().unwrap()).collect()
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now.mono += by;
        self.now.wall += SignedDuration::try_from(by).unwrap();
    }

    /// Lets time pass up to a moment of the monotonic clock.
    pub(super) fn advance_to(&mut self, at: Duration) {
        self.advance(at.saturating_sub(self.now.mono));
    }

    pub(super) fn jump(&mut self, by: SignedDuration) {
        self.now.wall += by;
    }

    /// Lets time pass, and does what is due whenever the machine says so; who was told, when and of what.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<(Timestamp, AgentId, Notice)> {
        let until = self.now.mono + time;
        let mut all = Vec::new();
        loop {
            all.extend(self.poll().into_iter().map(|(agent, notice)| (self.now.wall, agent, notice)));
            let next = self.notices.next(&self.limits, self.now).filter(|next| *next < until);
            let Some(next) = next else { break };
            assert!(next > self.now.mono, "what is due is done at once");
            self.advance_to(next);
        }
        self.advance_to(until);
        all
    }

    pub(super) fn offline(&mut self, number: usize) {
        self.notices.offline(&agent(number), self.now);
    }

    pub(super) fn online(&mut self, number: usize) {
        self.notices.online(&agent(number));
    }

    /// A generation in which something is new for each scope.
    pub(super) fn generation(&mut self, number: u64, concerned: impl IntoIterator<Item = usize>) {
        let agents = concerned.into_iter().map(|number| (number, Scope::All));
        self.shows(number, [number; 3], agents);
    }

    /// The tree shows a generation, of which each scope sees something of its own, to agents of these scopes.
    pub(super) fn shows(
        &mut self,
        number: u64,
        views: [u64; 3],
        agents: impl IntoIterator<Item = (usize, Scope)>,
    ) {
        let view = |scope| {
            let at = Scope::ALL.iter().position(|known| *known == scope).unwrap();
            BlobId::of(&views[at].to_le_bytes())
        };
        let shown = Shown::new(GenerationNumber(number), view);
        let agents = agents.into_iter().map(|(number, scope)| (agent(number), scope));
        let records = self.notices.generation(&tree(), shown, agents, self.now);
        self.write(&records);
    }

    pub(super) fn start(&mut self, agents: impl IntoIterator<Item = usize>) -> StartId {
        let start = self.notices.next_start();
        let records = self.notices.start(start, agents.into_iter().map(agent), self.now).unwrap();
        self.write(&records);
        start
    }

    pub(super) fn cancel(&mut self, start: StartId) {
        let records = self.notices.cancel(start);
        self.write(&records);
    }

    pub(super) fn report(&mut self, number: usize) {
        let records = self.notices.reported(&agent(number));
        self.write(&records);
    }
}

pub(super) fn of_generation(number: u64) -> Reason {
    Reason::Generation { tree: tree(), number: GenerationNumber(number) }
}
