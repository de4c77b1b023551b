//! `/api/v1/agent-tree` of the admin listener: entity tags, problems, bounds, and who is kept away.

use serde_json::Value;

use super::{FLEET, place};
use crate::raw::answer::Answer;
use crate::raw::{Client, fetch};
use crate::served::Served;

const PATH: &str = "/api/v1/agent-tree";

fn post(relay: &Served, target: &str, headers: &[(&str, &str)], text: &[u8]) -> Answer {
    let length = text.len().to_string();
    let mut client = Client::connect(relay.admin);
    let bearer = relay.bearer();
    let own = [("Content-Length", &*length), ("Authorization", &*bearer)];
    client.ask("POST", target, &[headers, &own[..]].concat()).unwrap();
    // A relay that refuses early may not read it all.
    let _ = client.send(text);
    client.answer("POST").unwrap()
}

fn shown(relay: &Served) -> Answer {
    fetch(relay.admin, PATH, &[("Authorization", &relay.bearer())])
}

fn json(answer: Answer, status: u16) -> Value {
    serde_json::from_slice(&answer.whole(status)).unwrap()
}

fn tag(answer: &Answer) -> &str {
    answer.head.header("etag").unwrap()
}

#[test]
fn a_tree_is_changed_only_by_who_saw_the_last_change_r5_4() {
    let place = place();
    let relay = place.serve_ready();
    let empty = shown(&relay);
    assert_eq!((tag(&empty), empty.head.header("content-type")), ("\"0\"", Some("application/toml")));
    let checked = post(&relay, &format!("{PATH}?check"), &[], FLEET.as_bytes());
    assert_eq!(tag(&checked), "\"0\"");
    let told = json(checked, 200);
    assert_eq!(told["last_change"], 0);
    assert!(told["told"].as_array().unwrap().contains(&"agent pc-2: added to Branches".into()), "{told}");
    assert_eq!(tag(&shown(&relay)), "\"0\"", "a check changes nothing");

    let missing = json(post(&relay, PATH, &[], FLEET.as_bytes()), 428);
    assert!(missing["detail"].as_str().unwrap().contains("If-Match"), "{missing}");
    for (wrong, status) in [("\"1\"", 412), ("0", 400), ("W/\"0\"", 400), ("*", 400), ("\"0\", \"1\"", 400)] {
        json(post(&relay, PATH, &[("If-Match", wrong)], FLEET.as_bytes()), status);
    }
    let made = post(&relay, &format!("{PATH}?by=alice"), &[("If-Match", "\"0\"")], FLEET.as_bytes());
    assert_eq!(tag(&made), "\"1\"");
    made.whole(200);
    let late = json(post(&relay, PATH, &[("If-Match", "\"0\"")], b""), 412);
    assert_eq!(late["detail"], "the agent tree has changed since: its last change is 1");
    let same = post(&relay, PATH, &[("If-Match", "\"1\"")], FLEET.as_bytes());
    assert_eq!((tag(&same), json(same.clone(), 200)["told"].as_array().unwrap().len()), ("\"1\"", 0));

    let exported = shown(&relay);
    assert_eq!(tag(&exported), "\"1\"");
    let exported = exported.whole(200);
    let again = json(post(&relay, &format!("{PATH}?check"), &[], &exported), 200);
    assert_eq!(again["told"].as_array().unwrap().len(), 0, "{again}");
    relay.stop();
    let journal = std::fs::read_to_string(place.data().join("agents/0.journal")).unwrap();
    assert!(journal.contains("\"who\":\"alice, as admin, from 127.0.0.1\""), "{journal}");
}

#[test]
fn what_is_refused_is_a_problem_with_its_status_and_changes_nothing() {
    let place = place();
    let relay = place.serve_ready();
    let check = format!("{PATH}?check");
    let wrong = json(post(&relay, &check, &[], b"[root]\nscope = 1\n[[agent]]\n"), 422);
    let detail = wrong["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("line 2: root.scope = 1: ") && detail.contains("\nline 3: agent.id: missing"),
        "{detail}"
    );
    json(post(&relay, &check, &[], b"\xff"), 422);
    for query in ["?chek", "?check&check", "?by=a&by=b", "?by=%0A"] {
        json(post(&relay, &format!("{PATH}{query}"), &[("If-Match", "\"0\"")], b""), 400);
    }
    let method = Client::connect(relay.admin)
        .exchange("PUT", PATH, &[("Content-Length", "0"), ("Authorization", &relay.bearer())])
        .unwrap();
    json(method, 405);
    for (header, status) in [(("Origin", "http://evil.example"), 403), (("Origin", "null"), 403)] {
        json(post(&relay, PATH, &[header, ("If-Match", "\"0\"")], FLEET.as_bytes()), status);
    }
    let mut rebound = Client::connect(relay.admin);
    let head =
        format!("POST {PATH} HTTP/1.1\r\nHost: evil.example\r\nIf-Match: \"0\"\r\nContent-Length: 0\r\n\r\n");
    rebound.send(head.as_bytes()).unwrap();
    json(rebound.answer("POST").unwrap(), 421);
    assert_eq!(tag(&shown(&relay)), "\"0\"");
    relay.stop();
}

#[test]
fn a_text_has_a_bound_said_before_or_found_out_and_one_is_read_at_a_time() {
    let place = place();
    let relay = place.serve_ready();
    let check = format!("{PATH}?check");
    let max = 64 << 20;
    // It need not be sent to be refused.
    let mut announced = Client::connect(relay.admin);
    announced
        .ask(
            "POST",
            &check,
            &[("Content-Length", &(max + 1).to_string()), ("Authorization", &relay.bearer())],
        )
        .unwrap();
    json(announced.answer("POST").unwrap(), 413);

    let mut found_out = Client::connect(relay.admin);
    found_out
        .ask("POST", &check, &[("Transfer-Encoding", "chunked"), ("Authorization", &relay.bearer())])
        .unwrap();
    let chunk = [b"100000\r\n", &vec![b'\n'; 1 << 20][..], b"\r\n"].concat();
    // The answer comes before the end: the rest may find nobody.
    let _ = (0..=64).try_for_each(|_| found_out.send(&chunk));
    if let Ok(answer) = found_out.answer("POST") {
        json(answer, 413);
    }

    // While one text is on its way, no other is taken; afterwards it is.
    let mut slow = Client::connect(relay.admin);
    slow.ask(
        "POST",
        &check,
        &[("Content-Length", "2"), ("Expect", "100-continue"), ("Authorization", &relay.bearer())],
    )
    .unwrap();
    let going = slow.read_head("POST").unwrap();
    assert_eq!(going.status, 100, "the text is being waited for");
    let busy = json(post(&relay, &check, &[], b""), 503);
    assert_eq!(busy["detail"], "another agent tree is being read: try again later");
    slow.send(b"\n\n").unwrap();
    json(slow.answer("POST").unwrap(), 200);
    json(post(&relay, &check, &[], b""), 200);
    relay.stop();
}
