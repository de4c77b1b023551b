//! A cold blob on a disk that stalls: who asks for it waits, and nobody else does (design.md, invariant 9).
//!
//! One worker serves all, so that nobody can be lucky to meet another.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::disk::{Disk, Step, Verdict, When};

use super::ground::Release;
use crate::origin::fault::Gate;
use crate::raw::Client;
use crate::relay::{Running, settings};
use crate::site;

const RELEASE: Release = Release { version: 5, large: 300_000 };
const STALL: Duration = Duration::from_secs(2);

/// Requests that are measured without a stall; with one, as many as it lets through.
const HITS: usize = 2000;

/// What the disk does to the blob that stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalls {
    Opening,
    Reading,
}

/// Which file stalls, how, and what holds it up.
type Rule = Arc<Mutex<Option<(PathBuf, Stalls)>>>;

struct Ground {
    relay: Running,
    rule: Rule,
    _site: site::Site,
}

impl Ground {
    /// A relay that holds the release; `hold` is called on the thread that meets the stall.
    fn new(hold: impl Fn() + Send + Sync + 'static) -> Self {
        let (site, rule) = (RELEASE.site(), Rule::default());
        let mut settings = settings(site.text());
        settings.workers = Some(1);
        let held = rule.clone();
        let disk = Disk::with_seam(move |when, step| {
            let stalls = held.lock().unwrap().as_ref().and_then(|(path, how)| meets(step, path, *how));
            match stalls {
                Some(cold) if cold => Verdict::Lost,
                Some(_) if when == When::Before => {
                    hold();
                    Verdict::Done
                }
                _ => Verdict::Done,
            }
        });
        let relay = Running::try_start(settings, tempfile::tempdir().unwrap(), &disk)
            .unwrap_or_else(|(error, _)| panic!("{error}"));
        relay.wait_refreshes(1);
        Self { relay, rule, _site: site }
    }

    fn stall(&self, path: &str, how: Stalls) {
        let file = site::blob_file(self.relay.data(), &RELEASE.bytes(path));
        *self.rule.lock().unwrap() = Some((file, how));
    }

    fn get(&self, path: &str) -> Duration {
        get(&mut Client::connect(self.relay.v4()), path)
    }
}

/// Whether a step meets the stall: `true` where it is only told that nothing is in memory.
fn meets(step: &Step<'_>, path: &Path, how: Stalls) -> Option<bool> {
    let is = |file: &File| {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).is_ok_and(|its| its == path)
    };
    match (step, how) {
        (Step::OpenToRead(opened), Stalls::Opening) => (*opened == path).then_some(false),
        (Step::ReadCached(file), Stalls::Reading) => is(file).then_some(true),
        (Step::ReadAt(file, _, 0), Stalls::Reading) => is(file).then_some(false),
        _ => None,
    }
}

/// One request on a connection that stays, its bytes compared; how long it took.
fn get(client: &mut Client, path: &str) -> Duration {
    let begun = Instant::now();
    let answer = client.exchange("GET", &format!("/activeupdate/{path}"), &[]).unwrap();
    let took = begun.elapsed();
    assert!(answer.whole(200) == *RELEASE.bytes(path), "{path}");
    took
}

/// Asks for all but the stalled file until `done`, and at least so often; gives p99 and the longest.
fn measure(
    address: SocketAddr,
    stalled: &str,
    least: usize,
    done: &AtomicBool,
) -> (usize, Duration, Duration) {
    let mut took: Vec<_> = std::thread::scope(|scope| {
        let agents: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    let paths = RELEASE.paths().into_iter().filter(|path| path != stalled);
                    let paths: Vec<_> = paths.collect();
                    let mut took = Vec::new();
                    while took.len() < least / 2 || !done.load(Ordering::SeqCst) {
                        took.push(get(&mut client, &paths[took.len() % paths.len()]));
                    }
                    took
                })
            })
            .collect();
        agents.into_iter().flat_map(|agent| agent.join().unwrap()).collect()
    });
    took.sort();
    (took.len(), took[took.len() * 99 / 100], took[took.len() - 1])
}

#[test]
fn a_cold_blob_that_stalls_two_seconds_moves_no_other_hit() {
    let ground = Ground::new(|| std::thread::sleep(STALL));
    let address = ground.relay.v4();
    let stalled =
        RELEASE.paths().into_iter().find(|path| RELEASE.bytes(path).len() == RELEASE.large).unwrap();
    for path in RELEASE.paths().iter().filter(|path| **path != stalled) {
        ground.get(path);
    }
    let (_, p99, longest) = measure(address, &stalled, HITS, &AtomicBool::new(true));
    println!("no stall: p99 {p99:?}, longest {longest:?}");
    // First nobody has the blob open, then it is open, and nothing of it in memory.
    for how in [Stalls::Opening, Stalls::Reading] {
        ground.stall(&stalled, how);
        let done = AtomicBool::new(false);
        let (waited, (hits, meanwhile, longest)) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let waited = ground.get(&stalled);
                done.store(true, Ordering::SeqCst);
                waited
            });
            let measured = measure(address, &stalled, 0, &done);
            (waiting.join().unwrap(), measured)
        });
        println!("{how:?} stalls for {waited:?}: {hits} hits, p99 {meanwhile:?}, longest {longest:?}");
        assert!(waited >= STALL, "{how:?}: {waited:?}");
        assert!(hits > HITS / 10, "{how:?}: {hits}");
        assert!(meanwhile < 3 * p99 + Duration::from_millis(20), "{how:?}: {meanwhile:?} after {p99:?}");
        assert!(longest < STALL / 2, "{how:?}: {longest:?}");
    }
    ground.relay.stop();
}

/// More than a worker has threads that may wait.
const CROWD: usize = 600;

#[test]
fn a_crowd_on_a_blob_that_stalls_leaves_other_cold_blobs_their_threads() {
    let (gate, met) = (Arc::new(Mutex::new(Gate::default())), Arc::new(AtomicUsize::new(0)));
    let (current, count) = (gate.clone(), met.clone());
    let mut ground = Ground::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let gate = current.lock().unwrap().clone();
        assert!(gate.pass());
    });
    let large = |path: &&String| RELEASE.bytes(path).len() == RELEASE.large;
    let paths = RELEASE.paths();
    let stalled = paths.iter().find(large).unwrap();
    // Nobody has asked for the others yet: each is a cold one.
    let mut cold = paths.iter().filter(|path| *path != stalled);
    for how in [Stalls::Opening, Stalls::Reading] {
        ground.stall(stalled, how);
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::connect(ground.relay.v4())).collect();
        for client in &mut crowd {
            client.ask("GET", &format!("/activeupdate/{stalled}"), &[]).unwrap();
        }
        let shut = gate.lock().unwrap().clone();
        shut.wait_reached();
        let tally = ground.relay.handle().tally().unwrap();
        while tally.connections_now.value() < CROWD as u64 {
            std::thread::yield_now();
        }
        // Both a cold blob and one that is at hand by then.
        let path = cold.next().unwrap();
        let took = [ground.get(path), ground.get(path)];
        let meanwhile = met.swap(0, Ordering::SeqCst);
        println!("{how:?}: {CROWD} agents wait on {meanwhile} threads, another cold blob took {took:?}");
        assert!((1..CROWD / 2).contains(&meanwhile), "{how:?}: {meanwhile}");
        // Before any of them goes on: else the next ones would stall at a gate that nobody opens.
        *ground.rule.lock().unwrap() = None;
        *gate.lock().unwrap() = Gate::default();
        shut.open();
        for mut client in crowd {
            assert!(client.answer("GET").unwrap().whole(200) == *RELEASE.bytes(stalled), "{how:?}");
        }
    }
    ground.relay.stop();
}
