//! What the upstream publishes, release by release, and whether bytes are of it.
//!
//! Invariant: what was published is known before the upstream has it, so that no right answer is taken for a wrong one.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::site::{Site, is_signature};

/// Where the relay has the tree.
pub(super) const BASE: &str = "/activeupdate/";

/// Releases whose bytes are known: more than the relay keeps, with what it is behind by while the upstream is down.
const KNOWN_RELEASES: u32 = 48;

/// Releases whose files the upstream still has.
const UPSTREAM_RELEASES: u32 = 8;

/// More than the sockets between the relay and a client hold, so that slow clients are slow.
const BIG_BYTES: usize = 1_300_000;
const ENGINE_BYTES: usize = 200_000;
const SMALL_BYTES: usize = 9000;
const SIGNATURE_BYTES: usize = 200;

/// The bytes of a file, and the release that has them.
type Published = (u32, Arc<Vec<u8>>);

/// The upstream's tree.
pub(super) struct Releases {
    site: Site,
    newest: AtomicU32,
    /// Guards the bytes that were published under each path, the newest last, with the release.
    known: Mutex<HashMap<String, VecDeque<Published>>>,
}

impl Releases {
    /// One with the first release.
    pub(super) fn new() -> Self {
        let releases = Self { site: Site::new(), newest: AtomicU32::new(0), known: Mutex::default() };
        releases.publish();
        releases
    }

    /// Where it lies.
    pub(super) fn dir(&self) -> &Path {
        self.site.dir()
    }

    /// The newest release.
    pub(super) fn newest(&self) -> u32 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Puts the next release there; what is old goes, there and here.
    pub(super) fn publish(&self) {
        let version = self.newest() + 1;
        let files = paths(version).into_iter().map(|path| (bytes(&path, version), path));
        let files: Vec<_> = files.map(|(bytes, path)| (path, Arc::new(bytes))).collect();
        {
            let mut known = self.known.lock().unwrap();
            let view = Arc::new(view(version).into_bytes());
            for (path, bytes) in files.iter().cloned().chain([("server.ini".to_owned(), view)]) {
                let published = known.entry(path).or_default();
                published.retain(|(_, before)| *before != bytes);
                published.push_back((version, bytes));
            }
            for published in known.values_mut() {
                published.retain(|(release, _)| release + KNOWN_RELEASES > version);
            }
            known.retain(|_, published| !published.is_empty());
        }
        for (path, bytes) in &files {
            self.site.put(path, bytes);
        }
        self.site.put("server.ini", manifest(version).as_bytes());
        self.newest.store(version, Ordering::SeqCst);
        if let Some(old) = version.checked_sub(UPSTREAM_RELEASES).filter(|old| *old > 0) {
            let still = paths(version);
            for path in paths(old).iter().filter(|path| !still.contains(path)) {
                // One that a reader of the folder holds is gone from it all the same.
                let _ = fs::remove_file(self.site.file(path));
            }
        }
    }

    /// Whether these are all the bytes that were published under a path, in one release.
    pub(super) fn is_whole(&self, path: &str, bytes: &[u8]) -> bool {
        self.any(path, |published| published == bytes)
    }

    /// Whether these are the first bytes of such.
    pub(super) fn is_start(&self, path: &str, bytes: &[u8]) -> bool {
        self.any(path, |published| published.starts_with(bytes))
    }

    /// Whether these are the bytes of a range of such, in a file of this size.
    pub(super) fn is_slice(&self, path: &str, range: Range<usize>, size: usize, bytes: &[u8]) -> bool {
        self.any(path, |published| published.len() == size && published.get(range.clone()) == Some(bytes))
    }

    /// Whether a file of this size was published under a path.
    pub(super) fn is_size(&self, path: &str, size: usize) -> bool {
        self.any(path, |published| published.len() == size)
    }

    /// The bytes of the newest release's files, the manifest's view among them.
    pub(super) fn newest_files(&self) -> Vec<(String, Vec<u8>)> {
        let version = self.newest();
        let files = paths(version).into_iter().map(|path| (path.clone(), bytes(&path, version)));
        files.chain([("server.ini".to_owned(), view(version).into_bytes())]).collect()
    }

    fn any(&self, path: &str, is_it: impl Fn(&[u8]) -> bool) -> bool {
        let published: Vec<_> = {
            let known = self.known.lock().unwrap();
            known.get(path).into_iter().flatten().map(|(_, bytes)| bytes.clone()).collect()
        };
        published.iter().rev().any(|bytes| is_it(bytes))
    }
}

/// Every file of a release but the manifest. One signature and the engine have the same name in all.
fn paths(version: u32) -> Vec<String> {
    vec![
        format!("pattern/a{version}.zip"),
        format!("pattern/a{version}.sig"),
        format!("pattern/a_1.{}", version + 1),
        "pattern/a_1.sig".into(),
        format!("pattern/big{version}.zip"),
        format!("pattern/big{version}.sig"),
        "engine/e1.zip".into(),
        "engine/e1.sig".into(),
    ]
}

fn bytes(path: &str, version: u32) -> Vec<u8> {
    let version = if path.starts_with("engine") { 0 } else { version };
    let mut bytes = vec![0; len(path)];
    blake3::Hasher::new().update(format!("{path} {version}").as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn len(path: &str) -> usize {
    match path {
        signature if is_signature(signature) => SIGNATURE_BYTES,
        big if big.contains("big") => BIG_BYTES,
        engine if engine.starts_with("engine") => ENGINE_BYTES,
        _ => SMALL_BYTES,
    }
}

/// A release's manifest; P.4 counts from 2, because its increment comes from 1.
fn manifest(version: u32) -> String {
    let next = version + 1;
    let mut text = String::from("[Server]\r\nServer.1=http://up/au\r\n[PATTERN]\r\n");
    let _ = write!(text, "P.4=pattern/a{version}.zip,{next},{SMALL_BYTES}\r\nP.4.MergeCountEx=1\r\n");
    let _ = write!(text, "P.4.Merge.1=pattern/a_1.{next},1,{SMALL_BYTES}\r\n");
    let _ = write!(text, "P.5=pattern/big{version}.zip,{version},{BIG_BYTES}\r\n");
    let _ = write!(text, "[ENGINE]\r\nE.4=VSAPI,engine/e1.zip,1.0.1,{ENGINE_BYTES},1.0\r\n");
    text
}

/// What agents see of it.
fn view(version: u32) -> String {
    manifest(version).replace("Server.1", ";Server.1")
}
