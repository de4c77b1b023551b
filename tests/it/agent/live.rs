//! Agents that run, told by relays of this program: generations, administrators' starts, settings that change, restarts.

use std::fs;

use forebay::policy::administrator::Role;
use forebay::policy::scope::Scope;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::file::FileName;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::machine::Machine;
use crate::agents::{change, domain};
use crate::process::{Process, forebay};
use crate::raw;
use crate::served::WITHIN;

/// The machine's agent, which runs, once its first update has ended and the relay can tell it.
fn run(machine: &Machine) -> Process {
    let settings = format!("relay = \"http://{}/\"\n", machine.relay.v4());
    fs::write(machine.folder().join("agent.toml"), settings).unwrap();
    let process = Process::start(forebay(["agent", "run", "--dir"]).arg(machine.folder()));
    wait(&process, r#""event":"listening""#, 1);
    wait(&process, r#""event":"ended""#, 1);
    process
}

/// Waits for the `count`th line with these words.
fn wait(process: &Process, words: &str, count: usize) -> String {
    let mut seen = 0;
    process.wait_line(WITHIN, |line| {
        seen += usize::from(line.contains(words));
        seen == count
    })
}

#[test]
fn a_release_is_taken_as_soon_as_the_relay_has_it_r9_1a() {
    let machine = Machine::enrolled();
    let process = run(&machine);
    for release in 2..5 {
        machine.publish(release, &[]);
        wait(&process, &format!(r#""installed","number":{release}"#), 1);
        let ended = wait(&process, r#""event":"ended""#, usize::try_from(release).unwrap());
        assert!(ended.contains(r#""result":"updated""#), "{ended}");
        machine.check_has(release);
    }
    let told = process.output().lines().filter(|line| line.contains(r#""why":"notice""#)).count();
    assert_eq!(told, 3, "{}", process.output());
    process.signal(Signal::TERM);
    process.wait_exit(WITHIN).succeeded();
}

#[test]
fn an_administrator_has_an_agent_update_that_would_not_by_itself_r9_1d() {
    let mut machine = Machine::enrolled();
    let process = run(&machine);
    let off = Some(Switch::Off);
    let values = Values { update_on_generation: off, scheduled_updates: off, ..Values::default() };
    machine.set(values);
    wait(&process, r#""event":"told""#, 1);
    machine.publish(2, &[]);
    let bearer = machine.relay.bearer(Role::Operator);
    let body = json!({ "all": true }).to_string();
    let head = format!(
        "POST /api/v1/updates HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        machine.relay.admin(),
        body.len()
    );
    let mut client = raw::Client::connect(machine.relay.admin());
    client.send(format!("{head}{body}").as_bytes()).unwrap();
    let answer = client.answer("POST").unwrap();
    assert_eq!(answer.head.status, 201);
    let update: Value = serde_json::from_slice(&answer.body).unwrap();
    wait(&process, r#""installed","number":2"#, 1);
    wait(&process, r#""event":"ended""#, 2);
    machine.check_has(2);
    let path = format!("/api/v1/updates/{}", update["id"]);
    let now: Value = serde_json::from_slice(&machine.relay.ask(&path)).unwrap();
    assert_eq!((&now["done"], &now["under_way"]), (&json!(1), &json!(0)), "{now}");
}

#[test]
fn what_administrators_change_counts_at_once_and_settings_files_come_with_it_r5_2() {
    let mut machine = Machine::enrolled();
    let process = run(&machine);
    machine.set(Values { scope: Some(Scope::Patterns), ..Values::default() });
    wait(&process, r#""event":"told""#, 1);
    let status = || {
        let ended = Process::start(forebay(["agent", "status", "--json", "--dir"]).arg(machine.folder()));
        serde_json::from_str::<Value>(&ended.wait_exit(WITHIN).succeeded().stdout).unwrap()
    };
    assert_eq!(status()["told"]["scope"], json!("patterns"));
    let agents = machine.relay.handle().agents().unwrap();
    let content = Some(agents.state().contents().put(b"new").unwrap());
    let name = FileName::parse("agent.conf").unwrap();
    change(&mut machine.relay, vec![Action::PutFile { domain: Some(domain(1)), name, content }]);
    wait(&process, r#""event":"settings_file""#, 1);
    assert_eq!(fs::read(machine.folder().join("files/agent.conf")).unwrap(), b"new");
    process.signal(Signal::KILL);
    process.wait_exit(WITHIN);
    let process = run(&machine);
    machine.publish(2, &[]);
    wait(&process, r#""installed","number":2"#, 1);
}
