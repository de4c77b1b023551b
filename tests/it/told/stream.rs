//! The stream itself: who hears what, and how it begins, ends and is taken up again.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::line::{Heard, Line};
use super::{agent, change, fleet, follow, get, poll, set, token};
use crate::process::{Process, tool};
use crate::raw::Client;
use crate::site::{self, Site};

/// A release with another engine, which the scope of patterns does not see.
fn publish_engine(site: &Site, version: u32) {
    let text = site::manifest(5, &[4]).replace("1.0.1", &format!("1.0.{version}"));
    site.put("server.ini", text.as_bytes());
}

#[test]
fn who_listens_is_told_of_a_generation_that_its_scope_sees_and_nobody_else_is_r9_1a() {
    let site = Site::with(5, &[4]);
    let mut relay = fleet(&site);
    set(&mut relay, 3, Values { update_on_generation: Some(Switch::Off), ..Values::default() });
    let mut lines = ["patterns", "engines", "all"].map(|id| Line::open(relay.v4(), &token(id), ""));
    publish_engine(&site, 2);
    relay.refresh();
    let [patterns, engines, all] = &mut lines;
    assert_eq!(engines.told(), (1, "generation".into()));
    assert_eq!(follow(&relay, "engines"), 200);
    site.publish(6, &[5]);
    relay.refresh();
    assert_eq!(engines.told().1, "generation");
    assert_eq!(patterns.told().1, "generation");
    assert!(all.is_untold(), "its settings say that it is not told");
    relay.stop();
}

#[test]
fn what_was_not_heard_is_told_again_also_after_a_restart_until_it_is_reported_r9_4() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let mut line = Line::open(relay.v4(), &token("all"), "");
    site.publish(6, &[5]);
    relay.refresh();
    let (number, _) = line.told();
    drop(line);
    let again = Line::open(relay.v4(), &token("all"), "").told();
    assert_eq!(again, (number, "generation".into()));
    assert!(Line::open(relay.v4(), &token("all"), &format!("Last-Event-ID: {number}\r\n")).is_untold());

    let relay = relay.restart();
    assert_eq!(Line::open(relay.v4(), &token("all"), "Last-Event-ID: 0\r\n").told().0, number);
    assert_eq!(follow(&relay, "all"), 200);
    assert_eq!(poll(&relay, "wait=0", "all"), [Value::Null; 0], "it has reported");
    // Numbers go on after a restart.
    let mut line = Line::open(relay.v4(), &token("all"), "");
    site.publish(7, &[6]);
    relay.refresh();
    assert_eq!(line.told().0, number + 1);
    relay.stop();
}

#[test]
fn a_poll_is_answered_as_soon_as_there_is_something_r9_1a() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let address = relay.v4();
    // The agent is there from its first poll on.
    let mut last = poll(&relay, "wait=0", "all");
    assert!(last.is_empty(), "{last:?}");
    // That its settings changed it hears once at most.
    last = poll(&relay, "wait=1", "all");
    assert!(last.is_empty(), "{last:?}");
    let polling = std::thread::spawn(move || get(address, "/api/v1/agent/events?wait=60", &token("all")));
    site.publish(6, &[5]);
    relay.refresh();
    let (status, says) = polling.join().unwrap();
    let data = json!({ "notice": 1, "reason": "generation", "components": true, "agent_settings": false });
    let told = json!({ "events": [{ "id": 1, "event": "update", "data": data }] });
    assert_eq!((status, &says), (200, &told));
    assert_eq!(json!(poll(&relay, "wait=0", "all")), told["events"], "it may have been lost");
    assert_eq!(poll(&relay, "wait=0&after=1", "all"), [Value::Null; 0]);
    for wrong in ["wait=61", "wait=x", "after=", "since=3"] {
        let (status, problem) = get(address, &format!("/api/v1/agent/events?{wrong}"), &token("all"));
        assert_eq!(status, 400, "{wrong}: {problem}");
    }
    assert_eq!(
        Line::ask(address, &token("all"), "Last-Event-ID: x\r\n").unwrap_err().get(9..12),
        Some("400")
    );
    assert_eq!(Line::ask(address, &token("nobody"), "").unwrap_err().get(9..12), Some("401"));
    relay.stop();
}

#[test]
fn changed_settings_are_told_to_those_whom_they_concern_and_revoked_agents_nothing_more_r5_2() {
    let site = Site::with(5, &[4]);
    let mut relay = fleet(&site);
    let mut lines = ["patterns", "engines"].map(|id| Line::open(relay.v4(), &token(id), ""));
    set(&mut relay, 1, Values { update_now: Some(Switch::On), ..Values::default() });
    let [patterns, engines] = &mut lines;
    let heard = Heard { event: "settings".into(), id: None, data: json!({}) };
    assert_eq!(patterns.hear(), Some(heard));
    let (status, says) = get(relay.v4(), "/api/v1/agent/settings", &token("patterns"));
    assert_eq!((status, &says["may"]["update_now"]), (200, &json!(true)));
    assert_eq!((&says["permission_secs"], &says["denied"]), (&json!(null), &json!(null)));
    change(&mut relay, vec![Action::Revoke { agents: vec![agent("engines")] }]);
    engines.ended();
    assert!(Line::ask(relay.v4(), &token("engines"), "").is_err(), "it is known no more");
    relay.stop();
}

#[test]
fn a_newer_stream_ends_the_older_and_a_stop_ends_both_in_order() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let mut older = Line::open(relay.v4(), &token("all"), "");
    let mut newer = Line::open(relay.v6(), &token("all"), "");
    older.ended();
    assert!(newer.is_untold());
    relay.stop();
    newer.ended();
}

#[test]
fn what_was_asked_before_on_the_connection_is_answered_whole_before_the_events() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let auth = format!("Host: r\r\nAuthorization: Bearer {}\r\n\r\n", token("all"));
    let package = site::package(5);
    let asked = format!("GET /activeupdate/{package} HTTP/1.1\r\n{auth}").repeat(30);
    let mut client = Client::connect(relay.v4());
    client.send(format!("{asked}GET /api/v1/agent/events HTTP/1.1\r\n{auth}").as_bytes()).unwrap();
    let bytes = site::bytes(&package, 5);
    for _ in 0..30 {
        assert_eq!(client.answer("GET").unwrap().whole(200), bytes);
    }
    let head = client.read_head("GET").unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let hello = b"retry: 5000\nevent: hello\ndata: {}\n\n";
    assert_eq!(client.read(hello.len()).0, hello);
    site.publish(6, &[5]);
    relay.refresh();
    let (told, settings) = (b"id: 1\nevent: update\n", b"event: settings\ndata: {}\n\n");
    let mut heard = client.read(told.len()).0;
    // That settings changed may come first: the agent listened while they were looked at.
    while heard.starts_with(b"event") {
        heard.extend(client.read(settings.len() - heard.len()).0);
        assert_eq!(heard, settings);
        heard = client.read(told.len()).0;
    }
    assert_eq!(heard, told);
    relay.stop();
}

#[test]
fn stock_curl_hears_events_over_http_1_and_2() {
    let Some(curl) = tool("curl") else { panic!("curl is needed") };
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    for (version, (id, how)) in
        [("patterns", "--http1.1"), ("all", "--http2-prior-knowledge")].iter().enumerate()
    {
        let url = format!("http://{}/api/v1/agent/events", relay.v4());
        let bearer = format!("Authorization: Bearer {}", token(id));
        let mut command = Command::new(&curl);
        command.args(["-sSN", how, "-H", &bearer, &url]);
        let hearing = Process::start(&mut command);
        hearing.wait_line(std::time::Duration::from_secs(30), |line| line == "event: hello");
        let version = 6 + u32::try_from(version).unwrap();
        site.publish(version, &[version - 1]);
        relay.refresh();
        let told = hearing.wait_line(std::time::Duration::from_secs(30), |line| {
            line.starts_with("data: {\"agent_settings\"")
        });
        assert!(told.contains("\"reason\":\"generation\""), "{told}");
    }
    relay.stop();
}

/// A relay that stops waits for answers under way, and these would never end.
#[test]
fn a_stream_over_http2_ends_when_the_relay_stops() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let address = relay.v4();
    let (to_held, held) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let driven = tokio::spawn(connection);
            let request = Request::get("http://r/api/v1/agent/events")
                .header("authorization", format!("Bearer {}", token("all")))
                .body(Empty::<Bytes>::new())
                .unwrap();
            let mut body = sender.send_request(request).await.unwrap().into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(first.starts_with(b"retry: 5000\nevent: hello\n"), "{first:?}");
            to_held.send(()).unwrap();
            while let Some(frame) = body.frame().await {
                let said = frame.expect("it ends, and is not cut").into_data().unwrap();
                assert!(said.is_empty() || said.starts_with(b"event: settings\n"), "{said:?}");
            }
            driven.await.unwrap().unwrap();
        });
    });
    held.recv().unwrap();
    let begun = Instant::now();
    relay.stop();
    client.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
