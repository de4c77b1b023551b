//! Signals: SIGTERM and SIGINT drain, the deadline or a second one cuts, SIGKILL loses nothing (issue 2, point 11).

use std::net::TcpStream;
use std::time::Instant;

use rustix::process::Signal;

use crate::raw::Client;
use crate::raw::answer::End;
use crate::served::{Place, Served, WITHIN};

/// More than the kernel buffers between two ends of a loopback connection.
const BIG: usize = 24 << 20;

const PACKAGE: &str = "/activeupdate/pattern/big.zip";

/// A relay with a transfer under way whose client has read a little of it.
struct Slow {
    place: Place,
    relay: Served,
    client: Client,
    begun: Vec<u8>,
    package: Vec<u8>,
}

impl Slow {
    fn begin(limits: &str) -> Self {
        let place = Place::new();
        let package = place.big_tree(BIG);
        place.configure("", place.path("tree").to_str().unwrap(), limits);
        let relay = place.serve_ready();
        let mut client = Client::connect(relay.agents[0]);
        client.ask("GET", PACKAGE, &[]).unwrap();
        assert_eq!(client.read_head("GET").unwrap().status, 200);
        let (begun, end) = client.read(1000);
        assert_eq!(end, None);
        Self { place, relay, client, begun, package }
    }

    fn rest(&mut self) -> End {
        let (rest, end) = self.client.read(usize::MAX);
        self.begun.extend(rest);
        end.unwrap()
    }

    /// The relay ended well, and left nothing that says it runs.
    fn ended(self) -> String {
        let ended = self.relay.wait_exit();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(!self.place.data().join("running.json").exists());
        assert!(ended.stderr.trim_end().ends_with("stopped"), "{}", ended.stderr);
        ended.stderr
    }
}

#[test]
fn sigterm_and_sigint_let_a_transfer_end_whole_and_refuse_new_connections() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut slow = Slow::begin("");
        slow.relay.signal(signal);
        slow.relay.wait_line("stopping");
        for address in &slow.relay.agents {
            refused(*address);
        }
        assert_eq!(slow.rest(), End::Complete);
        assert!(slow.begun == slow.package, "the transfer is whole");
        assert!(!slow.ended().contains("cut:"), "nothing was cut");
    }
}

#[test]
fn the_drains_deadline_cuts_a_transfer_so_that_it_shows() {
    let mut slow = Slow::begin("[limits]\ndrain_secs = 1");
    slow.relay.signal(Signal::TERM);
    slow.relay.wait_line("the drain's deadline is over");
    assert!(matches!(slow.rest(), End::Short | End::Reset));
    assert!(slow.begun.len() < slow.package.len());
    slow.ended();
}

#[test]
fn a_second_signal_stops_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let mut slow = Slow::begin("[limits]\ndrain_secs = 3600");
        slow.relay.signal(first);
        slow.relay.wait_line("stopping: ");
        slow.relay.signal(second);
        slow.relay.wait_line("stopping at once");
        assert!(matches!(slow.rest(), End::Short | End::Reset));
        slow.ended();
    }
}

#[test]
fn connections_without_a_request_do_not_hold_the_drain() {
    let place = Place::new();
    place.configure("", crate::served::FIXTURE, "[limits]\ndrain_secs = 3600\nhead_timeout_secs = 600");
    let relay = place.serve_ready();
    let silent: Vec<_> = relay
        .agents
        .iter()
        .chain([&relay.admin])
        .map(|address| TcpStream::connect(address).unwrap())
        .collect();
    let mut idle = Client::connect(relay.agents[0]);
    idle.exchange("GET", "/activeupdate/server.ini", &[]).unwrap().whole(200);
    let mut idle_admin = Client::connect(relay.admin);
    idle_admin.exchange("GET", "/healthz", &[]).unwrap().whole(200);
    relay.stop();
    drop(silent);
}

#[test]
fn after_sigkill_the_next_start_serves_the_same_without_the_upstream_r1_6() {
    let place = Place::new();
    let package = place.big_tree(100_000);
    place.configure("", place.path("tree").to_str().unwrap(), "");
    let relay = place.serve_ready();
    let killed = relay.id();
    relay.signal(Signal::KILL);
    assert_eq!(relay.wait_exit().status.code(), None);
    assert!(place.data().join("running.json").exists(), "nobody could clean up");
    let nobody = place.command(&["status"]);
    assert!(nobody.stderr.contains("no relay runs on data folder"), "{nobody:?}");

    std::fs::remove_dir_all(place.path("tree")).unwrap();
    let relay = place.serve(&[]);
    relay.wait_line("served from the store");
    assert!(crate::raw::fetch(relay.agents[0], PACKAGE, &[]).whole(200) == package);
    let status = place.command(&["status"]).succeeded().stdout;
    assert!(status.contains(&format!("process {}", relay.id())) && relay.id() != killed, "{status}");
    relay.stop();
}

/// A listener that is closing may still take a connection, but it answers nothing and soon refuses.
fn refused(address: std::net::SocketAddr) {
    let deadline = Instant::now() + WITHIN;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "{address} still takes connections");
        std::thread::yield_now();
    }
}
