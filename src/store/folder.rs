//! Whose a data folder is: what is not a relay's is left alone, and one relay at a time uses it.
//!
//! Invariant: a folder that is refused is as it was.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use tracing::warn;

use crate::disk::Disk;
use crate::store::StoreError;

/// A folder that is this process's. The kernel frees it with the process, too.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that is being started by this one has the file, too, until it runs its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes the folder where there is none, and takes it.
pub(super) fn take(disk: &Disk, root: &Path) -> Result<Lock, StoreError> {
    if std::fs::metadata(root).is_ok_and(|found| !found.is_dir()) {
        return Err(StoreError::NotFolder { path: root.to_owned() });
    }
    disk.create_private_folder(root).map_err(StoreError::io("make folder", root))?;
    warn_if_open_to_others(root);
    refuse_foreign(root)?;
    lock(disk, root)
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

fn lock(disk: &Disk, root: &Path) -> Result<Lock, StoreError> {
    let path = root.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    let lock = match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default();
            let owner = if owner.trim().is_empty() { "unknown" } else { owner.trim() }.to_owned();
            return Err(StoreError::InUse { path: root.to_owned(), owner });
        }
        Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
    };
    let process = std::process::id().to_string();
    let written = lock.0.set_len(0).and_then(|()| disk.write_all_at(&lock.0, process.as_bytes(), 0));
    written.map_err(StoreError::io("write", &path))?;
    Ok(lock)
}

/// A folder that holds other things gets not even a lock. What a first start that was cut short left behind is its own.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(StoreError::io("list", root))? {
        names.push(entry.map_err(StoreError::io("list", root))?.file_name());
    }
    // `FORMAT.new` stands alone where the disk lost its rename; it was synced before.
    if names.iter().any(|name| name == "FORMAT" || name == "FORMAT.new")
        || names.iter().all(|name| name == "lock")
    {
        return Ok(());
    }
    Err(StoreError::Foreign { path: root.to_owned() })
}
