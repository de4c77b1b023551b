//! Stored files that go bad on the disk: found, taken out, never served again, fetched anew, counted (R1.5).

mod command;
mod faults;
mod found;
mod passes;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::config::settings::Settings;
use forebay::relay::scrub::Progress;
use forebay::store::scrub::Pass;
use tempfile::TempDir;

use crate::origin::Origin;
use crate::raw;
use crate::raw::answer::Answer;
use crate::relay::{Running, settings};
use crate::site;

/// Larger than what workers keep in memory, and than one read of the scrubber.
const BIG: &str = "pattern/big.zip";
/// Small enough to be kept in memory.
const SMALL: &str = "pattern/small.zip";

const WITHIN: Duration = Duration::from_mins(1);

/// A relay that holds a large and a small file, and its origin.
struct Ground {
    relay: Running,
    origin: Origin,
    _dir: TempDir,
}

fn bytes(path: &str) -> Vec<u8> {
    let mut bytes = vec![0; if path == SMALL { 5000 } else { 2_500_000 }];
    blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a tree of files.
fn write_tree(dir: &Path, files: &[(&str, Vec<u8>)]) {
    fs::create_dir_all(dir.join("pattern")).unwrap();
    let mut manifest = "[PATTERN]\r\n".to_owned();
    for (number, (path, bytes)) in files.iter().enumerate() {
        fs::write(dir.join(path), bytes).unwrap();
        write!(manifest, "P.{}={path},100,{}\r\n", number + 4, bytes.len()).unwrap();
    }
    fs::write(dir.join("server.ini"), manifest).unwrap();
}

/// Changes one byte of a stored file, in memory and on the disk.
pub(crate) fn flip(file: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.sync_all().unwrap();
}

fn get(relay: &Running, path: &str) -> Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

/// Waits until the scrubber has come so far.
fn wait(relay: &Running, reached: impl Fn(&Progress) -> bool) -> Progress {
    let mut progress = relay.tree(0).resources.scrubber.progress();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let waited = tokio::time::timeout(WITHIN, progress.wait_for(|now| reached(now))).await;
        waited.expect("the scrubber came no further in time").unwrap().clone()
    })
}

/// Has everything checked; gives what was found.
pub(crate) fn scrub(relay: &Running) -> Pass {
    let until = relay.tree(0).resources.scrubber.ask(None);
    wait(relay, |progress| progress.ended >= until).last.unwrap()
}

/// The names in the quarantine, sorted.
fn quarantined(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("quarantine")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Ground {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let dir = TempDir::new().unwrap();
        write_tree(dir.path(), &[(BIG, bytes(BIG)), (SMALL, bytes(SMALL))]);
        let origin = Origin::start(dir.path());
        let mut settings = settings(&origin.url("/"));
        settings.fill.attempts = 1;
        adjust(&mut settings);
        let relay = Running::refreshed(settings);
        assert_eq!(relay.generation(), 1);
        Self { relay, origin, _dir: dir }
    }

    fn get(&self, path: &str) -> Answer {
        get(&self.relay, path)
    }

    fn file(&self, path: &str) -> PathBuf {
        site::blob_file(self.relay.data(), &bytes(path))
    }

    /// Has both workers hold both files in memory or open, most likely.
    fn warm(&self) {
        for _ in 0..8 {
            self.gets_right();
        }
    }

    fn gets_right(&self) {
        for path in [BIG, SMALL] {
            assert!(self.get(path).whole(200) == bytes(path), "{path}");
        }
    }

    /// Bytes that the origin sent of a file, error pages left out.
    fn sent(&self, path: &str) -> u64 {
        let seen = self.origin.seen();
        let given =
            seen.requests.iter().filter(|request| request.path[1..] == *path && request.status == 200);
        given.map(|request| request.body_bytes).sum()
    }

    /// Waits until the origin has sent a file so often in whole.
    fn wait_sent(&self, path: &str, times: u64) {
        self.origin.wait_for_bytes(&format!("/{path}"), times * bytes(path).len() as u64);
    }
}
