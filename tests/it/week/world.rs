//! The relay, what happens in a week, and when.
//!
//! Two clocks: the true one, which agents go by, and the relay's, which jumps. Invariant: everything is decided by the seed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use forebay::base::blob::BlobId;
use forebay::base::tree::{GenerationNumber, TreeName};
use forebay::policy::check_in::{CheckIn, Why};
use forebay::policy::scope::Scope;
use forebay::policy::tree::value::Switch;
use forebay::schedule::notices::machine::Notices;
use forebay::schedule::notices::notice::{Limits, Now, Reason, StartId};
use forebay::schedule::notices::record::Record;
use forebay::schedule::notices::shown::Shown;
use jiff::{SignedDuration, Timestamp};

use super::dice::Dice;
use super::fleet::{Habit, Known, Machine, State, number};
use super::rules::{Facts, Rules};
use super::{Happened, changes, current};

pub(super) const HOUR: Duration = Duration::from_hours(1);

/// When the week begins, by the monotonic clock.
const FROM: Duration = Duration::from_secs(1_000_000);

pub(super) const END: Duration = FROM.saturating_add(Duration::from_hours(7 * 24));

/// From then on nobody changes anything, nothing fails and clocks are right, so that it can be said who must be up to date.
const QUIET: Duration = FROM.saturating_add(Duration::from_hours(5 * 24 + 12));

/// When the last generation appears.
pub(super) const LAST: Duration = FROM.saturating_add(Duration::from_hours(5 * 24 + 14));

/// When an administrator has all update that are not up to date, in some weeks.
pub(super) const LAST_START: Duration = FROM.saturating_add(Duration::from_hours(6 * 24 + 12));

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    On(usize),
    Off(usize),
    Connect(usize),
    /// An agent's turn by interval, unless it was worked out anew since.
    Turn(usize, u64),
    Finish(usize, u64, Outcome),
    /// A release appears upstream.
    Release,
    /// The relay takes what is there.
    Refresh,
    Down,
    Up,
    Jump,
    Change,
    Start,
    Cancel(StartId),
    UserActs(usize),
    Quiet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Done,
    Failed,
    /// The agent ends in the middle, and says nothing.
    Lost,
}

pub(super) struct World {
    pub(super) name: Rc<str>,
    pub(super) dice: Dice,
    pub(super) now: Now,
    /// The true time when the monotonic clock stood at 0.
    zero: Timestamp,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    /// Of what is numbered: events, updates.
    pub(super) count: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) known: Known,
    pub(super) notices: Notices,
    pub(super) is_up: bool,
    journal: Vec<String>,
    pub(super) limits: Limits,
    pub(super) rules: Rules,
    /// The newest release upstream, and for each scope the last in which something is new for it.
    released: u64,
    views: [u64; 3],
    /// The one that the relay has, and since when.
    pub(super) generation: u64,
    pub(super) taken_at: Duration,
    /// What its scopes saw when the relay last looked.
    shown: [u64; 3],
    /// Those that came while it was down.
    missed: BTreeSet<u64>,
    pub(super) happened: Happened,
    /// An administrator had all update that were not up to date, in the quiet days.
    pub(super) started_last: bool,
}

impl World {
    pub(super) fn new(seed: u64, agents: usize) -> Self {
        let mut dice = Dice::new(seed);
        let name: Rc<str> = format!("seed {seed} of {agents} agents").into();
        let machines: Vec<_> = (0..agents).map(|number| Machine::new(number, &mut dice)).collect();
        let known = Known::new(&machines, &mut dice);
        let (under_way_max, per_sec) = match agents {
            0..1000 => (dice.within(10..60), dice.within(1..20)),
            _ => (250, dice.within(50..500)),
        };
        let part = |number| u32::try_from(number).unwrap();
        let (under_way_max, per_sec) = (part(under_way_max), part(per_sec));
        let limits = Limits { under_way_max, per_sec, ..Limits::default() };
        // Weeks in which clocks change somewhere, mostly.
        let monday = *dice.one_of(&[
            "2026-03-02",
            "2026-03-23",
            "2026-03-30",
            "2026-09-21",
            "2026-10-19",
            "2026-10-26",
            "2026-12-28",
        ]);
        let wall: Timestamp = format!("{monday}T00:00Z").parse().unwrap();
        let zero = wall - SignedDuration::try_from(FROM).unwrap();
        let mut world = Self {
            rules: Rules::new(name.clone(), limits, agents),
            name,
            now: Now { wall, mono: FROM },
            zero,
            events: BinaryHeap::new(),
            count: 0,
            machines,
            known,
            notices: Notices::new(seed),
            is_up: true,
            journal: Vec::new(),
            limits,
            released: 0,
            views: [0; 3],
            generation: 0,
            taken_at: FROM,
            shown: [0; 3],
            missed: BTreeSet::new(),
            happened: Happened::default(),
            started_last: false,
            dice,
        };
        world.write(&world.notices.compacted());
        world.show();
        world.plan_events();
        world
    }

    /// Lives through the week.
    pub(super) fn live(mut self) -> Happened {
        loop {
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let due = self.notices.next(&self.limits, self.now).filter(|_| self.is_up);
            let at = event.into_iter().chain(due).min().unwrap_or(END);
            if at >= END {
                break;
            }
            self.advance_to(at);
            while self.events.peek().is_some_and(|Reverse((due, ..))| *due <= at) {
                if let Some(Reverse((.., event))) = self.events.pop() {
                    self.happens(event);
                }
            }
            if self.is_up {
                self.look();
            }
        }
        self.advance_to(END);
        current::check(&mut self);
        self.happened
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now.mono + time, event);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.now.mono >= QUIET
    }

    /// The true time.
    pub(super) fn true_time(&self) -> Timestamp {
        self.zero + SignedDuration::try_from(self.now.mono).unwrap()
    }

    pub(super) fn facts(&self, number: usize) -> Facts<'_> {
        let effective = self.known.effective(&self.machines[number].id);
        let zone = self.known.zone(&effective);
        Facts { values: effective.values(), zone, switch: self.known.switches[number] }
    }

    /// Whether an agent may update for a reason, by the agent tree; with what the user of its machine has chosen.
    pub(super) fn admits(&self, number: usize, why: Why) -> bool {
        let machine = &self.machines[number];
        let told = why == Why::Notice;
        let says = CheckIn { why, roaming: machine.roaming, schedule: machine.switch, told };
        self.known.effective(&machine.id).admits(says).is_ok()
    }

    pub(super) fn write(&mut self, records: &[Record]) {
        self.journal.extend(records.iter().map(|record| serde_json::to_string(record).unwrap()));
    }

    fn plan_events(&mut self) {
        for number in 0..self.machines.len() {
            let first = match self.machines[number].habit {
                Habit::Always => self.dice.secs(0..600),
                Habit::Office => self.dice.secs(6 * 3600..10 * 3600),
                Habit::Seldom => self.dice.secs(0..48 * 3600),
            };
            self.after(first, Event::On(number));
        }
        let is_small = self.machines.len() < 1000;
        let some = |world: &mut Self, count: u64, event| {
            for _ in 0..count {
                let at = world.dice.secs(3600..5 * 24 * 3600);
                world.after(at, event);
            }
        };
        some(self, if is_small { 12 } else { 4 }, Event::Release);
        some(self, 4, Event::Down);
        some(self, 6, Event::Jump);
        some(self, if is_small { 12 } else { 6 }, Event::Change);
        some(self, 4, Event::Start);
        for _ in 0..40 {
            let number = usize::try_from(self.dice.within(0..self.machines.len() as u64)).unwrap();
            some(self, 1, Event::UserActs(number));
        }
        self.at(QUIET, Event::Quiet);
        self.at(LAST, Event::Release);
        // Some of the last releases come while the relay is down.
        let before = self.dice.secs(1..250);
        if self.dice.percent(40) {
            self.at(LAST.saturating_sub(before), Event::Down);
        }
        let (down, start) = (self.dice.secs(1..1200), self.dice.percent(50));
        if self.dice.percent(50) {
            self.at(LAST + down, Event::Down);
        }
        if start {
            self.at(LAST_START, Event::Start);
        }
    }

    fn advance_to(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.now.mono);
        self.now.mono += passed;
        self.now.wall += SignedDuration::try_from(passed).unwrap();
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::On(number) => self.switch_on(number),
            Event::Off(number) => self.switch_off(number),
            Event::Connect(number) => self.connect(number),
            Event::Turn(number, turn) => {
                let machine = &self.machines[number];
                if machine.turn == turn && machine.is_connected() {
                    let may = machine.update.is_none() && self.admits(number, Why::Schedule);
                    if may { self.begin(number, None) } else { self.plan_turn(number) }
                } else if machine.turn == turn && machine.state == State::Away {
                    self.plan_turn(number);
                }
            }
            Event::Finish(number, update, outcome) => self.finish(number, update, outcome),
            Event::Release => self.release(),
            Event::Refresh if self.is_up => self.refresh(),
            Event::Down if self.is_up => self.go_down(),
            Event::Refresh | Event::Down => {}
            Event::Up => self.come_up(),
            Event::Jump => {
                let wrong = self.now.wall.duration_since(self.true_time());
                let minutes = i64::try_from(self.dice.within(1..360)).unwrap();
                let minutes = if self.dice.percent(50) { minutes } else { -minutes };
                self.now.wall += if wrong.is_zero() { SignedDuration::from_mins(minutes) } else { -wrong };
            }
            Event::Quiet => self.now.wall = self.true_time(),
            Event::Change => changes::change(self),
            Event::Start => changes::start(self),
            Event::Cancel(start) => changes::cancel(self, start),
            Event::UserActs(number) => changes::user_acts(self, number),
        }
    }

    /// The machine of notices says whom to tell; they hear it, mostly.
    fn look(&mut self) {
        let step = self.notices.poll(&self.known, &self.limits, self.now);
        self.write(&step.records);
        for (agent, notice) in step.tell {
            let number = number(&agent);
            let effective = self.known.effective(&agent);
            let zone = self.known.zone(&effective);
            let facts = Facts { values: effective.values(), zone, switch: self.known.switches[number] };
            if self.rules.told(number, &notice, &facts, self.now) {
                self.happened.told_again += 1;
            } else {
                match notice.reason {
                    Reason::Generation { number, .. } => {
                        self.happened.told_of_generations += 1;
                        self.happened.told_of_missed += u64::from(self.missed.contains(&number.0));
                    }
                    Reason::Schedule { .. } => self.happened.told_by_schedule += 1,
                    Reason::Administrator { .. } => self.happened.told_by_administrators += 1,
                }
            }
            let is_lost = !self.is_quiet() && self.dice.percent(3);
            if !is_lost {
                self.hear(number, notice);
            }
        }
        let under_way = self.notices.counts().under_way;
        assert!(under_way <= self.limits.under_way_max, "{}: {under_way} are under way", self.name);
    }

    /// A release appears upstream; some concern only those who may have engines.
    fn release(&mut self) {
        self.released += 1;
        let is_for_all = self.is_quiet() || self.dice.percent(60);
        for (view, scope) in self.views.iter_mut().zip(Scope::ALL) {
            if is_for_all || scope != Scope::Patterns {
                *view = self.released;
            }
        }
        if self.is_up {
            self.refresh();
        } else {
            self.missed.insert(self.released);
        }
    }

    /// The relay takes the newest release.
    fn refresh(&mut self) {
        if self.generation != self.released {
            self.generation = self.released;
            self.taken_at = self.now.mono;
        }
        self.show();
    }

    /// The relay looks at what it has, and who is to be told of that.
    fn show(&mut self) {
        let views = if self.generation == self.released { self.views } else { self.shown };
        let at = |scope: Scope| Scope::ALL.iter().position(|known| *known == scope).unwrap();
        let scopes: Vec<_> =
            self.machines.iter().map(|machine| *self.known.effective(&machine.id).scope()).collect();
        let is_new = |scope: &Scope| views[at(*scope)] != self.shown[at(*scope)];
        let concerned =
            scopes.iter().enumerate().filter(|(_, scope)| is_new(scope)).map(|(number, _)| number);
        if views != self.shown {
            self.rules.generation(self.generation, concerned.collect(), self.now);
        }
        self.shown = views;
        let shown = Shown::new(GenerationNumber(self.generation), |scope| {
            BlobId::of(&views[at(scope)].to_le_bytes())
        });
        let expected = self.notices.expects_agents_back(self.now);
        let agents =
            self.machines.iter().zip(scopes).filter(|(machine, _)| expected || machine.is_connected());
        let agents = agents.map(|(machine, scope)| (machine.id, scope));
        let tree = TreeName::parse("main").unwrap();
        let records = self.notices.generation(&tree, shown, agents, self.now);
        self.write(&records);
    }

    /// The relay ends; now and then before what it has decided is written down, and then nobody was told either.
    fn go_down(&mut self) {
        if self.dice.percent(50) {
            self.look();
        } else {
            drop(self.notices.poll(&self.known, &self.limits, self.now));
        }
        self.is_up = false;
        for machine in self.machines.iter_mut().filter(|machine| machine.is_connected()) {
            machine.state = State::Away;
        }
        self.rules.relay_ended(self.now);
        let time = self.dice.secs(1..300);
        if !self.is_quiet() && self.dice.percent(60) {
            self.after(time / 2, Event::Release);
        }
        self.after(time, Event::Up);
    }

    fn come_up(&mut self) {
        let records = self.journal.iter().map(|line| serde_json::from_str(line).unwrap());
        self.notices = Notices::replay(records, &self.limits, self.now);
        if self.dice.percent(50) {
            let compacted = self.notices.compacted();
            self.journal.clear();
            self.write(&compacted);
            let records = self.journal.iter().map(|line| serde_json::from_str(line).unwrap());
            let again = Notices::replay(records, &self.limits, self.now);
            assert_eq!(again.ledger(), self.notices.ledger(), "{}", self.name);
            self.notices = again;
        }
        self.is_up = true;
        self.rules.relay_started(self.now);
        // Some relays end with a release at hand that nobody was told of; others find it when they ask.
        if self.dice.percent(50) {
            self.refresh();
        } else {
            self.show();
            let time = self.dice.secs(0..120);
            self.after(time, Event::Refresh);
        }
        for number in 0..self.machines.len() {
            if self.machines[number].state != State::Off {
                let time = self.dice.secs(0..120);
                self.after(time, Event::Connect(number));
            }
        }
    }
}

/// A switch that says the other thing.
pub(super) fn other(switch: Switch) -> Switch {
    (!switch.is_on()).into()
}
