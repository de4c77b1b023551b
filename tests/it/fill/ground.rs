//! A relay that fetches nothing ahead, an origin under it, and packages that lie at both under the same paths.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::base::path::TreePath;
use forebay::base::tally::Tally;
use forebay::config::settings::{Prefetch, Settings};
use forebay::relay::crowds::Crowds;
use forebay::relay::entry::Entry;
use forebay::relay::tree::Tree;
use tempfile::TempDir;

use crate::origin::Origin;
use crate::raw;
use crate::raw::answer::Answer;
use crate::relay::{Running, settings};

/// The package of a tree that has one; its path at the origin too.
pub(super) const PATH: &str = "/activeupdate/pattern/p0.zip";

/// What an agent reads when the upstream is at fault, whatever the fault.
pub(super) const NOT_FETCHED: &[u8] = b"the relay could not fetch the file from its upstream\n";

pub(super) struct Ground {
    pub(super) origin: Origin,
    pub(super) relay: Running,
    pub(super) files: Vec<Vec<u8>>,
    pub(super) dir: TempDir,
    /// Fills begun, completed and failed in the refresh: signatures that are not there.
    refreshed: [u64; 3],
}

/// The path of a package, counted from 0.
pub(super) fn path(number: usize) -> String {
    format!("/activeupdate/pattern/p{number}.zip")
}

/// Bytes that no part of repeats.
pub(super) fn bytes(seed: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The file after `Fault::ChangedFrom`.
pub(super) fn changed(bytes: &[u8], from: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[from..].iter_mut().for_each(|byte| *byte ^= 0xff);
    bytes
}

/// Writes a tree with packages of these sizes.
pub(super) fn write_tree(dir: &Path, files: &[Vec<u8>]) {
    let root = dir.join("activeupdate");
    std::fs::create_dir_all(root.join("pattern")).unwrap();
    let mut manifest = "[PATTERN]\r\n".to_owned();
    for (number, bytes) in files.iter().enumerate() {
        std::fs::write(root.join(format!("pattern/p{number}.zip")), bytes).unwrap();
        let line = format!("P.{}=pattern/p{number}.zip,100,{}\r\n", number + 4, bytes.len());
        manifest.push_str(&line);
    }
    std::fs::write(root.join("server.ini"), manifest).unwrap();
}

/// Three tries and deadlines that nothing right exceeds; tests of deadlines set their own.
pub(super) fn lazy(upstream: &str) -> Settings {
    let mut settings = settings(upstream);
    settings.trees[0].prefetch = Prefetch::None;
    settings.fill.attempts = 3;
    settings.fill.first_byte = Duration::from_secs(20);
    settings.fill.silence = Duration::from_secs(20);
    settings
}

impl Ground {
    /// Packages of these sizes, the manifest taken and the heads known, no package fetched.
    pub(super) fn new(sizes: &[usize]) -> Self {
        Self::with(sizes, |_| {})
    }

    /// The same with other settings.
    pub(super) fn with(sizes: &[usize], adjust: impl FnOnce(&mut Settings)) -> Self {
        let dir = TempDir::new().unwrap();
        let files: Vec<_> = sizes.iter().enumerate().map(|(seed, size)| bytes(seed, *size)).collect();
        write_tree(dir.path(), &files);
        let origin = Origin::start(dir.path());
        let mut settings = lazy(&origin.url("/activeupdate/"));
        adjust(&mut settings);
        let relay = Running::refreshed(settings);
        assert_eq!(relay.generation(), 1);
        let mut ground = Self { origin, relay, files, dir, refreshed: [0; 3] };
        ground.refreshed = ground.fills();
        ground
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.ask(path, &[])
    }

    pub(super) fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        raw::fetch(self.relay.v4(), path, headers)
    }

    /// The GET requests that the origin had for a path.
    pub(super) fn gets(&self, path: &str) -> usize {
        self.origin.seen().of(path).filter(|request| request.method == "GET").count()
    }

    /// The `Range` of each GET request that the origin had for a path.
    pub(super) fn ranges(&self, path: &str) -> Vec<Option<String>> {
        let seen = self.origin.seen();
        seen.of(path)
            .filter(|request| request.method == "GET")
            .map(|request| {
                assert_eq!(request.range().is_some(), request.header("if-range").is_some(), "R2.3");
                request.range().map(str::to_owned)
            })
            .collect()
    }

    fn tally(&mut self) -> Arc<Tally> {
        self.relay.handle().tally().unwrap()
    }

    /// Fills begun, completed and failed since the refresh.
    pub(super) fn fills(&mut self) -> [u64; 3] {
        let tally = self.tally();
        let now = [tally.fills_begun.value(), tally.fills_completed.value(), tally.fills_failed.value()];
        std::array::from_fn(|index| now[index] - self.refreshed[index])
    }

    /// Fills under way.
    pub(super) fn fills_now(&mut self) -> u64 {
        self.tally().fills_now.value()
    }

    /// The crowds that the relay knows of.
    pub(super) fn crowds(&mut self) -> Arc<Crowds> {
        self.relay.handle().trees()[0].resources.crowds.clone()
    }

    fn entry(&mut self, path: &str) -> (Arc<Tree>, Arc<Entry>) {
        let tree = self.relay.handle().trees().remove(0);
        let path = TreePath::parse(path.trim_start_matches("/activeupdate/").as_bytes()).unwrap();
        let snapshot = tree.snapshot().unwrap();
        let entry = snapshot.current().generation.listed(&path).unwrap().entry.clone();
        (tree, entry)
    }

    /// Waits until no fill of a package is under way; true when it is held then.
    pub(super) fn settle(&mut self, path: &str) -> bool {
        let (tree, entry) = self.entry(path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tree.fill(&entry).is_none_or(|fill| runtime.block_on(fill.finished()).is_ok())
    }

    /// Lets the package be asked for again at once after a failure.
    pub(super) fn forget(&mut self, path: &str) {
        self.entry(path).1.forget_failure();
    }

    /// Whether a fill left something behind.
    pub(super) fn staged(&self) -> usize {
        std::fs::read_dir(self.relay.data().join("staging")).unwrap().count()
    }

    /// The files of all blobs.
    pub(super) fn blobs(&self) -> Vec<std::path::PathBuf> {
        let folders = std::fs::read_dir(self.relay.data().join("blobs")).unwrap();
        folders
            .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect()
    }
}
