//! Whether bytes are the right ones: those of the local tree, where one is named, and those that came before under the same tag.
//!
//! Owns the table of first answers. Invariant: a path has one hash for each entity tag; the table has at most [`FIRSTS_MAX`] rows, and
//! what is not in it is said to be uncompared.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::base::blob::BlobId;
use crate::base::path::TreePath;

/// What is known of the right bytes.
#[derive(Debug, Default)]
pub struct Known {
    tree: Option<LocalTree>,
    /// Guards the hash of the first answer for each path and tag.
    firsts: Mutex<HashMap<Name, BlobId>>,
}

/// A local copy of the tree, in hashes.
#[derive(Debug)]
pub struct LocalTree {
    files: HashMap<TreePath, BlobId>,
}

/// Why a local copy cannot be read.
#[derive(Debug, Error)]
pub enum LocalTreeError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// More than [`FILES_MAX`] files.
    #[error("{}: a tree has at most {FILES_MAX} files", path.display())]
    Files {
        /// The folder.
        path: PathBuf,
    },
    /// No `server.ini` in it.
    #[error("{}: no tree is here, it has no server.ini", path.display())]
    NoTree {
        /// The folder.
        path: PathBuf,
    },
}

/// What a comparison gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The bytes are those of the first answer, or these are the first.
    Same,
    /// The first answer had others.
    OtherBefore,
    /// The local tree has others under this path.
    OtherInTree,
    /// The local tree has no such file.
    NotInTree,
    /// The table is full: there is nothing to compare with.
    Uncompared,
}

/// Half a hash of path and tag: enough that no two meet by chance, and nobody gains by making them meet.
type Name = [u8; 16];

impl Known {
    /// Nothing but a local tree, if there is one.
    pub fn new(tree: Option<LocalTree>) -> Self {
        Self { tree, firsts: Mutex::default() }
    }

    /// Compares what came; `path` is `None` for the manifest, which a relay edits and no local tree is asked about.
    pub fn compare(&self, path: Option<&TreePath>, tag: &[u8], bytes: BlobId) -> Compared {
        if let (Some(tree), Some(path)) = (&self.tree, path) {
            return match tree.files.get(path) {
                Some(right) if *right == bytes => Compared::Same,
                Some(_) => Compared::OtherInTree,
                None => Compared::NotInTree,
            };
        }
        let name = name(path.map_or("", TreePath::as_str), tag);
        let mut firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        match firsts.get(&name) {
            Some(first) if *first == bytes => Compared::Same,
            Some(_) => Compared::OtherBefore,
            None if firsts.len() >= FIRSTS_MAX => Compared::Uncompared,
            None => {
                firsts.insert(name, bytes);
                Compared::Same
            }
        }
    }
}

impl LocalTree {
    /// Reads and hashes every file below a folder.
    pub fn read(dir: &Path) -> Result<Self, LocalTreeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LocalTreeError::Io { path, source }
        };
        let mut files = HashMap::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
                let place = entry.map_err(failed(&folder))?.path();
                // What a link leads to is what a server would send.
                let kind = fs::metadata(&place).map_err(failed(&place))?;
                let below = place.strip_prefix(dir).ok().and_then(Path::to_str);
                let Some(Ok(path)) = below.map(|below| TreePath::parse(below.as_bytes())) else { continue };
                if kind.is_dir() {
                    folders.push(place);
                } else if kind.is_file() {
                    let mut hasher = blake3::Hasher::new();
                    let file = File::open(&place).map_err(failed(&place))?;
                    hasher.update_reader(file).map_err(failed(&place))?;
                    files.insert(path, hasher.finalize().into());
                }
                if files.len() + folders.len() > FILES_MAX {
                    return Err(LocalTreeError::Files { path: dir.to_owned() });
                }
            }
        }
        if files.contains_key(MANIFEST) {
            Ok(Self { files })
        } else {
            Err(LocalTreeError::NoTree { path: dir.to_owned() })
        }
    }
}

fn name(path: &str, tag: &[u8]) -> Name {
    let mut hasher = blake3::Hasher::new();
    // A path has no NUL in it.
    hasher.update(path.as_bytes()).update(b"\0").update(tag);
    let mut name = Name::default();
    hasher.finalize_xof().fill(&mut name);
    name
}

/// The file that makes a tree.
pub const MANIFEST: &str = "server.ini";

/// Paths and tags whose first answer is remembered: some 5 MB, and trees have a few thousand.
pub const FIRSTS_MAX: usize = 1 << 16;

/// Files and folders of a local tree, which take some 150 bytes each; manifests list at most 200,000.
pub const FILES_MAX: usize = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_answer_for_a_path_and_a_tag_says_what_the_others_are_r1_5() {
        let known = Known::default();
        let [a, b] = [&b"a"[..], b"b"].map(BlobId::of);
        let compare = |at: &str, tag: &str, bytes| known.compare(Some(&path(at)), tag.as_bytes(), bytes);
        assert_eq!(compare("p", "1", a), Compared::Same);
        assert_eq!(compare("p", "1", b), Compared::OtherBefore);
        assert_eq!(compare("p", "1", a), Compared::Same);
        assert_eq!(compare("p", "2", b), Compared::Same);
        assert_eq!(compare("q", "1", b), Compared::Same);
        assert_eq!(known.compare(None, b"1", b), Compared::Same);
        assert_eq!(known.compare(None, b"1", a), Compared::OtherBefore);
    }

    #[test]
    fn a_full_table_says_what_it_did_not_compare() {
        let known = Known::default();
        let hash = BlobId::of(b"");
        for number in 0..FIRSTS_MAX {
            assert_eq!(known.compare(None, &number.to_le_bytes(), hash), Compared::Same);
        }
        assert_eq!(known.compare(None, b"one more", hash), Compared::Uncompared);
        assert_eq!(known.compare(None, &0_usize.to_le_bytes(), BlobId::of(b"x")), Compared::OtherBefore);
    }

    #[test]
    fn a_local_tree_says_what_is_right_and_the_manifest_is_not_its_business() {
        let dir = tempfile::tempdir().unwrap();
        let none = LocalTree::read(dir.path()).unwrap_err().to_string();
        assert!(none.contains("no server.ini"), "{none}");
        fs::create_dir(dir.path().join("p")).unwrap();
        fs::write(dir.path().join("server.ini"), "[PATTERN]").unwrap();
        fs::write(dir.path().join("p/a.zip"), "right").unwrap();
        let known = Known::new(Some(LocalTree::read(dir.path()).unwrap()));
        let compare = |at: &str, bytes: &[u8]| known.compare(Some(&path(at)), b"", BlobId::of(bytes));
        assert_eq!(compare("p/a.zip", b"right"), Compared::Same);
        assert_eq!(compare("p/a.zip", b"wrong"), Compared::OtherInTree);
        assert_eq!(compare("p/b.zip", b"right"), Compared::NotInTree);
        assert_eq!(known.compare(None, b"", BlobId::of(b"a view")), Compared::Same);
        assert!(LocalTree::read(&dir.path().join("nowhere")).is_err());
    }
}
