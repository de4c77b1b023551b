//! `forebay update`, typed against a relay that agents listen to (R9.1d).

use serde_json::{Value, json};

use super::call;
use crate::process::{Process, forebay};
use crate::served::{FIXTURE, Place, Served, WITHIN};
use crate::told::line::Line;

/// A place with a relay, and a domain with these agents in it; gives their tokens.
fn fleet<const N: usize>(agents: [&str; N]) -> (Place, Served, [String; N]) {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    place.command(&["domains", "create", "Tills"]).succeeded();
    let tokens = agents.map(|agent| {
        let made = json_of(&place, &["enrol", "create", "Tills", "--agents", "1"]);
        let says = json!({ "token": made["token"], "agent": agent });
        let answer = call(relay.agents[0], "POST", "/api/v1/enrol", None, Some(&says));
        let told: Value = serde_json::from_slice(&answer.whole(201)).unwrap();
        told["token"].as_str().unwrap().to_owned()
    });
    (place, relay, tokens)
}

fn json_of(place: &Place, line: &[&str]) -> Value {
    let said = place.command(&[line, &["--json"]].concat()).succeeded().stdout;
    serde_json::from_str(&said).unwrap()
}

/// A command that goes on.
fn begun(place: &Place, line: &[&str]) -> Process {
    let token = std::fs::read_to_string(place.token_file()).unwrap();
    Process::start(forebay(line).arg("--config").arg(place.config()).env("FOREBAY_TOKEN", token))
}

/// What an agent that was told does.
fn follow(relay: &Served, token: &str) {
    let bearer = format!("Bearer {token}");
    for (path, says, status) in [
        ("check-in", json!({ "why": "notice" }), 200),
        (
            "report",
            json!({ "result": "updated", "source": "http://relay/activeupdate/", "bytes": 2048, "secs": 3, "versions": { "P.6": "1" } }),
            204,
        ),
    ] {
        let path = format!("/api/v1/agent/{path}");
        call(relay.agents[0], "POST", &path, Some(&bearer), Some(&says)).whole(status);
    }
}

/// What an update says of itself until it is as it is to be.
fn wait(place: &Place, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = std::time::Instant::now() + WITHIN;
    loop {
        let update = json_of(place, &["update", "show", "1"]);
        if is_so(&update) {
            return update;
        }
        assert!(std::time::Instant::now() < until, "{update}");
    }
}

#[test]
fn who_starts_an_update_can_wait_until_its_agents_have_reported_r9_1d() {
    let (place, relay, [one, two]) = fleet(["till-1", "till-2"]);
    let mut line = Line::open(relay.agents[0], &one, "");
    let start = begun(&place, &["update", "start", "--domain", "Tills", "--wait"]);
    assert_eq!(line.told().1, "administrator");
    follow(&relay, &one);
    // The other one comes later.
    let now = wait(&place, |update| update["done"] == 1);
    assert_eq!((&now["offline"], &now["under_way"]), (&json!(1), &json!(0)));
    assert_eq!(Line::open(relay.agents[0], &two, "").told().1, "administrator");
    follow(&relay, &two);
    let ended = start.wait_exit(WITHIN).succeeded();
    let rows: Vec<Vec<_>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[1][0]), (2, "1"), "{}", ended.stdout);
    assert_eq!(rows[1][2..], ["ended", "2", "0", "0", "0", "0", "0"], "{}", ended.stdout);
    assert_eq!(place.command(&["update", "list"]).succeeded().stdout, ended.stdout);
    assert_eq!(json_of(&place, &["update", "show", "1", "--wait"])["done"], 2);
    assert_eq!(
        (relay.metric("forebay_notices_told_total"), relay.metric("forebay_notices_reported_total")),
        (2, 2)
    );
    assert_eq!(
        (relay.metric("forebay_notices_under_way"), relay.metric("forebay_notices_gave_up_total")),
        (0, 0)
    );
    // What they reported is listed, and what they are of now.
    let reports = place.command(&["reports", "--result", "updated"]).succeeded().stdout;
    let rows: Vec<Vec<_>> = reports.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{reports}");
    assert_eq!(
        rows[0][1..],
        ["till-2", "updated", "2.00", "KiB", "3", "http://relay/activeupdate/"],
        "{reports}"
    );
    assert_eq!(json_of(&place, &["reports", "--agent", "till-1"])["items"][0]["bytes"], 2048);
    assert!(
        place
            .command(&["reports", "--result", "failed"])
            .succeeded()
            .stdout
            .starts_with("No agent has reported")
    );
    assert_eq!(json_of(&place, &["domains", "show", "Tills"])["out_of_date"], 2);
    let shown = place.command(&["agents", "show", "till-1"]).succeeded().stdout;
    let since = json_of(&place, &["agents", "show", "till-1"])["since"]["P.6"].as_str().unwrap().to_owned();
    let version = shown.lines().find(|line| line.starts_with("P.6 ")).unwrap();
    assert_eq!(version.split_whitespace().nth(2).unwrap()[..19], since[..19], "{shown}");
    relay.stop();
}

#[test]
fn who_waits_for_an_update_hears_of_agents_that_gave_up_and_a_cancelled_one_is_over_r9_1d() {
    let (place, relay, [one, _]) = fleet(["till-1", "till-2"]);
    let mut line = Line::open(relay.agents[0], &one, "");
    let start =
        begun(&place, &["update", "start", "--agent", "till-1", "--agent", "till-2", "--wait", "--json"]);
    assert_eq!(line.told().1, "administrator");
    wait(&place, |update| update["under_way"] == 1);
    let cancelled = json_of(&place, &["update", "cancel", "1"]);
    assert_eq!((&cancelled["cancelled"], &cancelled["over"]), (&json!(1), &json!(true)));
    assert!(place.command(&["update", "show", "1"]).succeeded().stdout.contains(" ending "));
    place.command(&["agents", "remove", "till-1"]).succeeded();
    let ended = start.wait_exit(WITHIN);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stderr, "forebay: update 1: 1 of 2 agents gave up\n");
    let last: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&last["gave_up"], &last["cancelled"]), (&json!(1), &json!(1)));
    relay.stop();
}

#[test]
fn an_update_of_all_agents_is_asked_about_and_mistakes_are_named_r9_1d() {
    let (place, relay, [_]) = fleet(["till-1"]);
    let refused = |code: i32, line: &[&str]| {
        let ended = place.command(&[&["update"], line].concat());
        assert_eq!(ended.status.code(), Some(code), "{line:?}: {ended:?}");
        ended.stderr
    };
    let asked = refused(1, &["start", "--all"]);
    assert!(
        asked.contains("every agent would update, of 1,") && asked.contains("--yes agrees to it"),
        "{asked}"
    );
    assert!(json_of(&place, &["update", "list"])["items"].as_array().unwrap().is_empty(), "none was started");
    let out_of_date = json_of(&place, &["update", "start", "--out-of-date"]);
    assert_eq!(
        (&out_of_date["id"], &out_of_date["offline"]),
        (&json!(1), &json!(0)),
        "nobody has told of any version"
    );
    let all = place.command(&["update", "start", "--all", "--yes"]).succeeded().stdout;
    assert!(all.ends_with("'forebay update show 2 --wait' waits for its end.\n"), "{all}");
    assert!(refused(2, &["start"]).contains("--out-of-date"));
    assert!(refused(2, &["start", "--all", "--agent", "till-1"]).contains("cannot be used with"));
    assert!(refused(1, &["start", "--domain", "Nowhere"]).contains("there is no domain 'Nowhere'"));
    assert!(refused(1, &["start", "--agent", "till-9"]).contains("'till-9'"));
    assert!(refused(1, &["show", "77"]).contains("there is no update 77"));
    assert!(refused(1, &["cancel", "77"]).contains("there is no update 77"));
    relay.stop();
}
