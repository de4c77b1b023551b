//! Who may use the relay as a proxy: users by name, each with the hash of a secret.
//!
//! Never keeps a secret: why a hash is enough, says [`policy::secret`](crate::policy::secret). Invariant: how long a look takes says nothing about a secret
//! or about which users there are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::decide::Refusal;
use crate::policy::secret::SecretHash;

/// All users; immutable.
#[derive(Debug, Default)]
pub struct Users {
    hashes: HashMap<Arc<str>, SecretHash>,
}

impl Users {
    /// Users with the hashes of their secrets.
    pub fn new(users: impl IntoIterator<Item = (Arc<str>, SecretHash)>) -> Self {
        Self { hashes: users.into_iter().collect() }
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
        // Where nobody has the name, there is something to compare with all the same.
        let known = self.hashes.get(name);
        let right = *known.unwrap_or(&SecretHash::NOBODYS) == SecretHash::of(secret);
        if right && known.is_some() { Ok(()) } else { Err(Refusal::Credentials) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_who_has_the_secret_and_nobody_else_is() {
        let user = |name: &str, secret: &str| (name.into(), SecretHash::of(secret.as_bytes()));
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
        let hash = SecretHash::of(b"one").to_string();
        assert!(users.admit(Some(("site-a", hash.as_bytes()))).is_err());
    }

    #[test]
    fn without_users_everybody_is_let_in_and_nobody_believed() {
        let users = Users::default();
        assert!(users.is_empty());
        assert_eq!(users.admit(None), Ok(()));
        assert_eq!(users.admit(Some(("root", b"guess"))), Ok(()));
    }
}
