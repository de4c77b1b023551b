//! The options of `forebay load`, read and checked.
//!
//! Invariant: what clap accepts makes a plan; only the URL is read later, since its error would repeat it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use url::Url;

use crate::cli::Failed;
use crate::cli::load::known::KnownOptions;
use crate::config::value::upstream_url;
use crate::load::arrival::Arrival;
use crate::load::budget::Budget;
use crate::load::known::MANIFEST;
use crate::load::plan::{Choice, Plan, Reuse, Share, Signatures, Think, Weights, some_time};
use crate::load::target::{Family, Trust};
use crate::policy::scope::Scope;

/// What is typed.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The base URL of a tree, or the URL of its server.ini.
    #[arg(value_name = "URL")]
    url: String,
    /// Play against a public address.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    fleet: FleetOptions,
    #[command(flatten)]
    pub(super) known: KnownOptions,
    #[command(flatten)]
    pub(super) line: LineOptions,
    #[command(flatten)]
    pub(super) verdict: VerdictOptions,
}

/// Who plays.
#[derive(Debug, Args)]
#[command(next_help_heading = "The fleet")]
struct FleetOptions {
    /// How many agents play.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=AGENTS_MAX))]
    agents: u32,
    /// When they arrive; those who are told hold streams until then, and need '--tokens'.
    #[arg(long, value_enum, default_value = "all-at-once")]
    arrival: Arrives,
    /// The window over which they arrive, where not all at once.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = some_time)]
    over: Duration,
    /// What they want, by weights: patterns=8,patterns-engines-drivers=1,all=1.
    #[arg(long, value_name = "WEIGHTS", default_value = "all", value_parser = scopes)]
    scopes: Weights<Scope>,
    /// What they take of each component, by weights: the full file, an increment, or nothing since they are current.
    #[arg(long, value_name = "WEIGHTS", default_value = "full=1,increment=9,current=0", value_parser = mix)]
    mix: Weights<Choice>,
    /// Leave the signatures, which agents take after each file.
    #[arg(long)]
    no_signatures: bool,
    /// How long an agent waits between two requests: a time, or FROM..TO.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = Think::parse)]
    think: Think,
    /// The share of agents that drop a transfer midway and leave.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = Share::parse)]
    give_ups: Share,
    /// What everything is drawn from: the same seed plays the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How it reaches the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "The line")]
pub(super) struct LineOptions {
    /// Only IPv4.
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// Only IPv6.
    #[arg(short = '6')]
    v6: bool,
    /// Connections that are open at once, at most.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = connections)]
    connections: usize,
    /// For how long a connection serves; 'agent' where there are sources, else 'fleet'.
    #[arg(long, value_enum)]
    reuse: Option<Serves>,
    /// A range of addresses that agents come from, each from its own. May be given several times.
    #[arg(long = "source", value_name = "RANGE", value_parser = range)]
    pub(super) sources: Vec<IpNet>,
    /// Threads; one leaves the other cores to the server where both share a machine.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX))]
    threads: u16,
    /// Authorities that sign the server's certificate, in PEM; without it, the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca_file: Option<PathBuf>,
    /// Believe any certificate.
    #[arg(long)]
    insecure: bool,
    /// How long a connection may take to be made, and an answer to begin or to go on.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub(super) timeout: Duration,
}

/// When it has passed, and how that is told.
#[derive(Debug, Args)]
#[command(next_help_heading = "The verdict")]
pub(super) struct VerdictOptions {
    /// Errors that are allowed: a number, or a share of the requests such as 0.1%.
    #[arg(long, value_name = "BUDGET", default_value = "0", value_parser = Budget::parse)]
    pub(super) errors_max: Budget,
    /// When the run ends, whoever is left; then it has not passed. A fleet that is told in a window needs longer than that.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = some_time)]
    time_max: Duration,
    /// The data folder of the relay that is played against, if it runs on this machine: what it took over its upstream line meanwhile
    /// is told too. A token for it is taken from the environment, as for all commands that ask a relay.
    #[arg(long, value_name = "FOLDER")]
    pub(super) relay: Option<PathBuf>,
    /// A local copy of the tree: each file has to be the one there.
    #[arg(long, value_name = "FOLDER")]
    pub(super) tree: Option<PathBuf>,
    /// Write one JSON object for programs to a file; '-' prints it in place of the table.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

/// When agents arrive.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrives {
    /// At the start.
    AllAtOnce,
    /// Independently of each other, at one rate.
    Poisson,
    /// Each at a random moment of the window.
    Uniform,
    /// When the relay tells them: of a new generation, in their schedules' windows, by an administrator's start.
    Told,
}

/// For how long a connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Serves {
    /// For any agents, one after the other.
    Fleet,
    /// For one agent, until it waits or is done.
    Agent,
    /// For one request.
    Request,
}

impl Options {
    /// The plan.
    pub(super) fn plan(&self) -> Plan {
        let Self { fleet, known, line, verdict, .. } = self;
        let over = fleet.over;
        Plan {
            agents: fleet.agents,
            arrival: match fleet.arrival {
                Arrives::AllAtOnce => Arrival::AllAtOnce,
                Arrives::Poisson => Arrival::Poisson { over },
                Arrives::Uniform => Arrival::Uniform { over },
                Arrives::Told => Arrival::Told,
            },
            streams: known.streams(),
            scopes: fleet.scopes.clone(),
            mix: fleet.mix.clone(),
            signatures: if fleet.no_signatures { Signatures::Left } else { Signatures::Taken },
            think: fleet.think,
            give_ups: fleet.give_ups,
            reuse: match line.reuse {
                Some(Serves::Request) => Reuse::Request,
                None | Some(Serves::Fleet) if line.sources.is_empty() => Reuse::Fleet,
                // An agent that has an address of its own has its own connections too.
                _ => Reuse::Agent,
            },
            connections: line.connections,
            threads: usize::from(line.threads),
            silence: line.timeout,
            time_max: verdict.time_max,
            seed: fleet.seed,
        }
    }

    /// The base URL. What is wrong with one that holds credentials is said without them.
    pub(super) fn base(&self) -> Result<Url, Failed> {
        if self.line.reuse == Some(Serves::Fleet) && !self.line.sources.is_empty() {
            return Err(Failed::new(
                "--reuse fleet: agents with sources have connections of their own; allowed: agent, request",
            ));
        }
        upstream_url(self.url.strip_suffix(MANIFEST).unwrap_or(&self.url)).map_err(|reason| {
            let url = if self.url.contains('@') { "the URL" } else { &self.url };
            Failed::new(format!("{url}: {reason}; allowed: an http or https URL without credentials"))
        })
    }

    pub(super) fn family(&self) -> Family {
        match (self.line.v4, self.line.v6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }

    pub(super) fn trust(&self) -> Trust {
        match &self.line.ca_file {
            _ if self.line.insecure => Trust::Anybody,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        }
    }
}

fn scopes(text: &str) -> Result<Weights<Scope>, String> {
    Weights::parse(text, &Scope::ALL, Scope::name)
}

fn mix(text: &str) -> Result<Weights<Choice>, String> {
    Weights::parse(text, &Choice::ALL, Choice::name)
}

fn range(text: &str) -> Result<IpNet, String> {
    let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| ()));
    range.map_err(|()| "allowed: a range such as 127.1.0.0/16 or fd00:1::/64, or one address".into())
}

fn connections(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
    count.ok_or_else(|| format!("allowed: 1 to {CONNECTIONS_MAX}"))
}

/// Agents of one fleet: more than any that one relay serves.
const AGENTS_MAX: i64 = 10_000_000;

/// Connections that are open at once: more than one machine's files and ports.
const CONNECTIONS_MAX: usize = 1_000_000;

/// Threads: more than the cores of a machine that only plays.
const THREADS_MAX: i64 = 256;
