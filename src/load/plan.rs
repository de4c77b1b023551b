//! What is played: the checked options of `forebay load`.
//!
//! Owns the readers of their texts, whose errors say what is allowed. Invariant: a [`Weights`] has a choice with a weight, a [`Share`]
//! is between 0 and 1, a [`Think`] does not end before it begins.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::load::arrival::Arrival;
use crate::policy::scope::Scope;

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many agents play.
    pub agents: u32,
    /// When they arrive.
    pub arrival: Arrival,
    /// How those hold their streams who are told.
    pub streams: Streams,
    /// What they want, kind by kind.
    pub scopes: Weights<Scope>,
    /// What they take of a component.
    pub mix: Weights<Choice>,
    /// Whether they take signatures.
    pub signatures: Signatures,
    /// How long they wait between two requests.
    pub think: Think,
    /// How many of them drop a transfer midway and leave.
    pub give_ups: Share,
    /// For how long a connection serves.
    pub reuse: Reuse,
    /// How many connections are open at once, at most.
    pub connections: usize,
    /// How many threads share agents and connections; no more than there are connections.
    pub threads: usize,
    /// How long a connection may take to be made, and an answer to begin or to go on.
    pub silence: Duration,
    /// When the play ends, whoever is left.
    pub time_max: Duration,
    /// What everything is drawn from.
    pub seed: u64,
}

/// What an agent takes of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The full file.
    Full,
    /// One of its increments; the full file where it has none.
    Increment,
    /// Nothing: the agent has it already.
    Current,
}

/// Whether the signature of each file is taken after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// It is, as agents do.
    Taken,
    /// It is not.
    Left,
}

/// For how long a connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// For any agent, one after the other: the server's own work is measured, not handshakes.
    Fleet,
    /// For one agent, until it thinks or is done.
    Agent,
    /// For one request.
    Request,
}

/// How agents that are told hold their streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Each on a connection of its own, over HTTP/1.
    Own,
    /// So many on a connection, over HTTP/2.
    Shared {
        /// At most.
        per_connection: usize,
    },
    /// Not at all: each polls, on a connection of its own.
    Polls,
}

/// Choices with their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights<T> {
    choices: Vec<(T, u32)>,
    total: u32,
}

/// A share of a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(f64);

/// A time between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Think {
    from: Duration,
    to: Duration,
}

impl Choice {
    /// All choices.
    pub const ALL: [Self; 3] = [Self::Full, Self::Increment, Self::Current];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Increment => "increment",
            Self::Current => "current",
        }
    }
}

impl Streams {
    /// Their name, on the command line and for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "http1",
            Self::Shared { .. } => "http2",
            Self::Polls => "polls",
        }
    }

    /// How many connections so many agents hold theirs on, at most.
    pub fn connections(self, agents: u32) -> usize {
        match self {
            Self::Own | Self::Polls => agents as usize,
            Self::Shared { per_connection } => (agents as usize).div_ceil(per_connection),
        }
    }
}

impl<T: Copy> Weights<T> {
    /// Reads `NAME=WEIGHT,...`; a name alone weighs 1.
    pub fn parse(text: &str, known: &[T], name: impl Fn(T) -> &'static str) -> Result<Self, String> {
        let names = known.iter().map(|choice| name(*choice)).collect::<Vec<_>>().join(", ");
        let allowed = || {
            format!("allowed: NAME=WEIGHT,... with weights from 0 to {WEIGHT_MAX} and of the names {names}")
        };
        let mut choices: Vec<(T, u32)> = Vec::new();
        for part in text.split(',') {
            let (named, weight) = part.split_once('=').unwrap_or((part, "1"));
            let known = known.iter().find(|choice| name(**choice) == named.trim());
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let (Some(choice), Some(weight)) = (known, weight) else { return Err(allowed()) };
            if choices.iter().any(|(other, _)| name(*other) == name(*choice)) {
                return Err(format!("{} is there twice; {}", name(*choice), allowed()));
            }
            choices.push((*choice, weight));
        }
        let total = choices.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return Err(format!("nothing has a weight; {}", allowed()));
        }
        Ok(Self { choices, total })
    }

    /// One of them.
    pub fn pick(&self, random: &mut SmallRng) -> T {
        let mut left = random.random_range(0..self.total);
        for (choice, weight) in &self.choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        // The loop ends within: what is left is below the sum of the weights.
        self.choices[0].0
    }
}

impl Share {
    /// Reads `0.1%`, from 0 to 100.
    pub fn parse(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match percent.filter(|percent| (0.0..=100.0).contains(percent)) {
            Some(percent) => Ok(Self(percent / 100.0)),
            None => Err("allowed: a share such as 0.1%, from 0% to 100%".into()),
        }
    }

    /// Between 0 and 1.
    pub fn of_one(self) -> f64 {
        self.0
    }

    /// The share of a count.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
    pub fn of(self, count: u64) -> f64 {
        self.0 * count as f64
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded, since 0.1 % is not a number of base two.
        write!(f, "{}%", (self.0 * 1e10).round() / 1e8)
    }
}

impl Think {
    /// Reads a time, or two with `..` between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |_| "allowed: a time such as 250ms, or two such as 1s..5s, of at most 24h".to_owned();
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let think = Self { from: time(from).map_err(allowed)?, to: time(to).map_err(allowed)? };
        if think.from > think.to { Err("allowed: the shorter time first".into()) } else { Ok(think) }
    }

    /// A time between the bounds.
    pub fn pick(self, random: &mut SmallRng) -> Duration {
        random.random_range(self.from..=self.to)
    }
}

/// Reads a time of at most [`TIME_MAX`]: `250ms`, `30s`, `5m`.
pub fn time(text: &str) -> Result<Duration, String> {
    let read = text.trim().parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    read.filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| "allowed: a time such as 250ms, 30s or 5m, of at most 24h".to_owned())
}

/// The same, but not nothing.
pub fn some_time(text: &str) -> Result<Duration, String> {
    time(text).ok().filter(|time| !time.is_zero()).ok_or_else(|| {
        "allowed: a time such as 250ms, 30s or 5m, longer than nothing and of at most 24h".to_owned()
    })
}

/// The longest time that a plan has: a day, which the histograms hold.
pub const TIME_MAX: Duration = Duration::from_hours(24);

/// The largest weight: a hundred of them do not overflow their sum.
const WEIGHT_MAX: u32 = 1_000_000;

/// Plans for tests.
#[cfg(test)]
pub(in crate::load) mod samples {
    use super::*;

    /// A plan of ten agents that take whatever this mix says.
    pub(in crate::load) fn plan(mix: &str) -> Plan {
        Plan {
            agents: 10,
            arrival: Arrival::AllAtOnce,
            streams: Streams::Own,
            scopes: Weights::parse("all", &Scope::ALL, Scope::name).unwrap(),
            mix: Weights::parse(mix, &Choice::ALL, Choice::name).unwrap(),
            signatures: Signatures::Taken,
            think: Think::default(),
            give_ups: Share::default(),
            reuse: Reuse::Fleet,
            connections: 1,
            threads: 1,
            silence: Duration::from_secs(1),
            time_max: Duration::from_secs(1),
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::draw::{Purpose, draw};

    fn mix(text: &str) -> Result<Weights<Choice>, String> {
        Weights::parse(text, &Choice::ALL, Choice::name)
    }

    #[test]
    fn weights_are_read_and_kept_r12_1() {
        let weights = mix("full=1,increment=9,current=0").unwrap();
        let picked = (0..10_000).map(|agent| weights.pick(&mut draw(1, Purpose::Choice, agent, 0)));
        let full = picked.inspect(|choice| assert_ne!(*choice, Choice::Current));
        let full = full.filter(|choice| *choice == Choice::Full).count();
        // Five standard deviations of 30.
        assert!((850..=1150).contains(&full), "{full}");
        assert_eq!(mix("increment").unwrap(), mix(" increment = 1 ").unwrap());
    }

    #[test]
    fn wrong_texts_are_refused_and_the_reason_says_what_is_allowed() {
        for wrong in ["", "full=", "full=-1", "full=1,", "half=1", "full=1000001", "full=1.5"] {
            let reason = mix(wrong).unwrap_err();
            assert!(reason.contains("full, increment, current"), "{wrong}: {reason}");
        }
        assert!(mix("full=1,full=2").unwrap_err().contains("full is there twice"));
        assert!(mix("full=0").unwrap_err().contains("nothing has a weight"));
        for wrong in ["", "1", "-1%", "101%", "NaN%", "x%"] {
            assert!(Share::parse(wrong).unwrap_err().contains("0.1%"), "{wrong}");
        }
        for wrong in ["", "5", "1s..", "-1s", "25h", "5s..1s", "1s..2s..3s"] {
            assert!(Think::parse(wrong).unwrap_err().contains("allowed: "), "{wrong}");
        }
        assert!(some_time("0s").is_err());
    }

    #[test]
    fn shares_and_times_are_read() {
        assert_eq!(Share::parse("0.1%").unwrap().to_string(), "0.1%");
        assert!((Share::parse("50 %").unwrap().of(7) - 3.5).abs() < 1e-9);
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("1h 30m"), Ok(Duration::from_mins(90)));
        let think = Think::parse("1s..2s").unwrap();
        let picked = (0..100).map(|agent| think.pick(&mut draw(1, Purpose::Think, agent, 0)));
        assert!(picked.into_iter().all(|time| (1.0..=2.0).contains(&time.as_secs_f64())));
        assert_eq!(Think::parse("0s").unwrap(), Think::default());
    }
}
