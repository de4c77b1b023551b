//! Who may use the relay as a proxy: users by name, each with the hash of a secret.
//!
//! A secret has 256 random bits and is made by the program (`forebay secret`), never by a person: it cannot be guessed, so its
//! hash needs no salt and may be a fast one. Never keeps a secret. Invariant: how long a look takes says nothing about a secret
//! or about which users there are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::blob::BlobId;
use crate::policy::decide::Refusal;

/// All users; immutable.
#[derive(Debug, Default)]
pub struct Users {
    hashes: HashMap<Arc<str>, blake3::Hash>,
}

impl Users {
    /// Users with the hashes of their secrets.
    pub fn new(users: impl IntoIterator<Item = (Arc<str>, BlobId)>) -> Self {
        let hashes = users.into_iter().map(|(name, hash)| (name, blake3::Hash::from_bytes(*hash.as_bytes())));
        Self { hashes: hashes.collect() }
    }

    /// Whether the proxy is everybody's whom the agents' ranges name.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Decides whether whoever gives this name and secret may use the proxy; `None` gives neither.
    pub fn admit(&self, given: Option<(&str, &[u8])>) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        let (name, secret) = given.ok_or(Refusal::Credentials)?;
        // Where nobody has the name, there is something to compare with all the same. Hashes compare in constant time.
        let known = self.hashes.get(name);
        let right = *known.unwrap_or(&NOBODY) == blake3::hash(secret);
        if right && known.is_some() { Ok(()) } else { Err(Refusal::Credentials) }
    }
}

/// In place of the hash of a user who does not exist.
const NOBODY: blake3::Hash = blake3::Hash::from_bytes([0; blake3::OUT_LEN]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_who_has_the_secret_and_nobody_else_is() {
        let user = |name: &str, secret: &str| (name.into(), BlobId::of(secret.as_bytes()));
        let users = Users::new([user("site-a", "one"), user("site-b", "two")]);
        assert_eq!(users.admit(Some(("site-a", b"one"))), Ok(()));
        assert_eq!(users.admit(Some(("site-b", b"two"))), Ok(()));
        for (name, secret) in
            [("site-a", "two"), ("site-b", ""), ("site-c", "one"), ("", ""), ("SITE-A", "one")]
        {
            assert_eq!(users.admit(Some((name, secret.as_bytes()))), Err(Refusal::Credentials), "{name}");
        }
        assert_eq!(users.admit(None), Err(Refusal::Credentials));
        // Not the hash itself either.
        assert!(users.admit(Some(("site-a", BlobId::of(b"one").as_bytes()))).is_err());
    }

    #[test]
    fn without_users_everybody_is_let_in_and_nobody_believed() {
        let users = Users::default();
        assert!(users.is_empty());
        assert_eq!(users.admit(None), Ok(()));
        assert_eq!(users.admit(Some(("root", b"guess"))), Ok(()));
    }
}
