//! `forebay load`: a fleet on this machine that plays against a server with a tree.

mod known;
mod options;
mod shown;

use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::base::clock::SystemClock;
use crate::cli::Failed;
use crate::cli::client::{Asked, ask};
use crate::cli::load::options::Options;
use crate::cli::load::shown::Shown;
use crate::cli::output::{print, print_error};
use crate::cli::which::Which;
use crate::load::arrival::Arrival;
use crate::load::fleet::{Fleet, Run};
use crate::load::known::{Known, LocalTree};
use crate::load::plan::Plan;
use crate::load::report::{Report, UpstreamLine};
use crate::load::target::Target;
use crate::load::told::tokens::Tokens;

/// The exit code of a run that did not pass.
const NOT_PASSED: u8 = 4;

/// Files beside the connections: streams, timers, runtimes, the name server.
const OTHER_FILES: u64 = 64;

/// Plays a fleet of agents against a relay or any other server with such a tree.
#[derive(Debug, clap::Args)]
pub struct Load {
    #[command(flatten)]
    options: Options,
}

impl Load {
    /// Plays and reports.
    pub fn run(self) -> Result<(), Failed> {
        let options = self.options;
        let plan = options.plan();
        room_for(&plan)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (target, known) = runtime.block_on(prepare(&options))?;
        let tokens = runtime.block_on(options.known.tokens(&plan, &target))?;
        let url = target.base().to_string();
        let relay = options.verdict.relay.clone().map(|data| Which::of(data).find()).transpose()?;
        let line = || relay.as_ref().map(|relay| runtime.block_on(upstream_line(relay))).transpose();
        let before = line()?;
        let run = runtime.block_on(play(plan.clone(), target, known, tokens))?;
        let upstream = before.zip(line()?).map(|(before, now)| now.since(before));
        let memory_peak_bytes = memory_peak_bytes();
        let budget = options.verdict.errors_max;
        let report = Report { url: &url, plan: &plan, budget, run: &run, upstream, memory_peak_bytes };
        tell(&report, options.verdict.json.as_deref())?;
        let failed = |reason| Err(Failed::with_code(NOT_PASSED, format!("not passed: {reason}")));
        report.reason().map_or(Ok(()), failed)
    }
}

/// Finds whom to play against, and what is right to come from there.
async fn prepare(options: &Options) -> Result<(Target, Known), Failed> {
    let (base, sources) = (options.base()?, options.line.sources.clone());
    let mut target = Target::find(base, options.family(), &options.trust(), sources).await?;
    if let Some(address) = target.public().filter(|_| !options.yes) {
        return Err(Failed::new(format!(
            "{address} is a public address, and a load test hits whom it names: add --yes if that server is yours"
        )));
    }
    let tree = options.verdict.tree.as_deref().map(LocalTree::read).transpose()?;
    for (address, error) in target.probe(options.line.timeout).await? {
        print_error(&format!("forebay: {address} is left out: {error}"));
    }
    Ok((target, Known::new(tree)))
}

/// Prints the table; the JSON in its place, or to a file.
fn tell(report: &Report<'_>, json: Option<&Path>) -> Result<(), Failed> {
    let value = || serde_json::to_string_pretty(&report.value());
    match json {
        Some(file) if file == Path::new("-") => print(&value()?),
        Some(file) => {
            print(&report.table());
            let written = std::fs::write(file, value()? + "\n");
            written.map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        }
        None => print(&report.table()),
    }
    Ok(())
}

/// Plays until the end, or until a signal; shows how far it is.
async fn play(plan: Plan, target: Target, known: Known, tokens: Tokens) -> Result<Run, Failed> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut shown = Shown::begin(u64::from(plan.agents), plan.arrival == Arrival::Told);
    let fleet = Fleet::start(plan, target, known, tokens, Arc::new(SystemClock::default()))?;
    let (stopper, progress) = (fleet.stopper(), fleet.progress());
    let mut ended = tokio::task::spawn_blocking(|| fleet.wait());
    let mut look = tokio::time::interval(shown::LOOK_EVERY);
    loop {
        tokio::select! {
            run = &mut ended => {
                let run = run.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                return run.map_err(Failed::from);
            }
            _ = interrupt.recv() => stopper.cancel(),
            _ = terminate.recv() => stopper.cancel(),
            _ = look.tick() => shown.show(progress()),
        }
    }
}

/// What a relay has taken from its upstream so far.
async fn upstream_line(relay: &Asked) -> Result<UpstreamLine, Failed> {
    let status = ask(relay, Method::GET, "/api/v1/status").await?;
    let count = |name: &str| status["counts"][name].as_u64().unwrap_or(0);
    Ok(UpstreamLine { bytes: count("upstream_bytes"), requests: count("upstream_requests") })
}

/// Raises the limit of open files as far as connections and streams need, or says how many fit.
fn room_for(plan: &Plan) -> Result<(), Failed> {
    let is_told = plan.arrival == Arrival::Told;
    let streams = if is_told { plan.streams.connections(plan.agents) } else { 0 };
    let needed = (plan.connections + streams) as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        let (connections, most) = (plan.connections, most.saturating_sub(OTHER_FILES));
        return Err(Failed::new(if is_told {
            format!(
                "{streams} connections for streams and --connections {connections} are more than the limit of open files allows: \
                 at most {most}; let streams share theirs with --streams http2, or raise it with 'ulimit -Hn'"
            )
        } else {
            format!(
                "--connections {connections} are more than the limit of open files allows: at most {most}, or raise it with 'ulimit -Hn'"
            )
        }));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })?)
}

/// The most memory that this process had so far.
fn memory_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
