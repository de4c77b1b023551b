//! Blobs on the disk: where they lie, and reading them without waiting where the bytes are in memory.
//!
//! Never writes bytes. Invariant: an [`OpenBlob`] had the size that its name says when it was opened.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::ReadWriteFlags;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::base::blob::BlobId;
use crate::base::limits::{COLD_READS_MAX, SMALL_BLOB_BYTES_MAX};
use crate::disk::Disk;
use crate::disk::mapping::Mapping;
use crate::store::quarantine::Condemned;

/// A blob's hash and size, as its file name has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobName {
    /// The BLAKE3 hash of the bytes.
    pub id: BlobId,
    /// How many bytes.
    pub size: u64,
}

impl BlobName {
    /// Reads a file name, `HASH.SIZE`.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (id, size) = file_name.split_once('.')?;
        let name = Self { id: id.parse().ok()?, size: size.parse().ok()? };
        (name.file_name() == file_name).then_some(name)
    }

    pub(super) fn folder(self, blobs: &Path) -> PathBuf {
        folder_of(blobs, self.id.as_bytes()[0])
    }

    pub(super) fn path(self, blobs: &Path) -> PathBuf {
        self.folder(blobs).join(self.file_name())
    }

    pub(super) fn file_name(self) -> String {
        format!("{}.{}", self.id, self.size)
    }
}

/// The folder of the blobs whose hashes begin with this byte.
pub(super) fn folder_of(blobs: &Path, first: u8) -> PathBuf {
    blobs.join(format!("{first:02x}"))
}

/// Makes the folders that blobs lie in, so that no commit has to.
pub(super) fn make_folders(disk: &Disk, blobs: &Path) -> io::Result<()> {
    let missing = (0..=u8::MAX).map(|first| folder_of(blobs, first)).filter(|path| !path.is_dir());
    let missing: Vec<_> = missing.collect();
    for folder in &missing {
        disk.create_private_folder(folder)?;
    }
    if missing.is_empty() { Ok(()) } else { disk.sync_folder(blobs) }
}

/// A blob opened for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenBlob(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    disk: Disk,
    file: Arc<File>,
    /// Small ones are read whole.
    mapping: Option<Mapping>,
    name: BlobName,
    turns: Arc<Semaphore>,
    condemned: Arc<Condemned>,
    /// The epoch of what is condemned when it was opened.
    epoch: u64,
}

impl OpenBlob {
    pub(super) fn open(
        disk: &Disk,
        blobs: &Path,
        name: BlobName,
        condemned: &Arc<Condemned>,
    ) -> io::Result<Option<Self>> {
        // In this order: a blob that is condemned after it was found not to be has moved the epoch.
        let epoch = condemned.epoch();
        if condemned.bars(name.id) {
            return Ok(None);
        }
        let Some(file) = disk.open_to_read(&name.path(blobs))? else { return Ok(None) };
        if file.metadata()?.len() != name.size {
            return Ok(None);
        }
        let file = Arc::new(file);
        let large = name.size > SMALL_BLOB_BYTES_MAX;
        let mapping = large.then(|| Mapping::of(disk, &file, name.size)).flatten();
        let turns = Arc::new(Semaphore::new(COLD_READS_MAX));
        let condemned = condemned.clone();
        let opened = Opened { disk: disk.clone(), file, mapping, name, turns, condemned, epoch };
        Ok(Some(Self(Arc::new(opened))))
    }

    /// The same as [`read_cached`] of its file.
    pub fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.0.disk.may_be_cached(&self.0.file) {
            read_cached(&self.0.file, buffer, offset)
        } else {
            Ok(None)
        }
    }

    /// The same as [`read_exact`] of its file. Blocks on the disk.
    pub fn read_exact(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        self.0.disk.read_at(&self.0.file, len, offset)
    }

    /// The mapping of its file, where there is one.
    pub fn mapping(&self) -> Option<&Mapping> {
        self.0.mapping.as_ref()
    }

    /// Who reads it from the disk holds one of these.
    pub fn turns(&self) -> &Arc<Semaphore> {
        &self.0.turns
    }

    /// Whether the file is still under its name and as long as it was: someone may have deleted or cut it on the disk.
    /// The kernel knows without the disk.
    pub fn is_whole(&self) -> bool {
        self.0.file.metadata().is_ok_and(|now| now.nlink() > 0 && now.len() == self.0.name.size)
    }

    /// Whether it turned out to be damaged since it was opened. One load while no blob does.
    pub fn is_condemned(&self) -> bool {
        self.0.condemned.bars_since(self.0.name.id, self.0.epoch)
    }

    /// Whether its name is gone.
    pub fn is_removed(&self) -> bool {
        self.0.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// How many bytes.
    pub fn size(&self) -> u64 {
        self.0.name.size
    }
}

/// Reads what is in memory at an offset, without waiting for the disk. `None` when the first byte is not, or the file
/// system cannot say: then [`read_exact`] belongs on a thread that may wait.
pub fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    use rustix::io::Errno;
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads exactly `len` bytes at an offset. Blocks on the disk.
pub fn read_exact(file: &File, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}
