//! Any bytes as a journal: of a generation, and of a fill that did not end. What is read is there whole, is read again, and takes
//! more behind it; what it says of other bytes is held against them.
//!
//! The input is the journal's text, with one liberty: a line that begins with `=` has its checksum put before it, as if the relay
//! had written it. `HASH` in such a line stands for the hash of the manifest, or of the staged bytes.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::base::blob::BlobId;
use forebay::base::path::TreePath;
use forebay::base::tree::TreeName;
use forebay::disk::Disk;
use forebay::disk::journal::{Journal, Recovered};
use forebay::store::Store;
use forebay::store::generations::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MANIFEST: &[u8] = b"[Common]\nVersion=1.2\n";

/// Bytes of an unfinished fill.
const STAGED: &[u8] = b"what was staged before the relay stopped";

/// Checks the claim.
pub(super) fn check(data: &[u8]) {
    let folder = Folder::new();
    let path = folder.0.join("journal");
    let of_a_manifest = journal_of(data, MANIFEST);
    check_records::<Record>(&path, &of_a_manifest, &Record::Absent { path: file_path() });
    check_written_anew(&path, &of_a_manifest);
    // Any JSON at all, so that the lines are told apart whatever they hold.
    check_records::<serde_json::Value>(&path, &of_a_manifest, &serde_json::Value::Null);
    STORE.with(|(store, _folder)| {
        check_generation(store, &of_a_manifest);
        check_unfinished(store, &journal_of(data, STAGED));
    });
}

fn check_records<R: Serialize + DeserializeOwned + PartialEq + Debug>(path: &Path, text: &[u8], one: &R) {
    let open = || {
        Journal::<R>::open(&Disk::default(), path).expect("a readable file opens").expect("the file is there")
    };
    fs::write(path, text).expect("a temporary folder takes a file");
    let lines = text.split(|byte| *byte == b'\n').count() - 1;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (journal, first) = open();
    drop(journal);
    assert_eq!(first.records.len() + first.damaged.len(), lines);
    assert_eq!(first.torn_bytes, (text.len() - whole) as u64);
    assert_eq!(fs::read(path).expect("it was opened"), text[..whole], "opening changed more than a torn end");

    let (mut journal, second) = open();
    let Recovered { mut records, damaged, torn_bytes, .. } = second;
    assert_eq!((&records, &damaged, torn_bytes), (&first.records, &first.damaged, 0));
    journal.append(std::slice::from_ref(one)).expect("a temporary folder takes a line");
    drop(journal);
    let (_, third) = open();
    records.push(serde_json::from_value(serde_json::to_value(one).expect("a record")).expect("a record"));
    assert_eq!((&third.records, &third.damaged, third.torn_bytes), (&records, &damaged, 0));
}

/// What was read, written anew, is read the same. Of records alone: they hold no fractions, which JSON rounds.
fn check_written_anew(path: &Path, text: &[u8]) {
    fs::write(path, text).expect("a temporary folder takes a file");
    let (_, first) = Journal::<Record>::open(&Disk::default(), path)
        .expect("a readable file opens")
        .expect("the file is there");
    fs::remove_file(path).expect("it is there");
    drop(Journal::create(&Disk::default(), path, &first.records).expect("a temporary folder takes a file"));
    let (_, again) = Journal::<Record>::open(&Disk::default(), path)
        .expect("a readable file opens")
        .expect("the file is there");
    assert_eq!((&again.records, again.damaged.len(), again.torn_bytes), (&first.records, 0, 0));
}

/// A generation is whole, or left out.
fn check_generation(store: &Store, text: &[u8]) {
    let tree = TreeName::parse("au").expect("a name");
    let folder = store.root().join("trees/au/7");
    fs::create_dir_all(&folder).expect("a temporary folder takes a folder");
    fs::write(folder.join("manifest"), MANIFEST).expect("a temporary folder takes a file");
    fs::write(folder.join("journal"), text).expect("a temporary folder takes a file");
    let found = store.stored_tree(&tree).expect("its folder is readable");
    assert!(found.next.is_none() && found.published.len() <= 1);
    for generation in found.published {
        assert_eq!((generation.head.number.0, generation.folder.number().0), (7, 7));
        assert_eq!(generation.head.manifest, BlobId::of(MANIFEST));
        assert_eq!(generation.manifest, MANIFEST);
        generation.folder.append(&[Record::Absent { path: file_path() }]).expect("it takes a line");
        let again = store.stored_tree(&tree).expect("its folder is readable").published.remove(0);
        assert_eq!((again.head, again.records.len()), (generation.head, generation.records.len() + 1));
        assert_eq!(again.records[..generation.records.len()], generation.records);
    }
    assert_eq!(store.last_number(&tree).0, 7, "its number is not used again");
}

/// What a fill goes on from are the first bytes that were staged, and the journal vouches for them; else it begins anew.
fn check_unfinished(store: &Store, text: &[u8]) {
    let key = BlobId::of(b"key");
    let staging = store.root().join("staging");
    let (part, journal) = (staging.join(format!("{key}.part")), staging.join(format!("{key}.journal")));
    fs::write(&part, STAGED).expect("a temporary folder takes a file");
    fs::write(&journal, text).expect("a temporary folder takes a file");
    let (staged, voucher) = store.stage_as(key, 1 << 30).expect("the staging folder takes a file");
    let len = usize::try_from(staged.len()).expect("it is short");
    assert_eq!(fs::read(&part).expect("it is being staged"), STAGED[..len]);
    if let Some(voucher) = voucher {
        let voucher = serde_json::to_string(&voucher).expect("it was read");
        assert!(text.windows(8).any(|word| word == b"\"origin\""), "{voucher} is not of the journal");
    } else {
        assert_eq!(len, 0, "bytes that nobody vouches for");
        assert!(!journal.exists());
    }
    staged.discard();
    assert!(!part.exists() && !journal.exists());
}

fn file_path() -> TreePath {
    TreePath::parse(b"pattern/a.zip").expect("a path")
}

/// The input with its liberties taken.
fn journal_of(data: &[u8], vouched: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = line.strip_prefix(b"=") else {
            text.extend_from_slice(line);
            continue;
        };
        let record = with_hash(record.strip_suffix(b"\n").unwrap_or(record), vouched);
        text.extend_from_slice(&blake3::hash(&record).to_hex().as_bytes()[..16]);
        text.push(b' ');
        text.extend_from_slice(&record);
        text.extend_from_slice(if line.ends_with(b"\n") { b"\n" } else { b"" });
    }
    text
}

fn with_hash(record: &[u8], vouched: &[u8]) -> Vec<u8> {
    match record.windows(4).position(|word| word == b"HASH") {
        Some(at) => {
            let hash = BlobId::of(vouched).to_string();
            [&record[..at], hash.as_bytes(), &record[at + 4..]].concat()
        }
        None => record.to_vec(),
    }
}

thread_local! {
    /// One store for all inputs of a thread: to open one takes longer than to check an input.
    static STORE: (Store, Folder) = {
        let folder = Folder::new();
        let store = Store::open(&folder.0.join("data"), Disk::default()).expect("a temporary folder takes a store");
        (store, folder)
    };
}

/// A folder of its own, in memory where there is such a place, gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("forebay-journal-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a place for temporary files takes a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
