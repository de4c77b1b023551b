//! A file's bytes under an address, which the kernel alone reads: slices that name a place in the file.
//!
//! A socket that is handed such a slice can tell which file it is of, and have the kernel send it from there. The `unsafe`
//! of the crate is here, but for one call about threads (`app/background.rs`). Never read by a program: whoever needs the bytes themselves reads the file. A file may be mapped before it
//! is written, up to where it will end; nobody makes slices of what is not there yet. Which of its bytes are in memory the kernel is
//! asked once in a second, not for each piece that is sent. Invariant: an address within a slice belongs to its file, which is open for
//! as long as the slice lives.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use tokio::runtime::Handle;

use crate::base::range::ByteRange;
use crate::disk::Disk;
use crate::disk::stretches::Stretches;

/// A file that is mapped. Cheap to clone; unmapped when the last slice is gone.
#[derive(Clone)]
pub struct Mapping(Arc<Parts>);

struct Parts {
    disk: Disk,
    file: Arc<File>,
    bytes: Bytes,
    /// Where it begins in memory.
    start: usize,
    stretches: Stretches,
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
        let stretches = Stretches::of(len as u64);
        Some(Self(Arc::new(Parts { disk: disk.clone(), file: file.clone(), bytes, start, stretches })))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.0.file
    }

    /// A run of the file as a slice of its mapping.
    pub fn slice(&self, run: ByteRange) -> Bytes {
        self.0.bytes.slice(at(run.start())..at(run.end()))
    }

    /// Where in the file a slice of this mapping begins; `None` for any other bytes.
    pub fn offset_of(&self, slice: &[u8]) -> Option<u64> {
        let offset = slice.as_ptr().addr().checked_sub(self.0.start)?;
        (offset.checked_add(slice.len())? <= self.0.bytes.len()).then_some(offset as u64)
    }

    /// How many bytes from the start of a run on are in memory, so that whoever sends them does not wait for the disk. No more than
    /// [`LOOK_BYTES_MAX`] are told of. They were all there within [`LOOK_HOLDS`]: should some have left the memory since, whoever
    /// sends them does wait.
    pub fn resident_bytes(&self, run: ByteRange) -> u64 {
        let Parts { disk, file, stretches, .. } = &*self.0;
        if !disk.may_be_cached(file) {
            return 0;
        }
        stretches.resident_bytes(run, disk.now(), |from, pages| self.look(from, pages))
    }

    /// Says of each page from an offset on, which is a page's, whether it is in memory.
    fn look(&self, from: u64, pages: &mut [u8]) -> io::Result<()> {
        let (from, len) = (at(from), pages.len() * at(PAGE_BYTES));
        let whole = self.0.bytes.len().next_multiple_of(at(PAGE_BYTES));
        assert!(from.is_multiple_of(at(PAGE_BYTES)) && from + len <= whole, "the pages are of the mapping");
        let start = std::ptr::without_provenance_mut(self.0.start + from);
        // SAFETY: nothing is read at these addresses, whose pages are mapped for as long as this mapping is here, and one byte is
        // written for each of them, for which there is room.
        #[allow(unsafe_code)]
        let done = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Has a run of the file brought into memory. Blocks on the disk.
    pub fn bring(&self, run: ByteRange) -> io::Result<()> {
        self.0.disk.read_at(&self.0.file, at(run.len()), run.start()).map(|_| ())
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

/// Bytes that one look at what is in memory tells of at most: 8 us of a worker's time at the first, 2 once pages were copied from.
pub const LOOK_BYTES_MAX: u64 = 1 << 20;

/// How long a look holds. What leaves the memory meanwhile has a worker wait for the disk, where another thread would have: so it is
/// short. It is seldom: the kernel takes last what was used last, and what is sent is used; what it takes back within a second is what
/// nobody else asked for, or nearly all there is. And it is long where it counts: however many agents a worker sends the same MiB to, it
/// looks for it four times a second at most, where it did for each of them.
pub const LOOK_HOLDS: Duration = Duration::from_secs(1);

/// The least that a page has, on any machine. Where pages are larger nothing is mapped.
pub(super) const PAGE_BYTES: u64 = 4096;

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

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("file", &self.0.file)
            .field("len", &self.0.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{Advice, fadvise};

    use super::*;
    use crate::base::clock::Hands;
    use crate::disk::{Step, Verdict};

    fn mapped(len: usize) -> Mapping {
        mapped_on(&Disk::default(), len)
    }

    fn mapped_on(disk: &Disk, len: usize) -> Mapping {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; len]).unwrap();
        file.sync_all().unwrap();
        Mapping::of(disk, &Arc::new(file), len as u64).unwrap()
    }

    fn evict(mapping: &Mapping) {
        fadvise(mapping.file().as_fd(), 0, None, Advice::DontNeed).unwrap();
    }

    #[test]
    fn a_slice_knows_its_place_and_other_bytes_have_none() {
        let mapping = mapped(100_000);
        let slice = mapping.slice(ByteRange::new(5000, 90_000));
        assert_eq!(mapping.offset_of(&slice), Some(5000));
        assert_eq!(mapping.offset_of(&slice[10_000..]), Some(15_000));
        assert_eq!(mapping.offset_of(&[7; 10]), None);
        assert_eq!(mapped(100_000).offset_of(&slice), None);
        assert_eq!(Mapping::of(&Disk::default(), &mapping.0.file, 0).map(|_| ()), None);
    }

    #[test]
    fn what_left_the_memory_is_told_and_what_is_brought_is_there() {
        let (len, clock) = (200_001, Arc::new(Hands::default()));
        let mapping = mapped_on(&Disk::default().timed_by(clock.clone()), len);
        let whole = ByteRange::whole(len as u64);
        assert_eq!(mapping.resident_bytes(whole), len as u64);
        for start in [0, 1, 4095, 4096, 199_999, 200_000] {
            assert_eq!(mapping.resident_bytes(ByteRange::new(start, len as u64)), len as u64 - start);
        }
        evict(&mapping);
        clock.passes(LOOK_HOLDS);
        assert_eq!(mapping.resident_bytes(whole), 0);
        fadvise(mapping.file().as_fd(), 0, None, Advice::Random).unwrap();
        mapping.bring(ByteRange::new(0, 10_000)).unwrap();
        assert_eq!(mapping.resident_bytes(whole), 3 * PAGE_BYTES);
        assert_eq!(mapping.resident_bytes(ByteRange::new(9000, 20_000)), 3 * PAGE_BYTES - 9000);
        assert_eq!(mapping.resident_bytes(ByteRange::new(100_000, 100_001)), 0);
        mapping.file().set_len(4096).unwrap();
        assert_eq!(mapping.resident_bytes(ByteRange::new(4096, 9000)), 0, "it was cut by hand");
        assert!(mapping.bring(ByteRange::new(4096, 9000)).is_err());
    }

    #[test]
    fn who_asks_again_within_a_second_has_the_kernel_asked_of_nothing_that_was_there() {
        let (len, clock) = (2_000_003, Arc::new(Hands::default()));
        let mapping = mapped_on(&Disk::default().timed_by(clock.clone()), len);
        let other = mapping.clone();
        let (start, rest) = (ByteRange::new(10, 100_000), ByteRange::new(1_900_000, len as u64));
        assert_eq!(mapping.resident_bytes(start), start.len());
        // What the kernel would say now is not what is said: it is not asked.
        evict(&mapping);
        for mapping in [&mapping, &other] {
            assert_eq!(mapping.resident_bytes(start), start.len());
            assert_eq!(mapping.resident_bytes(rest), 0, "nobody looked there while it was there");
        }
        clock.passes(LOOK_HOLDS.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(mapping.resident_bytes(start), start.len());
        clock.passes(Duration::from_millis(1));
        assert_eq!(other.resident_bytes(start), 0);
        fadvise(mapping.file().as_fd(), 0, None, Advice::Random).unwrap();
        mapping.bring(start).unwrap();
        assert_eq!(mapping.resident_bytes(start), start.len(), "that it was not is not remembered");
    }

    #[test]
    fn what_is_not_written_yet_is_looked_for_again_once_it_is() {
        let file = Arc::new(tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap());
        let mapping = Mapping::of(&Disk::default(), &file, 600_000).unwrap();
        for end in (50_000..=600_000).step_by(50_000) {
            file.write_all_at(&vec![7; 50_000], end - 50_000).unwrap();
            assert_eq!(mapping.resident_bytes(ByteRange::new(end - 50_000, end)), 50_000);
            assert_eq!(mapping.resident_bytes(ByteRange::new(0, end)), end);
        }
    }

    #[test]
    fn a_disk_that_says_that_nothing_is_in_memory_is_believed_whatever_is_remembered() {
        let cold = Arc::new(AtomicBool::new(false));
        let is_cold = cold.clone();
        let disk = Disk::with_seam(move |_, step| match step {
            Step::ReadCached(_) if is_cold.load(Ordering::SeqCst) => Verdict::Lost,
            _ => Verdict::Done,
        });
        let mapping = mapped_on(&disk, 100_000);
        let whole = ByteRange::whole(100_000);
        assert_eq!(mapping.resident_bytes(whole), whole.len());
        cold.store(true, Ordering::SeqCst);
        assert_eq!(mapping.resident_bytes(whole), 0);
        cold.store(false, Ordering::SeqCst);
        assert_eq!(mapping.resident_bytes(whole), whole.len());
    }
}
