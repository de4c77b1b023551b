//! `forebay agent` as who types it meets it: enrolment, running, commands for the one that runs, what is printed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use forebay::policy::check_in::Why;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use rustix::process::Signal;
use serde_json::Value;

use super::machine::{ID, Machine};
use crate::agents::token;
use crate::process::{Ended, Process, forebay, tool};
use crate::served::WITHIN;

/// Runs a command for the machine's agent to its end.
fn typed(machine: &Machine, arguments: &[&str]) -> Ended {
    Process::start(&mut command(machine, arguments)).wait_exit(WITHIN)
}

fn command(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = forebay(["agent"]);
    command.args(arguments).arg("--dir").arg(machine.folder());
    command
}

fn enrol(machine: &Machine, more: &[&str]) -> Ended {
    let (relay, token) = (format!("http://{}/", machine.relay.v4()), token("branch"));
    typed(machine, &[&["enrol", "--relay", &relay, "--token", &token], more].concat())
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&typed(machine, &["status", "--json"]).succeeded().stdout).unwrap()
}

/// An agent that runs, once its first update has ended.
fn running(machine: &Machine) -> Process {
    let process = Process::start(&mut command(machine, &["run"]));
    process.wait_line(WITHIN, |line| line.contains("\"event\":\"ended\""));
    process
}

#[test]
fn an_agent_enrols_once_and_tells_its_token_to_nobody() {
    let machine = Machine::new();
    let ended = enrol(&machine, &["--id", ID]).succeeded();
    assert!(ended.stdout.starts_with("enrolled as pc-1 at http://127.0.0.1:"), "{}", ended.stdout);
    let secret = fs::read_to_string(machine.folder().join("token")).unwrap();
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(secret.trim()));
    assert_eq!(fs::metadata(machine.folder().join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    let settings = fs::read_to_string(machine.folder().join("agent.toml")).unwrap();
    assert!(settings.contains(&format!("relay = \"http://{}/\"", machine.relay.v4())), "{settings}");

    let again = enrol(&machine, &[]);
    assert!(!again.status.success() && again.stderr.contains("enrolled already"), "{again:?}");
    let other = typed(&machine, &["enrol", "--relay", "http://other.test/", "--token", &token("branch")]);
    assert!(!other.status.success() && other.stderr.contains("another relay is named"), "{other:?}");
    let status = status(&machine);
    assert_eq!((&status["agent"], &status["running"]), (&Value::from(ID), &Value::from(false)));
}

#[test]
fn what_is_wrong_with_an_enrolment_or_the_settings_is_said_by_name() {
    let machine = Machine::new();
    for (arguments, words) in [
        (&["enrol", "--relay", "ftp://r/", "--token", "x"][..], &["relay", "ftp", "https URL"][..]),
        (&["enrol", "--relay", "http://r/", "--token", "hush"], &["NAME~SECRET"]),
        (&["enrol", "--token", "x"], &["agent.toml"]),
        (&["run"], &["agent.toml"]),
        (&["status"], &["agent.toml"]),
    ] {
        let ended = typed(&machine, arguments);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
        assert!(words.iter().all(|word| ended.stderr.contains(word)), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
    }
    fs::write(machine.folder().join("agent.toml"), "relay = \"http://r/\"\nmerge = \"merge\"\n").unwrap();
    let ended = typed(&machine, &["run"]);
    assert!(ended.stderr.contains("agent.toml: line 2: merge = \"merge\""), "{}", ended.stderr);
}

#[test]
fn an_agent_that_runs_prints_lines_of_json_and_takes_commands_r8() {
    let mut machine = Machine::new();
    enrol(&machine, &["--id", ID]).succeeded();
    let process = running(&machine);
    machine.check_has(1);
    let output = process.output();
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    // When the relay can be heard is nothing of the update's.
    let events: Vec<_> = events.into_iter().filter(|event| *event != "listening").collect();
    assert_eq!((events.first(), events.last()), (Some(&"check_in"), Some(&"ended")), "{events:?}");
    for event in ["manifest", "wanted", "file", "bytes", "installed"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    let secret = fs::read_to_string(machine.folder().join("token")).unwrap();
    assert!(!output.contains(secret.trim()));

    let now = status(&machine);
    assert_eq!((&now["running"], &now["number"]), (&Value::from(true), &Value::from(1)));
    assert_eq!(now["components"].as_array().unwrap().len(), 2);
    assert!(now["next"].is_string(), "by default it updates each hour: {now}");
    let denied = typed(&machine, &["update-now"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(denied.stderr.contains("its user has not the privilege to update now"), "{denied:?}");
    let denied = typed(&machine, &["schedule", "off"]);
    assert!(denied.stderr.contains("has not the privilege to switch"), "{denied:?}");

    let on = Some(Switch::On);
    // What the relay would tell it is left for its user.
    let off = Some(Switch::Off);
    machine.set(Values {
        update_now: on,
        toggle_schedule: on,
        update_on_generation: off,
        ..Values::default()
    });
    machine.publish(2, &[]);
    let updated = typed(&machine, &["update-now"]).succeeded();
    assert!(
        updated.stdout.contains("\"event\":\"installed\"") && updated.stdout.contains("updated: "),
        "{updated:?}"
    );
    machine.check_has(2);
    assert_eq!(typed(&machine, &["schedule", "off"]).succeeded().stdout, "scheduled updates are off\n");
    assert_eq!(status(&machine)["told"]["schedule_runs"], Value::from(false));
    let words = typed(&machine, &["status"]).succeeded().stdout;
    for word in ["pc-1, running", "scope all", "schedule   off", "activeupdate/P.4 2", "last  "] {
        assert!(words.contains(word), "{word} in:\n{words}");
    }
    process.signal(Signal::TERM);
    process.wait_exit(WITHIN).succeeded();
    assert_eq!(status(&machine)["running"], Value::from(false));
}

#[test]
fn without_an_agent_that_runs_the_commands_do_it_themselves() {
    let mut machine = Machine::new();
    enrol(&machine, &["--id", ID]).succeeded();
    let unknown = typed(&machine, &["schedule", "off"]);
    assert!(!unknown.status.success(), "{unknown:?}");
    let on = Some(Switch::On);
    machine.set(Values { update_now: on, toggle_schedule: on, ..Values::default() });
    let updated = typed(&machine, &["update-now"]).succeeded();
    assert!(updated.stdout.contains("\"event\":\"ended\""), "{updated:?}");
    machine.check_has(1);
    assert!(typed(&machine, &["update-now"]).succeeded().stdout.contains("up to date"));
    typed(&machine, &["schedule", "off"]).succeeded();
    assert_eq!(machine.update(Why::Schedule).denied(), "its user has switched scheduled updates off");
}

#[test]
fn an_agent_that_was_killed_starts_again_on_what_it_has() {
    let machine = Machine::new();
    enrol(&machine, &["--id", ID]).succeeded();
    let process = running(&machine);
    process.signal(Signal::KILL);
    process.wait_exit(WITHIN);
    machine.publish(2, &[]);
    let process = running(&machine);
    machine.check_has(2);
    process.signal(Signal::INT);
    process.wait_exit(WITHIN).succeeded();
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let unit =
        Process::start(&mut forebay(["agent", "service", "--user", "root"])).wait_exit(WITHIN).succeeded();
    assert!(unit.stdout.contains("agent run --dir /var/lib/forebay-agent\n"), "{}", unit.stdout);
    let refused = Process::start(&mut forebay(["agent", "service", "--user", "a b"])).wait_exit(WITHIN);
    assert_eq!(refused.status.code(), Some(2));
    let Some(analyze) = tool("systemd-analyze") else { return };
    let file = folder.path().join("forebay-agent.service");
    fs::write(&file, unit.stdout).unwrap();
    let verified =
        Process::start(Command::new(analyze).arg("verify").arg("--man=no").arg(&file)).wait_exit(WITHIN);
    assert!(
        !format!("{}{}", verified.stdout, verified.stderr).contains("forebay-agent.service:"),
        "{verified:?}"
    );
}
