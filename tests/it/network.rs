//! A network of namespaces (`../shared/testnet/ipv6-only-net`): an agent with IPv6 alone, an upstream with IPv4 alone, a relay
//! between them, and another one behind NAT64. What translates is stock.
//!
//! Invariant: one network at a time, and it goes with its value.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::{Process, forebay, missing, tool};
use crate::served::{Place, Served};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/testnet/ipv6-only-net");

/// The namespaces have names of their own, so that there is one network at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A network that is up; it goes with its value.
pub(crate) struct Network {
    run: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Network {
    /// Brings it up; where this machine cannot, the test is skipped.
    pub(crate) fn up(nat64: bool) -> Option<Self> {
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

    pub(crate) fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SCRIPT);
        command.args(arguments).env("TESTNET_DIR", self.run.path().join("run"));
        command
    }

    /// A relay in one of its namespaces.
    pub(crate) fn serve(&self, name: &str, place: &Place) -> Served {
        let relay = forebay(["serve", "--config", place.config().to_str().unwrap()]);
        let mut command = self.script(&["exec", name]);
        Served::wait(Process::start(command.arg(relay.get_program()).args(relay.get_args())))
            .administered(place)
    }

    /// The same, with a generation to serve.
    pub(crate) fn serve_ready(&self, name: &str, place: &Place) -> Served {
        let served = self.serve(name, place);
        served.wait_line("a new generation is published");
        served
    }

    /// A program in one of its namespaces.
    pub(crate) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = self.script(&["exec", name]);
        command.arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.script(&["down"]).status();
    }
}
