//! Files that are being taken: what came so far, and what vouches that more may be put behind it.
//!
//! A file is named by what it is, its tree, path, version and size, so that another release never goes on where this one stopped. Never
//! asks a server. Invariant: bytes are put behind others only where the note beside the file says whose they are: it is written first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::agent::wants;
use crate::base::blob::BlobId;
use crate::base::tree::TreeName;
use crate::disk::Disk;

/// The folder of such files.
#[derive(Clone, Debug)]
pub(super) struct Staging {
    disk: Disk,
    folder: PathBuf,
    /// What tells one start of this machine from another.
    boot: String,
    /// Bytes after which what came is synced.
    sync_every: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Partial {
    disk: Disk,
    part: PathBuf,
    note: PathBuf,
    file: File,
    says: Note,
    len: u64,
    sync_every: u64,
    /// Whether the note that outlives the machine's end is one that says that something was synced.
    promised: bool,
}

/// What is known of the bytes that came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Where the last of them came from.
    source: Option<Url>,
    /// The strong entity tag that they came under.
    etag: Option<String>,
    /// The start of the machine in which they were written: what was not synced is gone with it.
    boot: String,
    /// How many of them outlive the machine's end.
    synced: u64,
}

/// Bytes after which what came is synced.
const SYNC_EVERY: u64 = 8 << 20;

/// What tells one start of a machine from another (`proc_sys_kernel(5)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Staging {
    /// The files in a folder.
    pub(super) fn new(disk: Disk, folder: PathBuf) -> Self {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self { disk, folder, boot, sync_every: SYNC_EVERY }
    }

    /// What a file is called while it is taken.
    pub(super) fn key(tree: &TreeName, version: &str, file: &wants::File) -> String {
        let mut hasher = blake3::Hasher::new();
        // No name, path or version has a line feed in it.
        hasher.update(format!("{tree}\n{version}\n{}\n{}", file.path, file.size).as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Goes on with a file, or begins it.
    pub(super) fn open(&self, key: &str) -> io::Result<Partial> {
        let part = self.folder.join(format!("{key}.part"));
        let note = self.folder.join(format!("{key}.json"));
        let says = self.disk.read(&note)?.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let file = match self.disk.open(&part)? {
            Some(file) => file,
            None => self.disk.create_new(&part)?,
        };
        let mut len = file.metadata()?.len();
        let mut says = says.unwrap_or_default();
        let promised = says.synced > 0;
        let kept = if self.boot.is_empty() || says.boot != self.boot { says.synced } else { len };
        if kept < len {
            self.disk.cut(&file, kept)?;
            len = kept;
        }
        says.boot.clone_from(&self.boot);
        says.synced = says.synced.min(len);
        Ok(Partial {
            disk: self.disk.clone(),
            part,
            note,
            file,
            says,
            len,
            sync_every: self.sync_every,
            promised,
        })
    }

    /// How many bytes of a file are there, without touching it.
    pub(super) fn there(&self, key: &str) -> io::Result<u64> {
        match std::fs::metadata(self.folder.join(format!("{key}.part"))) {
            Ok(there) => Ok(there.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Puts a file's signature beside it, for a program to read.
    pub(super) fn beside(&self, key: &str, signature: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{key}.sig"));
        self.disk.write_whole(&path, signature)?;
        Ok(path)
    }

    /// Size and hash of a file that a program made, once it outlives the machine's end. Waits for the disk.
    pub(super) fn seal(&self, path: &Path) -> io::Result<(u64, BlobId)> {
        if !std::fs::symlink_metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
        }
        let file = File::open(path)?;
        self.disk.sync(&file)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file)?;
        Ok((file.metadata()?.len(), hasher.finalize().into()))
    }
}

impl Partial {
    /// How many bytes came.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &PathBuf {
        &self.part
    }

    /// The tag under which this source goes on where it stopped.
    pub(super) fn voucher(&self, source: &Url) -> Option<&str> {
        self.says.etag.as_deref().filter(|_| self.says.source.as_ref() == Some(source))
    }

    /// The last bytes that came, at most so many.
    pub(super) fn tail(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let count = self.len.min(bytes_max);
        let mut bytes = vec![0; usize::try_from(count).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.len - count)?;
        Ok(bytes)
    }

    /// Begins anew, with what a source is about to send.
    pub(super) fn restart(&mut self, source: &Url, etag: Option<String>) -> io::Result<()> {
        self.disk.cut(&self.file, 0)?;
        (self.len, self.says.synced) = (0, 0);
        self.go_on(source, etag)
    }

    /// Goes on with what a source is about to send.
    pub(super) fn go_on(&mut self, source: &Url, etag: Option<String>) -> io::Result<()> {
        self.says.source = Some(source.clone());
        self.says.etag = etag;
        self.keep_note()
    }

    /// Puts bytes behind the others.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_all_at(&self.file, bytes, self.len)?;
        self.len += bytes.len() as u64;
        if self.len - self.says.synced >= self.sync_every { self.sync() } else { Ok(()) }
    }

    /// The hash of what came, once it outlives the machine's end. Waits for the disk.
    pub(super) fn seal(&mut self) -> io::Result<BlobId> {
        if self.len - self.says.synced >= self.sync_every {
            self.sync()?;
        } else {
            // What is short comes again as fast as a note is synced.
            self.disk.sync(&self.file)?;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(&self.part)?)?;
        Ok(hasher.finalize().into())
    }

    /// Forgets what came.
    pub(super) fn discard(self) -> io::Result<()> {
        self.disk.remove_if_there(&self.part)?;
        self.disk.remove_if_there(&self.note)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync(&self.file)?;
        self.says.synced = self.len;
        self.keep_note()
    }

    /// A note that promises nothing, and follows none that did, need not outlive the machine's end: without it the file begins anew.
    fn keep_note(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.says).expect("a note has names for keys");
        if self.promised || self.says.synced > 0 {
            self.promised = true;
            return self.disk.write_whole(&self.note, &text);
        }
        let staged = self.note.with_extension("new");
        self.disk.remove_if_there(&staged)?;
        let file = self.disk.create_new(&staged)?;
        self.disk.write_all_at(&file, &text, 0)?;
        self.disk.rename(&staged, &self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_file_goes_on_in_the_same_start_of_the_machine_and_from_what_was_synced_in_another() {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging { sync_every: 3, ..Staging::new(Disk::default(), folder.path().to_owned()) };
        let here = source("http://a/");
        let mut partial = staging.open("k").unwrap();
        partial.restart(&here, Some("\"1\"".into())).unwrap();
        for two in [b"01", b"23", b"45", b"67", b"89"] {
            partial.append(two).unwrap();
        }
        drop(partial);
        let partial = staging.open("k").unwrap();
        assert_eq!((partial.len(), partial.voucher(&here)), (10, Some("\"1\"")));
        assert_eq!(partial.voucher(&source("http://b/")), None);
        assert_eq!(partial.tail(4).unwrap(), b"6789");
        let rebooted = Staging { boot: "another".into(), ..staging.clone() };
        assert_eq!(rebooted.open("k").unwrap().len(), 8);

        let mut partial = staging.open("k").unwrap();
        partial.restart(&here, None).unwrap();
        partial.append(b"012").unwrap();
        assert_eq!(partial.seal().unwrap(), BlobId::of(b"012"));
        assert_eq!(rebooted.open("k").unwrap().len(), 3);
    }

    #[test]
    fn other_releases_have_other_names() {
        let tree = TreeName::parse("a").unwrap();
        let file = |path: &str, size| wants::File {
            path: crate::base::path::TreePath::parse(path.as_bytes()).unwrap(),
            size,
        };
        let key = Staging::key(&tree, "1", &file("p", 1));
        assert_eq!(key, Staging::key(&tree, "1", &file("p", 1)));
        assert_ne!(key, Staging::key(&tree, "2", &file("p", 1)));
        assert_ne!(key, Staging::key(&tree, "1", &file("p", 2)));
        assert_ne!(key, Staging::key(&tree, "1", &file("q", 1)));
    }
}
