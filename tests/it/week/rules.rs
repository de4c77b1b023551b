//! What nobody may be told, as plain predicates on what was seen from outside (R9.1 to R9.4).
//!
//! Knows the schedule's words and a clock on the wall, and nothing of the plan or the machine of notices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use forebay::policy::tree::schedule::Schedule;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::{Roaming, Switch};
use forebay::schedule::notices::notice::{Limits, Notice, Now, Reason, StartId};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A day, and what the relay's clock may be wrong by when it starts again.
const START_ENDS: Duration = Duration::from_hours(24 + 12);

/// So long after a start of the relay those who are away count as cut off by it, and so long they may take to come back.
const BACK_WITHIN: Duration = Duration::from_mins(15);

pub(super) struct Rules {
    name: Rc<str>,
    limits: Limits,
    agents: Vec<Seen>,
    last_number: u64,
    /// Who is under way, by when it is not any more unless it is told again.
    under_way: BTreeSet<(Duration, usize)>,
    tellings: VecDeque<Duration>,
    /// Whom each generation was for: online when it appeared, or back in time after a start of the relay; and concerned.
    generations: BTreeMap<u64, BTreeSet<usize>>,
    relay_started: Option<Duration>,
    cut_off: Vec<CutOff>,
    starts: BTreeMap<StartId, Started>,
}

/// Those whom a generation of the relay's first minutes is for, if they are back in time.
struct CutOff {
    generation: u64,
    agents: BTreeSet<usize>,
    until: Duration,
}

#[derive(Clone, Default)]
struct Seen {
    is_connected: bool,
    notice: Option<Open>,
    /// The windows that it was told in, by which notice, and whether it has reported.
    days: Vec<(Date, u64, bool)>,
}

#[derive(Clone)]
struct Open {
    notice: Notice,
    first: Duration,
    last: Duration,
    tellings: u8,
    /// The relay has restarted since, maybe with a wrong clock: it may have given the agent up already.
    is_unsure: bool,
    /// It was not connected for a while since it was last told.
    was_away: bool,
}

struct Started {
    agents: BTreeSet<usize>,
    at: Duration,
    is_cancelled: bool,
}

/// What is seen, as what fails names it.
struct Telling<'a> {
    week: Rc<str>,
    number: usize,
    notice: &'a Notice,
    now: Now,
}

impl fmt::Display for Telling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { week, number, notice, now } = self;
        write!(f, "{week}: pc-{number} is told {notice:?} at {now:?}")
    }
}

/// What holds for an agent.
pub(super) struct Facts<'a> {
    pub(super) values: Values,
    pub(super) zone: &'a TimeZone,
    /// How its user switched its schedule.
    pub(super) switch: Switch,
}

impl Facts<'_> {
    fn runs_schedule(&self) -> bool {
        let is_free = self.values.toggle_schedule == Some(Switch::On);
        self.values.scheduled_updates == Some(Switch::On) && (self.switch.is_on() || !is_free)
    }

    /// Whether the agent is roaming, having declared that.
    pub(super) fn is_roaming(&self, declared: Switch) -> bool {
        match self.values.roaming.unwrap() {
            Roaming::Always => true,
            Roaming::Never => false,
            Roaming::AsDeclared => declared.is_on(),
        }
    }

    /// Whether it may update when it starts.
    pub(super) fn may_start(&self, declared: Switch) -> bool {
        self.values.update_on_start == Some(Switch::On) && !self.is_roaming(declared)
    }

    /// Whether it scans after an update.
    pub(super) fn may_scan(&self, declared: Switch) -> bool {
        self.values.scan_after_update == Some(Switch::On) && !self.is_roaming(declared)
    }

    /// Whether a moment is in the window of a day, by the clock of the zone and the minutes since that showed the start.
    fn is_within(&self, day: Date, at: Timestamp) -> bool {
        let (start, window_mins) = match self.values.schedule.unwrap() {
            Schedule::Daily { at, window_mins } => (at, window_mins),
            Schedule::Weekly { days, at, window_mins } => {
                if !days.holds(day.weekday().to_monday_zero_offset().unsigned_abs()) {
                    return false;
                }
                (at, window_mins)
            }
            Schedule::Interval { .. } => return false,
        };
        let begins =
            |day: Date| day.to_datetime(start.time()).to_zoned(self.zone.clone()).unwrap().timestamp();
        let whole = SignedDuration::from_mins(window_mins.mins().into());
        let is_next = at >= begins(day.checked_add(1.day()).unwrap())
            && matches!(self.values.schedule, Some(Schedule::Daily { .. }));
        begins(day) <= at && at < begins(day) + whole && !is_next
    }
}

impl Rules {
    pub(super) fn new(name: Rc<str>, limits: Limits, agents: usize) -> Self {
        Self {
            name,
            limits,
            agents: vec![Seen::default(); agents],
            last_number: 0,
            under_way: BTreeSet::new(),
            tellings: VecDeque::new(),
            generations: BTreeMap::new(),
            relay_started: None,
            cut_off: Vec::new(),
            starts: BTreeMap::new(),
        }
    }

    pub(super) fn connected(&mut self, number: usize, now: Now) {
        self.agents[number].is_connected = true;
        for cut_off in self.cut_off.iter().filter(|cut_off| now.mono <= cut_off.until) {
            if cut_off.agents.contains(&number) {
                self.generations.entry(cut_off.generation).or_default().insert(number);
            }
        }
    }

    pub(super) fn disconnected(&mut self, number: usize) {
        let seen = &mut self.agents[number];
        seen.is_connected = false;
        if let Some(open) = &mut seen.notice {
            open.was_away = true;
        }
        self.free(number);
    }

    /// The relay starts again: who is to come back has as long once more.
    pub(super) fn relay_started(&mut self, now: Now) {
        self.relay_started = Some(now.mono);
        self.cut_off.iter_mut().for_each(|cut_off| cut_off.until = now.mono + BACK_WITHIN);
    }

    /// The relay ends: nobody is connected any more.
    pub(super) fn relay_ended(&mut self, now: Now) {
        self.cut_off.retain(|cut_off| now.mono <= cut_off.until);
        for number in 0..self.agents.len() {
            self.disconnected(number);
            if let Some(open) = &mut self.agents[number].notice {
                open.is_unsure = true;
            }
        }
    }

    pub(super) fn reported(&mut self, number: usize, now: Now) {
        self.free(number);
        let repeated_for = self.limits.repeat_after * (u32::from(self.limits.repeats_max) + 1);
        let seen = &mut self.agents[number];
        // A report that comes later than any repeat is one of another update.
        let is_its_own = |open: &Open| now.mono < open.first + repeated_for && !open.is_unsure;
        if let Some(open) = seen.notice.take().filter(is_its_own) {
            for (.., is_reported) in seen.days.iter_mut().filter(|(_, by, _)| *by == open.notice.number) {
                *is_reported = true;
            }
        }
    }

    pub(super) fn generation(&mut self, generation: u64, concerned: BTreeSet<usize>, now: Now) {
        let (online, agents) =
            concerned.into_iter().partition(|agent: &usize| self.agents[*agent].is_connected);
        self.generations.insert(generation, online);
        if self.relay_started.is_some_and(|at| now.mono < at + BACK_WITHIN) {
            self.cut_off.push(CutOff { generation, agents, until: now.mono + BACK_WITHIN });
        }
    }

    pub(super) fn started(&mut self, start: StartId, agents: impl Iterator<Item = usize>, now: Now) {
        self.starts.insert(start, Started { agents: agents.collect(), at: now.mono, is_cancelled: false });
    }

    pub(super) fn cancelled(&mut self, start: StartId) {
        self.starts.get_mut(&start).unwrap().is_cancelled = true;
    }

    /// How many agents a start has.
    pub(super) fn starts(&self) -> impl Iterator<Item = (StartId, usize)> {
        self.starts.iter().map(|(start, started)| (*start, started.agents.len()))
    }

    /// An agent is told. Gives whether it is told again.
    pub(super) fn told(&mut self, number: usize, notice: &Notice, facts: &Facts<'_>, now: Now) -> bool {
        let what = Telling { week: self.name.clone(), number, notice, now };
        assert!(self.agents[number].is_connected, "{what}: it is offline");
        let open = self.agents[number].notice.clone();
        let again = open.filter(|open| open.notice.number == notice.number);
        self.check_reason(number, notice, facts, now, again.is_some(), &what);
        if let Some(open) = &again {
            assert!(open.tellings <= self.limits.repeats_max, "{what}: too often");
            let is_late = now.mono >= open.last + self.limits.repeat_after;
            assert!(is_late || open.was_away, "{what}: too soon");
        } else {
            assert!(notice.number > self.last_number, "{what}: the number is not new");
            let before = self.agents[number].notice.as_ref();
            let is_over = |open: &Open| open.was_away || now.mono >= open.last + self.limits.repeat_after;
            assert!(before.is_none_or(is_over), "{what}: it has another notice");
        }
        self.last_number = self.last_number.max(notice.number);
        let tellings = again.as_ref().map_or(0, |open| open.tellings) + 1;
        self.free(number);
        let first = again.as_ref().map_or(now.mono, |open| open.first);
        let is_unsure = again.as_ref().is_some_and(|open| open.is_unsure);
        let open =
            Open { notice: notice.clone(), first, last: now.mono, tellings, is_unsure, was_away: false };
        self.agents[number].notice = Some(open);
        self.count(number, now.mono);
        again.is_some()
    }

    fn check_reason(
        &mut self,
        number: usize,
        notice: &Notice,
        facts: &Facts<'_>,
        now: Now,
        again: bool,
        what: &Telling<'_>,
    ) {
        match &notice.reason {
            Reason::Schedule { day } => {
                assert!(facts.runs_schedule(), "{what}: its schedule does not run");
                assert!(
                    facts.is_within(*day, now.wall),
                    "{what}: it is outside its window {:?}",
                    facts.values.schedule
                );
                assert!(notice.components && notice.agent_settings, "{what}");
                let days = &mut self.agents[number].days;
                let is_done = |(on, by, is_reported): &(Date, u64, bool)| {
                    on == day && *by != notice.number && *is_reported
                };
                assert!(!days.iter().any(is_done), "{what}: it was told in this window, and has reported");
                days.retain(|(_, by, _)| *by != notice.number);
                days.push((*day, notice.number, false));
            }
            Reason::Generation { number: generation, .. } => {
                assert_eq!(
                    facts.values.update_on_generation,
                    Some(Switch::On),
                    "{what}: it is not to be told"
                );
                let concerned = &self.generations[&generation.0];
                assert!(concerned.contains(&number), "{what}: it was offline, or is not concerned");
                assert!(notice.components && !notice.agent_settings, "{what}");
            }
            Reason::Administrator { start } => {
                let started = &self.starts[start];
                assert!(started.agents.contains(&number), "{what}: nobody started it");
                assert!(!started.is_cancelled, "{what}: it is cancelled");
                assert!(again || now.mono <= started.at + START_ENDS, "{what}: it is more than a day old");
                assert!(notice.components && notice.agent_settings, "{what}");
            }
        }
    }

    /// Counts who is under way, and who was told within a second.
    fn count(&mut self, number: usize, now: Duration) {
        while self.under_way.first().is_some_and(|(until, _)| *until <= now) {
            self.under_way.pop_first();
        }
        self.under_way.insert((now + self.limits.repeat_after, number));
        let max = self.limits.under_way_max as usize;
        assert!(self.under_way.len() <= max, "{}: {} are under way", self.name, self.under_way.len());
        while self.tellings.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            self.tellings.pop_front();
        }
        self.tellings.push_back(now);
        let told = self.tellings.len();
        assert!(told <= self.limits.per_sec as usize, "{}: {told} were told within a second", self.name);
    }

    fn free(&mut self, number: usize) {
        if let Some(open) = &self.agents[number].notice {
            self.under_way.remove(&(open.last + self.limits.repeat_after, number));
        }
    }
}
