//! The tokens of administrators: who may speak to the admin listener, and as what.
//!
//! ```text
//! data/admin/tokens.journal    a line for each token that was made or revoked: who, when, which role, the secret's hash
//! ```
//!
//! A journal of its own, and not lines of the agent tree's: an agent tree that is put back from a copy must not bring back a token
//! that was revoked meanwhile. Never keeps a secret. Invariants: a token that was given out works, since its line was on the disk
//! before; a line that cannot be read is no reason to let somebody in, or to let nobody in: nothing starts until a person has looked.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::Disk;
use crate::disk::journal::Journal;
use crate::policy::administrator::{Role, TokenName};
use crate::policy::secret::{SecretHash, Token, new_secret};
use crate::state::record::Author;

/// Tokens at a time: people and programs that administer one relay are a few dozen.
pub const TOKENS_MAX: usize = 1000;

/// The name of the token that the first start makes.
pub const FIRST: &str = "admin";

const FILE: &str = "tokens.journal";

/// All tokens of a data folder.
#[derive(Debug)]
pub struct Tokens {
    /// Guards the order of changes; whoever holds it waits for the disk, and so never within a task.
    journal: Mutex<Journal<Line>>,
    known: ArcSwap<BTreeMap<TokenName, Known>>,
    /// Whether nobody ever made one.
    untouched: bool,
}

/// A token, as it is known once it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What its owner may do.
    pub role: Role,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub by: Author,
    /// The moment from which on it counts no more; `None` where it counts until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Made { name: TokenName, token: Known },
    Revoked { name: TokenName, at: Timestamp, by: Author },
}

/// A token as its owner is told it, once.
pub struct Made(String);

impl Made {
    /// The token itself.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Without the secret.
impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// Why the tokens cannot be read.
#[derive(Debug, Error)]
pub enum TokensError {
    /// The folder or the file could not be used.
    #[error("administrators' tokens: {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is damaged: a token that was revoked could be in it.
    #[error("administrators' tokens: {path} is damaged in line {line}. Put the file back from a copy; or, to begin with no tokens \
        but a new one, move it away", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

/// Why a token was not made or revoked.
#[derive(Debug, Error)]
pub enum TokenError {
    /// There is one of this name.
    #[error("there is a token '{0}' already: revoke it first, or take another name")]
    Taken(TokenName),
    /// There is none of this name.
    #[error("there is no token '{0}'")]
    NoToken(TokenName),
    /// Nobody could administer any more.
    #[error("'{0}' is the last token with the role administrator: make another one first")]
    Last(TokenName),
    /// There are too many.
    #[error("there would be more than {TOKENS_MAX} tokens")]
    TooMany,
    /// It could not be written.
    #[error("the token could not be written: {0}")]
    Disk(#[source] io::Error),
    /// No random bits are to be had.
    #[error("no secret can be made: {0}")]
    Random(#[source] io::Error),
}

impl Tokens {
    /// Opens the tokens in this folder, or begins with none. Whoever calls holds the data folder's lock. Blocks on the disk.
    pub fn open(disk: &Disk, folder: &Path) -> Result<Self, TokensError> {
        let path = folder.join(FILE);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| TokensError::Io { action, path, source }
        };
        disk.create_private_folder(folder).map_err(failed("make folder", folder))?;
        let opened = Journal::<Line>::open(disk, &path).map_err(failed("read", &path))?;
        let (journal, lines) = match opened {
            Some((_, read)) if !read.damaged.is_empty() => {
                return Err(TokensError::Damaged { path, line: read.damaged[0] });
            }
            Some((journal, read)) => (journal, read.records),
            None => {
                let made = Journal::create(disk, &path, &[]);
                let made = made.and_then(|journal| disk.sync_folder(folder).map(|()| journal));
                (made.map_err(failed("make", &path))?, Vec::new())
            }
        };
        let untouched = lines.is_empty();
        let mut known = BTreeMap::new();
        for line in lines {
            match line {
                Line::Made { name, token } => drop(known.insert(name, token)),
                Line::Revoked { name, .. } => drop(known.remove(&name)),
            }
        }
        Ok(Self { journal: Mutex::new(journal), known: ArcSwap::from_pointee(known), untouched })
    }

    /// Whether nobody ever made a token here before they were opened.
    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// What the owner of a token may do now; `None` where it is none, or counts no more.
    pub fn role_of(&self, token: Token<'_>, now: Timestamp) -> Option<(TokenName, Role)> {
        let known = self.known.load();
        let secret = SecretHash::of(token.secret.as_bytes());
        let named = TokenName::parse(token.id).ok().and_then(|name| Some((known.get(&name)?, name)));
        // Where there is none of this name, there is something to compare with all the same.
        let right = named.as_ref().map_or(SecretHash::NOBODYS, |(known, _)| known.secret) == secret;
        let (known, name) = named.filter(|_| right)?;
        counts(known, now).then_some((name, known.role))
    }

    /// All tokens, by name.
    pub fn all(&self) -> Arc<BTreeMap<TokenName, Known>> {
        self.known.load_full()
    }

    /// Makes a token. Blocks on the disk.
    pub fn make(
        &self,
        name: TokenName,
        role: Role,
        until: Option<Timestamp>,
        by: Author,
        at: Timestamp,
    ) -> Result<Made, TokenError> {
        let secret = new_secret(&mut rand::rngs::SysRng).map_err(TokenError::Random)?;
        let token = Known { role, secret: SecretHash::of(secret.as_bytes()), at, by, until };
        let made = Made(Token { id: name.as_str(), secret: &secret }.to_string());
        self.change(|known| {
            // One that has run out gives its name free.
            if known.get(&name).is_some_and(|before| counts(before, at)) {
                return Err(TokenError::Taken(name));
            }
            if known.len() >= TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            known.insert(name.clone(), token.clone());
            Ok(Line::Made { name, token })
        })?;
        Ok(made)
    }

    /// Revokes a token: it counts no more once this returns. Blocks on the disk.
    pub fn revoke(&self, name: TokenName, by: Author, at: Timestamp) -> Result<(), TokenError> {
        self.change(|known| {
            let gone = known.remove(&name).ok_or_else(|| TokenError::NoToken(name.clone()))?;
            let administers = |token: &Known| token.role == Role::Administrator && counts(token, at);
            if administers(&gone) && !known.values().any(administers) {
                return Err(TokenError::Last(name));
            }
            Ok(Line::Revoked { name, at, by })
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<TokenName, Known>) -> Result<Line, TokenError>,
    ) -> Result<(), TokenError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = BTreeMap::clone(&self.known.load());
        let line = change(&mut known)?;
        journal.append(&[line]).map_err(TokenError::Disk)?;
        self.known.store(known.into());
        Ok(())
    }
}

fn counts(known: &Known, now: Timestamp) -> bool {
    known.until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn name(text: &str) -> TokenName {
        TokenName::parse(text).unwrap()
    }

    fn by() -> Author {
        Author::parse("a test").unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn role(tokens: &Tokens, made: &str, second: i64) -> Option<Role> {
        tokens.role_of(Token::parse(made).unwrap(), at(second)).map(|(_, role)| role)
    }

    #[test]
    fn a_token_counts_until_it_runs_out_or_is_revoked_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Tokens::open(&Disk::default(), folder.path()).unwrap();
        let tokens = open();
        assert!(tokens.is_untouched());
        let first = tokens.make(name("first"), Role::Administrator, None, by(), at(0)).unwrap();
        let short = tokens.make(name("short"), Role::Viewer, Some(at(100)), by(), at(0)).unwrap();
        assert_eq!(role(&tokens, first.text(), 1 << 35), Some(Role::Administrator));
        assert_eq!(
            (role(&tokens, short.text(), 99), role(&tokens, short.text(), 100)),
            (Some(Role::Viewer), None)
        );
        let other = first.text().replacen("first", "short", 1);
        assert_eq!(role(&tokens, &other, 1), None, "another's secret");
        let taken = tokens.make(name("short"), Role::Viewer, None, by(), at(99)).unwrap_err();
        assert!(taken.to_string().contains("already"), "{taken}");
        drop(tokens);

        let tokens = open();
        assert!(!tokens.is_untouched());
        assert_eq!(role(&tokens, first.text(), 1), Some(Role::Administrator));
        let last = tokens.revoke(name("first"), by(), at(1)).unwrap_err();
        assert!(last.to_string().contains("the last token"), "{last}");
        tokens.make(name("second"), Role::Administrator, None, by(), at(1)).unwrap();
        tokens.revoke(name("first"), by(), at(2)).unwrap();
        assert_eq!(role(&tokens, first.text(), 3), None);
        assert!(matches!(tokens.revoke(name("first"), by(), at(3)), Err(TokenError::NoToken(_))));
        tokens.make(name("short"), Role::Operator, None, by(), at(100)).unwrap();
        drop(tokens);
        let tokens = open();
        assert_eq!(role(&tokens, first.text(), 3), None, "revoked for good");
        assert_eq!(tokens.all().keys().map(TokenName::as_str).collect::<Vec<_>>(), ["second", "short"]);
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains(&first.text()[6..]), "no secret is kept");
        assert_eq!(format!("{first:?}"), "a token");
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let open = || Tokens::open(&Disk::default(), folder.path());
        open().unwrap().make(name("first"), Role::Administrator, None, by(), at(0)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}0123 {{\"revoked")).unwrap();
        assert_eq!(open().unwrap().all().len(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        fs::write(&path, whole.replace("administrator", "operator")).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("tokens.journal is damaged in line 1"), "{error}");
    }
}
