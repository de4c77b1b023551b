//! The bytes of settings files, each under its hash: `data/agents/files/HASH` (R5.6).
//!
//! They are written before the change that names them, and removed at a start where no change does: a crash between the two leaves
//! bytes that nobody sees. Never decides which file holds for whom. Invariant: what is read is what was put, or an error.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::info;

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::policy::tree::Tree;
use crate::policy::tree::file::Content;

/// The bytes of all settings files of a data folder.
#[derive(Debug)]
pub struct Contents {
    disk: Disk,
    folder: PathBuf,
    /// Guards the files that are being written: the same bytes may come from two sides. Whoever holds it waits for the disk.
    writing: Mutex<()>,
}

/// The folder within that of the agent tree.
const FOLDER: &str = "files";

impl Contents {
    /// Opens the bytes of the files that this tree names, in the agent tree's folder, and lets go of all others. Blocks on the disk.
    pub fn open(disk: &Disk, agents: &Path, tree: &Tree) -> io::Result<Self> {
        let folder = agents.join(FOLDER);
        disk.create_private_folder(&folder)?;
        let named: HashSet<_> = tree.files().map(|(.., file)| file.content.hash.to_string()).collect();
        for entry in disk.list(&folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
                info!(file = %entry.path().display(), "a settings file that nothing names is removed");
                disk.remove_if_there(&entry.path())?;
            }
        }
        Ok(Self { disk: disk.clone(), folder, writing: Mutex::default() })
    }

    /// Keeps bytes: they outlive a power cut once this returns. Blocks on the disk.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Content> {
        let content = Content { hash: BlobId::of(bytes), bytes: bytes.len() as u64 };
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // What was damaged meanwhile is put anew.
        if !matches!(self.read(&content), Ok(Some(_))) {
            self.disk.write_whole(&self.path(&content.hash), bytes)?;
        }
        Ok(content)
    }

    /// Reads bytes; `None` where they are not there. Blocks on the disk.
    pub fn read(&self, content: &Content) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(&content.hash);
        let bytes = self.disk.read(&path)?;
        match bytes {
            Some(bytes) if BlobId::of(&bytes) != content.hash => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))
            }
            bytes => Ok(bytes),
        }
    }

    fn path(&self, hash: &BlobId) -> PathBuf {
        self.folder.join(hash.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::policy::tree::change::Action;
    use crate::policy::tree::file::FileName;

    #[test]
    fn bytes_are_kept_while_a_change_names_them_and_damage_shows_r5_6() {
        let folder = tempfile::tempdir().unwrap();
        let open = |tree: &Tree| Contents::open(&Disk::default(), folder.path(), tree).unwrap();
        let contents = open(&Tree::default());
        let (kept, other) = (contents.put(b"kept").unwrap(), contents.put(b"other").unwrap());
        assert_eq!(contents.put(b"kept").unwrap(), kept);
        assert_eq!(contents.read(&kept).unwrap().as_deref(), Some(&b"kept"[..]));
        let name = FileName::parse("a.conf").unwrap();
        let put = Action::PutFile { domain: None, name, content: Some(kept) };
        let tree = Tree::default().changed(&[put]).unwrap().tree;
        fs::write(folder.path().join("files/half.new"), b"ke").unwrap();
        let contents = open(&tree);
        assert_eq!(contents.read(&other).unwrap(), None, "no change names it");
        assert_eq!(fs::read_dir(folder.path().join("files")).unwrap().count(), 1);
        fs::write(folder.path().join("files").join(kept.hash.to_string()), b"kepT").unwrap();
        assert_eq!(contents.read(&kept).unwrap_err().kind(), io::ErrorKind::InvalidData);
        contents.put(b"kept").unwrap();
        assert!(contents.read(&kept).unwrap().is_some());
    }
}
