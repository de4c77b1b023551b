//! Agent settings files as the agent tree knows them: at the root or a domain, by name, each with the hash of its bytes (R5.6).
//!
//! Never holds the bytes. Invariant: a file has another version whenever its bytes have changed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::blob::BlobId;
use crate::policy::tree::Tree;
use crate::policy::tree::id::DomainId;

/// Bytes of one file: settings are texts.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files in all: some for each of the domains that the figures are for.
pub const FILES_MAX: usize = 10_000;

/// Bytes of a file's name.
const NAME_BYTES_MAX: usize = 64;

/// A file's name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct FileName(Arc<str>);

/// The text is no file's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a settings file's name is 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '-' and '_', and does not begin with '.'"
)]
pub struct FileNameError;

/// One file of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    /// Counted from 1, each time that its bytes change.
    pub version: u32,
    /// What its bytes are.
    #[serde(flatten)]
    pub content: Content,
}

/// Bytes that are kept elsewhere, under their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Their BLAKE3 hash.
    pub hash: BlobId,
    /// How many.
    pub bytes: u64,
}

impl FileName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, FileNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let valid =
            (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain);
        if valid { Ok(Self(text.into())) } else { Err(FileNameError) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tree {
    /// The file of this name that holds for agents of a domain, or at the root: the nearest.
    pub fn file(&self, domain: Option<DomainId>, name: &FileName) -> Option<&SettingsFile> {
        let line = domain.into_iter().flat_map(|domain| self.line(domain).map(|(id, _)| Some(id)));
        let mut nodes = line.chain([None]);
        nodes.find_map(|node| self.files.get(&(node, name.clone())))
    }

    /// All files that hold for agents of a domain, or at the root, by name.
    pub fn files_for(&self, domain: Option<DomainId>) -> Vec<(&FileName, &SettingsFile)> {
        let line = domain.into_iter().flat_map(|domain| self.line(domain).map(|(id, _)| Some(id)));
        let mut files = std::collections::BTreeMap::new();
        for node in line.chain([None]) {
            for (name, file) in self.files_at(node) {
                files.entry(name).or_insert(file);
            }
        }
        files.into_iter().collect()
    }

    /// The files that stand at a domain itself, or at the root, by name.
    pub fn files_at(&self, node: Option<DomainId>) -> impl Iterator<Item = (&FileName, &SettingsFile)> {
        let from = (node, FileName("".into()));
        let there = self.files.range(from..).take_while(move |((at, _), _)| *at == node);
        there.map(|((_, name), file)| (name, file))
    }

    /// All files, with where they stand.
    pub fn files(&self) -> impl Iterator<Item = (Option<DomainId>, &FileName, &SettingsFile)> {
        self.files.iter().map(|((node, name), file)| (*node, name, file))
    }
}

impl TryFrom<String> for FileName {
    type Error = FileNameError;

    fn try_from(text: String) -> Result<Self, FileNameError> {
        Self::parse(&text)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_and_nothing_hidden_r5_6() {
        for text in ["ofcscan.ini", "Agent_1-2.conf", "a"] {
            assert_eq!(FileName::parse(text).unwrap().as_str(), text);
        }
        for text in ["", ".", "..", ".hidden", "a/b", "a b", "a\\b", "\u{fc}", &"a".repeat(65)] {
            assert!(FileName::parse(text).is_err(), "{text:?}");
        }
    }
}
