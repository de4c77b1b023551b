//! A small upstream tree in a folder of its own, written release by release: two patterns' worth of cases in a few kilobytes.
//!
//! A release is P.4 with its increments, E.4 that never changes, and their signatures; bytes follow from path and version.
//! Invariant: files stand before the manifest that names them, and nothing is changed in place.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder.
pub(crate) struct Site(TempDir);

impl Site {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One with a release.
    pub(crate) fn with(version: u32, from: &[u32]) -> Self {
        let site = Self::new();
        site.publish(version, from);
        site
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// The same as text.
    pub(crate) fn text(&self) -> &str {
        self.dir().to_str().unwrap()
    }

    /// Puts a release there: P.4 at a version, with increments from these. Files of earlier releases stay.
    pub(crate) fn publish(&self, version: u32, from: &[u32]) {
        for path in paths(version, from) {
            self.put(&path, &bytes(&path, version));
        }
        self.put("server.ini", manifest(version, from).as_bytes());
    }

    /// Puts a file there by rename, unless it holds these bytes already.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.file(path);
        if fs::read(&file).is_ok_and(|there| there == bytes) {
            return;
        }
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let part = self.file("part");
        fs::write(&part, bytes).unwrap();
        fs::rename(part, file).unwrap();
    }

    /// Takes a file away.
    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.file(path)).unwrap();
    }

    /// Where a file lies.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }
}

/// The manifest of a release.
pub(crate) fn manifest(version: u32, from: &[u32]) -> String {
    manifest_of(version, from).replace('\n', "\r\n")
}

fn manifest_of(version: u32, from: &[u32]) -> String {
    let mut text = format!(
        "[Server]\nServer.1=http://up/au\n[PATTERN]\nP.4=pattern/a{version}.zip,{version},{PACKAGE_BYTES}\n\
         P.4.MergeCountEx={}\n",
        from.len()
    );
    for (index, from) in from.iter().enumerate() {
        let path = increment(*from, version);
        writeln!(text, "P.4.Merge.{}={path},{from},{INCREMENT_BYTES}", index + 1).unwrap();
    }
    text + "[ENGINE]\nE.4=VSAPI,engine/e1.zip,1.0.1," + &PACKAGE_BYTES.to_string() + ",1.0\n"
}

/// What agents see of it while nothing is withheld and no public base is set.
pub(crate) fn view(version: u32, from: &[u32]) -> String {
    manifest(version, from).replace("Server.1", ";Server.1")
}

/// P.4's full file.
pub(crate) fn package(version: u32) -> String {
    format!("pattern/a{version}.zip")
}

/// P.4's increment.
pub(crate) fn increment(from: u32, version: u32) -> String {
    format!("pattern/a_{from}.{version}")
}

/// That increment's signature: its name is the same for every version, its bytes are not.
pub(crate) fn increment_signature(from: u32) -> String {
    format!("pattern/a_{from}.sig")
}

/// All files of a release but the manifest: 4, and 2 for each increment.
pub(crate) fn paths(version: u32, from: &[u32]) -> Vec<String> {
    let mut paths = vec![package(version), format!("pattern/a{version}.sig")];
    for from in from {
        paths.extend([increment(*from, version), increment_signature(*from)]);
    }
    paths.extend([ENGINE, "engine/e1.sig"].map(str::to_owned));
    paths
}

/// What a file of a release holds; the engine's files are the same in each.
pub(crate) fn bytes(path: &str, version: u32) -> Vec<u8> {
    let len = match path.rsplit_once('.') {
        Some((_, "sig")) => SIGNATURE_BYTES,
        Some((_, "zip")) => PACKAGE_BYTES,
        _ => INCREMENT_BYTES,
    };
    let version = if path.starts_with("engine") { 0 } else { version };
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(format!("{path} {version}").as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Whether a path is that of a signature.
pub(crate) fn is_signature(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extension == "sig")
}

/// The names of all blobs below a data folder, `HASH.SIZE`.
pub(crate) fn blobs(data: &Path) -> HashSet<String> {
    let folders = fs::read_dir(data.join("blobs")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// The name of the blob that holds these bytes.
pub(crate) fn blob(bytes: &[u8]) -> String {
    format!("{}.{}", blake3::hash(bytes).to_hex(), bytes.len())
}

/// Where a blob lies.
pub(crate) fn blob_file(data: &Path, bytes: &[u8]) -> PathBuf {
    let name = blob(bytes);
    data.join("blobs").join(&name[..2]).join(name)
}

/// The names in a tree's folder, sorted: `N`, or `N.next`.
pub(crate) fn generations(data: &Path, tree: &str) -> Vec<String> {
    let entries = fs::read_dir(data.join("trees").join(tree)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The engine, which no release changes.
pub(crate) const ENGINE: &str = "engine/e1.zip";

pub(crate) const PACKAGE_BYTES: usize = 9000;
const INCREMENT_BYTES: usize = 700;
const SIGNATURE_BYTES: usize = 200;
