//! Looking at stored blobs again: whether the disk still gives the bytes that their names promise (R1.5).
//!
//! [`Store::look`] opens a blob; [`Check::go_on`] reads and hashes one run after the other, so that the caller sets the pace.
//! It reads past the page cache (`O_DIRECT`), so that what is found is what the disk holds, and so that what agents ask for
//! stays in memory. A file system that refuses that (tmpfs, some network ones) is read in the plain way: there, a fault that
//! the page cache hides is found only when the cache has let go of it.
//!
//! Never changes a blob. Invariant: a blob is bad only if its bytes, its length or the disk itself say so; that it could not
//! be opened for want of files or memory says nothing about it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::Advice;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::store::blobs::BlobName;
use crate::store::{Store, StoreError};

/// Bytes read at a time: large enough for a disk to be quick, small enough for a pace to be even.
const RUN_BYTES: usize = 1 << 20;

/// What offsets, lengths and memory must be multiples of to be read directly, in bytes: the sectors of today's disks.
const ALIGN: usize = 4096;

/// What opening a blob counts as, in bytes read: a disk moves its head for it however small the blob is.
pub const OPEN_COST_BYTES: u64 = 16 << 10;

/// Bad blobs of one pass that are described; the rest are only counted. A disk with more of them has one message.
pub const FOUND_MAX: usize = 100;

const BOOKMARK: &str = "scrub.json";

/// What a look at a blob came to.
#[derive(Debug)]
pub enum Look {
    /// There is more to read.
    More(Box<Check>),
    /// Its bytes are those of its name.
    Good,
    /// They are not.
    Bad(Suspect),
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Check {
    disk: Disk,
    name: BlobName,
    path: PathBuf,
    file: File,
    /// Whether it is read past the page cache.
    direct: bool,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

/// A blob that is bad, with the file that was looked at.
#[derive(Debug)]
pub struct Suspect {
    /// Its name.
    pub name: BlobName,
    /// What is wrong with it.
    pub flaw: Flaw,
    pub(super) file: Option<File>,
}

/// What is wrong with a blob.
#[derive(Debug, Error)]
pub enum Flaw {
    /// Its bytes have another hash.
    #[error("its bytes are not those that were stored")]
    Bytes,
    /// Its length is another.
    #[error("it is {0} bytes long")]
    Length(u64),
    /// The disk cannot read it.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// Somebody took it away.
    #[error("its file is missing")]
    Missing,
}

/// Where scrubbing is, over restarts: soft, what is lost of it is looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The pass under way.
    pub pass: Option<Pass>,
    /// The last one that looked at everything.
    pub last: Option<Pass>,
}

/// One pass over the store, in the order of the blobs' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began, by the wall clock.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The last blob that it looked at.
    pub after: Option<BlobId>,
    /// Blobs that it looked at.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that are bad.
    pub bad: u64,
    /// Blobs that could not be looked at.
    pub skipped: u64,
    /// The first [`FOUND_MAX`] bad ones.
    pub found: Vec<Found>,
}

/// A bad blob as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The blob.
    pub blob: BlobId,
    /// Its size, in bytes.
    pub size: u64,
    /// What is wrong with it.
    pub flaw: String,
    /// The files that it is, as `TREE/PATH`.
    pub files: Vec<String>,
}

impl Pass {
    /// A pass from the first blob on.
    pub fn begin(now: Timestamp) -> Self {
        Self { begun: now, ..Self::default() }
    }

    /// Counts a blob that was looked at.
    pub fn count(&mut self, name: BlobName, found: Option<Found>) {
        self.after = Some(name.id);
        self.blobs += 1;
        self.bytes += name.size;
        if let Some(found) = found {
            self.bad += 1;
            if self.found.len() < FOUND_MAX {
                self.found.push(found);
            }
        }
    }

    /// Goes past a blob that was removed before it could be looked at.
    pub fn pass_by(&mut self, name: BlobName) {
        self.after = Some(name.id);
    }

    /// Counts a blob that could not be looked at.
    pub fn skip(&mut self, name: BlobName) {
        self.after = Some(name.id);
        self.skipped += 1;
    }
}

/// A pace of so many bytes a second: says when the next read may begin. Time is any that never goes back.
#[derive(Debug, Default)]
pub struct Pace {
    free: Duration,
}

impl Pace {
    /// Counts bytes that were read, and gives how long to rest now. What was not used up is not saved for later.
    pub fn rest(&mut self, now: Duration, bytes: u64, bytes_per_sec: Option<u64>) -> Duration {
        let Some(rate) = bytes_per_sec else {
            self.free = now;
            return Duration::ZERO;
        };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free = self.free.max(now.saturating_sub(cost)) + cost;
        self.free.saturating_sub(now)
    }
}

impl Store {
    /// Begins to look at a blob. Blocks on the disk; an error says nothing about the blob.
    pub fn look(&self, name: BlobName) -> io::Result<Look> {
        let path = name.path(&self.root().join("blobs"));
        let bad = |flaw, file| Ok(Look::Bad(Suspect { name, flaw, file }));
        let direct = self.disk.open_to_read_direct(&path);
        let (opened, direct) = match direct {
            Err(error) if is_refusal(&error) => (self.disk.open_to_read(&path), false),
            opened => (opened, true),
        };
        let file = match opened {
            Ok(Some(file)) => file,
            Ok(None) => return bad(Flaw::Missing, None),
            Err(error) if is_damage(&error) => return bad(Flaw::Unreadable(error), None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        if len != name.size {
            return bad(Flaw::Length(len), Some(file));
        }
        let run = usize::try_from(name.size).unwrap_or(RUN_BYTES).min(RUN_BYTES).next_multiple_of(ALIGN);
        let disk = self.disk.clone();
        let buffer = vec![0; run + ALIGN];
        let mut check = Check { disk, name, path, file, direct, hasher: blake3::Hasher::new(), buffer };
        if !direct {
            check.spare_the_cache();
        }
        Ok(Look::More(Box::new(check)))
    }

    /// Where scrubbing was; nowhere when nothing of it is known.
    pub fn bookmark(&self) -> Bookmark {
        let read = self.disk.read(&self.root().join(BOOKMARK));
        match read.map(|text| text.map(|text| serde_json::from_slice(&text))) {
            Ok(None) => Bookmark::default(),
            Ok(Some(Ok(bookmark))) => bookmark,
            Ok(Some(Err(error))) => {
                warn!(%error, "where the scrubber was cannot be read: it begins anew");
                Bookmark::default()
            }
            Err(error) => {
                warn!(%error, "where the scrubber was cannot be read: it begins anew");
                Bookmark::default()
            }
        }
    }

    /// Notes where scrubbing is. Blocks on the disk.
    pub fn keep_bookmark(&self, bookmark: &Bookmark) -> Result<(), StoreError> {
        let path = self.root().join(BOOKMARK);
        let text = serde_json::to_vec(bookmark).unwrap_or_default();
        self.disk.write_whole(&path, &text).map_err(StoreError::io("write", &path))
    }
}

impl Check {
    /// How many bytes were read so far.
    pub fn done(&self) -> u64 {
        self.hasher.count()
    }

    /// Reads and hashes the next run. Blocks on the disk; an error says nothing about the blob.
    pub fn go_on(mut self: Box<Self>) -> io::Result<Look> {
        let count = match self.read() {
            Ok(count) => count,
            Err(error) if is_damage(&error) => return Ok(self.bad(Flaw::Unreadable(error))),
            Err(error) => return Err(error),
        };
        if self.done() < self.name.size {
            // A file that ends here was cut while it was read.
            return Ok(if count == 0 {
                let done = self.done();
                self.bad(Flaw::Length(done))
            } else {
                Look::More(self)
            });
        }
        let right = self.done() == self.name.size && BlobId::from(self.hasher.finalize()) == self.name.id;
        Ok(if right { Look::Good } else { self.bad(Flaw::Bytes) })
    }

    /// Reads a run and hashes it; gives its length.
    fn read(&mut self) -> io::Result<usize> {
        let at = self.done();
        if at == self.name.size {
            return Ok(0);
        }
        let count = match self.read_at(at) {
            // A disk that stumbles once is asked again.
            Err(error) if is_damage(&error) => self.read_at(at)?,
            Err(error) if self.direct && is_refusal(&error) => {
                self.read_plainly()?;
                self.read_at(at)?
            }
            read => read?,
        };
        let start = self.start();
        self.hasher.update(&self.buffer[start..start + count]);
        if self.direct && !count.is_multiple_of(ALIGN) && self.done() < self.name.size {
            self.read_plainly()?;
        }
        Ok(count)
    }

    fn read_at(&mut self, at: u64) -> io::Result<usize> {
        let start = self.start();
        let end = self.buffer.len() - (ALIGN - start);
        loop {
            match self.disk.read_some_at(&self.file, &mut self.buffer[start..end], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Where the buffer is aligned.
    fn start(&self) -> usize {
        self.buffer.as_ptr().align_offset(ALIGN).min(ALIGN)
    }

    /// Goes on through the page cache.
    fn read_plainly(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        self.file = self.disk.open_to_read(&self.path)?.ok_or_else(gone)?;
        self.direct = false;
        self.spare_the_cache();
        Ok(())
    }

    /// Tells the kernel that these bytes are not needed again.
    fn spare_the_cache(&mut self) {
        // Advice: a kernel that does not know it does as before.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::NoReuse);
    }

    fn bad(self, flaw: Flaw) -> Look {
        Look::Bad(Suspect { name: self.name, flaw, file: Some(self.file) })
    }
}

/// Whether the file system does not read past the page cache, or not at this bookmark.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// Whether an error is about the bytes on the disk: a failed read, a structure of the file system that is damaged, a sector
/// or checksum that is bad. All else (no more files, no memory, no rights) is about the moment.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG | Errno::NODATA | Errno::ILSEQ)
    )
}
