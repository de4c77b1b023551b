//! What the relay knows the agent by: a token, or a certificate, from files that somebody else renews or of the relay's own making.
//!
//! An agent that has the relay make its certificate is known by its token besides, which goes out to ask for a certificate alone. The relay
//! takes the old one back as it makes the new one, so before it asks the agent remembers that it does: one that is killed in between
//! shows its token, and asks once more. Invariant: a private key leaves the machine in no request, and is on the disk only for its
//! owner, in one file with its certificate.

use std::path::Path;
use std::sync::PoisonError;

use hyper::StatusCode;
use jiff::Timestamp;
use thiserror::Error;
use tracing::{info, warn};

use crate::agent::OpenError;
use crate::agent::certificate::{Certificate, CertificateError, NewKey};
use crate::agent::folder::{FolderError, Place};
use crate::agent::ground::Ground;
use crate::agent::progress::{Progress, Tell};
use crate::agent::relay::{CallError, Relay, Secret};
use crate::client::Shows;
use crate::config::agent::{KnownBy, Settings};

/// Why there is no new certificate.
#[derive(Debug, Error)]
enum RenewError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the relay's answer: {0}")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Bytes of a file with a certificate or a key: some chains of RSA keys.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The certificate that the settings name, or that the folder holds.
pub(super) fn certificate(settings: &Settings, place: &Place) -> Result<Option<Certificate>, OpenError> {
    match &settings.known_by {
        KnownBy::Token => Ok(None),
        KnownBy::Files { certificate, key } => {
            let refuse = |path: &Path, reason| OpenError::Certificate { path: path.to_owned(), reason };
            let chain = file(certificate).map_err(|reason| refuse(certificate, reason))?;
            let private = file(key).map_err(|reason| refuse(key, reason))?;
            let read = Certificate::parse(&chain, &private);
            read.map(Some).map_err(|error| match error {
                CertificateError::NoKey | CertificateError::Key => refuse(key, error.to_string()),
                _ => refuse(certificate, error.to_string()),
            })
        }
        KnownBy::OwnCertificate => {
            let Some(text) = place.certificate()? else { return Ok(None) };
            let read = Certificate::parse(&text, &text);
            Ok(read
                .inspect_err(|error| warn!(%error, "the agent's certificate is damaged: it asks for another"))
                .ok())
        }
    }
}

impl Ground {
    /// What the relay is shown.
    pub(super) fn shows(&self) -> Shows {
        let is_shown = self.held().as_ref().is_some_and(|held| match self.settings.known_by {
            KnownBy::Token => false,
            // Whoever renews it may know more of the time than this machine.
            KnownBy::Files { .. } => true,
            KnownBy::OwnCertificate => !held.is_past(self.clock.wall()) && !self.state().certificate_asked,
        });
        if is_shown {
            return Shows::Certificate;
        }
        self.secret().map_or(Shows::Nothing, |secret| Shows::Authorization(secret.bearer()))
    }

    /// Whether the relay knows the agent by more than its address.
    pub(super) fn is_known(&self) -> bool {
        self.shows() != Shows::Nothing
    }

    /// Reads the certificate's files anew, or has the relay make one where the settings say so and it is time. What goes wrong is said, and
    /// the agent goes on with what it has.
    pub(super) async fn look_at_certificate(&self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        match self.settings.known_by {
            KnownBy::Token => Ok(()),
            KnownBy::Files { .. } => {
                match certificate(&self.settings, self.folder.place()) {
                    Ok(Some(read)) if self.held().as_ref().is_none_or(|held| !held.is_same(&read)) => {
                        info!(until = %read.until(), "the agent's certificate is another one now");
                        self.hold(read);
                    }
                    Ok(_) => {}
                    Err(error) => warn!(%error, "the agent goes on with the certificate that it has"),
                }
                Ok(())
            }
            KnownBy::OwnCertificate => self.look_at_own(tell).await,
        }
    }

    async fn look_at_own(&self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        let Some(secret) = self.secret() else { return Ok(()) };
        let now = self.clock.wall();
        let is_due = self.held().as_ref().is_none_or(|held| held.is_due(now));
        if !is_due && !self.state().certificate_asked {
            return Ok(());
        }
        match self.renew(&secret).await {
            Ok(until) => tell(Progress::Certificate { until }),
            Err(RenewError::Folder(error)) => return Err(error),
            Err(error) => {
                warn!(%error, "the relay made no certificate for the agent, which asks with its next update");
            }
        }
        Ok(())
    }

    /// The relay refused what it was shown: where that was a certificate of its own making, another one is asked for.
    pub(super) fn was_refused(&self, shown: &Shows, error: &CallError) -> Result<(), FolderError> {
        let is_refused = matches!(error, CallError::Refused { status: StatusCode::FORBIDDEN, .. });
        if is_refused && *shown == Shows::Certificate && self.settings.known_by == KnownBy::OwnCertificate {
            self.remember(|state| state.certificate_asked = true)?;
        }
        Ok(())
    }

    /// Has the relay make a certificate for a new key; gives its last second.
    async fn renew(&self, secret: &Secret) -> Result<Timestamp, RenewError> {
        let key = NewKey::make()?;
        self.remember(|state| state.certificate_asked = true)?;
        let shows = Shows::Authorization(secret.bearer());
        let relay = Relay { client: &self.client, base: &self.settings.relay, shows };
        let text = key.with(&relay.certificate(&key.request()?).await?);
        let new = Certificate::parse(text.as_bytes(), text.as_bytes())?;
        self.folder.place().keep_certificate(&text)?;
        let until = new.until();
        self.hold(new);
        self.remember(|state| state.certificate_asked = false)?;
        Ok(until)
    }

    fn hold(&self, certificate: Certificate) {
        if let Err(error) = self.client.set_certificate(certificate.shown()) {
            warn!(%error, "the agent goes on with the certificate that it has");
            return;
        }
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }

    fn held(&self) -> Option<Certificate> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}
