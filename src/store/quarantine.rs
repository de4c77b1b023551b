//! Blobs that turned out to be damaged: moved to `data/quarantine/`, where a person may look at them.
//!
//! [`Condemned`] says so to whoever has a blob at hand: the store opens it no more, and those who opened it before see it
//! at their next look. The rename is the first step that lasts: after a crash the file is either under its old name, where
//! the scrubber finds it again, or gone from `blobs/`. Never reads a blob. Invariant: from the moment a blob is condemned
//! until a commit brings it anew, nobody gets its bytes, whether or not the disk lets it be moved.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, warn};

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::store::blobs::BlobName;
use crate::store::room::on_disk;
use crate::store::scrub::{Flaw, Suspect};
use crate::store::{Store, StoreError};

/// Damaged files that are kept: enough to see what a disk did.
pub const QUARANTINE_FILES_MAX: usize = 100;

/// Their bytes: what nobody may ever look at must not fill the disk. A file that alone is larger is not kept.
pub const QUARANTINE_BYTES_MAX: u64 = 1 << 30;

/// Which blobs turned out to be damaged since the start. It grows by a few bytes for each, and never shrinks.
#[derive(Debug, Default)]
pub struct Condemned {
    /// Moves with each of them, after it was noted.
    epoch: AtomicU64,
    /// Guards the damaged ones.
    blobs: Mutex<HashMap<BlobId, Sentence>>,
}

#[derive(Clone, Copy, Debug)]
struct Sentence {
    /// What was opened before this epoch is damaged.
    epoch: u64,
    /// Whether a commit has brought it anew.
    replaced: bool,
}

/// What became of a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The store has it no more: whoever names it has lost it.
    Out,
    /// Another file has come under its name since it was looked at: that one is to be looked at.
    Replaced,
    /// It was removed meanwhile, since nobody wants it.
    Swept,
}

impl Condemned {
    /// Moves whenever a blob is condemned: what was taken to hand before may be damaged.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether what was opened of a blob at an epoch was condemned since.
    pub fn bars_since(&self, id: BlobId, opened: u64) -> bool {
        self.epoch() != opened && self.lock().get(&id).is_some_and(|sentence| sentence.epoch > opened)
    }

    /// Whether a blob must not be opened.
    pub fn bars(&self, id: BlobId) -> bool {
        self.lock().get(&id).is_some_and(|sentence| !sentence.replaced)
    }

    /// Notes that a blob is damaged, or that what was opened of it before may be.
    fn add(&self, id: BlobId, replaced: bool) {
        let mut blobs = self.lock();
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        blobs.insert(id, Sentence { epoch, replaced });
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Notes that a blob was committed: its file is another one now.
    pub(super) fn replaced(&self, id: BlobId) {
        if let Some(sentence) = self.lock().get_mut(&id) {
            sentence.replaced = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobId, Sentence>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Takes a damaged blob out of the store. Blocks on the disk. The caller keeps commits and sweeps away meanwhile, and
    /// then has every entry that names the blob know that it is lost.
    pub fn quarantine(&self, suspect: &Suspect) -> Removal {
        let name = suspect.name;
        let path = name.path(&self.root().join("blobs"));
        let moved = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !self.index().holds(name) {
                    return Removal::Swept;
                }
                self.condemned.add(name.id, false);
                0
            }
            Ok(now) if !suspect.is(&now) => {
                self.condemned.add(name.id, true);
                return Removal::Replaced;
            }
            found => {
                self.condemned.add(name.id, false);
                self.move_away(name, &path, found.map_or(name.size, |found| found.len()))
            }
        };
        self.room.note(moved).keep();
        // Last: after a crash before this the index is made again from the files.
        match self.index().remove(name.id) {
            Ok(true) => self.room.give_back(on_disk(name.size)),
            Ok(false) => {}
            Err(error) => warn!(blob = %name.id, %error, "the index still names a damaged blob"),
        }
        Removal::Out
    }

    /// Removes files from the quarantine, the oldest first, until so many bytes are free. Blocks on the disk; gives how
    /// many are.
    pub fn drop_quarantined(&self, missing: u64) -> Result<u64, StoreError> {
        let quarantine = self.root().join("quarantine");
        let mut freed = 0;
        let files = files(&self.disk, &quarantine).map_err(StoreError::io("list", &quarantine))?;
        for Kept { len, path, .. } in files {
            if freed >= missing {
                break;
            }
            self.disk.remove_if_there(&path).map_err(StoreError::io("remove", &path))?;
            self.room.give_back(on_disk(len));
            freed += on_disk(len);
        }
        Ok(freed)
    }

    /// Moves a file of some length to the quarantine; where that cannot be done, removes it. Gives what it still takes on
    /// the disk.
    fn move_away(&self, name: BlobName, path: &Path, len: u64) -> u64 {
        let quarantine = self.root().join("quarantine");
        let Err(error) = self.move_to(&quarantine, name, path) else {
            match prune(&self.disk, &quarantine) {
                Ok(freed) => self.room.give_back(freed),
                Err(error) => warn!(%error, "old files in the quarantine could not all be removed"),
            }
            return on_disk(len);
        };
        match self.disk.remove_if_there(path).and_then(|()| self.disk.sync_folder(&folder(path))) {
            Ok(()) => {
                warn!(blob = %name.id, %error, "a damaged blob could not be moved to the quarantine: it is removed");
                0
            }
            Err(removing) => {
                error!(
                    file = %path.display(), %error, %removing,
                    "a damaged blob can be neither moved nor removed: it is not served until a restart; remove it by hand"
                );
                on_disk(len)
            }
        }
    }

    fn move_to(&self, quarantine: &Path, name: BlobName, path: &Path) -> io::Result<()> {
        if !quarantine.is_dir() {
            self.disk.create_private_folder(quarantine)?;
            self.disk.sync_folder(self.root())?;
        }
        let kept = quarantine.join(name.file_name());
        let before = fs::metadata(&kept).map_or(0, |before| on_disk(before.len()));
        self.disk.rename_synced(path, &kept)?;
        self.room.give_back(before);
        self.disk.sync_folder(&folder(path))
    }
}

impl Suspect {
    /// Whether it is this file that was looked at, and not one that came under its name since.
    fn is(&self, now: &Metadata) -> bool {
        match (&self.file, &self.flaw) {
            (None, Flaw::Missing) => false,
            (None, _) => true,
            // The file is held open, so that its number cannot be given to another.
            (Some(file), _) => {
                file.metadata().is_ok_and(|then| (then.dev(), then.ino()) == (now.dev(), now.ino()))
            }
        }
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// A file in the quarantine, in the order in which they came: by when it was moved, which is when it last changed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    moved: (i64, i64),
    len: u64,
    path: PathBuf,
}

fn files(disk: &Disk, quarantine: &Path) -> io::Result<Vec<Kept>> {
    if !quarantine.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in disk.list(quarantine)? {
        let entry = entry?;
        let found = entry.metadata()?;
        let moved = (found.ctime(), found.ctime_nsec());
        files.push(Kept { moved, len: found.len(), path: entry.path() });
    }
    files.sort_unstable();
    Ok(files)
}

/// What the quarantine of a data folder takes on the disk, in bytes.
pub(super) fn on_disk_in(disk: &Disk, root: &Path) -> io::Result<u64> {
    Ok(files(disk, &root.join("quarantine"))?.iter().map(|kept| on_disk(kept.len)).sum())
}

/// Removes what is beyond the bounds, the oldest first; gives how many bytes of the disk that freed.
fn prune(disk: &Disk, quarantine: &Path) -> io::Result<u64> {
    let (mut bytes, mut freed) = (0, 0);
    for (index, Kept { len, path, .. }) in files(disk, quarantine)?.into_iter().rev().enumerate() {
        bytes += len;
        if index >= QUARANTINE_FILES_MAX || bytes > QUARANTINE_BYTES_MAX {
            disk.remove_if_there(&path)?;
            freed += on_disk(len);
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_was_opened_before_is_barred_and_what_is_committed_after_is_not_r1_5() {
        let (condemned, id, other) = (Condemned::default(), BlobId::of(b"a"), BlobId::of(b"b"));
        let before = condemned.epoch();
        assert!(!condemned.bars(id) && !condemned.bars_since(id, before));
        condemned.add(id, false);
        assert!(condemned.bars(id) && condemned.bars_since(id, before));
        assert!(!condemned.bars(other) && !condemned.bars_since(other, before));
        condemned.replaced(id);
        let after = condemned.epoch();
        assert!(!condemned.bars(id) && condemned.bars_since(id, before) && !condemned.bars_since(id, after));
    }

    #[test]
    fn the_quarantine_stays_within_its_bounds_and_the_oldest_goes_r1_5() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| folder.path().join(format!("{number:03}"));
        let disk = Disk::default();
        for number in 0..QUARANTINE_FILES_MAX + 2 {
            File::create(file(number)).unwrap();
            // Times are as fine as the kernel's tick: each file is given one of its own.
            let times = || (File::open(file(number)).unwrap().metadata().unwrap().ctime_nsec(), number);
            let last = number.checked_sub(1).map(|last| fs::metadata(file(last)).unwrap().ctime_nsec());
            while last == Some(times().0) {
                fs::rename(file(number), folder.path().join("moved")).unwrap();
                fs::rename(folder.path().join("moved"), file(number)).unwrap();
            }
        }
        prune(&disk, folder.path()).unwrap();
        assert!(!file(0).exists() && !file(1).exists() && file(2).exists());
        // A large one leaves room for none that is older.
        let newest = file(QUARANTINE_FILES_MAX + 1);
        File::options().write(true).open(&newest).unwrap().set_len(QUARANTINE_BYTES_MAX).unwrap();
        File::options().write(true).open(file(2)).unwrap().set_len(1).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::rename(&newest, folder.path().join("newest")).unwrap();
        prune(&disk, folder.path()).unwrap();
        assert!(folder.path().join("newest").exists() && !file(2).exists());
    }
}
