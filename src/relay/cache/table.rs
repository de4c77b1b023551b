//! The answers that are kept, by URL: a table in memory within its bounds, and its rows in the data folder.
//!
//! Which is used least goes first. Never reads a blob. Invariants: answers, and bytes of all blobs that they name, each counted
//! once, stay within the settings; a row on the disk follows the table, whichever of several changes is written last.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderMap;
use lru::LruCache;
use tracing::{info, warn};

use crate::base::blob::BlobId;
use crate::config::elsewhere::CacheSettings;
use crate::relay::cache::answer::{Answer, Now, Row};
use crate::relay::cache::vary::{Selecting, selects};
use crate::store::Store;
use crate::store::blobs::BlobName;
use crate::store::room::on_disk;

/// Answers kept for one URL: an agent that sends another `Accept` each time must not fill the table.
const VARIANTS_MAX: usize = 16;

/// What part of a bound is freed when it is passed, so that not every answer has the store swept.
const BATCH: usize = 16;

/// The answers that are kept.
#[derive(Debug)]
pub struct Table {
    store: Arc<Store>,
    /// Guards all answers; held for look-ups and changes, never for the disk.
    inner: Mutex<Inner>,
    /// Held while rows are written: one at a time.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    bounds: CacheSettings,
    urls: LruCache<Arc<str>, Vec<Arc<Answer>>>,
    count: usize,
    /// Sizes, and how many answers name each.
    blobs: HashMap<BlobId, (u64, usize)>,
    bytes: u64,
    /// Rows that are not as the table is.
    changed: HashMap<BlobId, (Arc<str>, Selecting)>,
}

/// What a look-up finds.
#[derive(Clone, Debug)]
pub enum Found {
    /// The answer that the request selects.
    Answer(Arc<Answer>),
    /// Answers to this URL for other requests.
    Others,
    /// Nothing.
    Nothing,
}

impl Table {
    /// The table of a store, with what its rows say. Blocks on the disk.
    pub fn load(store: Arc<Store>, bounds: CacheSettings, now: Now) -> Self {
        let mut inner = Inner {
            bounds,
            urls: LruCache::unbounded(),
            count: 0,
            blobs: HashMap::new(),
            bytes: 0,
            changed: HashMap::new(),
        };
        let rows = store.index().answers();
        let (mut lost, doubted) = (Vec::new(), rows.is_doubted());
        for (id, row) in rows.rows() {
            let row = serde_json::from_slice::<Row>(&row).ok().and_then(|row| row.read(now));
            let there = row.filter(|(key, answer)| {
                inner.has_room() && row_id(key, &answer.selecting) == id && store.index().holds(answer.blob)
            });
            match there {
                Some((key, mut answer)) => {
                    answer.head.doubted |= doubted;
                    inner.put(&key.into(), answer);
                }
                None => lost.push(id),
            }
        }
        inner.changed.clear();
        if inner.count > 0 || !lost.is_empty() {
            info!(answers = inner.count, lost = lost.len(), "the general cache is read");
        }
        for id in lost {
            let _ = rows.remove(id);
        }
        Self { store, inner: Mutex::new(inner), writing: Mutex::new(()) }
    }

    /// Takes other bounds; what is beyond them goes.
    pub fn set_bounds(&self, bounds: CacheSettings) {
        let mut inner = self.lock();
        inner.bounds = bounds;
        inner.fit();
    }

    /// The bounds.
    pub fn bounds(&self) -> CacheSettings {
        self.lock().bounds
    }

    /// What is kept for a URL that a request selects; it is used now.
    pub fn find(&self, key: &str, request: &HeaderMap) -> Found {
        let mut inner = self.lock();
        let Some(answers) = inner.urls.get(key) else { return Found::Nothing };
        // Of several the newest: it stands last.
        let selected = answers.iter().rfind(|answer| selects(&answer.selecting, request));
        selected.map_or(Found::Others, |answer| Found::Answer(answer.clone()))
    }

    /// Keeps an answer, in place of the ones that the same requests select. False where it is too large.
    pub fn put(&self, key: &Arc<str>, answer: Answer) -> bool {
        let mut inner = self.lock();
        if answer.blob.size > inner.bounds.file_bytes_max.min(inner.bounds.bytes_max)
            || inner.bounds.entries_max == 0
        {
            return false;
        }
        inner.put(key, answer);
        inner.fit();
        true
    }

    /// Keeps an answer with a newer head in place of one that is still there.
    pub fn renew(&self, key: &Arc<str>, old: &Arc<Answer>, new: Arc<Answer>) {
        let mut inner = self.lock();
        if inner.take(key, |answer| Arc::ptr_eq(answer, old)) {
            inner.add(key, new);
        }
    }

    /// Forgets all answers to a URL.
    pub fn forget(&self, key: &str) {
        self.lock().forget(key);
    }

    /// Forgets one answer, where it is still there.
    pub fn lose(&self, key: &Arc<str>, answer: &Arc<Answer>) {
        self.lock().take(key, |own| Arc::ptr_eq(own, answer));
    }

    /// Forgets those used least, until the blobs that nothing else names free so many bytes, or none is left. Gives how many
    /// they free.
    pub fn shed(&self, bytes: u64, named: &HashSet<BlobId>) -> u64 {
        let mut inner = self.lock();
        let mut freed = 0u64;
        while freed < bytes {
            let Some(key) = inner.urls.peek_lru().map(|(key, _)| key.clone()) else { break };
            for blob in inner.forget(&key) {
                if !named.contains(&blob.id) {
                    freed = freed.saturating_add(on_disk(blob.size));
                }
            }
        }
        freed
    }

    /// The blobs that are kept.
    pub fn named_blobs(&self, named: &mut HashSet<BlobId>) {
        named.extend(self.lock().blobs.keys());
    }

    /// How many answers, and how many bytes in all.
    pub fn size(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.count as u64, inner.bytes)
    }

    /// Whether rows are behind the table.
    pub fn is_changed(&self) -> bool {
        !self.lock().changed.is_empty()
    }

    /// Writes what changed. Blocks on the disk.
    pub fn write(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::take(&mut self.lock().changed);
        let rows = self.store.index().answers();
        for (id, (key, selecting)) in changed {
            let row = {
                let inner = self.lock();
                let answers = inner.urls.peek(&*key);
                answers
                    .and_then(|answers| answers.iter().rfind(|answer| answer.selecting == selecting))
                    .cloned()
            };
            let row = row.and_then(|answer| serde_json::to_vec(&answer.row(&key)).ok());
            let written = row.map_or_else(|| rows.remove(id), |row| rows.put(id, &row));
            if let Err(error) = written {
                warn!(%error, "an answer of the general cache could not be written down: it may be fetched again");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self) -> bool {
        self.count < self.bounds.entries_max && self.bytes < self.bounds.bytes_max
    }

    fn put(&mut self, key: &Arc<str>, answer: Answer) {
        self.take(key, |own| own.selecting == answer.selecting);
        self.add(key, Arc::new(answer));
        if self.urls.peek(key).is_some_and(|answers| answers.len() > VARIANTS_MAX) {
            let mut first = true;
            self.take(key, |_| std::mem::take(&mut first));
        }
    }

    fn add(&mut self, key: &Arc<str>, answer: Arc<Answer>) {
        let (size, names) = self.blobs.entry(answer.blob.id).or_insert((answer.blob.size, 0));
        if *names == 0 {
            self.bytes = self.bytes.saturating_add(*size);
        }
        *names += 1;
        self.count += 1;
        self.note_change(key, &answer);
        self.urls.get_or_insert_mut(key.clone(), Vec::new).push(answer);
    }

    /// Takes the answers to a URL that are wanted; whether there was one.
    fn take(&mut self, key: &Arc<str>, mut wanted: impl FnMut(&Arc<Answer>) -> bool) -> bool {
        let Some(answers) = self.urls.peek_mut(key) else { return false };
        let (taken, left): (Vec<_>, Vec<_>) = answers.drain(..).partition(|answer| wanted(answer));
        let none_left = left.is_empty();
        *answers = left;
        if none_left {
            self.urls.pop(key);
        }
        for answer in &taken {
            self.drop_one(key, answer);
        }
        !taken.is_empty()
    }

    /// Gives the blobs that nothing here names any more.
    fn forget(&mut self, key: &str) -> Vec<BlobName> {
        let Some((key, answers)) = self.urls.pop_entry(key) else { return Vec::new() };
        answers.iter().filter_map(|answer| self.drop_one(&key, answer)).collect()
    }

    fn drop_one(&mut self, key: &Arc<str>, answer: &Answer) -> Option<BlobName> {
        self.count -= 1;
        self.note_change(key, answer);
        let (size, names) = self.blobs.get_mut(&answer.blob.id)?;
        *names -= 1;
        if *names > 0 {
            return None;
        }
        self.bytes = self.bytes.saturating_sub(*size);
        self.blobs.remove(&answer.blob.id);
        Some(answer.blob)
    }

    fn note_change(&mut self, key: &Arc<str>, answer: &Answer) {
        let id = row_id(key, &answer.selecting);
        self.changed.insert(id, (key.clone(), answer.selecting.clone()));
    }

    /// Has those used least go until the bounds are kept again, with some room.
    fn fit(&mut self) {
        let CacheSettings { bytes_max, entries_max, .. } = self.bounds;
        if self.bytes <= bytes_max && self.count <= entries_max {
            return;
        }
        let (bytes, entries) = (bytes_max - bytes_max / BATCH as u64, entries_max - entries_max / BATCH);
        while self.bytes > bytes || self.count > entries {
            // The one that came last stays, where it fits at all.
            if self.urls.len() == 1 && self.bytes <= bytes_max && self.count <= entries_max {
                return;
            }
            let Some(key) = self.urls.peek_lru().map(|(key, _)| key.clone()) else { return };
            self.forget(&key);
        }
    }
}

/// What names the row of an answer: its URL and what selects it.
fn row_id(key: &str, selecting: &Selecting) -> BlobId {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(key.as_bytes());
    for (name, value) in selecting {
        part(name.as_str().as_bytes());
        part(if value.is_some() { b"1" } else { b"0" });
        part(value.as_deref().unwrap_or_default());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use hyper::StatusCode;
    use hyper::header::{ACCEPT, HeaderName};
    use proptest::prelude::*;

    use super::*;
    use crate::disk::Disk;
    use crate::relay::cache::answer::Head;

    const NOW: Now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };
    const BOUNDS: CacheSettings = CacheSettings { bytes_max: 1000, file_bytes_max: 500, entries_max: 20 };

    fn answer(bytes: u8, size: u64, accept: Option<&str>) -> Answer {
        let head = Head::new(StatusCode::OK, HeaderMap::new(), Duration::ZERO, NOW);
        let selecting = accept.map(|value| (ACCEPT, Some(value.into())));
        let blob = BlobName { id: BlobId::of(&[bytes]), size };
        Answer { head, selecting: selecting.into_iter().collect(), blob }
    }

    fn table(bounds: CacheSettings) -> (tempfile::TempDir, Table) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("data"), Disk::default()).unwrap());
        let table = Table::load(store, bounds, NOW);
        (folder, table)
    }

    fn accepting(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("accept"), value.parse().unwrap())])
    }

    #[test]
    fn each_request_finds_what_it_selects_and_equal_bytes_count_once_r3_2() {
        let (_folder, table) = table(BOUNDS);
        let (one, two): (Arc<str>, Arc<str>) = ("http://a/1".into(), "http://a/2".into());
        assert!(table.put(&one, answer(1, 100, Some("x"))) && table.put(&one, answer(2, 100, Some("y"))));
        assert!(table.put(&two, answer(1, 100, None)));
        assert_eq!(table.size(), (3, 200));
        let blob = |found: Found| match found {
            Found::Answer(answer) => Some(answer.blob.id),
            Found::Others | Found::Nothing => None,
        };
        assert_eq!(blob(table.find(&one, &accepting("y"))), Some(BlobId::of(&[2])));
        assert!(matches!(table.find(&one, &accepting("z")), Found::Others));
        assert!(matches!(table.find("http://a/3", &accepting("y")), Found::Nothing));
        table.forget(&one);
        assert_eq!(table.size(), (1, 100));
        assert!(!table.put(&one, answer(3, 501, None)), "too large");
    }

    #[test]
    fn room_is_made_by_what_is_used_least_and_named_by_nothing_else_r1_8() {
        let (_folder, table) = table(BOUNDS);
        let keys: Vec<Arc<str>> = (0..4).map(|number| format!("http://a/{number}").into()).collect();
        for (key, bytes) in keys.iter().zip(1..) {
            table.put(key, answer(bytes, 100, None));
        }
        let _ = table.find(&keys[0], &HeaderMap::new());
        assert_eq!(table.shed(1, &HashSet::from([BlobId::of(&[2])])), on_disk(100));
        assert!(matches!(table.find(&keys[0], &HeaderMap::new()), Found::Answer(_)), "used last");
        assert_eq!(table.size(), (2, 200), "the second went for nothing, the third for its bytes");
    }

    #[test]
    fn what_is_written_is_read_again_and_what_has_no_blob_is_not_r1_6() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Arc::new(Store::open(folder.path(), Disk::default()).unwrap());
        let store = open();
        let mut staged = store.stage(3).unwrap();
        staged.append(b"abc").unwrap();
        let blob = store.commit(staged, Some(3), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let table = Table::load(store, BOUNDS, NOW);
        let (kept, gone, undone): (Arc<str>, Arc<str>, Arc<str>) =
            ("http://a/k".into(), "http://a/g".into(), "u".into());
        table.put(&kept, Answer { blob, ..answer(0, 0, None) });
        table.put(&gone, answer(9, 3, None));
        table.put(&undone, Answer { blob, ..answer(0, 0, None) });
        table.write();
        table.forget(&undone);
        table.write();
        drop(table);
        let table = Table::load(open(), BOUNDS, NOW);
        assert_eq!(table.size(), (1, 3));
        assert!(
            matches!(table.find(&kept, &HeaderMap::new()), Found::Answer(answer) if !answer.head.doubted)
        );
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_sums_are_those_of_a_plain_count_r1_8(
            acts in prop::collection::vec((0u8..8, 0u8..12, 1u64..600, 0u8..40), 1..80),
        ) {
            let (_folder, table) = table(CacheSettings { entries_max: 10, ..BOUNDS });
            for (key, bytes, size, accept) in acts {
                let key: Arc<str> = format!("http://a/{key}").into();
                // The size belongs to the bytes.
                let size = (u64::from(bytes) * 97 + 1).min(size.max(400));
                match accept {
                    0 => table.forget(&key),
                    accept => {
                        table.put(&key, answer(bytes, size.min(u64::from(bytes) * 97 + 1), Some(&accept.to_string())));
                    }
                }
                let inner = table.lock();
                let all: Vec<_> = inner.urls.iter().flat_map(|(_, answers)| answers).collect();
                let distinct: HashSet<_> = all.iter().map(|answer| answer.blob.id).collect();
                prop_assert_eq!(inner.count, all.len());
                prop_assert_eq!(inner.blobs.len(), distinct.len());
                prop_assert_eq!(inner.bytes, inner.blobs.values().map(|(size, _)| size).sum::<u64>());
                prop_assert!(inner.count <= 10 && inner.bytes <= BOUNDS.bytes_max);
                prop_assert!(inner.urls.iter().all(|(_, answers)| !answers.is_empty() && answers.len() <= VARIANTS_MAX));
            }
        }
    }
}
