//! Machines, the agents on them, and the agent tree that they belong to.
//!
//! Invariant: what an agent decides for itself, it decides by the production's plan and the agent tree's rules.

use std::collections::HashMap;
use std::time::Duration;

use forebay::policy::scope::Scope;
use forebay::policy::tree::Tree;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::compiled::{Compiled, Effective};
use forebay::policy::tree::id::{AgentId, DomainId, DomainName};
use forebay::policy::tree::schedule::Schedule;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::{Switch, ZoneName};
use forebay::schedule::notices::notice::{Agents, Holds, Notice};
use forebay::schedule::plan::zone;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::dice::Dice;

pub(super) const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Auckland",
    "America/Sao_Paulo",
];

/// When a machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Always,
    /// From about eight, for about nine hours.
    Office,
    /// Now and then.
    Seldom,
}

/// How it stands with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Off,
    /// On, and its agent has not connected since.
    Starting,
    /// On, and without the relay that its agent was connected to.
    Away,
    /// Its agent has a stream at the relay.
    Connected,
}

/// A machine, and the agent on it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) id: AgentId,
    pub(super) habit: Habit,
    pub(super) state: State,
    pub(super) roaming: Switch,
    pub(super) switch: Switch,
    /// The generation that it has.
    pub(super) has: u64,
    pub(super) update: Option<Update>,
    /// What it was told while it updated.
    pub(super) next: Option<Notice>,
    /// Its update ended while the relay was away.
    pub(super) owes_report: bool,
    pub(super) last_begun: Option<Timestamp>,
    /// Grows when its next turn by interval is worked out anew.
    pub(super) turn: u64,
    /// When it was on without a break, by the monotonic clock, and whether it could update when it started.
    pub(super) spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// An agent that starts may update then, by the settings (R9.1b).
    pub(super) starts: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) number: u64,
    pub(super) generation: u64,
    /// The notice that it is for.
    pub(super) notice: Option<u64>,
}

/// The agent tree as the relay has it.
pub(super) struct Known {
    pub(super) compiled: Compiled,
    /// How users switched their schedules, as reported.
    pub(super) switches: Vec<Switch>,
    zones: HashMap<ZoneName, TimeZone>,
}

impl Machine {
    pub(super) fn new(number: usize, dice: &mut Dice) -> Self {
        Self {
            id: id(number),
            habit: *dice.one_of(&[Habit::Always, Habit::Always, Habit::Office, Habit::Office, Habit::Seldom]),
            state: State::Off,
            roaming: dice.percent(20).into(),
            switch: (!dice.percent(10)).into(),
            has: 0,
            update: None,
            next: None,
            owes_report: false,
            last_begun: None,
            turn: 0,
            spans: Vec::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }
}

impl Known {
    /// A tree of some domains, some within others, and all agents in them.
    pub(super) fn new(agents: &[Machine], dice: &mut Dice) -> Self {
        let count = dice.within(3..9);
        let mut actions = Vec::new();
        for number in 1..=count {
            let parent = (number > 2 && dice.percent(40)).then(|| domain(dice.within(1..number)));
            let name = DomainName::parse(&format!("domain {number}")).unwrap();
            let values = Values {
                scope: Some(*dice.one_of(&Scope::ALL)),
                schedule: Some(some_schedule(dice)),
                time_zone: Some(ZoneName::parse(dice.one_of::<&str>(&ZONES)).unwrap()),
                scan_after_update: Some(dice.percent(50).into()),
                toggle_schedule: Some(dice.percent(40).into()),
                update_now: Some(dice.percent(50).into()),
                ..Values::default()
            };
            actions.push(Action::AddDomain { domain: domain(number), name, parent, values });
        }
        for machine in agents {
            let domain = domain(dice.within(1..count + 1));
            actions.push(Action::AddAgent { agent: machine.id, domain, values: Values::default() });
        }
        let compiled = Compiled::new(Tree::default().changed(&actions).unwrap().tree);
        let zones = ZONES.map(|name| ZoneName::parse(name).unwrap());
        let zones = zones.map(|name| (name.clone(), zone::named(&name).unwrap())).into();
        Self { compiled, switches: agents.iter().map(|machine| machine.switch).collect(), zones }
    }

    pub(super) fn effective(&self, agent: &AgentId) -> Effective<'_> {
        self.compiled.agent(agent).unwrap()
    }

    pub(super) fn zone(&self, effective: &Effective<'_>) -> &TimeZone {
        &self.zones[effective.time_zone()]
    }
}

impl Agents for Known {
    fn holds(&self, agent: &AgentId) -> Option<Holds> {
        let effective = self.compiled.agent(agent)?;
        let runs = effective.runs_schedule(self.switches[number(agent)]);
        let schedule = runs.then(|| (*effective.schedule(), self.zone(&effective).clone()));
        Some(Holds { schedule, told_of_generations: effective.update_on_generation().is_on() })
    }
}

pub(super) fn id(number: usize) -> AgentId {
    AgentId::parse(&format!("pc-{number}")).unwrap()
}

pub(super) fn number(agent: &AgentId) -> usize {
    agent.as_str()[3..].parse().unwrap()
}

pub(super) fn domain(number: u64) -> DomainId {
    DomainId::try_from(u32::try_from(number).unwrap()).unwrap()
}

pub(super) fn some_schedule(dice: &mut Dice) -> Schedule {
    let at = format!("{:02}:{:02}", dice.within(0..24), dice.within(0..60));
    let window_mins = *dice.one_of(&[60, 90, 240, 720, 1440]);
    let schedule = match dice.within(0..6) {
        0 | 1 => json!({ "kind": "interval", "every_mins": 60 * dice.within(6..25) }),
        2 => {
            let days = if dice.percent(50) { ["mon", "wed", "sat"] } else { ["tue", "fri", "sun"] };
            json!({ "kind": "weekly", "days": days, "at": at, "window_mins": window_mins })
        }
        _ => json!({ "kind": "daily", "at": at, "window_mins": window_mins }),
    };
    serde_json::from_value(schedule).unwrap()
}
