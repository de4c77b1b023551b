//! What an agent works with: its settings, its folder, its client, what it remembers.
//!
//! Shared by the update under way, who follows events, and who takes commands. Invariant: what is remembered is on the disk before
//! anybody acts on it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

use crate::agent::OpenError;
use crate::agent::certificate::Certificate;
use crate::agent::folder::{Folder, FolderError, Place};
use crate::agent::identity::certificate;
use crate::agent::installed::Installed;
use crate::agent::relay::{Relay, Secret};
use crate::agent::state::State;
use crate::base::clock::Clock;
use crate::client::tls::Trust;
use crate::client::{Client, Shows, Through};
use crate::config::agent::Settings;
use crate::policy::tree::id::AgentId;

/// The ground of one agent.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) settings: Settings,
    pub(super) folder: Folder,
    pub(super) client: Client,
    pub(super) own_proxy: Option<Through>,
    pub(super) clock: Arc<dyn Clock>,
    /// Held by the one update under way.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Guards what the relay knows the agent by.
    secret: Mutex<Option<Secret>>,
    /// Guards the certificate in its place.
    pub(super) certificate: Mutex<Option<Certificate>>,
    /// Guards what is remembered, and its file.
    state: Mutex<State>,
}

/// How an agent names itself to servers.
const NAME: &str = concat!("forebay-agent/", env!("CARGO_PKG_VERSION"));

/// Bytes of a file of credentials: a line with a name and a password.
const CREDENTIALS_BYTES_MAX: usize = 4096;

impl Ground {
    pub(super) fn open(settings: Settings, place: Place, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let trust = settings.ca_file.clone().map_or(Trust::System, Trust::SystemAnd);
        let client = Client::new(NAME, &trust, settings.connect, settings.silence)?;
        let own_proxy = match &settings.proxy {
            Some(url) => {
                let given = settings.proxy_credentials.as_deref().map(credentials).transpose()?;
                let shows = given.map_or(Shows::Nothing, Shows::Authorization);
                Some(Through { url: url.clone(), shows })
            }
            None => None,
        };
        let folder = Folder::open(place)?;
        let token = folder.place().token()?;
        let secret = token.as_deref().map(Secret::parse).transpose()?;
        let state = folder.place().state()?;
        let certificate = certificate(&settings, folder.place())?;
        if let Some(certificate) = &certificate {
            client.set_certificate(certificate.shown())?;
        }
        Ok(Self {
            settings,
            folder,
            client,
            own_proxy,
            clock,
            turn: tokio::sync::Mutex::default(),
            secret: Mutex::new(secret),
            certificate: Mutex::new(certificate),
            state: Mutex::new(state),
        })
    }

    /// What is remembered.
    pub(super) fn state(&self) -> State {
        self.locked().clone()
    }

    /// Remembers something more.
    pub(super) fn remember(&self, change: impl FnOnce(&mut State)) -> Result<(), FolderError> {
        let mut state = self.locked();
        let mut new = state.clone();
        change(&mut new);
        if new != *state {
            self.folder.keep_state(&new)?;
            *state = new;
        }
        Ok(())
    }

    /// What the agent has.
    pub(super) fn installed(&self) -> Result<Installed, FolderError> {
        self.folder.place().installed()
    }

    /// The token that the relay knows the agent by; `None` where it knows it by its address or a certificate alone.
    pub(super) fn secret(&self) -> Option<Secret> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the token that the relay knows the agent by from now on.
    pub(super) fn keep_secret(&self, secret: Secret) -> Result<(), FolderError> {
        self.folder.place().keep_token(secret.text())?;
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
        Ok(())
    }

    /// The relay, as the agent asks it.
    pub(super) fn relay(&self) -> Relay<'_> {
        Relay { shows: self.shows(), ..self.stranger() }
    }

    /// The relay, as nobody it knows asks it.
    pub(super) fn stranger(&self) -> Relay<'_> {
        Relay { client: &self.client, base: &self.settings.relay, shows: Shows::Nothing }
    }

    /// The agent's id: of its token, or as the relay says it; one of its own making where the relay knows it by its address, so that its
    /// schedule has a phase.
    pub(super) fn id(&self) -> Result<AgentId, FolderError> {
        if let Some(secret) = self.secret() {
            return Ok(secret.agent());
        }
        if let Some(agent) = self.state().told.and_then(|told| told.agent) {
            return Ok(agent);
        }
        let made = AgentId::parse(&format!("nameless-{:032x}", rand::random::<u128>()));
        let made = made.expect("letters, a dash and digits are an id");
        self.remember(|state| state.nameless = state.nameless.or(Some(made)))?;
        Ok(self.state().nameless.unwrap_or(made))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the user's own proxy is told: the first line of a file.
fn credentials(path: &Path) -> Result<HeaderValue, OpenError> {
    let refuse = |reason: String| OpenError::Credentials { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() > CREDENTIALS_BYTES_MAX {
        return Err(refuse("larger than a line with a name and a password".into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("its text is not UTF-8".into()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.split_once(':').is_none_or(|(user, _)| user.is_empty()) || line.chars().any(char::is_control) {
        return Err(refuse("its first line is not user:password".into()));
    }
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(line)))
        .map_err(|_| refuse("its first line is not user:password".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
