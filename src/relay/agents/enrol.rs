//! Agents that join by an enrolment, and agents that change what they are known by.
//!
//! Never keeps a secret: what is given out is given out once. Invariant: what an agent is told works, since the change was on the disk
//! before.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::disk::Disk;
use crate::policy::secret::{SecretHash, Token, new_secret};
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;
use crate::policy::tree::id::{AgentId, EnrolmentId};
use crate::policy::tree::keys::Key;
use crate::policy::tree::refused::Refused;
use crate::relay::agents::Agents;
use crate::state::ChangeError;
use crate::state::authority::{Authority, AuthorityError, SignError};
use crate::state::record::Author;

/// How long a certificate of the relay's own is valid: agents renew it themselves, and one that was off for a season still can.
const CERTIFICATE_LASTS: Duration = Duration::from_hours(365 * 24);

/// What an agent wants to be known by.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A secret, which the relay makes.
    Secret,
    /// A certificate, for the key that signed this request (PKCS #10, PEM).
    Certificate(String),
}

/// What an agent is known by from now on, as it is told, once.
#[derive(Debug)]
pub enum Given {
    /// Its token.
    Token(String),
    /// Its certificate in PEM, and the last second that it is valid.
    Certificate(String, Timestamp),
}

/// Why an agent was not enrolled.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The token is no enrolment's.
    #[error("this is no enrolment's token")]
    Token,
    /// The tree does not allow it, or the change could not be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The signing request.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// There is no authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No random bits are to be had.
    #[error("no secret can be made: {0}")]
    Random(#[source] std::io::Error),
    /// The work was broken off.
    #[error("the relay stops")]
    Stopped,
}

impl Agents {
    /// Lets an agent in that shows this token of an enrolment.
    pub async fn enrol(
        &self,
        token: Token<'_>,
        agent: AgentId,
        wanted: Wanted,
        author: Author,
        at: Timestamp,
    ) -> Result<Given, EnrolError> {
        let by = EnrolmentId::parse(token.id).map_err(|_| EnrolError::Token)?;
        let secret = SecretHash::of(token.secret.as_bytes());
        // Before anything is made for whoever asks; what is left of the enrolment is looked at when the change is made.
        if !opens(self.tree().tree(), &by, secret) {
            return Err(EnrolError::Token);
        }
        let (given, key) = self.make(agent, wanted, at).await?;
        let plan = move |tree: &Tree| {
            if !opens(tree, &by, secret) {
                return Err(Refused::NoEnrolment(by));
            }
            Ok(vec![Action::Enrol { by, agent, key, at }])
        };
        self.state().plan(author, plan)?.done().await?;
        Ok(given)
    }

    /// Gives an agent another thing to be known by, in the place of what it had of the kind.
    pub async fn renew(
        &self,
        agent: AgentId,
        wanted: Wanted,
        author: Author,
        at: Timestamp,
    ) -> Result<Given, EnrolError> {
        let (given, key) = self.make(agent, wanted, at).await?;
        let plan = move |tree: &Tree| match tree.agent(&agent) {
            // It may have been shut out since it asked.
            Some(known) if !known.is_revoked() => Ok(vec![Action::GiveKey { agent, key }]),
            _ => Err(Refused::NoAgent(agent)),
        };
        self.state().plan(author, plan)?.done().await?;
        Ok(given)
    }

    async fn make(&self, agent: AgentId, wanted: Wanted, at: Timestamp) -> Result<(Given, Key), EnrolError> {
        let request = match wanted {
            Wanted::Secret => {
                let secret = new_secret(&mut rand::rngs::SysRng).map_err(EnrolError::Random)?;
                let hash = SecretHash::of(secret.as_bytes());
                let token = Token { id: agent.as_str(), secret: &secret }.to_string();
                return Ok((Given::Token(token), Key::Secret(hash)));
            }
            Wanted::Certificate(request) => request,
        };
        let authority = self.authority.clone();
        let signed = self.runtime.spawn_blocking(move || {
            let authority = authority.open(at)?;
            Ok::<_, EnrolError>(authority.sign(request.as_bytes(), &agent, at, CERTIFICATE_LASTS)?)
        });
        let issued = signed.await.map_err(|_| EnrolError::Stopped)??;
        Ok((Given::Certificate(issued.certificate, issued.until), Key::Certificate(issued.fingerprint)))
    }
}

/// Whether a secret of this hash is an enrolment's. Where there is none of this id, there is something to compare with all the same.
fn opens(tree: &Tree, by: &EnrolmentId, secret: SecretHash) -> bool {
    let known = tree.enrolment(by).map(|enrolment| enrolment.secret);
    let right = known.unwrap_or(SecretHash::NOBODYS) == secret;
    right && known.is_some()
}

/// Where the relay's authority is; it is opened when it is first needed.
#[derive(Debug)]
pub(super) struct AuthorityPlace {
    pub(super) disk: Disk,
    pub(super) folder: PathBuf,
    /// Guards that there is one authority: whoever holds it may wait for the disk, and so never within a task.
    pub(super) opened: Mutex<Option<Arc<Authority>>>,
}

impl AuthorityPlace {
    fn open(&self, now: Timestamp) -> Result<Arc<Authority>, AuthorityError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = &*opened {
            return Ok(authority.clone());
        }
        let authority = Arc::new(Authority::open(&self.disk, &self.folder, now)?);
        Ok(opened.insert(authority).clone())
    }
}
