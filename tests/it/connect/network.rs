//! Networks of one family: an agent with IPv6 alone, an upstream with IPv4 alone, and a relay between them, with both families
//! or behind NAT64 (R4.3). Each in a namespace of its own; what translates is stock.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::{Process, forebay, missing, run, tool};
use crate::served::{FIXTURE, Place, Served, WITHIN};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/testnet/ipv6-only-net");

/// The namespaces have names of their own, so that there is one network at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A network that is up; it goes with its value.
struct Network {
    run: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Network {
    /// Brings it up; where this machine cannot, the test is skipped.
    fn up(nat64: bool) -> Option<Self> {
        let tools: &[&str] = if nat64 { &["ip", "curl", "tayga", "unbound"] } else { &["ip", "curl"] };
        for name in tools {
            tool(name)?;
        }
        if !Path::new(SCRIPT).is_file() {
            return missing("../shared/testnet/ipv6-only-net");
        }
        if !rustix::process::geteuid().is_root() {
            return missing("root, to make networks");
        }
        if nat64 && !Path::new("/dev/net/tun").exists() {
            return missing("/dev/net/tun");
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let network = Self { run: tempfile::tempdir().unwrap(), _one: one };
        // Its daemons keep the pipes of whoever starts them.
        let log = network.run.path().with_extension("log");
        let out = std::fs::File::create(&log).unwrap();
        let mut up = network.script(if nat64 { &["up", "nat64"] } else { &["up"] });
        let ended = up.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        let _ = std::fs::remove_file(log);
        assert!(ended.success(), "{said}");
        Some(network)
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SCRIPT);
        command.args(arguments).env("TESTNET_DIR", self.run.path().join("run"));
        command
    }

    /// A relay in one of its namespaces.
    fn serve(&self, name: &str, place: &Place) -> Served {
        let relay = forebay(["serve", "--config", place.config().to_str().unwrap()]);
        let mut command = self.script(&["exec", name]);
        Served::wait(Process::start(command.arg(relay.get_program()).args(relay.get_args())))
    }

    /// The same, with a generation to serve.
    fn serve_ready(&self, name: &str, place: &Place) -> Served {
        let served = self.serve(name, place);
        served.wait_line("a new generation is published");
        served
    }

    /// What a stock client in one of its namespaces gets.
    fn get(&self, name: &str, url: &str) -> String {
        let mut command = self.script(&["exec", name, "curl", "-sSf", "--max-time", "20", url]);
        run(&mut command, WITHIN).succeeded().stdout
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.script(&["down"]).status();
    }
}

/// A place whose relay listens here and asks that upstream.
fn place(listen: &str, top: &str, upstream: &str) -> Place {
    let place = Place::new();
    let listen = format!("listen = {listen:?}\nadmin.listen = \"127.0.0.1:0\"\n{top}");
    place.configure(&listen, upstream, "");
    place
}

#[test]
fn an_agent_without_ipv4_is_served_from_an_upstream_without_ipv6_r4_3() {
    let Some(network) = Network::up(false) else { return };
    let (up, between) = (
        place("192.0.2.2:8080", "", FIXTURE),
        place("[fd10::1]:8080", "", "http://192.0.2.2:8080/activeupdate/"),
    );
    let _up = network.serve_ready("fb-up", &up);
    let _relay = network.serve_ready("fb-relay", &between);
    let manifest = network.get("fb-agent", "http://[fd10::1]:8080/activeupdate/server.ini");
    assert!(manifest.contains("[PATTERN]"), "{manifest}");
}

#[test]
fn a_relay_without_ipv4_reaches_an_upstream_without_ipv6_by_nat64_r4_3() {
    let Some(network) = Network::up(true) else { return };
    let up = place("192.0.2.2:8080", "", FIXTURE);
    let _up = network.serve_ready("fb-up", &up);
    let hosts = "[upstream]\nnameservers = \"192.0.2.53\"\nhosts = \"192.0.2.2 own.test\"\n";
    let cases = [
        // The name server's own translation; an address, under the prefix that is found; a prefix that is set, and nobody to ask.
        ("http://v4only.test:8080/activeupdate/", String::new()),
        ("http://192.0.2.2:8080/activeupdate/", String::new()),
        ("http://own.test:8080/activeupdate/", format!("{hosts}nat64_prefix = \"fd64::/96\"\n")),
    ];
    for (upstream, settings) in cases {
        let behind = place("[::1]:8080", &settings, upstream);
        let _relay = network.serve_ready("fb-relay6", &behind);
        let manifest = network.get("fb-relay6", "http://[::1]:8080/activeupdate/server.ini");
        assert!(manifest.contains("[PATTERN]"), "{upstream}: {manifest}");
    }
    let without =
        place("[::1]:8080", "[upstream]\nnat64_prefix = \"off\"\n", "http://192.0.2.2:8080/activeupdate/");
    network.serve("fb-relay6", &without).wait_line("192.0.2.2:8080: Network is unreachable");
}
