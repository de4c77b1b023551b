//! One thread of the fleet: its agents, its connections, and the requests under way.
//!
//! A request is a task; so is the stream of an agent that is told, and nothing else. An agent that asks on at once keeps its connection;
//! one that waits goes back to the schedule.
//! Invariant: requests under way and connections at rest are together never more than the thread's connections.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::load::agent::Agent;
use crate::load::arrival::Arrival;
use crate::load::budget::End;
use crate::load::connection::Connection;
use crate::load::exchange::{Answered, Asked, Got, Keep, exchange};
use crate::load::figures::{Figures, Kind, Sample};
use crate::load::fleet::Ground;
use crate::load::plan::Reuse;
use crate::load::schedule::{Left, Part, Schedule};
use crate::load::timer::Timer;
use crate::load::told::listeners::{Listeners, Said};
use crate::load::wanted::{Outcome, Taken, Then};

/// What a thread has seen when it is done.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) figures: Figures,
    pub(super) left: Left,
    pub(super) end: End,
    /// When its last request ended, or it was ended.
    pub(super) until: Duration,
}

/// Plays a part of the fleet over so many connections.
pub(super) async fn play(
    ground: Arc<Ground>,
    part: Part,
    connections: usize,
    stop: CancellationToken,
) -> io::Result<Played> {
    let is_told = ground.plan.arrival == Arrival::Told;
    let listeners = is_told.then(|| Listeners::start(ground.clone(), part, connections));
    let resting = (0..ground.target.addresses()).map(|_| Vec::new()).collect();
    let thread = Thread {
        schedule: Schedule::new(&ground.plan, part),
        ground,
        connections,
        figures: Figures::default(),
        resting,
        resting_count: 0,
        requests: JoinSet::new(),
        under_way: HashMap::new(),
        listeners,
    };
    thread.play(stop).await
}

struct Thread {
    ground: Arc<Ground>,
    schedule: Schedule,
    connections: usize,
    figures: Figures,
    /// Connections without a request, by the place of their address.
    resting: Vec<Vec<Connection>>,
    resting_count: usize,
    requests: JoinSet<(Agent, Sent, Answered)>,
    /// When the requests under way were due, by their agents' numbers.
    under_way: HashMap<u32, Duration>,
    /// Those who are told.
    listeners: Option<Listeners>,
}

/// What is known of a request when it is sent.
#[derive(Debug)]
struct Sent {
    kind: Kind,
    place: usize,
    is_ipv6: bool,
}

impl Thread {
    async fn play(mut self, stop: CancellationToken) -> io::Result<Played> {
        let timer = Timer::new()?;
        let mut time_over = std::pin::pin!(tokio::time::sleep(self.ground.plan.time_max));
        let mut until = Duration::ZERO;
        let end = loop {
            while self.requests.len() < self.connections {
                let now = self.ground.now();
                let Some(agent) = self.schedule.take(now, &self.ground.plan) else { break };
                if self.listeners.is_none() && agent.due() == agent.arrived() {
                    self.ground.live.arrived();
                }
                self.ask(agent, None);
            }
            let next = self.schedule.next_due();
            let are_told = self.listeners.as_ref().is_none_or(Listeners::are_done);
            if self.requests.is_empty() && next.is_none() && are_told {
                break End::Played;
            }
            let next = next.filter(|_| self.requests.len() < self.connections);
            let pause = next.map_or(Duration::ZERO, |due| due.saturating_sub(self.ground.now()));
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopped,
                () = &mut time_over => break End::TimeOver,
                said = said(self.listeners.as_mut()) => {
                    let told = self.listeners.as_mut().and_then(|all| all.take_in(said, &mut self.figures));
                    if let Some(agent) = told {
                        self.schedule.wait(agent);
                    }
                }
                Some(ended) = self.requests.join_next() => {
                    // Requests are aborted only by dropping them all: what is left is a panic, which is passed on.
                    let (agent, sent, answered) = ended.map_err(io::Error::other)?;
                    until = answered.seen.ended;
                    self.answered(agent, &sent, answered);
                }
                waited = timer.wait(pause), if next.is_some() => waited?,
            }
        };
        if end != End::Played {
            until = self.ground.now();
        }
        self.figures.cut = self.requests.len() as u64;
        self.requests.abort_all();
        let under_way = self.under_way.into_iter();
        let left = match &self.listeners {
            Some(listeners) => listeners.end(under_way.chain(self.schedule.dues()), until, &mut self.figures),
            None => {
                under_way.fold(self.schedule.left(until), |left, (_, due)| left.and(Left::one(due, until)))
            }
        };
        Ok(Played { figures: self.figures, left, end, until })
    }

    /// Sends an agent's next request.
    fn ask(&mut self, agent: Agent, kept: Option<Connection>) {
        let ground = self.ground.clone();
        let Some(wanted) = agent.wanted(&ground.plan) else { return };
        let place = ground.target.place(agent.number());
        let (to, from) = ground.target.line(place, agent.number());
        let keep = match ground.plan.reuse {
            Reuse::Fleet => Keep::Open,
            Reuse::Agent if !agent.is_at_last(&ground.plan) => Keep::Open,
            Reuse::Agent | Reuse::Request => Keep::Close,
        };
        let kept = kept.or_else(|| self.rested(place));
        let sent = Sent { kind: wanted.kind, place, is_ipv6: to.is_ipv6() };
        let shown = ground.tokens.shown(agent.number());
        let asked = Asked { wanted, to, from, shown, keep };
        self.under_way.insert(agent.number(), agent.due());
        self.requests.spawn(async move {
            let answered = exchange(&ground, &asked, kept).await;
            (agent, sent, answered)
        });
    }

    /// A resting connection to an address. Where there is none and no room for a new one, another address's makes room. One that the
    /// server has closed meanwhile is found out when it is used.
    fn rested(&mut self, place: usize) -> Option<Connection> {
        let rested = self.resting[place].pop();
        let is_full = self.requests.len() + self.resting_count >= self.connections;
        let gone = match &rested {
            Some(_) => true,
            None => is_full && self.resting.iter_mut().find_map(Vec::pop).is_some(),
        };
        self.resting_count -= usize::from(gone);
        rested
    }

    fn answered(&mut self, mut agent: Agent, sent: &Sent, answered: Answered) {
        let Answered { result, connection, seen } = answered;
        self.under_way.remove(&agent.number());
        let sample = Sample {
            kind: sent.kind,
            due: agent.due(),
            begun: seen.begun,
            first_byte: seen.first_byte,
            ended: seen.ended,
            bytes: seen.bytes,
            is_ipv6: sent.is_ipv6,
        };
        self.figures.connections += seen.connections;
        self.figures.connections_lost += u64::from(seen.lost);
        self.figures.uncompared += u64::from(seen.uncompared);
        self.ground.live.ended(result.is_err());
        agent.received(seen.bytes);
        let taken = match result {
            Ok(got) => {
                match got {
                    Got::Dropped => self.figures.note_dropped(&sample),
                    Got::Manifest(_) | Got::Whole => self.figures.note_whole(&sample),
                }
                match got {
                    Got::Manifest(menu) => Taken::Manifest(menu),
                    Got::Whole => Taken::Whole,
                    Got::Dropped => Taken::GaveUp,
                }
            }
            Err(failure) => {
                self.figures.note_failed(&sample, &failure);
                Taken::Failed { retry_after: failure.retry_after, status: failure.status }
            }
        };
        let arrived = agent.arrived();
        match agent.took(taken, seen.ended, &self.ground.plan) {
            Then::On => return self.ask(agent, connection),
            Then::Waits => self.schedule.wait(agent),
            Then::Gone(outcome) => {
                let ended = agent.ended().unwrap_or(seen.ended);
                self.gone(agent.number(), outcome, ended.saturating_sub(arrived));
            }
        }
        // An agent's own connection closes with it.
        if let Some(connection) = connection.filter(|_| self.ground.plan.reuse == Reuse::Fleet) {
            self.resting[sent.place].push(connection);
            self.resting_count += 1;
        }
    }

    /// An agent has ended its update, after so long.
    fn gone(&mut self, agent: u32, outcome: Outcome, after: Duration) {
        self.figures.note_update(outcome, after);
        match &mut self.listeners {
            Some(listeners) => {
                if let Some(agent) = listeners.ended(agent, outcome) {
                    self.schedule.wait(agent);
                }
            }
            None => {
                self.figures.agents.count(outcome);
                self.ground.live.done();
            }
        }
    }
}

/// What is said by those who are told; for ever where there are none.
async fn said(listeners: Option<&mut Listeners>) -> Said {
    match listeners {
        Some(listeners) => listeners.said().await,
        None => std::future::pending().await,
    }
}
