//! An append-only file of checksummed records, one a line, readable by people:
//!
//! ```text
//! 8f14e45fceea167a {"held":{"path":"pattern/vsapi349.zip",...}}
//! ```
//!
//! The first 16 digits are the start of the BLAKE3 hash of the rest of the line. Invariant: a record is there whole or
//! not at all; what a crash left of a last line is cut at the next opening, and said.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::Disk;

const CHECKSUM_DIGITS: usize = 16;

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal<R> {
    disk: Disk,
    file: File,
    len: u64,
    /// Bytes of an append that failed may stand behind `len`: they go before others come, which could end within them.
    uncut: bool,
    records: PhantomData<fn(R)>,
}

/// What a journal held.
#[derive(Debug)]
pub struct Recovered<R> {
    /// The whole records, in order.
    pub records: Vec<R>,
    /// Lines that are damaged, counted from 1.
    pub damaged: Vec<usize>,
    /// Where each line ends, damaged ones too: the offset of the one after it.
    pub ends: Vec<u64>,
    /// How many bytes of a torn last line were cut.
    pub torn_bytes: u64,
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Makes a new journal with its first records. Blocks on the disk; the caller syncs the folder.
    pub fn create(disk: &Disk, path: &Path, first: &[R]) -> io::Result<Self> {
        let file = disk.create_new(path)?;
        let mut journal = Self { disk: disk.clone(), file, len: 0, uncut: false, records: PhantomData };
        journal.append(first)?;
        Ok(journal)
    }

    /// Opens a journal, reads what it holds and cuts a torn last line; `None` where there is none. Blocks on the disk.
    pub fn open(disk: &Disk, path: &Path) -> io::Result<Option<(Self, Recovered<R>)>> {
        let (Some(file), Some(recovered)) = (disk.open(path)?, Self::read(disk, path)?) else {
            return Ok(None);
        };
        let len = recovered.ends.last().copied().unwrap_or(0);
        let mut journal = Self { disk: disk.clone(), file, len, uncut: false, records: PhantomData };
        if recovered.torn_bytes > 0 {
            journal.cut(len)?;
        }
        Ok(Some((journal, recovered)))
    }

    /// Reads what a journal holds, and leaves it as it is; `None` where there is none. Blocks on the disk.
    pub fn read(disk: &Disk, path: &Path) -> io::Result<Option<Recovered<R>>> {
        let Some(text) = disk.read(path)? else { return Ok(None) };
        let mut recovered =
            Recovered { records: Vec::new(), damaged: Vec::new(), ends: Vec::new(), torn_bytes: 0 };
        let mut end = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(whole) = line.strip_suffix(b"\n") else {
                recovered.torn_bytes = line.len() as u64;
                break;
            };
            end += line.len() as u64;
            recovered.ends.push(end);
            match decode(whole) {
                Some(record) => recovered.records.push(record),
                None => recovered.damaged.push(recovered.ends.len()),
            }
        }
        Ok(Some(recovered))
    }

    /// Cuts it to a length at which a line ends. Blocks on the disk.
    pub fn cut(&mut self, len: u64) -> io::Result<()> {
        self.disk.cut(&self.file, len)?;
        self.disk.sync(&self.file)?;
        self.len = len;
        Ok(())
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends records as one write and waits until they are on the disk. After an error the journal is as before.
    pub fn append(&mut self, records: &[R]) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            encode(record, &mut lines)?;
        }
        if self.uncut {
            self.disk.cut(&self.file, self.len)?;
            self.uncut = false;
        }
        let written = self.disk.write_all_at(&self.file, &lines, self.len);
        let written = written.and_then(|()| self.disk.sync(&self.file));
        match written {
            Ok(()) => self.len += lines.len() as u64,
            // Cut what was half written, so that a later record does not stand behind it.
            Err(_) => self.uncut = self.disk.cut(&self.file, self.len).is_err(),
        }
        written
    }
}

fn encode<R: Serialize>(record: &R, lines: &mut Vec<u8>) -> io::Result<()> {
    let text = serde_json::to_vec(record)?;
    lines.extend_from_slice(&blake3::hash(&text).to_hex().as_bytes()[..CHECKSUM_DIGITS]);
    lines.push(b' ');
    lines.extend_from_slice(&text);
    lines.push(b'\n');
    Ok(())
}

/// The record of a line without its end; `None` where it is damaged.
pub fn decode<R: DeserializeOwned>(line: &[u8]) -> Option<R> {
    let (checksum, text) = (line.get(..CHECKSUM_DIGITS)?, line.get(CHECKSUM_DIGITS + 1..)?);
    let right = &blake3::hash(text).to_hex();
    if line[CHECKSUM_DIGITS] != b' ' || checksum != &right.as_bytes()[..CHECKSUM_DIGITS] {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Step, Verdict, When};

    fn journal_of(records: &[String]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::create(&Disk::default(), &path, records).unwrap();
        (folder, path)
    }

    /// A write that lands, whose sync and cut fail: until the rest is cut, nothing is written over it.
    #[test]
    fn what_an_append_left_that_failed_never_comes_back_behind_a_later_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let faults = Arc::new(AtomicUsize::new(0));
        let left = faults.clone();
        let disk = Disk::with_seam(move |when, step| {
            let hit = when == When::Before && matches!(step, Step::Sync(_) | Step::Cut(..));
            let take = |left: usize| left.checked_sub(1);
            if hit && left.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                return Verdict::Failed(io::Error::other("a fault of the test"));
            }
            Verdict::Done
        });
        let lines = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut journal = Journal::create(&disk, &path, &lines(&["one"])).unwrap();
        faults.store(3, Ordering::Relaxed);
        journal.append(&lines(&["two", "three", "four"])).unwrap_err();
        journal.append(&lines(&["six"])).unwrap_err();
        journal.append(&lines(&["six"])).unwrap();
        drop(journal);
        let (_, recovered) = Journal::<String>::open(&Disk::default(), &path).unwrap().unwrap();
        assert_eq!((recovered.records, recovered.damaged), (lines(&["one", "six"]), vec![]));
    }

    proptest! {
        #[test]
        fn records_before_a_torn_tail_are_kept_and_appending_goes_on(
            records in prop::collection::vec(".{0,40}", 1..6), percent in 0usize..100,
        ) {
            let (_folder, path) = journal_of(&records);
            let bytes = std::fs::read(&path).unwrap();
            let kept = bytes.len() * percent / 100;
            std::fs::write(&path, &bytes[..kept]).unwrap();
            let whole = bytes[..kept].split(|byte| *byte == b'\n').count() - 1;

            let (mut journal, recovered) = Journal::<String>::open(&Disk::default(), &path).unwrap().unwrap();
            prop_assert_eq!(&recovered.records, &records[..whole]);
            prop_assert!(recovered.damaged.is_empty());
            journal.append(&["after".to_owned()]).unwrap();
            let (_, again) = Journal::<String>::open(&Disk::default(), &path).unwrap().unwrap();
            prop_assert_eq!(again.records.len(), whole + 1);
            prop_assert_eq!(again.torn_bytes, 0);
        }

        #[test]
        fn a_changed_byte_damages_its_line_only(at in 0usize..60, flip in 1u8..) {
            let records = ["one", "two", "three"].map(str::to_owned);
            let (_folder, path) = journal_of(&records);
            let mut bytes = std::fs::read(&path).unwrap();
            prop_assume!(at < bytes.len() && bytes[at] != b'\n' && bytes[at] ^ flip != b'\n');
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            let (_, recovered) = Journal::<String>::open(&Disk::default(), &path).unwrap().unwrap();
            prop_assert_eq!(recovered.damaged.len(), 1);
            prop_assert_eq!(recovered.records.len(), 2);
        }
    }
}
