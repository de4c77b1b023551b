//! `forebay agent`: an agent on this machine, and commands for the one that runs.

mod shown;
mod status;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::MultiProgress;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::control::{self, End, Request};
use crate::agent::folder::Place;
use crate::agent::relay::Went;
use crate::agent::state::Last;
use crate::agent::{Asked, Outcome, Updater};
use crate::cli::agent::shown::Shown;
use crate::cli::logging::Logging;
use crate::cli::output::print;
use crate::cli::service::notify::Notifier;
use crate::cli::settings::text;
use crate::cli::{Failed, agent};
use crate::config::agent::Settings;
use crate::config::settings::LogSettings;
use crate::disk::Disk;
use crate::policy::check_in::Why;
use crate::policy::secret::Token;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::value::Switch;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Join a domain of a relay by the token of an enrolment, and write a settings file where there is none.
    Enrol(Enrol),
    /// Run: update at the start, when the relay tells, by the interval, and on 'update-now'.
    Run(Run),
    /// Update now, where the privilege is there: by the agent that runs, or without one.
    UpdateNow(UpdateNow),
    /// Switch scheduled updates off or on, where the privilege is there.
    Schedule(Schedule),
    /// Show what the agent has, what it did last, and when it updates next.
    Status(status::Status),
    /// Print a unit for systemd, which runs the agent as a service.
    Service(unit::Service),
}

/// Which agent.
#[derive(Debug, Args)]
pub struct Which {
    /// The folder of the agent, with its settings in agent.toml.
    #[arg(long, value_name = "FOLDER", default_value = "forebay-agent", conflicts_with = "config")]
    dir: PathBuf,
    /// The settings file of the agent, where it is kept elsewhere.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Joins a domain.
#[derive(Debug, Args)]
pub struct Enrol {
    #[command(flatten)]
    which: Which,
    /// Where the relay is [default: as the settings file says].
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
    /// The enrolment's token; '-' reads it from standard input, where no list of processes shows it.
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// The agent's id [default: the relay makes one].
    #[arg(long, value_name = "ID", value_parser = AgentId::parse)]
    id: Option<AgentId>,
}

/// Runs.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    which: Which,
}

/// Updates.
#[derive(Debug, Args)]
pub struct UpdateNow {
    #[command(flatten)]
    which: Which,
}

/// Switches.
#[derive(Debug, Args)]
pub struct Schedule {
    /// How.
    #[arg(value_name = "on|off")]
    to: OnOff,
    #[command(flatten)]
    which: Which,
}

/// A switch as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// They run.
    On,
    /// They do not.
    Off,
}

/// The settings file in an agent's folder.
const SETTINGS: &str = "agent.toml";

impl Agent {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Enrol(command) => blocking(command.run()),
            Self::Run(command) => blocking(command.run()),
            Self::UpdateNow(command) => blocking(command.run()),
            Self::Schedule(command) => blocking(command.run()),
            Self::Status(command) => command.run(),
            Self::Service(command) => command.run(),
        }
    }
}

impl Which {
    fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.dir.join(SETTINGS))
    }

    /// The settings, which name the folder.
    fn settings(&self) -> Result<Settings, Failed> {
        let file = self.file();
        let text = text(&file)?;
        let settings = crate::config::agent::parse(&text).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(|error| format!("{}: {error}", file.display())).collect();
            Failed::new(lines.join("\n"))
        })?;
        Ok(self.placed(settings))
    }

    fn placed(&self, settings: Settings) -> Settings {
        let beside = || {
            let folder = self.file().parent().map(Path::to_owned).unwrap_or_default();
            if folder.as_os_str().is_empty() { ".".into() } else { folder }
        };
        Settings { folder: Some(settings.folder.clone().unwrap_or_else(beside)), ..settings }
    }

    fn place(settings: &Settings) -> Place {
        Place::new(settings.folder.clone().unwrap_or_default(), Disk::default())
    }
}

impl Enrol {
    async fn run(self) -> Result<(), Failed> {
        let file = self.which.file();
        let settings = match &self.relay {
            // What stands in a file counts, but for the relay's URL where another is named.
            Some(relay) if file.exists() => {
                let named = Settings::for_relay(relay)?;
                let settings = self.which.settings()?;
                if settings.relay != named.relay {
                    return Err(Failed::new(format!(
                        "{}: relay = \"{}\": another relay is named; change the file, or leave --relay out",
                        file.display(),
                        settings.relay
                    )));
                }
                settings
            }
            Some(relay) => self.which.placed(Settings::for_relay(relay)?),
            None => self.which.settings()?,
        };
        let mut token = self.token.clone();
        if token == "-" {
            token.clear();
            std::io::stdin().read_line(&mut token)?;
        }
        let token = token.trim();
        if Token::parse(token).is_none() {
            return Err(Failed::new("--token: this is no enrolment's token: one looks like NAME~SECRET"));
        }
        let relay = settings.relay.clone();
        let updater = Updater::open(settings)?;
        if updater.is_enrolled() {
            return Err(Failed::new(
                "this agent is enrolled already; remove the file 'token' in its folder to enrol it anew",
            ));
        }
        let agent = updater.enrol(token, self.id.as_ref()).await?;
        if !file.exists() {
            std::fs::write(
                &file,
                format!("# All that may stand here: README, \"The agent\".\nrelay = \"{relay}\"\n"),
            )
            .map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        }
        print(&format!(
            "enrolled as {} at {relay}\ntry: forebay agent run {}",
            agent.as_str(),
            self.which.typed()
        ));
        Ok(())
    }
}

impl Which {
    /// As it is typed, for a hint.
    fn typed(&self) -> String {
        match &self.config {
            Some(file) => format!("--config '{}'", file.display()),
            None => format!("--dir '{}'", self.dir.display()),
        }
    }
}

impl Run {
    async fn run(self) -> Result<(), Failed> {
        let bars = Arc::new(MultiProgress::new());
        let _logging = Logging::start(&LogSettings::default(), &bars)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let updater = Updater::open(self.which.settings()?)?;
        let notifier = Notifier::from_environment();
        notifier.ready("running");
        let mut shown = Shown::begin(&bars);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        updater.run(&mut |progress| shown.show(&progress), stop).await?;
        notifier.stopping();
        Ok(())
    }
}

impl UpdateNow {
    async fn run(self) -> Result<(), Failed> {
        let settings = self.which.settings()?;
        let place = Which::place(&settings);
        let bars = Arc::new(MultiProgress::new());
        let mut shown = Shown::begin(&bars);
        let end = if place.is_busy() {
            control::ask(&place, Request::UpdateNow, &mut |said: Value| shown.show_value(&said)).await?
        } else {
            let updater = Updater::open(settings)?;
            let asked = Asked::everything(Why::UpdateNow);
            match updater.update(asked, &mut |progress| shown.show(&progress)).await? {
                Outcome::Denied(reason) => End::Denied { reason },
                Outcome::Ended(last) => End::Updated(last),
            }
        };
        drop(shown);
        match end {
            End::Done => Ok(()),
            End::Updated(last) => agent::ended(&last),
            End::Denied { reason } => Err(Failed::new(format!("the agent may not update now: {reason}"))),
            End::Failed { reason } => Err(Failed::new(reason)),
        }
    }
}

impl Schedule {
    async fn run(self) -> Result<(), Failed> {
        let settings = self.which.settings()?;
        let place = Which::place(&settings);
        let to = match self.to {
            OnOff::On => Switch::On,
            OnOff::Off => Switch::Off,
        };
        let refused = |reason: String| Failed::new(format!("the schedule is not switched: {reason}"));
        if place.is_busy() {
            let end = control::ask(&place, Request::Schedule { enabled: to }, &mut |_| {}).await?;
            match end {
                End::Done | End::Updated(_) => {}
                End::Denied { reason } | End::Failed { reason } => return Err(refused(reason)),
            }
        } else {
            let switched = Updater::open(settings)?.switch_schedule(to).await;
            switched.map_err(|error| refused(error.to_string()))?;
        }
        print(match self.to {
            OnOff::On => "scheduled updates are on",
            OnOff::Off => "scheduled updates are off",
        });
        Ok(())
    }
}

fn ended(last: &Last) -> Result<(), Failed> {
    match last.result {
        Went::Updated => print(&format!("updated: {} bytes in {} s", last.bytes, last.secs)),
        Went::UpToDate => print("up to date"),
        Went::Failed => return Err(Failed::new(format!("the update failed: {}", last.detail))),
    }
    Ok(())
}

fn blocking(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
