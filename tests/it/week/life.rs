//! What machines and the agents on them do: they connect, hear, update, report and act by themselves.
//!
//! Invariant: an agent updates for one reason at a time, and what it may do is what the agent tree admits.

use forebay::policy::check_in::Why;
use forebay::policy::tree::schedule::Schedule;
use forebay::schedule::notices::notice::{Notice, Reason};
use forebay::schedule::plan::next_by_interval;

use super::fleet::{Habit, Span, State, Update};
use super::world::{END, Event, Outcome, World};

impl World {
    pub(super) fn hear(&mut self, number: usize, notice: Notice) {
        let machine = &mut self.machines[number];
        match &machine.update {
            Some(update) if update.notice == Some(notice.number) => {}
            Some(_) => machine.next = Some(notice),
            None => self.begin_for(number, &notice),
        }
    }

    /// An agent does what it was told, or says that it may not.
    fn begin_for(&mut self, number: usize, notice: &Notice) {
        let may = match notice.reason {
            Reason::Administrator { .. } => true,
            Reason::Schedule { .. } => self.admits(number, Why::Schedule),
            Reason::Generation { .. } => self.admits(number, Why::Notice),
        };
        if may { self.begin(number, Some(notice.number)) } else { self.report(number) }
    }

    /// An agent begins to update to the generation of this moment.
    pub(super) fn begin(&mut self, number: usize, notice: Option<u64>) {
        self.happened.updates += 1;
        self.count += 1;
        let update = Update { number: self.count, generation: self.generation, notice };
        let (time, outcome) = match self.dice.within(0..100) {
            _ if self.is_quiet() => (self.dice.secs(1..40), Outcome::Done),
            0..90 => (self.dice.secs(2..300), Outcome::Done),
            90..94 => (self.dice.secs(900..2400), Outcome::Done),
            94..98 => (self.dice.secs(1..600), Outcome::Failed),
            _ => (self.dice.secs(60..5400), Outcome::Lost),
        };
        self.after(time, Event::Finish(number, update.number, outcome));
        self.machines[number].last_begun = Some(self.true_time());
        self.machines[number].update = Some(update);
        self.plan_turn(number);
    }

    pub(super) fn finish(&mut self, number: usize, update: u64, outcome: Outcome) {
        let Some(update) = self.machines[number].update.take_if(|under_way| under_way.number == update)
        else {
            return;
        };
        if outcome == Outcome::Done {
            let declared = self.machines[number].roaming;
            let scans = self.known.effective(&self.machines[number].id).scans_after_update(declared);
            assert_eq!(scans, self.facts(number).may_scan(declared), "{}: pc-{number} scans", self.name);
            self.happened.scans += u64::from(scans);
            let machine = &mut self.machines[number];
            machine.has = machine.has.max(update.generation);
        }
        if outcome != Outcome::Lost {
            self.report(number);
        }
        if let Some(next) = self.machines[number].next.take()
            && self.machines[number].is_connected()
        {
            self.begin_for(number, &next);
        }
    }

    fn report(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        machine.owes_report = !machine.is_connected();
        if machine.is_connected() {
            let records = self.notices.reported(&machine.id);
            self.rules.reported(number, self.now);
            self.write(&records);
        }
    }

    /// When an agent that updates by interval does so next.
    pub(super) fn plan_turn(&mut self, number: usize) {
        let true_time = self.true_time();
        let machine = &mut self.machines[number];
        machine.turn += 1;
        let effective = self.known.effective(&machine.id);
        if let Schedule::Interval { every_mins, .. } = effective.schedule()
            && effective.runs_schedule(machine.switch)
        {
            let at = next_by_interval(*every_mins, &machine.id, machine.last_begun, true_time);
            let event = Event::Turn(number, machine.turn);
            self.after(at.duration_since(true_time).try_into().unwrap(), event);
        }
    }

    pub(super) fn switch_on(&mut self, number: usize) {
        let span = Span { from: self.now.mono, until: END, starts: false };
        let machine = &mut self.machines[number];
        machine.state = State::Starting;
        machine.spans.push(span);
        let time = match machine.habit {
            Habit::Always => self.dice.secs(100 * 3600..500 * 3600),
            Habit::Office => self.dice.secs(7 * 3600..11 * 3600),
            Habit::Seldom => self.dice.secs(60..6 * 3600),
        };
        self.after(time, Event::Off(number));
        let connects = self.dice.secs(1..60);
        self.after(connects, Event::Connect(number));
    }

    pub(super) fn switch_off(&mut self, number: usize) {
        if self.machines[number].is_connected() {
            self.disconnect(number);
        }
        let now = self.now.mono;
        let machine = &mut self.machines[number];
        machine.state = State::Off;
        machine.update = None;
        machine.next = None;
        machine.owes_report = false;
        if let Some(span) = machine.spans.last_mut() {
            span.until = now;
        }
        let time = match machine.habit {
            Habit::Always => self.dice.secs(60..3600),
            Habit::Office => self.dice.secs(13 * 3600..17 * 3600),
            Habit::Seldom => self.dice.secs(60..30 * 3600),
        };
        self.after(time, Event::On(number));
    }

    fn disconnect(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        machine.state = State::Away;
        self.notices.offline(&machine.id, self.now);
        self.rules.disconnected(number);
    }

    pub(super) fn connect(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        if !matches!(machine.state, State::Starting | State::Away) || !self.is_up {
            return;
        }
        self.known.switches[number] = machine.switch;
        let (owes, starts) = (machine.owes_report, machine.state == State::Starting);
        machine.state = State::Connected;
        self.rules.connected(number, self.now);
        self.notices.online(&machine.id);
        if owes {
            self.report(number);
        }
        if starts {
            let declared = self.machines[number].roaming;
            let may = self.admits(number, Why::Start);
            assert_eq!(may, self.facts(number).may_start(declared), "{}: pc-{number} starts", self.name);
            if let Some(span) = self.machines[number].spans.last_mut() {
                span.starts = may;
            }
            if may {
                self.begin(number, None);
            } else {
                self.happened.kept_from_starting += 1;
            }
        }
        self.plan_turn(number);
    }
}
