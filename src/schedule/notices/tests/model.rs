//! The machine against a model that is as plain as the rules read, over random histories.
//!
//! The model looks at all agents at each look, and knows no queue and no timers. Places are plenty: pacing has tests of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::ground::{Ground, Made, agent, daily, mins, of_generation};
use crate::schedule::notices::machine::{BACK_WITHIN, STARTED_FOR};
use crate::schedule::notices::notice::{Agents, Holds, Now, Reason, StartId};
use crate::schedule::plan::{moment_in_rest, occurrence_at};

const AGENTS: usize = 5;

#[derive(Clone, Debug, Default)]
struct Modelled {
    online: bool,
    generation: Option<u64>,
    starts: BTreeSet<StartId>,
    told: Option<Told>,
    days: Vec<Date>,
    /// Since when its moments are drawn from what is left.
    from: Timestamp,
    day_due: Option<Date>,
    away_until: Duration,
}

#[derive(Clone, Debug)]
struct Told {
    generation: Option<u64>,
    day: Option<Date>,
    starts: BTreeSet<StartId>,
    tellings: u8,
    first: Timestamp,
    over_at: Duration,
    /// While it is under way.
    repeat_at: Option<Duration>,
}

#[derive(Default)]
struct Model {
    agents: Vec<Modelled>,
    /// When each ends.
    starts: BTreeMap<StartId, Duration>,
    /// Until when those are expected back whom a restart cut off.
    back_until: Duration,
    last: Option<Now>,
}

/// Whom, whether again, and why.
type Telling = (usize, bool, Reason);

#[derive(Clone, Debug)]
enum Happens {
    Online(usize),
    Offline(usize),
    Report(usize),
    Generation(Vec<usize>),
    Start(Vec<usize>),
    Cancel(u64),
    /// To one, or to all.
    Settings(Option<usize>, bool, Option<(u8, u16)>),
    Pass(u64),
    Jump(i64),
    Restart(bool),
}

impl Model {
    fn look(
        &mut self,
        made: &Made,
        repeat_after: Duration,
        repeats_max: u8,
        now: Now,
        anew: bool,
    ) -> BTreeSet<Telling> {
        let passed = self.last.replace(now).map(|last| {
            let mono = SignedDuration::try_from(now.mono.abs_diff(last.mono)).unwrap();
            now.wall.duration_since(last.wall) - mono
        });
        let anew = anew || passed.is_some_and(|jump| jump.abs() > SignedDuration::from_secs(2));
        let ended: Vec<_> =
            self.starts.iter().filter(|(_, at)| **at <= now.mono).map(|(start, _)| *start).collect();
        for start in ended {
            self.end(start);
        }
        let open: BTreeSet<_> = self.starts.keys().copied().collect();
        let mut tellings = BTreeSet::new();
        for (number, known) in self.agents.iter_mut().enumerate() {
            let holds = made.holds(&agent(number)).unwrap();
            if !known.online {
                known.stay_away(now.mono);
                continue;
            }
            if anew {
                known.from = now.wall;
            }
            let window =
                holds.schedule.as_ref().and_then(|(schedule, zone)| occurrence_at(schedule, zone, now.wall));
            let again = |told: &Told| {
                told.tellings <= repeats_max
                    && (holds.told_of_generations && told.generation.is_some()
                        || told.day.is_some() && told.day == window.map(|window| window.day)
                        || !told.starts.is_disjoint(&open))
            };
            let mut repeat = |told: &mut Told| {
                told.tellings += 1;
                told.repeat_at = Some(now.mono + repeat_after);
                told.generation = told.generation.filter(|_| holds.told_of_generations);
                told.day = told.day.filter(|day| window.is_some_and(|window| window.day == *day));
                tellings.insert((number, true, told.reason(&open)));
            };
            match &mut known.told {
                Some(told) if told.repeat_at.is_some_and(|at| at > now.mono) => {}
                Some(told) if told.repeat_at.is_none() && told.over_at <= now.mono => {
                    known.stay_away(now.mono);
                    known.from = now.wall;
                }
                Some(told) if again(told) => repeat(told),
                Some(_) => known.told = None,
                None => {}
            }
            if let Some(window) = window
                && !known.days.contains(&window.day)
                && known.day_due != Some(window.day)
                && moment_in_rest(&window, &agent(number), 7, known.from.max(window.starts)) <= now.wall
            {
                known.day_due = Some(window.day);
            }
            if known.told.is_none() {
                let told = Told {
                    generation: known.generation.take().filter(|_| holds.told_of_generations),
                    day: known.day_due.take().filter(|day| window.is_some_and(|window| window.day == *day)),
                    starts: std::mem::take(&mut known.starts),
                    tellings: 1,
                    first: now.wall,
                    over_at: now.mono + repeat_after * (u32::from(repeats_max) + 1),
                    repeat_at: Some(now.mono + repeat_after),
                };
                if told.generation.is_some() || told.day.is_some() || !told.starts.is_empty() {
                    tellings.insert((number, false, told.reason(&open)));
                    known.days.splice(0..0, told.day);
                    known.days.truncate(2);
                    known.told = Some(told);
                }
            }
        }
        tellings
    }

    fn end(&mut self, start: StartId) {
        self.starts.remove(&start);
        self.agents.iter_mut().for_each(|known| _ = known.starts.remove(&start));
    }
}

impl Modelled {
    fn go_offline(&mut self, now: Duration) {
        if self.online {
            self.online = false;
            self.day_due = None;
            self.away_until = now + BACK_WITHIN;
            if let Some(told) = &mut self.told {
                told.repeat_at = None;
            }
        }
    }

    fn stay_away(&mut self, now: Duration) {
        if let Some(told) = self.told.take_if(|told| told.over_at <= now)
            && told.day.is_some()
            && self.days.first() == told.day.as_ref()
        {
            self.days.remove(0);
        }
        if !self.online && self.away_until <= now {
            self.generation = None;
        }
    }
}

impl Told {
    fn reason(&self, open: &BTreeSet<StartId>) -> Reason {
        match (self.starts.intersection(open).next(), self.day, self.generation) {
            (Some(start), ..) => Reason::Administrator { start: *start },
            (None, Some(day), _) => Reason::Schedule { day },
            (None, None, generation) => of_generation(generation.unwrap()),
        }
    }
}

struct Game {
    ground: Ground,
    model: Model,
    last_notice: u64,
    generations: u64,
}

impl Game {
    fn new() -> Self {
        let mut ground = Ground::new(0);
        ground.limits.repeats_max = 2;
        let from = ground.now.wall;
        let agents = (0..AGENTS).map(|_| Modelled { from, ..Modelled::default() }).collect();
        Self { ground, model: Model { agents, ..Model::default() }, last_notice: 0, generations: 0 }
    }

    /// Both look at the same moment, and say the same.
    fn look(&mut self, anew: bool) -> usize {
        let limits = self.ground.limits;
        let expected = self.model.look(
            &self.ground.agents,
            limits.repeat_after,
            limits.repeats_max,
            self.ground.now,
            anew,
        );
        let mut told = BTreeSet::new();
        for (agent, notice) in self.ground.poll() {
            let is_again = notice.number <= self.last_notice;
            self.last_notice = self.last_notice.max(notice.number);
            told.insert((agent.as_str()[3..].parse().unwrap(), is_again, notice.reason));
        }
        assert_eq!(told, expected, "at {:?}", self.ground.now);
        told.len()
    }

    fn pass(&mut self, time: Duration) {
        let until = self.ground.now.mono + time;
        while self.ground.now.mono < until {
            let next = self.ground.notices.next(&self.ground.limits, self.ground.now);
            let now = self.ground.now.mono;
            // Looks in between find nothing, or what comes next would have come too late.
            let at = next.unwrap_or(until).min(now + mins(7)).min(until);
            self.ground.advance_to(at);
            let told = self.look(false);
            assert!(told == 0 || next == Some(at), "{told} were due before {next:?}");
        }
    }

    fn happens(&mut self, event: Happens) {
        let now = self.ground.now;
        let mut anew = false;
        match event {
            Happens::Online(number) => {
                self.ground.online(number);
                let known = &mut self.model.agents[number];
                if !known.online {
                    (known.online, known.from) = (true, now.wall);
                }
            }
            Happens::Offline(number) => {
                self.ground.offline(number);
                self.model.agents[number].go_offline(now.mono);
            }
            Happens::Report(number) => {
                self.ground.report(number);
                self.model.agents[number].told = None;
            }
            Happens::Generation(concerned) => {
                self.generations += 1;
                self.ground.generation(self.generations, concerned.iter().copied());
                for number in concerned {
                    let known = &mut self.model.agents[number];
                    if known.online || now.mono < self.model.back_until {
                        known.generation = Some(self.generations);
                    }
                    if !known.online && now.mono < self.model.back_until {
                        known.away_until = now.mono + BACK_WITHIN;
                    }
                }
            }
            Happens::Start(agents) => {
                let start = self.ground.start(agents.iter().copied());
                self.model.starts.insert(start, now.mono + STARTED_FOR);
                for number in agents {
                    self.model.agents[number].starts.insert(start);
                }
            }
            Happens::Cancel(start) => {
                self.ground.cancel(StartId(start));
                self.model.end(StartId(start));
            }
            Happens::Settings(number, told_of_generations, window) => {
                let schedule = window.map(|(hour, mins)| daily(&format!("{hour:02}:00"), mins));
                let holds = Holds { schedule, told_of_generations };
                match number {
                    Some(number) => _ = self.ground.agents.others.insert(agent(number), holds),
                    None => self.ground.agents.all = holds,
                }
                self.ground.notices.tree_changed();
                anew = true;
            }
            Happens::Pass(time) => self.pass(mins(time)),
            Happens::Jump(time) => self.ground.jump(SignedDuration::from_mins(time)),
            Happens::Restart(compacted) => {
                self.ground.restart(compacted);
                self.model.back_until = now.mono + BACK_WITHIN;
                let whole = self.ground.limits.repeat_after * (u32::from(self.ground.limits.repeats_max) + 1);
                for known in &mut self.model.agents {
                    known.go_offline(now.mono);
                    known.away_until = now.mono + BACK_WITHIN;
                    if let Some(told) = &mut known.told {
                        let passed = now.wall.duration_since(told.first).try_into().unwrap_or_default();
                        told.over_at = now.mono + whole.saturating_sub(passed);
                    }
                }
                for (start, ends) in &mut self.model.starts {
                    let at = self.ground.notices.progress(*start).unwrap().at;
                    let passed = now.wall.duration_since(at).try_into().unwrap_or_default();
                    *ends = now.mono + STARTED_FOR.saturating_sub(passed);
                }
                self.model.last = None;
            }
        }
        self.look(anew);
    }
}

fn some_event() -> impl Strategy<Value = Happens> {
    let one = || 0..AGENTS;
    let some = || prop::sample::subsequence((0..AGENTS).collect::<Vec<_>>(), 0..=AGENTS);
    let window = (0u8..24, prop::sample::select(vec![1u16, 30, 60, 600, 1440]));
    prop_oneof![
        6 => one().prop_map(Happens::Online),
        3 => one().prop_map(Happens::Offline),
        4 => one().prop_map(Happens::Report),
        2 => some().prop_map(Happens::Generation),
        2 => some().prop_map(Happens::Start),
        1 => (1u64..6).prop_map(Happens::Cancel),
        2 => (prop::option::of(one()), any::<bool>(), prop::option::weighted(0.7, window))
            .prop_map(|(number, generations, window)| Happens::Settings(number, generations, window)),
        5 => (0u64..40).prop_map(Happens::Pass),
        3 => (0u64..1500).prop_map(Happens::Pass),
        1 => (-2000i64..2000).prop_map(Happens::Jump),
        1 => any::<bool>().prop_map(Happens::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_machine_tells_whom_the_rules_say_and_nobody_else_r9(events in prop::collection::vec(some_event(), 1..60)) {
        let mut game = Game::new();
        for event in events {
            game.happens(event);
        }
    }
}
