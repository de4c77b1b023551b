//! What an agent is known by: the hash of its secret, the fingerprint of its certificate, and whether it was shut out.
//!
//! Never looks at what a request shows: that is [`policy::caller`](crate::policy::caller). Invariant: who is shut out has no keys.

use serde::{Deserialize, Serialize};

use crate::policy::identity::Fingerprint;
use crate::policy::secret::SecretHash;

/// The keys of one agent. They lie beside it, and not behind a pointer: a decision looks at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The hash of its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretHash>,
    /// Its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Fingerprint>,
    /// Whether it may come in at all.
    #[serde(default, skip_serializing_if = "Standing::is_admitted")]
    pub standing: Standing,
}

/// Whether an agent may come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may, with what it is known by.
    #[default]
    Admitted,
    /// It may not, whatever it shows, until somebody gives it a new key or readmits it.
    Revoked,
}

/// One thing that an agent is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Whoever knows the secret of this hash.
    Secret(SecretHash),
    /// Whoever has this certificate's private key.
    Certificate(Fingerprint),
}

impl Keys {
    /// The keys of an agent that is shut out.
    pub(super) fn revoked() -> Self {
        Self { secret: None, certificate: None, standing: Standing::Revoked }
    }

    /// These with another one, which takes the place of the one of its kind.
    pub(super) fn with(self, key: Key) -> Self {
        let (secret, certificate) = match key {
            Key::Secret(hash) => (Some(hash), self.certificate),
            Key::Certificate(fingerprint) => (self.secret, Some(fingerprint)),
        };
        Self { secret, certificate, standing: Standing::Admitted }
    }
}

impl Standing {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_admitted(&self) -> bool {
        *self == Self::Admitted
    }
}
