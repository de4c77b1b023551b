//! Releases whose bytes follow from their names, and the checks of a data folder that a relay has left.
//!
//! Invariant: what is expected comes from here and from what the relay said before its end, never from its data.

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use forebay::disk::Disk;
use forebay::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::served::WITHIN;
use crate::site::{self, Site};

/// A release: those of [`site`], and one large package where `large` is not 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Release {
    pub(super) version: u32,
    /// Bytes of the large package.
    pub(super) large: usize,
}

/// Shared: what agents compare with is made once.
pub(super) type Bytes = Arc<Vec<u8>>;

/// By path, version and the size of the large package.
type Made = HashMap<(String, u32, usize), Bytes>;

impl Release {
    fn from(self) -> [u32; 2] {
        [self.version - 1, self.version - 2]
    }

    fn large_path(self) -> String {
        format!("pattern/large{}.zip", self.version)
    }

    /// All its files but the manifest.
    pub(super) fn paths(self) -> Vec<String> {
        let mut paths = site::paths(self.version, &self.from());
        if self.large > 0 {
            paths.extend([self.large_path(), self.large_path().replace(".zip", ".sig")]);
        }
        paths
    }

    /// What one of them holds.
    pub(super) fn bytes(self, path: &str) -> Bytes {
        static MADE: OnceLock<Mutex<Made>> = OnceLock::new();
        let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
        let bytes = made.entry((path.to_owned(), self.version, self.large)).or_insert_with(|| {
            let mut bytes = site::bytes(path, self.version);
            if path == self.large_path() {
                bytes = vec![0; self.large];
                blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut bytes);
            }
            bytes.into()
        });
        bytes.clone()
    }

    fn with_large(self, manifest: &str) -> String {
        let line = format!("P.5={},{},{}\r\n", self.large_path(), self.version, self.large);
        let lines = if self.large > 0 { line.as_str() } else { "" };
        manifest.replace("[PATTERN]\r\n", &format!("[PATTERN]\r\n{lines}"))
    }

    /// Its manifest.
    pub(super) fn manifest(self) -> String {
        self.with_large(&site::manifest(self.version, &self.from()))
    }

    /// What agents see of its manifest.
    pub(super) fn view(self) -> String {
        self.with_large(&site::view(self.version, &self.from()))
    }

    /// Puts it there, the manifest last; files of earlier releases stay.
    pub(super) fn publish(self, site: &Site) {
        for path in self.paths() {
            site.put(&path, &self.bytes(&path));
        }
        site.put("server.ini", self.manifest().as_bytes());
    }

    /// A folder with this release alone.
    pub(super) fn site(self) -> Site {
        let site = Site::new();
        self.publish(&site);
        site
    }
}

/// Whether every point, 200 moments and 20 cuts are to be run.
pub(super) fn all() -> bool {
    env::var("FOREBAY_CRASHES").is_ok_and(|crashes| crashes == "all")
}

/// The files that a relay's log says are complete, signatures left out: until their generation has a journal nothing
/// names those.
pub(super) fn complete(log: &str) -> HashSet<String> {
    let lines = log.lines().filter(|line| line.contains("fill complete"));
    let paths = lines.filter_map(|line| Some(line.split_once(" path=")?.1.split(' ').next()?.to_owned()));
    paths.filter(|path| !site::is_signature(path)).collect()
}

/// Each blob has the bytes that its name says.
pub(super) fn check_blobs(data: &Path) {
    if !data.join("blobs").is_dir() {
        return;
    }
    for name in site::blobs(data) {
        let bytes = fs::read(data.join("blobs").join(&name[..2]).join(&name)).unwrap();
        assert_eq!(site::blob(&bytes), name, "a blob is not what its name says");
    }
}

/// The index says what the files say. Opens the store, and closes it in order.
pub(super) fn check_index(data: &Path) {
    let deadline = Instant::now() + WITHIN;
    let store = loop {
        match Store::open(data, Disk::default()) {
            // A process that another test is starting has a copy of the lock until it has become its program.
            Err(StoreError::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let indexed: HashSet<_> =
        store.index().blobs().map(|blob| format!("{}.{}", blob.id, blob.size)).collect();
    assert_eq!(indexed, site::blobs(data), "the index is not what the files say");
}

/// A folder that was closed in order holds this release, once, and nothing else.
pub(super) fn check_holds_only(data: &Path, release: Release) {
    let wanted: HashSet<_> = release.paths().iter().map(|path| site::blob(&release.bytes(path))).collect();
    assert_eq!(site::blobs(data), wanted, "blobs");
    check_blobs(data);
    check_index(data);
    assert_eq!(names(&data.join("staging")), [""; 0], "staging");
    let generations = site::generations(data, "activeupdate");
    assert!(matches!(&generations[..], [one] if one.parse::<u64>().is_ok()), "{generations:?}");
    assert_eq!(names(&data.join("trees/activeupdate").join(&generations[0])), ["journal", "manifest"]);
    let folders = ["FORMAT", "admin", "agents", "blobs", "index", "lock", "notices", "staging", "trees"];
    assert_eq!(names(data), folders);
    assert_eq!(names(&data.join("agents")), ["0.journal", "files"]);
    assert_eq!(names(&data.join("admin")), ["tokens.journal"]);
    assert_eq!(names(&data.join("notices")), ["journal"]);
}

/// The names in a folder, sorted.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Copies a folder with all in it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Random numbers that a seed fixes (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// One below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
