//! An agent: enrols at a relay, checks in, takes what it may, and lives by the relay's events and its schedule (R7 to R9).
//!
//! It speaks to the relay by HTTP alone and shares no code with what serves it: only what both know of manifests, scopes and schedules,
//! the reader of settings, and the way to the disk on which tests see each step. One update, step by step: `update`, with
//! `take` and `apply`; what lies where: [`folder`]; the agent that runs: `run`; its events: `events`; commands from its machine:
//! [`control`].
//!
//! Never does what the relay did not admit: privileges are asked for at each turn. Invariant: at each moment, a crash included, what
//! products read is one whole set.

mod apply;
mod backoff;
mod certificate;
mod command;
pub mod control;
mod events;
mod fetch;
mod files;
pub mod folder;
mod ground;
mod identity;
mod install;
pub mod installed;
mod manifests;
pub mod progress;
pub mod relay;
mod run;
mod sources;
mod staging;
pub mod state;
pub mod status;
mod take;
pub mod told;
mod update;
mod wants;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::agent::folder::{FolderError, Place};
use crate::agent::ground::Ground;
use crate::agent::installed::Installed;
use crate::agent::progress::Tell;
use crate::agent::relay::CallError;
use crate::agent::state::{Last, State};
use crate::base::clock::{Clock, SystemClock};
use crate::client::tls::TlsError;
use crate::config::agent::Settings;
use crate::disk::Disk;
use crate::policy::check_in::Why;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::value::Switch;

/// An agent's update logic, to be embedded: `examples/updater.rs` is a whole agent. Cheap to clone; the folder is let go with the last.
#[derive(Clone, Debug)]
pub struct Updater {
    ground: Arc<Ground>,
}

/// An update that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Why, as the relay is told.
    pub why: Why,
    /// The notice that asks for it.
    pub notice: Option<u64>,
    /// What is taken.
    pub takes: Takes,
}

/// What an update takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Components and settings files.
    Everything,
    /// Components alone.
    Components,
    /// Settings files alone.
    AgentSettings,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent may not, for this reason.
    Denied(String),
    /// It ended, well or not.
    Ended(Last),
}

/// Why an agent's folder cannot be worked on.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token in it.
    #[error(transparent)]
    Token(#[from] CallError),
    /// What its proxy is told.
    #[error("proxy_credentials {path}: {reason}", path = path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate that it is known by.
    #[error("{path}: {reason}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody said where it is.
    #[error("no folder is named: 'folder' in the settings says where the agent keeps what it has")]
    NoFolder,
}

/// Why there was no update at all. What goes wrong within one is in its outcome, and the relay is told.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// The relay.
    #[error(transparent)]
    Relay(#[from] CallError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Why the schedule was not switched (R8.3).
#[derive(Debug, Error)]
pub enum SwitchError {
    /// The relay was never heard.
    #[error(
        "the relay has not told yet whether the user may: 'forebay agent update-now' or the agent's start asks it"
    )]
    NotTold,
    /// There is none.
    #[error("scheduled updates are off: there is no schedule to switch")]
    NoSchedule,
    /// No privilege.
    #[error("its user has not the privilege to switch scheduled updates off and on")]
    Privilege,
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Asked {
    /// Everything, for this reason.
    pub fn everything(why: Why) -> Self {
        Self { why, notice: None, takes: Takes::Everything }
    }
}

impl Updater {
    /// Works on the folder that the settings name; another process that does so keeps this one out.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let folder = settings.folder.clone().ok_or(OpenError::NoFolder)?;
        Self::open_on(settings, Place::new(folder, Disk::default()), Arc::new(SystemClock::default()))
    }

    /// The same by a way to the disk, and by a clock, that may be tests'.
    pub fn open_on(settings: Settings, place: Place, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self { ground: Arc::new(Ground::open(settings, place, clock)?) })
    }

    /// Joins a domain of the relay by the token of an enrolment; gives the agent's id, which the relay makes where none is given.
    pub async fn enrol(&self, token: &str, agent: Option<&AgentId>) -> Result<AgentId, UpdateError> {
        // Who enrols is nobody yet.
        let secret = self.ground.stranger().enrol(token, agent).await?;
        let agent = secret.agent();
        self.ground.keep_secret(secret)?;
        Ok(agent)
    }

    /// Whether the agent has a token to be known by.
    pub fn is_enrolled(&self) -> bool {
        self.ground.secret().is_some()
    }

    /// Updates, and tells what happens. Whoever drops this breaks the update off: what came stays for the next.
    pub async fn update(&self, asked: Asked, tell: &mut Tell<'_>) -> Result<Outcome, UpdateError> {
        self.ground.update(asked, tell).await
    }

    /// Switches scheduled updates as the user wants it, who has to have the privilege (R8.3).
    pub async fn switch_schedule(&self, to: Switch) -> Result<(), SwitchError> {
        let told = match self.refresh_told().await {
            Ok(Some(told)) => Some(told),
            // A relay that is not reached, or too old to say, has told before.
            Ok(None) | Err(_) => self.ground.state().told,
        };
        let told = told.ok_or(SwitchError::NotTold)?;
        if !told.settings.scheduled_updates.is_on() {
            return Err(SwitchError::NoSchedule);
        }
        if !told.may.toggle_schedule {
            return Err(SwitchError::Privilege);
        }
        Ok(self.ground.remember(|state| state.schedule_enabled = to)?)
    }

    /// What the agent has.
    pub fn installed(&self) -> Result<Installed, FolderError> {
        self.ground.installed()
    }

    /// What it remembers.
    pub fn state(&self) -> State {
        self.ground.state()
    }

    /// Asks the relay what holds now; `None` where it is too old to say.
    async fn refresh_told(&self) -> Result<Option<told::Told>, UpdateError> {
        let told = self.ground.relay().settings().await?;
        if let Some(told) = &told {
            self.ground.remember(|state| state.told = Some(told.clone()))?;
        }
        Ok(told)
    }
}
