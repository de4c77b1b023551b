//! What the folders of blobs hold, by the names in them, and an index that is brought to it: where it was not closed, and where it
//! is made again.
//!
//! Never opens a blob. A file is asked for its time only where no row has its name. Invariant: an index that was brought to the files
//! has a row for each name, and no other.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::base::blob::BlobId;
use crate::disk::Disk;
use crate::store::blobs::{BlobName, folder_of};
use crate::store::index::{Index, IndexError};
use crate::store::room::on_disk;

/// From one line on how far it is to the next, in blobs: some seconds on a slow disk.
const LINE_BLOBS: u64 = 50_000;

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    blobs: u64,
    /// What they take on the disk.
    bytes: u64,
    /// Of them, those that the index had no row of.
    new: u64,
    /// Rows whose files are gone.
    gone: u64,
}

/// Brings the index to the names in the folders; gives what all blobs take on the disk, in bytes. Blocks on the disk.
pub(super) fn bring(index: &Index, disk: &Disk, blobs: &Path) -> Result<u64, IndexError> {
    let (mut found, mut told) = (Found::default(), 0);
    for first in 0..=u8::MAX {
        bring_folder(index, disk, first, &folder_of(blobs, first), &mut found)?;
        if found.blobs - told >= LINE_BLOBS {
            told = found.blobs;
            let percent = (u32::from(first) + 1) * 100 / 256;
            info!(blobs = found.blobs, percent, "listing blobs for the index");
        }
    }
    if found.blobs > 0 || found.gone > 0 {
        info!(blobs = found.blobs, new = found.new, gone = found.gone, "the index is made");
    }
    Ok(found.bytes)
}

fn bring_folder(
    index: &Index,
    disk: &Disk,
    first: u8,
    folder: &Path,
    found: &mut Found,
) -> Result<(), IndexError> {
    let rows = index.rows_of(first).map(|row| row.map(|row| (row.id, row.size)));
    let mut rows: BTreeMap<BlobId, u64> = rows.collect::<Result<_, _>>()?;
    let mut new = Vec::new();
    for file in disk.list(folder).map_err(at(folder))? {
        let file = file.map_err(at(folder))?;
        match file.file_name().to_str().and_then(BlobName::parse) {
            Some(name) if name.id.as_bytes()[0] == first => {
                found.blobs += 1;
                found.bytes = found.bytes.saturating_add(on_disk(name.size));
                if rows.remove(&name.id) != Some(name.size) {
                    new.push((name, file));
                }
            }
            _ => warn!(file = %file.path().display(), "not the name of a blob: left alone"),
        }
    }
    (found.new, found.gone) = (found.new + new.len() as u64, found.gone + rows.len() as u64);
    for id in rows.into_keys() {
        index.remove(id)?;
    }
    // Where a disk turns, inodes that lie together are read together.
    new.sort_unstable_by_key(|(_, file)| file.ino());
    let mut new: Vec<_> = new.into_iter().map(|(name, file)| (name, made(&file))).collect();
    // sled takes rows in their order faster, and needs less room for them.
    new.sort_unstable_by_key(|(name, _)| name.id);
    for (name, made) in new {
        index.insert(name, made)?;
    }
    Ok(())
}

/// When a file was made; long ago where nobody knows.
fn made(file: &DirEntry) -> Timestamp {
    let made = file.metadata().and_then(|metadata| metadata.modified()).ok();
    made.and_then(|made| Timestamp::try_from(made).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> IndexError {
    let path: PathBuf = path.to_owned();
    move |source| IndexError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::store::blobs::make_folders;

    struct Ground {
        folder: tempfile::TempDir,
    }

    impl Ground {
        fn new() -> Self {
            let ground = Self { folder: tempfile::tempdir().unwrap() };
            fs::create_dir(ground.blobs()).unwrap();
            make_folders(&Disk::default(), &ground.blobs()).unwrap();
            ground
        }

        fn blobs(&self) -> PathBuf {
            self.folder.path().join("blobs")
        }

        fn open(&self) -> Index {
            Index::open(Disk::default(), &self.folder.path().join("index"), &self.blobs()).unwrap()
        }

        fn put(&self, number: u64) -> BlobName {
            fs::write(name(number).path(&self.blobs()), b"").unwrap();
            name(number)
        }

        fn remove(&self, number: u64) {
            fs::remove_file(name(number).path(&self.blobs())).unwrap();
        }
    }

    /// No byte of a blob is read here: its name alone says how many there are.
    fn name(number: u64) -> BlobName {
        BlobName { id: BlobId::of(&number.to_le_bytes()), size: number * 1000 }
    }

    fn rows(index: &Index) -> BTreeSet<(BlobId, u64)> {
        index.blobs().map(|row| (row.id, row.size)).collect()
    }

    fn on_disk_of(names: impl IntoIterator<Item = BlobName>) -> u64 {
        names.into_iter().map(|name| on_disk(name.size)).sum()
    }

    #[test]
    fn an_index_that_was_left_open_learns_what_changed_and_keeps_when_the_rest_was_used_r1_8() {
        let ground = Ground::new();
        for number in 1..=3 {
            ground.put(number);
        }
        let index = ground.open();
        let used = Timestamp::from_second(1_700_000_000).unwrap();
        index.note_use(name(1).id, used);
        drop(index);
        ground.remove(2);
        ground.put(4);
        fs::write(ground.blobs().join("00/other"), b"").unwrap();
        let misplaced = ground.blobs().join(if name(5).id.as_bytes()[0] == 0 { "01" } else { "00" });
        fs::write(misplaced.join(name(5).file_name()), b"").unwrap();
        let index = ground.open();
        let left = [1, 3, 4].map(name);
        assert_eq!(rows(&index), left.map(|name| (name.id, name.size)).into());
        assert_eq!(index.blobs_on_disk(), on_disk_of(left));
        let row = index.blobs().find(|row| row.id == name(1).id).unwrap();
        assert_eq!(row.used_secs, 1_700_000_000);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A blob is committed.
        Put(u64),
        /// One is removed.
        Remove(u64),
        /// The relay ends in order.
        Close,
        /// It is killed, with a file that came or went whose row does not say so.
        Kill(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1u64..12).prop_map(Step::Put),
            3 => (1u64..12).prop_map(Step::Remove),
            1 => Just(Step::Close),
            1 => (1u64..12).prop_map(Step::Kill),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn the_sum_is_that_of_the_files_whatever_happens_r1_8(steps in prop::collection::vec(step(), 1..20)) {
            let (ground, mut files) = (Ground::new(), BTreeSet::new());
            let mut index = ground.open();
            for step in steps {
                match step {
                    Step::Put(number) => {
                        prop_assert_eq!(index.insert(ground.put(number), Timestamp::UNIX_EPOCH).unwrap(), files.insert(number));
                    }
                    Step::Remove(number) => {
                        let there = files.remove(&number);
                        if there {
                            ground.remove(number);
                        }
                        prop_assert_eq!(index.remove(name(number).id).unwrap(), there);
                    }
                    Step::Close => {
                        index.close();
                        drop(index);
                        index = ground.open();
                    }
                    Step::Kill(number) => {
                        drop(index);
                        if files.remove(&number) {
                            ground.remove(number);
                        } else {
                            ground.put(number);
                            files.insert(number);
                        }
                        index = ground.open();
                    }
                }
                prop_assert_eq!(index.blobs_on_disk(), on_disk_of(files.iter().copied().map(name)));
                prop_assert_eq!(rows(&index), files.iter().copied().map(name).map(|name| (name.id, name.size)).collect());
            }
        }
    }
}
