//! A file's bytes under an address, which the kernel alone reads: slices that name a place in the file.
//!
//! A socket that is handed such a slice can tell which file it is of, and have the kernel send it from there. The only `unsafe`
//! of the crate is here. Never read by a program: whoever needs the bytes themselves reads the file. A file may be mapped before it
//! is written, up to where it will end; nobody makes slices of what is not there yet. Invariant: an address within a slice belongs to
//! its file, which is open for as long as the slice lives.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use tokio::runtime::Handle;

use crate::base::range::ByteRange;
use crate::disk::Disk;

/// A file that is mapped. Cheap to clone; unmapped when the last slice is gone.
#[derive(Clone)]
pub struct Mapping {
    disk: Disk,
    file: Arc<File>,
    bytes: Bytes,
    /// Where it begins in memory.
    start: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of a file of which nobody changes what others were told is there. `None` where the system does not,
    /// or would not tell which of its bytes are in memory: it tells a file's owner.
    pub fn of(disk: &Disk, file: &Arc<File>, len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
        let owner = file.metadata().ok()?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return None;
        }
        let map = map(file, len).ok()?;
        let start = map.as_ptr().addr();
        let bytes = Bytes::from_owner(Mapped { map: Some(map), _file: file.clone() });
        Some(Self { disk: disk.clone(), file: file.clone(), bytes, start })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A run of the file as a slice of its mapping.
    pub fn slice(&self, run: ByteRange) -> Bytes {
        self.bytes.slice(at(run.start())..at(run.end()))
    }

    /// Where in the file a slice of this mapping begins; `None` for any other bytes.
    pub fn offset_of(&self, slice: &[u8]) -> Option<u64> {
        let offset = slice.as_ptr().addr().checked_sub(self.start)?;
        (offset.checked_add(slice.len())? <= self.bytes.len()).then_some(offset as u64)
    }

    /// How many bytes from the start of a run on are in memory, so that whoever sends them does not wait for the disk. No more than
    /// [`LOOK_BYTES_MAX`] are looked at.
    pub fn resident_bytes(&self, run: ByteRange) -> u64 {
        if !self.disk.may_be_cached(&self.file) {
            return 0;
        }
        let end = run.end().min(run.start().saturating_add(LOOK_BYTES_MAX)).min(self.bytes.len() as u64);
        if end <= run.start() {
            return 0;
        }
        let first_page = run.start() / PAGE_BYTES;
        let mut pages = [0; LOOK_PAGES];
        let count = at(end.div_ceil(PAGE_BYTES).saturating_sub(first_page));
        let looked = &mut pages[..count];
        if look(&self.slice(ByteRange::new(first_page * PAGE_BYTES, end)), looked).is_err() {
            return 0;
        }
        let there = looked.iter().take_while(|page| **page & 1 == 1).count() as u64;
        ((first_page + there) * PAGE_BYTES).min(end).saturating_sub(run.start())
    }

    /// Has a run of the file brought into memory. Blocks on the disk.
    pub fn bring(&self, run: ByteRange) -> io::Result<()> {
        self.disk.read_at(&self.file, at(run.len()), run.start()).map(|_| ())
    }
}

/// What is unmapped in the end. Whoever would write to the file anew can tell by it that slices are left.
struct Mapped {
    map: Option<Mmap>,
    _file: Arc<File>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // The kernel walks all pages that were copied from: not on a worker, where there are many.
        if let Some(map) = self.map.take_if(|map| map.len() > UNMAPPED_AT_ONCE_BYTES)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(map));
        }
    }
}

/// Unmapping takes 4 us for each MiB.
const UNMAPPED_AT_ONCE_BYTES: usize = 16 << 20;

/// Bytes that one look at what is in memory covers at most: 8 us of a worker's time at the first, 2 once pages were copied from.
pub const LOOK_BYTES_MAX: u64 = 1 << 20;

/// The least that a page has, on any machine. Where pages are larger nothing is mapped.
const PAGE_BYTES: u64 = 4096;

/// The pages of a look that begins within one.
#[allow(clippy::cast_possible_truncation, reason = "a few hundred")]
const LOOK_PAGES: usize = (LOOK_BYTES_MAX / PAGE_BYTES) as usize + 1;

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("what is mapped is addressable")
}

fn map(file: &File, len: usize) -> io::Result<Mmap> {
    if rustix::param::page_size() as u64 != PAGE_BYTES {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut options = MmapOptions::new();
    options.len(len);
    // SAFETY: the bytes must not change while they can be read. A blob's do not from its commit on: it is removed or renamed, not
    // cut. A staged file is written to while it is mapped, but only beyond the bytes that its readers were told of, and slices are
    // made of those alone; what is left of it is never cut or written to by a later fill while it is open here, so not while a slice
    // lives (`store/unfinished.rs`). What does change is thus under the whole mapping's address and under no slice. The one reference
    // to all of it is made while it is wrapped, and nothing is read through it; after that there are addresses, and slices of what is
    // there. Should somebody cut or change a file by hand, nothing in this process notices, since it never reads a mapping: slices
    // are handed to the kernel alone, which then sends less, or gives EFAULT. (What is on its way by `sendfile` then changes too:
    // such a transfer is broken, and so it ends.)
    #[allow(unsafe_code)]
    let map = unsafe { options.map(file) }?;
    Ok(map)
}

/// Says of each page that a part of a mapping lies in whether it is in memory. The part begins with a page.
fn look(part: &[u8], pages: &mut [u8]) -> io::Result<()> {
    assert!(part.len().div_ceil(at(PAGE_BYTES)) <= pages.len(), "each page has a place to be told of");
    let start = part.as_ptr().cast_mut().cast();
    // SAFETY: the call reads nothing of the part, which is borrowed and thus mapped, and writes one byte for each of its pages,
    // for which there is room.
    #[allow(unsafe_code)]
    let done = unsafe { libc::mincore(start, part.len(), pages.as_mut_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("file", &self.file)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    fn mapped(len: usize) -> Mapping {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; len]).unwrap();
        file.sync_all().unwrap();
        Mapping::of(&Disk::default(), &Arc::new(file), len as u64).unwrap()
    }

    #[test]
    fn a_slice_knows_its_place_and_other_bytes_have_none() {
        let mapping = mapped(100_000);
        let slice = mapping.slice(ByteRange::new(5000, 90_000));
        assert_eq!(mapping.offset_of(&slice), Some(5000));
        assert_eq!(mapping.offset_of(&slice[10_000..]), Some(15_000));
        assert_eq!(mapping.offset_of(&[7; 10]), None);
        assert_eq!(mapped(100_000).offset_of(&slice), None);
        assert_eq!(Mapping::of(&Disk::default(), &mapping.file, 0).map(|_| ()), None);
    }

    #[test]
    fn what_left_the_memory_is_told_and_what_is_brought_is_there() {
        let len = 200_001;
        let mapping = mapped(len);
        let whole = ByteRange::whole(len as u64);
        assert_eq!(mapping.resident_bytes(whole), len as u64);
        for start in [0, 1, 4095, 4096, 199_999, 200_000] {
            assert_eq!(mapping.resident_bytes(ByteRange::new(start, len as u64)), len as u64 - start);
        }
        fadvise(mapping.file.as_fd(), 0, None, Advice::DontNeed).unwrap();
        assert_eq!(mapping.resident_bytes(whole), 0);
        fadvise(mapping.file.as_fd(), 0, None, Advice::Random).unwrap();
        mapping.bring(ByteRange::new(0, 10_000)).unwrap();
        assert_eq!(mapping.resident_bytes(whole), 3 * PAGE_BYTES);
        assert_eq!(mapping.resident_bytes(ByteRange::new(9000, 20_000)), 3 * PAGE_BYTES - 9000);
        assert_eq!(mapping.resident_bytes(ByteRange::new(100_000, 100_001)), 0);
        mapping.file.set_len(4096).unwrap();
        assert_eq!(mapping.resident_bytes(ByteRange::new(4096, 9000)), 0, "it was cut by hand");
        assert!(mapping.bring(ByteRange::new(4096, 9000)).is_err());
    }
}
