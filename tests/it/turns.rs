//! A crowd's turns: each connection of a worker has its first bytes before any has much more (issue 6, point 4).
//!
//! Counts, no clock: the worker is stopped at each look at what is in memory of the file, of which a turn has one.

use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use forebay::base::limits::{BODY_ROUND_BYTES, CROWD_FIRST_TURN_BYTES};
use forebay::disk::{Disk, Step, Verdict};
use tempfile::TempDir;

use crate::origin::fault::WAIT_MAX;
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};

const BIG: &str = "/activeupdate/pattern/big.zip";
const SIZE: usize = 1_000_003;

/// What stops the worker, look by look.
#[derive(Debug, Default)]
struct Turnstile {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many looks were begun since looks are counted; none are counted before.
    begun: Option<usize>,
    /// How many may be ended.
    let_through: usize,
}

impl Turnstile {
    /// Stops who looks until so many may.
    fn look(&self) {
        let mut state = self.state.lock().unwrap();
        let Some(before) = state.begun else { return };
        state.begun = Some(before + 1);
        self.changed.notify_all();
        let shut = |state: &mut State| state.let_through <= before;
        let (state, waited) = self.changed.wait_timeout_while(state, WAIT_MAX, shut).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "nobody let look {before} through");
    }

    /// Counts looks from now on.
    fn count(&self) {
        self.state.lock().unwrap().begun = Some(0);
    }

    /// Lets so many looks through in all, and waits until the next one is begun.
    fn let_through(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        state.let_through = count;
        self.changed.notify_all();
        let fewer = |state: &mut State| state.begun.is_some_and(|begun| begun <= count);
        let (state, waited) = self.changed.wait_timeout_while(state, WAIT_MAX, fewer).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "no look came after {count}");
    }

    /// Lets all through.
    fn open(&self) {
        self.state.lock().unwrap().let_through = usize::MAX;
        self.changed.notify_all();
    }
}

/// A relay of one worker that has a large file, with what stops it.
fn ground() -> (Running, Arc<Turnstile>, Vec<u8>, TempDir) {
    let tree = TempDir::new().unwrap();
    fs::create_dir(tree.path().join("pattern")).unwrap();
    let mut file = vec![0; SIZE];
    blake3::Hasher::new().finalize_xof().fill(&mut file);
    fs::write(tree.path().join("pattern/big.zip"), &file).unwrap();
    fs::write(tree.path().join("server.ini"), format!("[PATTERN]\r\nP.1=pattern/big.zip,100,{SIZE}\r\n"))
        .unwrap();
    let mut settings = settings(tree.path().to_str().unwrap());
    settings.workers = Some(1);
    let turnstile = Arc::new(Turnstile::default());
    let looks = turnstile.clone();
    let disk = Disk::with_seam(move |_, step| {
        if let Step::ReadCached(_) = step {
            looks.look();
        }
        Verdict::Done
    });
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let relay = Running::try_start(settings, data, &disk).unwrap_or_else(|(error, _)| panic!("{error}"));
    relay.wait_refreshes(1);
    (relay, turnstile, file, tree)
}

/// What so many connections have of a body each once each had one turn.
fn first_turns(count: usize) -> Vec<usize> {
    let (relay, turnstile, file, _tree) = ground();
    let mut before = Client::connect(relay.v4());
    let mut crowd: Vec<_> = (0..count).map(|_| Client::connect(relay.v4())).collect();
    for client in crowd.iter_mut().chain([&mut before]) {
        assert!(client.exchange("HEAD", BIG, &[]).unwrap().whole(200).is_empty());
    }
    // The worker is held up by a request that ends with its one turn, until the whole crowd has asked.
    turnstile.count();
    before.ask("GET", BIG, &[("Range", "bytes=0-99999")]).unwrap();
    turnstile.let_through(0);
    for client in &mut crowd {
        client.ask("GET", BIG, &[]).unwrap();
    }
    turnstile.let_through(1 + count);
    let mut got = Vec::new();
    for (number, client) in crowd.iter_mut().enumerate() {
        assert_eq!(client.read_head("GET").unwrap().status, 200, "connection {number}");
        let (mut bytes, end) = client.read(1);
        assert_eq!((bytes.len(), end), (1, None), "connection {number} has no byte");
        // The worker stands still, and what it wrote has come.
        client.set_patience(Duration::from_millis(1));
        loop {
            let (more, end) = client.read(usize::MAX);
            assert_eq!(end, Some(End::TimedOut));
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        assert!(bytes == file[..bytes.len()]);
        got.push(bytes.len());
        client.set_patience(WAIT_MAX);
    }
    turnstile.open();
    for (client, had) in crowd.iter_mut().zip(&got) {
        let (rest, end) = client.read(usize::MAX);
        assert!(end == Some(End::Complete) && rest == file[*had..], "{} bytes, {end:?}", rest.len());
    }
    assert!(before.answer("GET").unwrap().whole(206) == file[..100_000]);
    relay.stop();
    got
}

#[test]
fn each_of_a_crowd_has_its_first_bytes_before_any_has_more_than_its_part_of_a_round_r2_3() {
    for (count, most) in [(40, BODY_ROUND_BYTES / 40), (300, CROWD_FIRST_TURN_BYTES)] {
        let got = first_turns(count);
        assert!(got.iter().all(|bytes| *bytes as u64 <= most), "{count}: {got:?}");
    }
}
