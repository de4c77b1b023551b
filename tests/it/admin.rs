//! The admin listener: health, metrics, status, refresh, and who is kept away from it (R11.2).

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use forebay::policy::administrator::Role;
use serde_json::Value;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::answer::Answer;
use crate::raw::{Client, PATIENCE, fetch};
use crate::relay::{Running, settings};
use crate::served::{FIXTURE, metric};

const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

fn json(answer: Answer, status: u16) -> Value {
    let media = answer.head.header("content-type").unwrap().to_owned();
    let expected = if status < 400 { "application/json" } else { "application/problem+json" };
    assert_eq!(media, expected);
    let json: Value = serde_json::from_slice(&answer.whole(status)).unwrap();
    if status >= 400 {
        assert_eq!(json["status"], status);
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
    }
    json
}

fn ask(relay: &Running, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = relay.bearer(Role::Administrator);
    let headers = [headers, &[("Authorization", &*bearer)]].concat();
    Client::connect(relay.admin()).exchange(method, target, &headers).unwrap()
}

fn page(relay: &Running) -> String {
    let answer = ask(relay, "GET", "/metrics", &[]);
    assert!(
        answer
            .head
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    String::from_utf8(answer.whole(200)).unwrap()
}

#[test]
fn alive_at_once_and_ready_with_the_first_generation_r11_2() {
    let origin = Origin::start(Path::new(FIXTURE));
    let gate = Gate::default();
    origin.script("/server.ini", Fault::StallBeforeHead(gate.clone()));
    let relay = Running::start(settings(&origin.url("/")));
    gate.wait_reached();
    assert_eq!(ask(&relay, "GET", "/healthz", &[]).whole(200), b"ok\n");
    let waiting = json(ask(&relay, "GET", "/readyz", &[]), 503);
    assert_eq!(waiting["detail"], "no generation yet of: activeupdate");
    let early = fetch(relay.v4(), PACKAGE, &[]);
    assert!(early.head.header("retry-after").is_some());
    assert_eq!(early.head.status, 503);
    assert!(!page(&relay).contains("forebay_generation{"));
    gate.open();
    relay.wait_refreshes(1);
    assert_eq!(ask(&relay, "GET", "/readyz", &[]).whole(200), b"ready\n");
    relay.stop();
}

#[test]
fn a_connection_is_a_task_of_its_worker_while_it_is_open_r11_2() {
    let relay = Running::refreshed(settings(FIXTURE));
    let tasks = || {
        let page = page(&relay);
        let samples = page
            .lines()
            .filter_map(|line| line.strip_prefix("forebay_tasks{runtime=\"data-")?.split_once("} "));
        let all: Vec<u64> = samples.map(|(_, value)| value.parse().unwrap()).collect();
        assert!(!all.is_empty() && metric(&page, "forebay_tasks{runtime=\"control\"}") > 0, "{page}");
        all.iter().sum::<u64>()
    };
    let comes_to = |count| {
        let begun = Instant::now();
        while tasks() != count {
            assert!(begun.elapsed() < PATIENCE, "{} tasks, not {count}", tasks());
        }
    };
    let idle = tasks();
    let mut open = Client::connect(relay.v4());
    open.exchange("GET", PACKAGE, &[]).unwrap().whole(200);
    comes_to(idle + 1);
    drop(open);
    comes_to(idle);
    relay.stop();
}

#[test]
fn metrics_are_well_formed_and_rise_with_what_happens_r11_2() {
    let origin = Origin::start(Path::new(FIXTURE));
    let relay = Running::refreshed(settings(&origin.url("/")));
    let before = page(&relay);
    well_formed(&before);
    assert_eq!(metric(&before, "forebay_upstream_bytes_total"), origin.seen().body_bytes_total());
    assert_eq!(metric(&before, "forebay_upstream_requests_total"), origin.seen().requests.len() as u64);
    for (sample, value) in [
        ("forebay_fills_begun_total", 250),
        ("forebay_fills_completed_total", 250),
        ("forebay_fills_failed_total", 0),
        ("forebay_fills_now", 0),
        ("forebay_sent_bytes_total", 0),
        ("forebay_connections_total", 0),
        ("forebay_refreshes_new_total", 1),
        ("forebay_generation{tree=\"activeupdate\"}", 1),
        ("forebay_generations_kept{tree=\"activeupdate\"}", 1),
        ("forebay_upstream_down{tree=\"activeupdate\"}", 0),
    ] {
        assert_eq!(metric(&before, sample), value, "{sample}");
    }
    assert!(metric(&before, "forebay_generation_age_seconds{tree=\"activeupdate\"}") < 600);

    let whole = fetch(relay.v4(), PACKAGE, &[]);
    let etag = whole.head.header("etag").unwrap().to_owned();
    let mut sent = whole.whole(200).len();
    sent += fetch(relay.v6(), PACKAGE, &[("Range", "bytes=0-9")]).whole(206).len();
    fetch(relay.v4(), PACKAGE, &[("If-None-Match", &etag)]).whole(304);
    sent += fetch(relay.v4(), "/activeupdate/none", &[]).whole(404).len();
    sent += fetch(relay.v4(), "/activeupdate/a%2fb", &[]).whole(400).len();
    let outcome =
        |page: &str, name: &str| metric(page, &format!("forebay_requests_total{{outcome=\"{name}\"}}"));
    // A request counts when its connection is done with it, which may be after its client has all.
    let after = loop {
        let after = page(&relay);
        let all = ["hit", "not-modified", "not-found", "bad-request"].map(|name| outcome(&after, name));
        if all == [2, 1, 1, 1] && metric(&after, "forebay_connections_now") == 0 {
            break after;
        }
        assert!(all.iter().zip([2, 1, 1, 1]).all(|(counted, real)| *counted <= real), "{after}");
    };
    well_formed(&after);
    assert_eq!(metric(&after, "forebay_sent_bytes_total"), sent as u64);
    assert_eq!(metric(&after, "forebay_connections_total"), 5);
    assert_eq!(metric(&after, "forebay_upstream_bytes_total"), origin.seen().body_bytes_total());
    relay.stop();
}

#[test]
fn status_tells_programs_of_relay_trees_and_counts_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let status = json(ask(&relay, "GET", "/api/v1/status", &[]), 200);
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["listen"][1], relay.v6().to_string());
    let tree = &status["trees"][0];
    assert_eq!((&tree["name"], &tree["path"]), (&"activeupdate".into(), &"/activeupdate/".into()));
    assert_eq!(tree["generation"]["number"], 1);
    assert_eq!(tree["generation"]["bytes"], tree["generation"]["bytes_held"]);
    let taken = tree["generation"]["taken"].as_str().unwrap();
    assert_eq!(taken.len(), "2026-11-20T22:43:32Z".len(), "whole seconds: {taken}");
    assert_eq!((&tree["refresh"]["running"], &tree["refresh"]["last"]["new"]), (&false.into(), &1.into()));
    assert_eq!(status["requests"]["hit"], 0);
    assert_eq!(status["counts"]["fills_completed"], 250);
    relay.stop();
}

#[test]
fn a_refresh_is_taken_by_post_and_wrong_calls_are_problems_that_say_what_is_right_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let asked = json(ask(&relay, "POST", "/api/v1/refresh", &[("Content-Length", "0")]), 202);
    assert_eq!(asked["trees"][0]["name"], "activeupdate");
    relay.wait_refreshes(asked["trees"][0]["until_ended"].as_u64().unwrap());
    assert_eq!(
        json(ask(&relay, "POST", "/api/v1/refresh?tree=activeupdate", &[]), 202)["trees"][0]["name"],
        "activeupdate"
    );
    for (method, target, status, words) in [
        ("POST", "/api/v1/refresh?tree=other", 404, "no tree 'other'; there are: activeupdate"),
        ("POST", "/api/v1/refresh?tere=other", 400, "tree=NAME"),
        ("POST", "/api/v1/refresh?tree=a&tree=b", 400, "tree=NAME"),
        ("GET", "/api/v1/refresh", 405, "by other methods"),
        ("POST", "/metrics", 405, "by other methods"),
        ("DELETE", "/api/v1/status", 405, "by other methods"),
        ("GET", "/api/v2/status", 404, "GET /api/v1/openapi.json"),
        ("GET", "/", 404, "/metrics"),
    ] {
        let answer = ask(&relay, method, target, &[]);
        assert_eq!(answer.head.header("allow").is_some(), status == 405, "{method} {target}");
        let detail = json(answer, status)["detail"].to_string();
        assert!(detail.contains(words), "{method} {target}: {detail}");
    }
    relay.stop();
}

#[test]
fn web_pages_are_kept_away_and_neither_listener_answers_for_the_other() {
    let relay = Running::refreshed(settings(FIXTURE));
    for target in ["/healthz", "/metrics", "/api/v1/status", "/nothing"] {
        let detail =
            json(ask(&relay, "GET", target, &[("Origin", "http://evil.example")]), 403)["detail"].clone();
        assert_eq!(detail, "requests of web pages are refused here");
    }
    json(ask(&relay, "POST", "/api/v1/refresh", &[("Origin", "null")]), 403);
    for (host, status) in
        [("evil.example", 421), ("evil.example:8081", 421), ("localhost:8081", 200), ("[::1]", 200)]
    {
        let mut client = Client::connect(relay.admin());
        client.send(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.answer("GET").unwrap().head.status, status, "{host}");
    }
    for target in ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/refresh"] {
        assert_eq!(fetch(relay.v4(), target, &[]).head.status, 404, "{target} on the agents' port");
    }
    let posted = Client::connect(relay.v6()).exchange("POST", "/api/v1/refresh", &[]).unwrap();
    assert_eq!(posted.head.status, 404);
    for target in ["/activeupdate/server.ini", PACKAGE] {
        json(ask(&relay, "GET", target, &[]), 404);
    }
    relay.stop();
}

/// The OpenMetrics text format, version 1.0.0, as far as counters and gauges go.
fn well_formed(page: &str) {
    let body = page.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut family, mut kind) = ("", "");
    let (mut families, mut samples) = (HashSet::new(), HashSet::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(name.starts_with("forebay_") && !help.ends_with('.') && families.insert(name), "{line}");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split_once(' ').unwrap().0, family, "{line}");
            kind = rest.split_once(' ').unwrap().1;
            assert!(["counter", "gauge"].contains(&kind), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let labels = sample.strip_prefix(family).and_then(|rest| rest.strip_prefix(suffix)).expect(line);
            let label = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix("\"}")?.split_once("=\""));
            assert!(
                labels.is_empty() || label.is_some_and(|(_, value)| !value.contains(['"', '\\'])),
                "{line}"
            );
            assert!(value.parse::<u64>().is_ok() && samples.insert(sample), "{line}");
        }
    }
    assert!(families.len() >= 15 && samples.len() >= families.len());
}

#[test]
fn an_administrators_connections_are_bounded_and_the_idle_make_room_r11_2() {
    let relay = Running::refreshed(settings(FIXTURE));
    let mut idle: Vec<_> = (0..64).map(|_| Client::connect(relay.admin())).collect();
    let mut waiting = Client::connect(relay.admin());
    waiting.ask("GET", "/healthz", &[]).unwrap();
    waiting.set_patience(std::time::Duration::from_millis(200));
    assert!(waiting.read_head("GET").is_err(), "64 are open already");
    waiting.set_patience(std::time::Duration::from_secs(20));
    drop(idle.pop());
    assert_eq!(waiting.read_head("GET").unwrap().status, 200);
    relay.stop();
}
