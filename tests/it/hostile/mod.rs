//! Clients that mean harm: what each of them may take up, and that agents are served all the while (point 8, invariant 7).

mod frames;
mod http1;
mod http2;
mod places;
mod pressure;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::raw;
use crate::served::{Place, Served};

const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

/// A relay of its own process with these settings after the tree.
fn serve(top: &str, tail: &str) -> (Place, Served) {
    let place = Place::new();
    place.configure(top, crate::served::FIXTURE, tail);
    let relay = place.serve_ready();
    (place, relay)
}

/// What a process has in memory, in bytes.
fn resident_bytes(relay: &Served) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How many files a process has open.
fn open_files(relay: &Served) -> usize {
    fs::read_dir(format!("/proc/{}/fd", relay.id())).unwrap().count()
}

/// Asks for the manifest on a connection of its own; gives how long that took.
fn served_in(relay: &Served) -> Duration {
    let began = Instant::now();
    assert_eq!(raw::fetch(relay.agents[0], MANIFEST, &[]).head.status, 200);
    began.elapsed()
}

/// Waits until no connection is open any more.
fn wait_quiet(relay: &Served) {
    let deadline = Instant::now() + raw::PATIENCE;
    while relay.metric("forebay_connections_now") > 0 {
        assert!(Instant::now() < deadline, "connections stay open:\n{}", relay.ask("/metrics"));
        thread::sleep(Duration::from_millis(10));
    }
}
