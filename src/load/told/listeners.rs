//! The agents of one thread that are told: who has heard what, who is at an update, and who is done.
//!
//! Owns their streams, which end with it. Invariant: an agent is at one update at a time, and each notice that is new to it is followed
//! by an update, but that the newest stands for those before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::load::agent::Agent;
use crate::load::figures::Figures;
use crate::load::fleet::Ground;
use crate::load::plan::Streams;
use crate::load::schedule::{Left, Part};
use crate::load::told::events::Notice;
use crate::load::told::listen::{Line, Listener};
use crate::load::told::shared::Shared;
use crate::load::told::{Heard, What};
use crate::load::wanted::Outcome;

/// The agents of a part that are told.
#[derive(Debug)]
pub(in crate::load) struct Listeners {
    ground: Arc<Ground>,
    part: Part,
    said: mpsc::Receiver<Heard>,
    /// By their places in the part.
    agents: Vec<Told>,
    /// Agents that have not ended an update, or are at one.
    busy: usize,
    /// Where they update from, as they report it.
    source: Arc<str>,
    _streams: JoinSet<()>,
}

/// What was heard.
#[derive(Debug)]
pub(in crate::load) struct Said(Heard);

/// One agent.
#[derive(Debug)]
struct Told {
    stream: AbortHandle,
    /// Whether it ever held one.
    has_held: bool,
    holds: bool,
    /// The newest notice; `None` before the first.
    newest: Option<u64>,
    /// What it does.
    at: At,
    /// How its updates went so far: the worst of them.
    outcome: Option<Outcome>,
}

/// Whether an agent is at an update.
#[derive(Clone, Copy, Debug)]
enum At {
    /// It listens.
    Rest,
    /// It updates; then once more, where it was told meanwhile, at that moment.
    Work { then: Option<(Notice, Duration)> },
    /// It has left.
    Away,
}

impl Told {
    fn is_busy(&self) -> bool {
        self.outcome.is_none() || matches!(self.at, At::Work { .. })
    }
}

impl Listeners {
    /// Has the agents of a part listen; so many open their streams at once.
    pub(in crate::load) fn start(ground: Arc<Ground>, part: Part, at_once: usize) -> Self {
        let (to, said) = mpsc::channel(SAID_MAX);
        let opening = Arc::new(Semaphore::new(at_once));
        let mut streams = JoinSet::new();
        let mut shared = None;
        let mut agents = Vec::new();
        for number in (part.index..ground.plan.agents).step_by(part.of as usize) {
            let line = match ground.plan.streams {
                Streams::Own => Line::Own,
                Streams::Polls => Line::Polls,
                Streams::Shared { per_connection } => {
                    let shared = match shared.take().filter(|_| agents.len() % per_connection != 0) {
                        Some(same) => shared.insert(same),
                        None => shared.insert(Shared::keep(ground.clone(), number, &mut streams)),
                    };
                    Line::Shared(shared.clone())
                }
            };
            let listener = Listener::new(ground.clone(), number, to.clone(), opening.clone());
            let stream = streams.spawn(listener.listen(line));
            let at = At::Rest;
            agents.push(Told { stream, has_held: false, holds: false, newest: None, at, outcome: None });
        }
        let source = ground.target.base().as_str().into();
        Self { busy: agents.len(), ground, part, said, agents, source, _streams: streams }
    }

    /// Waits for what an agent's stream says.
    pub(in crate::load) async fn said(&mut self) -> Said {
        match self.said.recv().await {
            Some(heard) => Said(heard),
            // Nobody is there who could say anything.
            None => std::future::pending().await,
        }
    }

    /// Takes in what was said; gives the agent that is to update, if that follows.
    pub(in crate::load) fn take_in(&mut self, Said(heard): Said, figures: &mut Figures) -> Option<Agent> {
        let live = &self.ground.live;
        let told = &mut self.agents[((heard.agent - self.part.index) / self.part.of) as usize];
        match heard.what {
            What::Opened { sample, connections } => {
                figures.note_whole(&sample);
                figures.told.connections += connections;
                live.ended(false);
                let has_held = std::mem::replace(&mut told.has_held, true);
                figures.told.opened += u64::from(!has_held);
                figures.told.again += u64::from(has_held);
                if !std::mem::replace(&mut told.holds, true) {
                    live.holds(true);
                }
                return None;
            }
            What::Polled { connections } => {
                figures.told.polls += 1;
                figures.told.connections += connections;
                return None;
            }
            What::Told(notice, at) => return self.told(heard.agent, notice, at, figures),
            What::Failed { sample, failure } => {
                figures.note_failed(&sample, &failure);
                live.ended(true);
            }
            What::Wrong(failure) => {
                figures.told.wrong += 1;
                figures.note_fault(&failure);
                live.ended(true);
            }
            What::Lost => {}
        }
        if std::mem::replace(&mut told.holds, false) {
            figures.told.lost += 1;
            live.holds(false);
        }
        None
    }

    fn told(&mut self, agent: u32, notice: Notice, at: Duration, figures: &mut Figures) -> Option<Agent> {
        let told = &mut self.agents[((agent - self.part.index) / self.part.of) as usize];
        let is_new = told.newest.is_none_or(|newest| newest < notice.number);
        if told.newest.is_none() {
            figures.told.note_agent(at);
            self.ground.live.arrived();
        }
        told.newest = told.newest.max(Some(notice.number));
        figures.told.notices += u64::from(is_new);
        figures.told.repeated += u64::from(!is_new);
        match &mut told.at {
            At::Away => None,
            At::Work { then } => {
                if is_new {
                    *then = Some((notice, at));
                }
                None
            }
            At::Rest => {
                let was_busy = told.is_busy();
                told.at = At::Work { then: None };
                self.busy += usize::from(!was_busy);
                Some(Agent::told(agent, notice, at, self.source.clone(), &self.ground.plan))
            }
        }
    }

    /// An update has ended; gives the agent once more, where another is to follow at once.
    pub(in crate::load) fn ended(&mut self, agent: u32, outcome: Outcome) -> Option<Agent> {
        let told = &mut self.agents[((agent - self.part.index) / self.part.of) as usize];
        if told.outcome.is_none() {
            self.ground.live.done();
        }
        told.outcome = Some(match told.outcome {
            Some(Outcome::Failed) => Outcome::Failed,
            _ => outcome,
        });
        let next = match told.at {
            At::Work { then } if outcome != Outcome::GaveUp => then,
            At::Work { .. } | At::Rest | At::Away => None,
        };
        told.at = match (outcome, next) {
            (Outcome::GaveUp, _) => At::Away,
            (_, Some(_)) => At::Work { then: None },
            (_, None) => At::Rest,
        };
        if outcome == Outcome::GaveUp {
            told.stream.abort();
            if std::mem::replace(&mut told.holds, false) {
                self.ground.live.holds(false);
            }
        }
        self.busy -= usize::from(!told.is_busy());
        next.map(|(notice, at)| Agent::told(agent, notice, at, self.source.clone(), &self.ground.plan))
    }

    /// Whether each has ended an update, and none is at one.
    pub(in crate::load) fn are_done(&self) -> bool {
        self.busy == 0
    }

    /// Counts agents by what became of them, and gives those who are left: of those who were told, this is when a request was due.
    pub(in crate::load) fn end(
        &self,
        dues: impl Iterator<Item = (u32, Duration)>,
        now: Duration,
        figures: &mut Figures,
    ) -> Left {
        let mut left = Left::default();
        for told in &self.agents {
            match told.outcome {
                Some(outcome) => figures.agents.count(outcome),
                None => left.agents += 1,
            }
        }
        let of_left =
            |agent: &u32| self.agents[((*agent - self.part.index) / self.part.of) as usize].outcome.is_none();
        for (_, due) in dues.filter(|(agent, _)| of_left(agent)) {
            let one = Left::one(due, now);
            left = Left { agents: left.agents, ..left.and(one) };
        }
        left
    }
}

/// What was said and not taken in; more waits.
const SAID_MAX: usize = 1024;
