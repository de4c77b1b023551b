//! Generations on the disk: the manifest as the upstream sent it, and a journal of what is held for it.
//!
//! A generation begins as `N.next`, is appended to while its files are fetched, and becomes `N` by one rename when it is
//! published. Invariant: a folder named by a bare number holds a manifest whose hash its journal names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::base::blob::BlobId;
use crate::base::path::TreePath;
use crate::base::tree::{GenerationNumber, TreeName};
use crate::base::validator::Validator;
use crate::disk::Disk;
use crate::disk::journal::{Journal, Recovered};
use crate::store::blobs::BlobName;
use crate::store::room::{Room, Taken, on_disk};
use crate::store::{Store, StoreError};

/// One line of a generation's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Generation(Head),
    /// A file is held as a blob.
    Held(Held),
    /// The upstream has no such file: a signature that is 404, an increment that is withheld.
    Absent {
        /// Which file.
        path: TreePath,
    },
}

/// What a generation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: GenerationNumber,
    /// The hash of its manifest.
    pub manifest: BlobId,
    /// When its manifest was taken, by the wall clock.
    pub taken: Timestamp,
    /// Which origin of the upstream gave it: its URL or folder.
    pub origin: String,
    /// What that origin said of the manifest.
    pub validator: Validator,
}

/// A file that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its path in the tree.
    pub path: TreePath,
    /// Its bytes.
    #[serde(flatten)]
    pub blob: BlobName,
    /// What the upstream said of it.
    #[serde(default)]
    pub validator: Validator,
}

/// A generation's folder, open for more records.
#[derive(Debug)]
pub struct GenerationFolder {
    number: GenerationNumber,
    inner: Mutex<Inner>,
}

/// Guarded by [`GenerationFolder::inner`]; held across disk writes, never across an await.
#[derive(Debug)]
struct Inner {
    disk: Disk,
    path: PathBuf,
    journal: Journal<Record>,
    manifest_bytes: u64,
    taken: Taken,
}

impl Inner {
    fn new(disk: Disk, room: &Room, path: PathBuf, journal: Journal<Record>, manifest: &[u8]) -> Self {
        let mut inner =
            Self { disk, path, journal, manifest_bytes: manifest.len() as u64, taken: room.note(0) };
        inner.count();
        inner
    }

    /// Counts what the folder takes: itself and two files.
    fn count(&mut self) {
        self.taken.set(on_disk(1) + on_disk(self.manifest_bytes) + on_disk(self.journal.len()));
    }
}

/// A generation as it was found on the disk.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub head: Head,
    /// The upstream's bytes.
    pub manifest: Bytes,
    /// What is held for it, or absent.
    pub records: Vec<Record>,
    /// Whether lines of its journal are lost: the rest is right, but not all there was.
    pub damaged: bool,
    /// Its folder.
    pub folder: GenerationFolder,
}

/// What a tree's folder holds.
#[derive(Debug, Default)]
pub struct StoredTree {
    /// Published generations, the oldest first.
    pub published: Vec<Stored>,
    /// A generation that was being fetched.
    pub next: Option<Stored>,
}

impl GenerationFolder {
    /// The generation's number.
    pub fn number(&self) -> GenerationNumber {
        self.number
    }

    /// Adds records and waits until they are on the disk.
    pub fn append(&self, records: &[Record]) -> io::Result<()> {
        let mut inner = self.lock();
        let appended = inner.journal.append(records);
        inner.count();
        appended
    }

    /// Makes an `N.next` folder an `N` folder: from here on the generation is published, also after a crash.
    pub fn publish(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let path = inner.path.with_file_name(self.number.to_string());
        inner.disk.rename_synced(&inner.path, &path)?;
        inner.path = path;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Begins a generation that is not visible yet, in the place of one of the same number that was begun before.
    pub fn begin_generation(
        &self,
        tree: &TreeName,
        head: Head,
        manifest: &[u8],
        known: &[Record],
    ) -> io::Result<GenerationFolder> {
        let number = head.number;
        let tree_folder = self.tree_folder(tree);
        let (begun, path) =
            (tree_folder.join(format!("{number}.new")), tree_folder.join(format!("{number}.next")));
        self.disk.remove_folder_if_there(&begun)?;
        self.disk.create_private_folder(&begun)?;
        self.disk.write_whole(&begun.join("manifest"), manifest)?;
        let mut first = vec![Record::Generation(head)];
        first.extend_from_slice(known);
        let journal = Journal::create(&self.disk, &begun.join("journal"), &first)?;
        self.disk.sync_folder(&begun)?;
        self.disk.sync_folder(&tree_folder)?;
        self.put_in_place(&begun, &path)?;
        let inner = Inner::new(self.disk.clone(), &self.room, path, journal, manifest);
        Ok(GenerationFolder { number, inner: Mutex::new(inner) })
    }

    /// Gives a generation that was begun its place. What was begun before it goes only here: until then nothing else names
    /// what was fetched for it.
    fn put_in_place(&self, begun: &Path, next: &Path) -> io::Result<()> {
        self.disk.remove_folder_if_there(next)?;
        self.disk.rename_synced(begun, next)
    }

    /// Does what a crash kept from being done: one that was begun gets its place where the one before it is gone already,
    /// which it is only once this one was whole.
    fn settle_begun(&self, folder: &Path) -> io::Result<()> {
        for entry in self.disk.list(folder)? {
            let begun = entry?.path();
            let name = begun.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(Ok(number)) = name.strip_suffix(".new").map(str::parse) else { continue };
            let (number, next) = (GenerationNumber(number), begun.with_extension("next"));
            if !self.is_whole(&next, number)? && self.is_whole(&begun, number)? {
                self.put_in_place(&begun, &next)?;
            } else {
                self.disk.remove_folder_if_there(&begun)?;
            }
        }
        Ok(())
    }

    fn is_whole(&self, path: &Path, number: GenerationNumber) -> io::Result<bool> {
        match read_generation(&self.disk, &self.room, path, number) {
            Ok(_) => Ok(true),
            Err(Unread::Damaged(_)) => Ok(false),
            Err(Unread::Io(error)) => Err(error),
        }
    }

    /// Reads a tree's generations. A damaged one is said and left out; its number is not used again.
    pub fn stored_tree(&self, tree: &TreeName) -> Result<StoredTree, StoreError> {
        let folder = self.tree_folder(tree);
        self.disk.create_private_folder(&folder).map_err(StoreError::io("make folder", &folder))?;
        self.settle_begun(&folder).map_err(StoreError::io("tidy folder", &folder))?;
        let mut stored = StoredTree::default();
        for entry in self.disk.list(&folder).map_err(StoreError::io("list", &folder))? {
            let path = entry.map_err(StoreError::io("list", &folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (number, published) = match name.strip_suffix(".next") {
                Some(number) => (number.parse(), false),
                None => (name.parse(), true),
            };
            let Ok(number) = number.map(GenerationNumber) else {
                warn!(path = %path.display(), "not the name of a generation: left alone");
                continue;
            };
            match read_generation(&self.disk, &self.room, &path, number) {
                Ok(found) if published => stored.published.push(found),
                Ok(found) => stored.next = Some(found),
                // The disk may give it the next time: nothing is to go on without it, and nothing of it to be removed.
                Err(Unread::Io(error)) => return Err(StoreError::io("read", &path)(error)),
                Err(Unread::Damaged(reason)) if !published => {
                    info!(%tree, generation = %number, %reason, "an unfinished generation is begun anew");
                }
                Err(Unread::Damaged(reason)) => {
                    error!(%tree, generation = %number, %reason, "a generation is damaged: left out");
                }
            }
        }
        stored.published.sort_by_key(|found| found.head.number);
        Ok(stored)
    }

    /// Removes the folders of a tree's generations up to a number, damaged ones and unfinished ones too.
    pub fn remove_generations(&self, tree: &TreeName, last: GenerationNumber) -> io::Result<()> {
        for entry in self.disk.list(&self.tree_folder(tree))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = [".next", ".new"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let number = number.unwrap_or(name).parse();
            if number.is_ok_and(|number| GenerationNumber(number) <= last) {
                self.disk.remove_folder_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// The highest number that a published generation of the tree has, damaged ones too.
    pub fn last_number(&self, tree: &TreeName) -> GenerationNumber {
        let entries = self.disk.list(&self.tree_folder(tree)).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        GenerationNumber(numbers.max().unwrap_or(0))
    }

    fn tree_folder(&self, tree: &TreeName) -> PathBuf {
        self.root().join("trees").join(tree.as_str())
    }
}

/// Why a generation's folder gives none.
enum Unread {
    /// What stands there is no generation.
    Damaged(&'static str),
    /// The disk did not say.
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Self::Damaged("a file stands where a folder should, or a folder where a file should")
            }
            _ => Self::Io(error),
        }
    }
}

fn read_generation(
    disk: &Disk,
    room: &Room,
    path: &Path,
    number: GenerationNumber,
) -> Result<Stored, Unread> {
    let manifest = disk.read(&path.join("manifest"))?.ok_or(Unread::Damaged("it has no manifest"))?;
    let opened = Journal::open(disk, &path.join("journal"))?;
    let (journal, recovered) = opened.ok_or(Unread::Damaged("it has no journal"))?;
    let Recovered { mut records, damaged: lines, torn_bytes, .. } = recovered;
    let torn = torn_bytes > 0 || !lines.is_empty();
    if torn {
        warn!(path = %path.display(), ?lines, torn_bytes, "a journal was damaged: what its bad lines held is fetched again");
    }
    if records.is_empty() {
        return Err(Unread::Damaged("its journal is empty"));
    }
    let Record::Generation(head) = records.remove(0) else {
        return Err(Unread::Damaged("its journal does not begin with the generation"));
    };
    if head.number != number {
        return Err(Unread::Damaged("its journal is of another generation"));
    }
    if head.manifest != BlobId::of(&manifest) {
        return Err(Unread::Damaged("its manifest is not the one that its journal names"));
    }
    let inner = Inner::new(disk.clone(), room, path.to_owned(), journal, &manifest);
    let folder = GenerationFolder { number, inner: Mutex::new(inner) };
    Ok(Stored { head, manifest: manifest.into(), records, damaged: torn, folder })
}
