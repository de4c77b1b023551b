//! Every change of the data folder goes through a [`Disk`], so that tests can see each step, fail it, tear it, lose it, or
//! end the process at it.
//!
//! Never decides what is written. Invariant: when [`Disk::write_whole`] or [`Disk::rename_synced`] returns, the new name and
//! its bytes outlive a power cut.

pub mod journal;
pub mod mapping;
mod stretches;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::base::clock::Clock;

/// The way to the data folder. By default it does as it is told.
#[derive(Clone, Default)]
pub struct Disk {
    seam: Option<Arc<Seam>>,
    /// By which it tells what is too old to be believed; without one, the machine's.
    clock: Option<Arc<dyn Clock>>,
}

/// Is told of each step before and after it, and says before it what becomes of it.
pub type Seam = dyn Fn(When, &Step<'_>) -> Verdict + Send + Sync;

/// Where a step is when a seam is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing of it was done.
    Before,
    /// It was done, without an error. The verdict does not count.
    After,
}

/// One operation on the data folder.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Makes a folder.
    CreateFolder(&'a Path),
    /// Makes a file.
    Create(&'a Path),
    /// Opens a file that is there, to read it and to write to it.
    Open(&'a Path),
    /// Opens a file that is there, to read it.
    OpenToRead(&'a Path),
    /// Reads a whole file.
    Read(&'a Path),
    /// Reads what is in memory of a blob; where it is lost, nothing is.
    ReadCached(&'a File),
    /// Reads so many bytes of a blob at an offset.
    ReadAt(&'a File, usize, u64),
    /// Reads what comes at once of a file at an offset.
    ReadSome(&'a File, u64),
    /// Lists a folder.
    List(&'a Path),
    /// Writes bytes at an offset.
    Write(&'a File, &'a [u8], u64),
    /// Cuts a file to a length.
    Cut(&'a File, u64),
    /// Waits for a file's bytes and length.
    Sync(&'a File),
    /// Waits for the names in a folder.
    SyncFolder(&'a Path),
    /// Gives a file or folder another name.
    Rename(&'a Path, &'a Path),
    /// Gives a file a second name.
    Link(&'a Path, &'a Path),
    /// Makes a symbolic link.
    Point(&'a Path),
    /// Removes a file, or a folder with all in it.
    Remove(&'a Path),
    /// Changes the index; what is said of the change.
    Index(&'static str),
}

/// What becomes of a step.
#[derive(Debug, Default)]
pub enum Verdict {
    /// It is done.
    #[default]
    Done,
    /// It is not done, and this is said of it.
    Failed(io::Error),
    /// So many bytes of a write are done, then the disk is full. Any other step fails.
    Torn(usize),
    /// It is not done, and nothing is said of it.
    Lost,
}

impl Disk {
    /// A disk whose steps a test sees and changes.
    pub fn with_seam(seam: impl Fn(When, &Step<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Self { seam: Some(Arc::new(seam)), clock: None }
    }

    /// The same with a clock of its own.
    #[must_use]
    pub fn timed_by(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Makes a folder, with those above it, that only its owner may enter.
    pub fn create_private_folder(&self, path: &Path) -> io::Result<()> {
        self.step(&Step::CreateFolder(path), || DirBuilder::new().recursive(true).mode(0o700).create(path))
    }

    /// Makes a new file for reading and writing; it must not be there.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        self.create(path, SHARED)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let options = || File::options().read(true).write(true).create_new(true).mode(mode).open(path);
        self.look(&Step::Create(path), options)
    }

    /// Opens a file for reading and writing; `None` where there is none.
    pub fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let opened = self.look(&Step::Open(path), || File::options().read(true).write(true).open(path));
        or_none(opened)
    }

    /// Opens a file for reading; `None` where there is none.
    pub fn open_to_read(&self, path: &Path) -> io::Result<Option<File>> {
        or_none(self.look(&Step::OpenToRead(path), || File::open(path)))
    }

    /// Opens a file for reading past the page cache; `None` where there is none. A file system may refuse it.
    pub fn open_to_read_direct(&self, path: &Path) -> io::Result<Option<File>> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        or_none(
            self.look(&Step::OpenToRead(path), || File::options().read(true).custom_flags(flags).open(path)),
        )
    }

    /// Reads bytes at an offset, as many as come at once.
    pub fn read_some_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(&Step::ReadSome(file, offset), || file.read_at(bytes, offset))
    }

    /// Reads a file; `None` where there is none.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        or_none(self.look(&Step::Read(path), || fs::read(path)))
    }

    /// Whether a blob's file may be looked for in memory.
    pub(crate) fn may_be_cached(&self, file: &File) -> bool {
        self.seam.is_none() || matches!(self.verdict(&Step::ReadCached(file)), Verdict::Done)
    }

    /// The time since some fixed moment, to a few milliseconds.
    fn now(&self) -> Duration {
        self.clock.as_ref().map_or_else(at_last_tick, |clock| clock.monotonic())
    }

    /// Reads exactly `len` bytes of a blob's file at an offset.
    pub(crate) fn read_at(&self, file: &File, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        self.look(&Step::ReadAt(file, len, offset), || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        })
    }

    /// Lists a folder.
    pub fn list(&self, path: &Path) -> io::Result<fs::ReadDir> {
        self.look(&Step::List(path), || fs::read_dir(path))
    }

    /// Writes all bytes at an offset.
    pub fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let step = Step::Write(file, bytes, offset);
        match self.verdict(&step) {
            Verdict::Torn(len) => {
                file.write_all_at(&bytes[..len.min(bytes.len())], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            verdict => self.carry_out(&step, verdict, || file.write_all_at(bytes, offset)),
        }
    }

    /// Cuts a file to a length.
    pub fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(&Step::Cut(file, len), || file.set_len(len))
    }

    /// Waits until the file's bytes and length are on the disk.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.step(&Step::Sync(file), || file.sync_all())
    }

    /// Waits until the names in a folder are on the disk.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(&Step::SyncFolder(path), || File::open(path)?.sync_all())
    }

    /// Gives a synced file or folder its final name, in a folder that is synced after it.
    pub fn rename_synced(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)?;
        self.sync_folder(parent(to)?)
    }

    /// Gives a synced file its final name, which outlives a power cut only when its folder is synced.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(&Step::Rename(from, to), || fs::rename(from, to))
    }

    /// Gives a file a second name, which must not be there.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(&Step::Link(from, to), || fs::hard_link(from, to))
    }

    /// Has a name lead elsewhere, in the place of where it led before: at each moment it leads to the one or the other.
    pub fn point_synced(&self, name: &Path, target: &Path) -> io::Result<()> {
        let mut staged = name.as_os_str().to_owned();
        staged.push(".new");
        let staged = Path::new(&staged);
        self.remove_if_there(staged)?;
        self.step(&Step::Point(staged), || std::os::unix::fs::symlink(target, staged))?;
        self.rename_synced(staged, name)
    }

    /// Writes a small file so that either the old or the new bytes are there after a crash.
    pub fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, bytes, SHARED)
    }

    /// The same for a file that its owner alone may read.
    pub fn write_whole_private(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, bytes, PRIVATE)
    }

    fn put(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let staged = Path::new(&name);
        self.remove_if_there(staged)?;
        let file = self.create(staged, mode)?;
        self.write_all_at(&file, bytes, 0)?;
        self.sync(&file)?;
        self.rename_synced(staged, path)
    }

    /// Removes a file; that it is not there is no error.
    pub fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        self.step(&Step::Remove(path), || or_none(fs::remove_file(path)).map(|_| ()))
    }

    /// Removes a folder with all in it; that it is not there is no error.
    pub fn remove_folder_if_there(&self, path: &Path) -> io::Result<()> {
        self.step(&Step::Remove(path), || or_none(fs::remove_dir_all(path)).map(|_| ()))
    }

    /// Changes the index, which has files of its own.
    pub(crate) fn index<T, E: From<io::Error>>(
        &self,
        what: &'static str,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.look(&Step::Index(what), change)
    }

    /// Does a step that gives nothing.
    fn step(&self, step: &Step<'_>, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.carry_out(step, self.verdict(step), work)
    }

    fn carry_out(
        &self,
        step: &Step<'_>,
        verdict: Verdict,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if matches!(verdict, Verdict::Lost) {
            return Ok(());
        }
        self.obey(step, verdict, work)
    }

    /// Does a step that gives something: it cannot be lost.
    fn look<T, E: From<io::Error>>(
        &self,
        step: &Step<'_>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.obey(step, self.verdict(step), work)
    }

    fn obey<T, E: From<io::Error>>(
        &self,
        step: &Step<'_>,
        verdict: Verdict,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        match verdict {
            Verdict::Failed(error) => return Err(error.into()),
            Verdict::Torn(_) => return Err(io::Error::from(io::ErrorKind::StorageFull).into()),
            Verdict::Done | Verdict::Lost => {}
        }
        let done = work()?;
        if let Some(seam) = &self.seam {
            seam(When::After, step);
        }
        Ok(done)
    }

    fn verdict(&self, step: &Step<'_>) -> Verdict {
        self.seam.as_ref().map_or(Verdict::Done, |seam| seam(When::Before, step))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.seam.is_some() { "Disk with a seam" } else { "Disk" })
    }
}

impl Step<'_> {
    /// What kind of step it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateFolder(_) => "create folder",
            Self::Create(_) => "create",
            Self::Open(_) => "open",
            Self::OpenToRead(_) => "open to read",
            Self::Read(_) => "read",
            Self::ReadCached(_) => "read cached",
            Self::ReadSome(..) => "read some",
            Self::ReadAt(..) => "read at",
            Self::List(_) => "list",
            Self::Write(..) => "write",
            Self::Cut(..) => "cut",
            Self::Sync(_) => "sync",
            Self::SyncFolder(_) => "sync folder",
            Self::Rename(..) => "rename",
            Self::Link(..) => "link",
            Self::Point(_) => "point",
            Self::Remove(_) => "remove",
            Self::Index(what) => what,
        }
    }
}

/// Who may read and write a new file: all whom the process's mask lets, or its owner alone.
const SHARED: u32 = 0o666;
const PRIVATE: u32 = 0o600;

/// Monotonic time as it was when the kernel last counted, up to 10 ms ago: read from memory on any machine, where a clock may be a
/// system call.
fn at_last_tick() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let parts = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    if let (Ok(secs), Ok(nanos)) = parts { Duration::new(secs, nanos) } else { Duration::ZERO }
}

fn or_none<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a folder"))
}
