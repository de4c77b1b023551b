//! What the machine of notices does when a moment has come, and when the next one comes.
//!
//! Never tells anybody itself. Invariant: what one call does is bounded by what is due, not by how many agents there are, but after
//! a change of the agent tree or a jump of the clock.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use crate::policy::tree::id::AgentId;
use crate::schedule::notices::ledger::Reasons;
use crate::schedule::notices::machine::Notices;
use crate::schedule::notices::notice::{Agents, Holds, Limits, Now, Step};
use crate::schedule::notices::record::Record;
use crate::schedule::plan::{Occurrence, moment, moment_in_rest};

/// How long nobody looks at the clock at most, while agents have moments in windows: so soon a jump is seen.
const LOOK_AFTER: Duration = Duration::from_mins(1);

/// The clocks differ by so much from one look to the next: the wall clock was set, not merely corrected.
const JUMP: SignedDuration = SignedDuration::from_secs(2);

impl Notices {
    /// Does what is due.
    pub fn poll(&mut self, agents: &dyn Agents, limits: &Limits, now: Now) -> Step {
        let mut step = Step::default();
        if self.last_look.replace(now).is_some_and(|last| has_jumped(last, now)) {
            self.plan_all_anew();
        }
        if std::mem::take(&mut self.tree_changed) {
            self.look_at_all(agents, &mut step);
        }
        while let Some((at, start)) = self.starts_end.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.starts_end.remove(&(at, start));
            self.end_start(start, Record::Ended { start }, &mut step.records);
        }
        self.act_on_timers(agents, limits, now, &mut step);
        while let Some(agent) = self.fresh.pop_first() {
            self.unplan(&agent);
            if let Some(holds) = agents.holds(&agent) {
                self.plan(&agent, &holds, now.wall);
            }
        }
        self.act_on_moments(agents, now.wall);
        while self.counts.under_way < limits.under_way_max && self.pace.has_room(limits.per_sec, now.mono) {
            let Some(agent) = self.queue.first() else { break };
            match agents.holds(&agent) {
                Some(holds) => self.take_turn(&agent, &holds, limits, now, &mut step),
                None => self.leave(&agent, &mut step),
            }
        }
        step
    }

    /// When there is something to do next, by the monotonic clock; `None` before something is heard.
    pub fn next(&self, limits: &Limits, now: Now) -> Option<Duration> {
        if self.tree_changed || !self.fresh.is_empty() {
            return Some(now.mono);
        }
        let room_at = self.pace.room_at(limits.per_sec, now.mono);
        let turn =
            self.queue.first().filter(|_| self.counts.under_way < limits.under_way_max).map(|_| room_at);
        let timer = self.timers.first().map(|(at, agent)| {
            let is_under_way = self.presences.get(agent).is_some_and(|presence| presence.repeat_at.is_some());
            if is_under_way { room_at.max(*at) } else { *at }
        });
        let moment = self.moments.first().map(|(at, _)| {
            let ahead = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
            now.mono + ahead.min(LOOK_AFTER)
        });
        let start = self.starts_end.first().map(|(at, _)| *at);
        [turn, timer, moment, start].into_iter().flatten().min()
    }

    fn plan_all_anew(&mut self) {
        let online = self.presences.iter().filter(|(_, presence)| presence.online);
        self.fresh.extend(online.map(|(agent, _)| *agent));
    }

    fn look_at_all(&mut self, agents: &dyn Agents, step: &mut Step) {
        let known = self.ledger.agents.keys().chain(self.presences.keys());
        let left: Vec<_> = known.copied().filter(|agent| agents.holds(agent).is_none()).collect();
        for agent in left {
            self.leave(&agent, step);
        }
        self.plan_all_anew();
    }

    /// Looks up an agent's next moment in a window.
    fn plan(&mut self, agent: &AgentId, holds: &Holds, now: Timestamp) {
        let Some((schedule, zone)) = &holds.schedule else { return };
        let near = self.windows.near(*schedule, zone, now);
        let Some(presence) = self.presences.get_mut(agent).filter(|presence| presence.online) else { return };
        let open = near.current.filter(|window| {
            presence.day_due != Some(window.day) && !self.ledger.was_told_on(agent, window.day)
        });
        let seed = self.ledger.seed;
        let in_rest = |window: Occurrence| (moment_in_rest(&window, agent, seed, now), window.day);
        let in_next = |window: Occurrence| (moment(&window, agent, seed), window.day);
        presence.planned = open.map(in_rest).or_else(|| near.next.map(in_next));
        self.moments.extend(presence.planned.map(|(moment, _)| (moment, *agent)));
    }

    /// Agents whose moment has come get a turn, and their moment in the next window.
    fn act_on_moments(&mut self, agents: &dyn Agents, now: Timestamp) {
        while let Some(agent) =
            self.moments.first().filter(|(moment, _)| *moment <= now).map(|(_, agent)| *agent)
        {
            let planned = self.unplan(&agent);
            let Some(holds) = agents.holds(&agent) else { continue };
            // Whoever asks late may find the window over, and another one open, in which the agent has another moment.
            let day = self.window_now(&holds, now).filter(|day| planned == Some(*day));
            let is_open = day.is_some_and(|day| !self.ledger.was_told_on(&agent, day));
            if let Some(presence) = self.presences.get_mut(&agent).filter(|_| is_open) {
                presence.day_due = day;
            }
            self.plan(&agent, &holds, now);
            self.settle(&agent);
        }
    }

    /// Tells agents again, or does not wait for them any longer.
    fn act_on_timers(&mut self, agents: &dyn Agents, limits: &Limits, now: Now, step: &mut Step) {
        while let Some(agent) = self.timers.first().filter(|(at, _)| *at <= now.mono).map(|(_, agent)| *agent)
        {
            let presence = self.presences.get(&agent).cloned().unwrap_or_default();
            if presence.repeat_at.is_some() {
                let Some(holds) = agents.holds(&agent) else {
                    self.leave(&agent, step);
                    continue;
                };
                let Some(reasons) = self.still_told(&agent, &holds, limits, now.wall) else {
                    self.give_up(&agent, step);
                    continue;
                };
                // Repeats come before first times, but no faster.
                if !self.pace.has_room(limits.per_sec, now.mono) {
                    break;
                }
                self.tell_again(&agent, reasons, limits, now, step);
                continue;
            }
            if presence.over_at.is_some_and(|at| at <= now.mono) && self.ledger.told(&agent).is_some() {
                self.counts.gave_up += 1;
                self.note(Record::StayedAway { agent }, &mut step.records);
                self.agent_changed(&agent);
            }
            if presence.away_until.is_some_and(|at| at <= now.mono) {
                self.lapse(&agent, step);
            }
            self.settle(&agent);
        }
    }

    /// An agent whose turn it is gets a place, or loses its turn where nothing holds any more of what it waited for.
    fn take_turn(&mut self, agent: &AgentId, holds: &Holds, limits: &Limits, now: Now, step: &mut Step) {
        if self.ledger.told(agent).is_some() {
            match self.still_told(agent, holds, limits, now.wall) {
                Some(reasons) => self.tell_again(agent, reasons, limits, now, step),
                None => self.give_up(agent, step),
            }
            return;
        }
        let Some(presence) = self.presences.get_mut(agent) else { return };
        let day = presence.day_due.take();
        let waits = Reasons { day, ..self.ledger.waits(agent).cloned().unwrap_or_default() };
        let reasons = self.holding(waits, holds, now.wall);
        if reasons.is_empty() {
            self.lapse(agent, step);
            return;
        }
        let record =
            Record::Told { agent: *agent, notice: self.ledger.last_notice + 1, at: now.wall, reasons };
        if let Some(presence) = self.presences.get_mut(agent) {
            presence.over_at = Some(now.mono + limits.repeated_for());
        }
        self.tell(agent, record, limits, now, step);
    }

    fn tell_again(&mut self, agent: &AgentId, reasons: Reasons, limits: &Limits, now: Now, step: &mut Step) {
        self.counts.repeated += 1;
        let record = Record::Again { agent: *agent, at: now.wall, reasons };
        self.tell(agent, record, limits, now, step);
    }

    fn tell(&mut self, agent: &AgentId, record: Record, limits: &Limits, now: Now, step: &mut Step) {
        self.note(record, &mut step.records);
        self.counts.told += 1;
        self.pace.count(now.mono);
        if let Some(presence) = self.presences.get_mut(agent)
            && presence.repeat_at.replace(now.mono + limits.repeat_after).is_none()
        {
            self.counts.under_way += 1;
        }
        self.settle(agent);
        step.tell.extend(self.told(agent).map(|notice| (*agent, notice)));
    }

    fn give_up(&mut self, agent: &AgentId, step: &mut Step) {
        self.counts.gave_up += 1;
        self.note(Record::GaveUp { agent: *agent }, &mut step.records);
        self.free_place(agent);
        self.settle(agent);
    }

    /// An agent is not told of the generation that it waits for.
    fn lapse(&mut self, agent: &AgentId, step: &mut Step) {
        if self.ledger.waits(agent).is_some_and(|waits| waits.generation.is_some()) {
            self.note(Record::Lapsed { agent: *agent }, &mut step.records);
        }
        self.settle(agent);
    }

    /// An agent has left the agent tree, or was shut out.
    fn leave(&mut self, agent: &AgentId, step: &mut Step) {
        if self.ledger.agents.contains_key(agent) {
            self.note(Record::Gone { agent: *agent }, &mut step.records);
        }
        if let Some(presence) = self.presences.get_mut(agent) {
            presence.day_due = None;
        }
        self.unplan(agent);
        self.free_place(agent);
        self.settle(agent);
    }

    /// What an agent may be told again of; `None` where nothing holds any more, or it was told often enough.
    fn still_told(
        &mut self,
        agent: &AgentId,
        holds: &Holds,
        limits: &Limits,
        now: Timestamp,
    ) -> Option<Reasons> {
        let told = self.ledger.told(agent).filter(|told| told.tellings <= limits.repeats_max)?;
        let reasons = self.holding(told.reasons.clone(), holds, now);
        let is_any = reasons.generation.is_some()
            || reasons.day.is_some()
            || reasons.starts.iter().any(|start| self.ledger.is_open(*start));
        is_any.then_some(reasons)
    }

    /// Those of the reasons that the settings leave. Starts stay, also those that are over: a report counts for them.
    fn holding(&mut self, reasons: Reasons, holds: &Holds, now: Timestamp) -> Reasons {
        let window = if reasons.day.is_some() { self.window_now(holds, now) } else { None };
        Reasons {
            generation: reasons.generation.filter(|_| holds.told_of_generations),
            day: reasons.day.filter(|day| window == Some(*day)),
            starts: reasons.starts,
        }
    }

    /// The day of the window that is open for an agent.
    fn window_now(&mut self, holds: &Holds, now: Timestamp) -> Option<Date> {
        let (schedule, zone) = holds.schedule.as_ref()?;
        self.windows.near(*schedule, zone, now).current.map(|window| window.day)
    }
}

fn has_jumped(last: Now, now: Now) -> bool {
    let passed = SignedDuration::try_from(now.mono.saturating_sub(last.mono)).unwrap_or(SignedDuration::MAX);
    now.wall.duration_since(last.wall).checked_sub(passed).is_none_or(|jump| jump.abs() > JUMP)
}
