//! Running a fleet and reading what it says; every answer is added up.

use std::process::Command;

use serde_json::Value;

use crate::process::{Process, forebay};
use crate::served::WITHIN;

/// What a fleet said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) json: Value,
    pub(super) stderr: String,
}

/// The command, with JSON in place of the table and, where nothing else is said, an end below the test's.
pub(super) fn load(url: &str, arguments: &str) -> Command {
    let mut command = forebay(["load", url, "--json", "-"]);
    if !arguments.contains("--time-max") {
        command.args(["--time-max", "40s"]);
    }
    command.args(arguments.split_whitespace());
    command
}

/// Plays a fleet to its end.
pub(super) fn play(url: &str, arguments: &str) -> Said {
    ended(Process::start(&mut load(url, arguments)))
}

/// Waits for a fleet's end; what it said adds up.
pub(super) fn ended(process: Process) -> Said {
    let ended = process.wait_exit(WITHIN);
    let json: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let said = Said { code: ended.status.code(), json, stderr: ended.stderr };
    said.adds_up();
    said
}

impl Said {
    /// A figure, by the names on its way; panics where there is none.
    pub(super) fn at(&self, pointer: &str) -> u64 {
        let value = self.json.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number at {pointer}: {:#}", self.json))
    }

    /// A figure of each kind of request.
    pub(super) fn kinds(&self, figure: &str) -> [u64; 4] {
        ["manifest", "package", "increment", "signature"]
            .map(|kind| self.at(&format!("/requests/by_kind/{kind}/{figure}")))
    }

    /// Panics unless it passed.
    pub(super) fn passed(self) -> Self {
        assert_eq!((self.code, self.json["passed"].as_bool()), (Some(0), Some(true)), "{self:#?}");
        assert_eq!(self.at("/errors/total"), 0);
        self
    }

    /// Panics unless it did not pass, for errors of this kind and no other.
    pub(super) fn failed_by(self, fault: &str) -> Self {
        assert_eq!((self.code, self.json["passed"].as_bool()), (Some(4), Some(false)), "{self:#?}");
        assert!(self.at("/errors/total") > 0, "{self:#?}");
        assert_eq!(self.at(&format!("/errors/by_kind/{fault}")), self.at("/errors/total"), "{self:#?}");
        assert!(self.json["errors"]["first"][fault].is_string(), "{self:#?}");
        assert!(self.stderr.contains("not passed: "), "{self:#?}");
        self
    }

    fn adds_up(&self) {
        let told = ["check_in", "report", "events"];
        let of_told = |figure| told.map(|kind| self.at(&format!("/requests/by_kind/{kind}/{figure}")));
        let sum = |figure| self.kinds(figure).iter().chain(&of_told(figure)).sum::<u64>();
        let total = self.at("/requests/total");
        assert_eq!(sum("whole") + sum("dropped") + sum("failed"), total, "{self:#?}");
        assert_eq!(sum("whole"), self.at("/requests/whole"));
        let events = self.at("/requests/by_kind/events/whole");
        assert_eq!(sum("whole") - events, self.at("/latency_secs/last_byte/count"));
        // A stream that says what is none is an error that ended no request.
        let wrong = self.json["streams"]["wrong"].as_u64().unwrap_or(0);
        assert_eq!(sum("bytes"), self.at("/bytes/total"));
        assert_eq!(sum("failed") + wrong, self.at("/errors/total"));
        assert_eq!(self.at("/requests/ipv4") + self.at("/requests/ipv6"), total);
        let errors = self.json["errors"]["by_kind"].as_object().unwrap().values();
        assert_eq!(errors.filter_map(Value::as_u64).sum::<u64>(), self.at("/errors/total"));
        let agents = ["updated", "gave_up", "failed", "left"].map(|name| self.at(&format!("/agents/{name}")));
        assert_eq!(agents.iter().sum::<u64>(), self.at("/agents/planned"), "{self:#?}");
        for latency in self.json["latency_secs"].as_object().unwrap().values() {
            let times = ["p50", "p90", "p99", "p99_9", "max"].map(|name| latency[name].as_f64().unwrap());
            assert!(times.is_sorted(), "{latency}");
        }
    }
}
