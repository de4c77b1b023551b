//! The content-addressed store: immutable blobs named by their hash, and what is known of each generation.
//!
//! ```text
//! data/FORMAT                  the number of this layout; a newer one is refused
//! data/lock                    held by the one relay that uses the folder; holds its process id
//! data/blobs/ab/HASH.SIZE      immutable; ab are the first two digits of HASH (BLAKE3), SIZE is in bytes
//! data/staging/                fills under way, and those that a later one can go on from: see `unfinished`
//! data/trees/TREE/N/           generation N: `manifest` as the upstream sent it, `journal` of what is held
//! data/trees/TREE/N.next/      a generation that is being fetched and not visible yet
//! data/index/                  sled: a view of blobs/, rebuilt when it is missing, damaged or was not closed
//! ```
//!
//! A blob's way: [`Store::stage`] -> [`staging::Staged::append`] (hash while writing) -> [`Store::commit`] (size
//! checked, synced, renamed, folder synced, indexed). Invariant: there is no other way into `blobs/`.

pub mod blobs;
pub mod disk;
pub mod generations;
pub mod index;
pub mod journal;
pub mod staging;
pub mod unfinished;

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use thiserror::Error;
use tracing::warn;

use crate::base::blob::BlobId;
use crate::store::blobs::{BlobName, OpenBlob};
use crate::store::disk::Disk;
use crate::store::index::{Index, IndexError};
use crate::store::staging::{CommitError, Staged};
use crate::store::unfinished::{Claim, Keys, Voucher};

/// The layout that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The store of one data folder, locked for this process.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    root: PathBuf,
    index: Index,
    staged: AtomicU64,
    staging_keys: Keys,
    /// Held, never read: the kernel frees the lock with the process.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder could not be used.
    #[error("data folder: {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the lock.
    #[error("data folder {path} is in use by another relay (process {owner})", path = path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// The process id that the other relay wrote down, or `unknown`.
        owner: String,
    },
    /// Something else stands there.
    #[error("data folder {path} is a file, not a folder: name an empty or a new folder", path = path.display())]
    NotFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The folder holds other things.
    #[error("{path} is no data folder of a relay: it is not empty and has no FORMAT file; name an empty or a new folder",
        path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Written in another layout.
    #[error("data folder {path} has format '{found}', this program reads {FORMAT}: use the program that wrote it, or another folder",
        path = path.display())]
    Format {
        /// The data folder.
        path: PathBuf,
        /// What stands in its FORMAT file.
        found: String,
    },
    /// The index cannot be made.
    #[error("data folder: index: {0}")]
    Index(#[from] IndexError),
}

impl StoreError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Store {
    /// Opens a data folder, or makes one where there is none or an empty one. Reads no blob.
    pub fn open(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        if std::fs::metadata(root).is_ok_and(|found| !found.is_dir()) {
            return Err(StoreError::NotFolder { path: root.to_owned() });
        }
        disk.create_private_folder(root).map_err(StoreError::io("make folder", root))?;
        warn_if_open_to_others(root);
        refuse_foreign(root)?;
        let lock = lock(&disk, root)?;
        check_format(&disk, root)?;
        for name in ["blobs", "staging", "trees"] {
            let folder = root.join(name);
            disk.create_private_folder(&folder).map_err(StoreError::io("make folder", &folder))?;
        }
        let staging = root.join("staging");
        unfinished::tidy(&disk, &staging).map_err(StoreError::io("tidy folder", &staging))?;
        let index = Index::open(disk.clone(), &root.join("index"), &root.join("blobs"))?;
        Ok(Self {
            disk,
            root: root.to_owned(),
            index,
            staged: AtomicU64::new(0),
            staging_keys: Keys::default(),
            _lock: lock,
        })
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The view of what is stored.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// An empty file that bytes may be appended to. Blocks on the disk.
    pub fn stage(&self) -> io::Result<Staged> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        Staged::create(self.disk.clone(), self.root.join("staging").join(format!("{number}.part")))
    }

    /// A file that bytes of what this key names may be appended to, with those that an earlier fill left and what vouches
    /// for them. While another fill has the key, it is an empty file as of [`Store::stage`]. Blocks on the disk.
    pub fn stage_as(&self, key: BlobId) -> io::Result<(Staged, Option<Voucher>)> {
        match Claim::take(&self.disk, &self.staging_keys, key, &self.root.join("staging")) {
            Some(claim) => Staged::claimed(self.disk.clone(), claim),
            None => Ok((self.stage()?, None)),
        }
    }

    /// Makes staged bytes a blob; they must be `size` bytes when that is known. Blocks on the disk.
    pub fn commit(&self, staged: Staged, size: Option<u64>) -> Result<BlobName, CommitError> {
        let name = staged.commit(&self.root.join("blobs"), size)?;
        self.index.insert(name)?;
        Ok(name)
    }

    /// Opens a blob; `None` when it is not there or has not the size that its name says. Blocks on the disk.
    pub fn blob(&self, name: BlobName) -> io::Result<Option<OpenBlob>> {
        OpenBlob::open(&self.disk, &self.root.join("blobs"), name)
    }

    /// Whether the blob is there: the index says so, or its file does, which the index then learns. Blocks on the disk.
    pub fn holds(&self, name: BlobName) -> bool {
        self.index.holds(name) || (matches!(self.blob(name), Ok(Some(_))) && self.index.insert(name).is_ok())
    }

    /// Removes every blob that `named` does not want. Blocks on the disk; gives how many bytes it freed.
    pub fn sweep(&self, mut named: impl FnMut(&BlobId) -> bool) -> Result<u64, StoreError> {
        let mut freed = 0;
        for name in self.index.blobs().filter(|name| !named(&name.id)) {
            let path = name.path(&self.root.join("blobs"));
            self.index.remove(name.id)?;
            self.disk.remove_if_there(&path).map_err(StoreError::io("remove", &path))?;
            freed += name.size;
        }
        Ok(freed)
    }

    /// Writes the index out and marks it whole, so that the next start need not rebuild it.
    pub fn close(&self) {
        self.index.close();
    }
}

/// Also a relay that did not get as far as serving leaves a whole index behind.
impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// A folder that was there keeps the rights that somebody gave it, but not in silence: whoever may write there may change
/// what agents get, and whoever may read has what only some agents may.
fn warn_if_open_to_others(root: &Path) {
    let mode = std::fs::metadata(root).map(|folder| folder.permissions().mode() & 0o7777);
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        warn!(
            folder = %root.display(),
            mode = %format_args!("{mode:04o}"),
            "the data folder is open to others than its owner: 'chmod 0700' makes it private"
        );
    }
}

fn lock(disk: &Disk, root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default();
            let owner = if owner.trim().is_empty() { "unknown" } else { owner.trim() }.to_owned();
            return Err(StoreError::InUse { path: root.to_owned(), owner });
        }
        Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
    }
    let written =
        file.set_len(0).and_then(|()| disk.write_all_at(&file, std::process::id().to_string().as_bytes(), 0));
    written.map_err(StoreError::io("write", &path))?;
    Ok(file)
}

/// A folder that holds other things gets not even a lock. What a first start that was cut short left behind is its own.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(StoreError::io("list", root))? {
        names.push(entry.map_err(StoreError::io("list", root))?.file_name());
    }
    if names.iter().any(|name| name == "FORMAT")
        || names.iter().all(|name| name == "lock" || name == "FORMAT.new")
    {
        return Ok(());
    }
    Err(StoreError::Foreign { path: root.to_owned() })
}

fn check_format(disk: &Disk, root: &Path) -> Result<(), StoreError> {
    let path = root.join("FORMAT");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == FORMAT.to_string() => Ok(()),
        Ok(text) => {
            let found = text.trim().chars().take(40).collect();
            Err(StoreError::Format { path: root.to_owned(), found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.write_whole(&path, format!("{FORMAT}\n").as_bytes()).map_err(StoreError::io("write", &path))
        }
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}
