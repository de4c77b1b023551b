//! `forebay serve`: runs the relay until it is told to stop.
//!
//! SIGTERM or SIGINT drains, a second one stops at once; SIGHUP reads the settings file again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use indicatif::MultiProgress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::app::handle::RelayHandle;
use crate::app::{Relay, worker_count};
use crate::cli::logging::Logging;
use crate::cli::output::print;
use crate::cli::progress::{Lines, Unit, Work};
use crate::cli::service::notify::Notifier;
use crate::cli::service::{files, sockets};
use crate::cli::{Failed, settings};
use crate::config::settings::{Listen, Settings};
use crate::disk::Disk;
use crate::relay::tree::Tree;
use crate::state::tokens::Made;

/// Between two looks at how many lines of the log were lost, and at what the service manager shows of the trees.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs the relay.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Serve {
    /// The settings file, in TOML; 'forebay check config FILE' checks it.
    #[arg(long, value_name = "FILE", group = "what")]
    config: Option<PathBuf>,
    /// Instead of a settings file: where the tree comes from, an http(s) URL that ends before server.ini, or a folder.
    #[arg(long, value_name = "URL|FOLDER", group = "what")]
    upstream: Option<String>,
    /// The data folder, instead of the settings'.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Addresses for agents, instead of the settings'. May be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Addresses for agents that speak SOCKS5, instead of the settings'. May be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    socks_listen: Vec<SocketAddr>,
    /// Addresses for administrators, instead of the settings'. May be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Vec<SocketAddr>,
}

impl Serve {
    /// Runs until a signal.
    pub fn run(self) -> Result<(), Failed> {
        let inherited = sockets::inherited()?;
        let settings = self.settings()?;
        let bars = Arc::new(MultiProgress::new());
        let logging = Logging::start(&settings.log, &bars)?;
        files::raise_limit(settings.limits.connections_max, worker_count(&settings));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Signals are caught before anything is to be lost by them.
        let mut signals = runtime.block_on(async { Signals::catch() })?;
        let mut relay = Relay::start_on(settings, &inherited, &Disk::default())?;
        // The workers have their own handles: with these the sockets would stay open while the relay stops.
        drop(inherited);
        let token = relay.first_token();
        greet(&relay, &self, token.as_ref());
        // Ready is who listens, not who has a generation: a first one takes hours over a thin line, or for as long as the
        // upstream is down, and the manager would end a relay that does what it should. `/readyz` and the status line say it.
        let notifier = Arc::new(Notifier::from_environment());
        notifier.ready(&served(&relay.trees()));
        if let Some(watchdog) = notifier.watchdog() {
            let notifier = notifier.clone();
            relay.watch(watchdog / 2, move || notifier.alive());
        }
        runtime.block_on(async {
            let shown = tokio::spawn(show_refreshes(relay.trees(), bars));
            let ended = self.until_signal(relay, &logging, &notifier, &mut signals).await;
            shown.abort();
            ended
        })
    }

    fn settings(&self) -> Result<Settings, Failed> {
        let mut settings = match (&self.config, &self.upstream) {
            (Some(file), _) => settings::read(file)?,
            (None, upstream) => Settings::for_upstream(upstream.as_deref().unwrap_or_default())?,
        };
        if let Some(data) = &self.data {
            settings.data.clone_from(data);
        }
        if !self.listen.is_empty() {
            settings.listen = Listen::Configured(self.listen.clone());
        }
        if !self.socks_listen.is_empty() {
            settings.socks.listen = Listen::Configured(self.socks_listen.clone());
        }
        if !self.admin_listen.is_empty() {
            settings.admin = Listen::Configured(self.admin_listen.clone());
        }
        Ok(settings)
    }

    async fn until_signal(
        &self,
        mut relay: RelayHandle,
        logging: &Logging,
        notifier: &Notifier,
        signals: &mut Signals,
    ) -> Result<(), Failed> {
        let tally = relay.tally().unwrap_or_default();
        let mut status = String::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                caught = signals.next() => match caught {
                    Caught::Reload => {
                        notifier.reloading();
                        self.reload(&mut relay, logging);
                        notifier.ready(&served(&relay.trees()));
                    }
                    Caught::Stop => break,
                },
                _ = look.tick() => {
                    logging.count_lost(&tally);
                    let now = served(&relay.trees());
                    if now != status {
                        notifier.status(&now);
                        status = now;
                    }
                }
            }
        }
        notifier.stopping();
        info!("stopping: transfers under way may end; a second signal cuts them");
        let stopper = relay.stopper();
        let mut ending = std::pin::pin!(relay.shutdown());
        loop {
            tokio::select! {
                () = &mut ending => return Ok(()),
                caught = signals.next() => if caught == Caught::Stop {
                    warn!("stopping at once");
                    stopper.now();
                },
            }
        }
    }

    fn reload(&self, relay: &mut RelayHandle, logging: &Logging) {
        if self.config.is_none() {
            warn!("there is no settings file to read again");
            return;
        }
        let reloaded = self.settings().and_then(|settings| {
            let level = settings.log.level;
            let kept = relay.reload(settings)?;
            logging.set_level(level);
            Ok(kept)
        });
        match reloaded {
            Ok(kept) if kept.is_empty() => info!("the settings are read again and in force"),
            Ok(kept) => {
                warn!(needs_restart = %kept.join(", "), "the settings are in force but for these, which need a restart");
            }
            Err(Failed { text: reason, .. }) => {
                error!(%reason, "the settings are wrong: those before stay in force");
            }
        }
    }
}

/// A line on what is served.
fn served(trees: &[Arc<Tree>]) -> String {
    let tree = |tree: &Arc<Tree>| match tree.snapshot() {
        Some(snapshot) => format!("{}: generation {}", tree.name, snapshot.current().generation.number()),
        None => format!("{}: no generation yet", tree.name),
    };
    trees.iter().map(tree).collect::<Vec<_>>().join("; ")
}

/// Says what was started, and what to try.
fn greet(relay: &RelayHandle, command: &Serve, token: Option<&Made>) {
    let running = relay.running();
    let base = relay.trees().first().map(|tree| tree.settings().path.as_str().to_owned()).unwrap_or_default();
    let mut lines = vec![format!("forebay {} is running", env!("CARGO_PKG_VERSION"))];
    lines.extend(running.listen.iter().map(|address| format!("  agents          http://{address}{base}")));
    lines.extend(running.tls.iter().map(|address| format!("  agents, TLS     https://{address}{base}")));
    lines.extend(running.socks.iter().map(|address| format!("  agents, SOCKS5  socks5://{address}")));
    lines.extend(running.admin.iter().map(|address| format!("  administrators  http://{address}/metrics")));
    lines.extend(
        running
            .admin_tls
            .iter()
            .map(|address| format!("  administrators, TLS  https://{address}/api/v1/status")),
    );
    lines.push(format!("  data            {}", relay.data().display()));
    if let Some(file) = &command.config {
        lines.push(format!("  settings        {}", file.display()));
    }
    lines.extend(token.map(first_token));
    if let Some(address) = running.listen.first() {
        lines.push(format!("try: curl 'http://{}{base}server.ini'", host(*address)));
    }
    print(&lines.join("\n"));
}

/// How this machine reaches what listens at an address.
pub fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("[::1]:{}", v6.port()),
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("127.0.0.1:{}", v4.port()),
        address => address.to_string(),
    }
}

/// What whoever started a relay for the first time administers it with. Not a line of the log, which others keep and read.
fn first_token(token: &Made) -> String {
    format!(
        "The administrator's token of this relay, which is shown this once:\n\n{token}\n\n\
         Commands take it from the variable FOREBAY_TOKEN or from a file named with --token-file; programs send it as\n\
         'Authorization: Bearer ...'. 'forebay admin-token' makes others.",
        token = token.text()
    )
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caught {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Stop,
            _ = self.interrupt.recv() => Caught::Stop,
            _ = self.hang_up.recv() => Caught::Reload,
        }
    }
}

/// Shows each tree's refreshes while they run.
async fn show_refreshes(trees: Vec<Arc<Tree>>, bars: Arc<MultiProgress>) {
    let shown = trees.into_iter().map(|tree| show_refresh(tree, bars.clone()));
    futures_util::future::join_all(shown).await;
}

async fn show_refresh(tree: Arc<Tree>, bars: Arc<MultiProgress>) {
    let mut progress = tree.progress().subscribe();
    let mut work = None;
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        if now.running && now.files > 0 {
            let work: &mut Work = work
                .get_or_insert_with(|| Work::begin(&bars, tree.name.as_str(), Unit::Bytes, Lines::Logged));
            work.show(now.bytes_done, now.bytes, &format!("file {} of {}", now.files_done, now.files));
        } else {
            work = None;
        }
    }
}
