//! The agent's folder: what it has, what it remembers, what it is known by.
//!
//! ```text
//! agent.toml        settings, unless they are kept elsewhere
//! token             what the relay knows the agent by; its owner's alone
//! certificate.pem   the certificate that the relay made for it, with the private key; its owner's alone
//! lock              held by the one process that works on the folder
//! control.sock      where the agent that runs takes commands
//! state.json        what it remembers
//! current           -> versions/7, the set that is whole; products read through it
//! versions/7/       TREE/server.ini, TREE/PATH for each component with its signature beside it, installed.json
//! versions/6/       the set before, for who still reads it
//! manifests/        TREE.ini, the manifest of each tree as it was taken last, and TREE.json that says from where
//! files/NAME        agent settings files
//! staging/          what is being taken: KEY.part, and KEY.json that says what it is
//! ```
//!
//! Every change goes through a [`Disk`], so that tests see each step. Invariant: `current` leads to a whole set at each moment, or is
//! not there yet.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing::warn;

use crate::agent::installed::Installed;
use crate::agent::state::State;
use crate::disk::Disk;

/// The folder of an agent, and whoever holds this works on it.
#[derive(Debug)]
pub(super) struct Folder {
    place: Place,
    /// Held as long as this is.
    _lock: File,
}

/// A folder of an agent, to be looked at.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    disk: Disk,
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What it is about.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// Another process works on it.
    #[error("another agent works on folder {path}", path = .0.display())]
    Busy(PathBuf),
}

/// How often the lock is tried for, and the pause between.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

const TOKEN: &str = "token";
const CERTIFICATE: &str = "certificate.pem";
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const CURRENT: &str = "current";
const VERSIONS: &str = "versions";
const INSTALLED: &str = "installed.json";
const STAGING: &str = "staging";
const FILES: &str = "files";
const MANIFESTS: &str = "manifests";

impl Place {
    /// The folder at this path.
    pub fn new(path: PathBuf, disk: Disk) -> Self {
        Self { path, disk }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an agent works on it now.
    pub fn is_busy(&self) -> bool {
        File::open(self.path.join(LOCK))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// What the agent remembers. What is damaged is forgotten, which is said.
    pub fn state(&self) -> Result<State, FolderError> {
        Ok(self.json(&self.path.join(STATE))?.unwrap_or_default())
    }

    /// What the agent has.
    pub fn installed(&self) -> Result<Installed, FolderError> {
        let Some(number) = self.current()? else { return Ok(Installed::default()) };
        let file = self.version(number).join(INSTALLED);
        let installed: Option<Installed> = self.json(&file)?;
        // A set that does not say what is in it is taken anew, whole.
        Ok(Installed { number, ..installed.unwrap_or_default() })
    }

    /// What it is known by.
    pub(super) fn token(&self) -> Result<Option<String>, FolderError> {
        let path = self.path.join(TOKEN);
        let bytes = self.disk.read(&path).map_err(named(&path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps what it is known by from now on.
    pub(super) fn keep_token(&self, token: &str) -> Result<(), FolderError> {
        let path = self.path.join(TOKEN);
        self.disk.write_whole_private(&path, format!("{token}\n").as_bytes()).map_err(named(&path))
    }

    /// The certificate that the relay made, with its key.
    pub(super) fn certificate(&self) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join(CERTIFICATE);
        self.disk.read(&path).map_err(named(&path))
    }

    /// Keeps such a certificate from now on, in the place of the one before.
    pub(super) fn keep_certificate(&self, text: &str) -> Result<(), FolderError> {
        let path = self.path.join(CERTIFICATE);
        self.disk.write_whole_private(&path, text.as_bytes()).map_err(named(&path))
    }

    /// Where a set lies.
    pub(super) fn version(&self, number: u64) -> PathBuf {
        self.path.join(VERSIONS).join(number.to_string())
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    pub(super) fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.path.join(MANIFESTS)
    }

    /// The number of the set that `current` leads to.
    fn current(&self) -> Result<Option<u64>, FolderError> {
        let path = self.path.join(CURRENT);
        match std::fs::read_link(&path) {
            Ok(target) => Ok(number(target.file_name())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&path)(error)),
        }
    }

    /// What a file of JSON says; nothing where it is not there or damaged.
    pub(super) fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, FolderError> {
        let Some(bytes) = self.disk.read(path).map_err(named(path))? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                warn!(file = %path.display(), %error, "a file of the agent is damaged and counts as lost");
                Ok(None)
            }
        }
    }
}

impl Folder {
    /// Opens a folder to work on it, and makes what is not there.
    pub(super) fn open(place: Place) -> Result<Self, FolderError> {
        let inner = [place.path.join(VERSIONS), place.staging(), place.files(), place.manifests()];
        for path in [&place.path].into_iter().chain(&inner) {
            place.disk.create_private_folder(path).map_err(named(path))?;
        }
        let path = place.path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(named(&path))?;
        // A program that some thread is just starting has a copy of each open file, the lock of one before too, until it has begun.
        for _ in 0..LOCK_ATTEMPTS {
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { place, _lock: lock });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(FolderError::Busy(place.path))
    }

    /// To look at it.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Remembers.
    pub(super) fn keep_state(&self, state: &State) -> Result<(), FolderError> {
        self.write(&self.place.path.join(STATE), state)
    }

    /// Writes a file of JSON, which is there whole or not at all.
    pub(super) fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        let text = serde_json::to_vec_pretty(value).expect("what is kept has names for keys");
        self.place.disk.write_whole(path, &text).map_err(named(path))
    }

    /// Where a set is built that is not whole yet. What an earlier one left there is removed.
    pub(super) fn begin_version(&self, number: u64) -> Result<PathBuf, FolderError> {
        let path = self.unfinished(number);
        self.place.disk.remove_folder_if_there(&path).map_err(named(&path))?;
        // A whole set of this number that `current` never led to: the agent was killed just before.
        let whole = self.place.version(number);
        self.place.disk.remove_folder_if_there(&whole).map_err(named(&whole))?;
        self.place.disk.create_private_folder(&path).map_err(named(&path))?;
        Ok(path)
    }

    /// Has `current` lead to a set that is whole, and synced but for its own name.
    pub(super) fn publish(&self, installed: &Installed) -> Result<(), FolderError> {
        let (disk, number) = (&self.place.disk, installed.number);
        let unfinished = self.unfinished(number);
        self.write(&unfinished.join(INSTALLED), installed)?;
        let whole = self.place.version(number);
        disk.rename_synced(&unfinished, &whole).map_err(named(&whole))?;
        let current = self.place.path.join(CURRENT);
        let target = Path::new(VERSIONS).join(number.to_string());
        disk.point_synced(&current, &target).map_err(named(&current))
    }

    /// Removes what no current set needs: older ones but the last, unfinished ones, and what is staged but not named here.
    pub(super) fn sweep(&self, number: u64, staged: &HashSet<OsString>) -> Result<(), FolderError> {
        let versions = self.place.path.join(VERSIONS);
        let mut whole: Vec<u64> = Vec::new();
        for name in self.names(&versions)? {
            match self::number(Some(&name)).filter(|at| *at <= number) {
                Some(at) => whole.push(at),
                None => self.remove(&versions.join(name))?,
            }
        }
        whole.sort_unstable();
        whole.truncate(whole.len().saturating_sub(SETS_KEPT));
        for number in whole {
            self.remove(&self.place.version(number))?;
        }
        let staging = self.place.staging();
        for name in self.names(&staging)?.into_iter().filter(|name| !staged.contains(name)) {
            let path = staging.join(name);
            self.place.disk.remove_if_there(&path).map_err(named(&path))?;
        }
        Ok(())
    }

    fn unfinished(&self, number: u64) -> PathBuf {
        self.place.path.join(VERSIONS).join(format!("{number}.new"))
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>, FolderError> {
        let entries = self.place.disk.list(folder).map_err(named(folder))?;
        entries.map(|entry| Ok(entry.map_err(named(folder))?.file_name())).collect()
    }

    fn remove(&self, path: &Path) -> Result<(), FolderError> {
        self.place.disk.remove_folder_if_there(path).map_err(named(path))
    }
}

/// An error of the file system, with what it is about.
pub(super) fn named(path: &Path) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { path: path.clone(), source }
}

/// The number that a set's folder is named by.
fn number(name: Option<&std::ffi::OsStr>) -> Option<u64> {
    name?.to_str()?.parse().ok()
}

/// The current set and the one before it.
const SETS_KEPT: usize = 2;
