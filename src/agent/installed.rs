//! What an agent has: the components of one version of its set, as `installed.json` in that version's folder says.
//!
//! Never does I/O. Invariant: a component has one file, below the folder of its tree.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::blob::BlobId;
use crate::base::path::TreePath;
use crate::base::tree::TreeName;
use crate::manifest::catalogue::Class;

/// A whole set of components.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its number, counted from 1; 0 where nothing is installed.
    pub number: u64,
    /// What is in it.
    pub components: Vec<Has>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    /// The tree that it is of.
    pub tree: TreeName,
    /// What the manifest calls it.
    pub component: Box<str>,
    /// What it is.
    pub class: Class,
    /// Its version, as the manifest writes it.
    pub version: Box<str>,
    /// Its file, below the folder of its tree.
    pub path: TreePath,
    /// The file's bytes.
    pub size: u64,
    /// Their hash.
    pub hash: BlobId,
    /// Whether a signature stands beside it.
    pub signed: bool,
    /// Whether it was made of the version before and an increment.
    pub merged: bool,
    /// Since when it is this version.
    pub since: Timestamp,
    /// The number of the set in which it came.
    pub came_in: u64,
}

impl Has {
    /// Its name in all trees.
    pub fn key(&self) -> String {
        key(&self.tree, &self.component)
    }

    /// Where its file lies in a version's folder.
    pub fn place(&self) -> String {
        format!("{}/{}", self.tree, self.path)
    }

    /// Where its signature lies beside the file; `None` where it has none.
    pub fn signature(&self) -> Option<String> {
        let path = self.path.signature().filter(|_| self.signed)?;
        Some(format!("{}/{path}", self.tree))
    }
}

impl Installed {
    /// A component of a tree.
    pub fn component(&self, tree: &TreeName, component: &str) -> Option<&Has> {
        self.components.iter().find(|has| has.tree == *tree && *has.component == *component)
    }

    /// The versions that it has, as the relay is told: names as the manifests have them. What a section has besides its first file has
    /// the section's version, and no name there.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.told().map(|has| (has.component.to_string(), has.version.to_string())).collect()
    }

    /// Since when it has them, by the same names.
    pub fn since(&self) -> BTreeMap<String, Timestamp> {
        self.told().map(|has| (has.component.to_string(), has.since)).collect()
    }

    fn told(&self) -> impl Iterator<Item = &Has> {
        self.components.iter().filter(|has| !has.component.contains(FURTHER)).take(VERSIONS_MAX)
    }
}

/// The name of a component in all trees.
pub(super) fn key(tree: &TreeName, component: &str) -> String {
    format!("{tree}/{component}")
}

/// Stands before the number of a section's further files, which a manifest's keys do not have.
pub(super) const FURTHER: char = '#';

/// As many as a relay takes.
const VERSIONS_MAX: usize = 256;
