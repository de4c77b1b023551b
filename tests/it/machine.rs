//! A small kernel of its own, whose disk keeps what was synced and no more: what power cuts are tried on.
//!
//! Invariant: the guest runs this test program; whether it does anything there, its environment says.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::process::{Ended, missing, run, tool};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/testnet/power-cut");
const GUEST: &str = "FOREBAY_TEST_GUEST";

const WITHIN: Duration = Duration::from_mins(3);

/// A disk, and a copy of this program where the guest finds it.
pub(crate) struct Machine {
    /// The guest has folders of its own in place of `/tmp` and `/run`.
    folder: TempDir,
}

impl Machine {
    /// With an empty disk.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let (own, copy) = (env::current_exe().unwrap(), folder.path().join("it"));
        if fs::hard_link(&own, &copy).is_err() {
            fs::copy(&own, &copy).unwrap();
        }
        let machine = Self { folder };
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(machine.shim());
        run(cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/crash/xstate.c")), WITHIN).succeeded();
        machine.new_disk();
        machine
    }

    /// Puts an empty disk in the place of the one that it has.
    pub(crate) fn new_disk(&self) {
        self.script(&["new", self.disk().to_str().unwrap(), "512M"]).succeeded();
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// What the kernel needs on some processors; see `xstate.c`.
    fn shim(&self) -> PathBuf {
        self.folder.path().join("xstate.so")
    }

    fn script(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(SCRIPT);
        command.args(arguments).env("UML_MEM", "512M").env("LD_PRELOAD", self.shim());
        run(&mut command, WITHIN)
    }

    /// Boots, has this test of this program live as the guest says, and cuts the power so long after it printed `READY`; gives what it
    /// printed.
    pub(crate) fn cut(&self, test: &str, guest: &impl Serialize, after: Duration) -> String {
        let (disk, seconds) = (self.disk(), after.as_secs_f64().to_string());
        let command = self.command(test, guest);
        let printed = self.script(&["run", disk.to_str().unwrap(), &seconds, &command]).succeeded().stdout;
        assert!(printed.lines().any(|line| line.starts_with("READY")), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }

    /// Boots again, and has this test check; gives what it printed.
    pub(crate) fn check(&self, test: &str, guest: &impl Serialize) -> String {
        let command = self.command(test, guest);
        self.script(&["check", self.disk().to_str().unwrap(), &command]).succeeded().stdout
    }

    fn command(&self, test: &str, guest: &impl Serialize) -> String {
        let guest = serde_json::to_string(guest).unwrap();
        let it = self.folder.path().join("it");
        format!("{GUEST}='{guest}' RUST_BACKTRACE=0 {} {test} --exact --nocapture 2>&1", it.display())
    }
}

/// What this program is to do as a guest; `None` where it is none.
pub(crate) fn guest<T: DeserializeOwned>() -> Option<T> {
    env::var(GUEST).ok().map(|guest| serde_json::from_str(&guest).unwrap())
}

/// Whether there is all that a machine needs.
pub(crate) fn ready() -> Option<()> {
    for name in ["linux.uml", "busybox", "mkfs.ext4", "cc"] {
        tool(name)?;
    }
    if !Path::new(SCRIPT).is_file() {
        return missing("../shared/testnet/power-cut");
    }
    if !rustix::process::geteuid().is_root() {
        return missing("root, to boot a kernel on this machine's files");
    }
    Some(())
}
