//! Changes over the API: two at once, several as one, for all and for future domains, confirmed where a scope is widened, and told.

use forebay::policy::administrator::Role;
use serde_json::{Value, json};

use super::{call, json};
use crate::raw::answer::Answer;
use crate::raw::{Client, fetch};
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

/// Somebody who administers a relay.
struct Somebody<'r> {
    relay: &'r Running,
    bearer: String,
}

impl<'r> Somebody<'r> {
    fn new(relay: &'r Running, role: Role) -> Self {
        Self { relay, bearer: relay.bearer(role) }
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        call(self.relay.admin(), method, &format!("/api/v1/{path}"), Some(&self.bearer), body)
    }

    fn get(&self, path: &str) -> Value {
        json(self.call("GET", path, None), 200)
    }

    fn does(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        json(self.call(method, path, Some(body)), status)
    }

    fn tag(&self, path: &str) -> String {
        self.call("GET", path, None).head.header("etag").unwrap().to_owned()
    }

    fn if_match(&self, method: &str, path: &str, tag: &str, body: &Value) -> Answer {
        let (text, path) = (body.to_string(), format!("/api/v1/{path}"));
        let length = text.len().to_string();
        let headers = [
            ("Authorization", &*self.bearer),
            ("Content-Type", "application/json"),
            ("If-Match", tag),
            ("Content-Length", &length),
        ];
        let mut client = Client::connect(self.relay.admin());
        client.ask(method, &path, &headers).unwrap();
        client.send(text.as_bytes()).unwrap();
        client.answer(method).unwrap()
    }
}

/// Three domains and some agents in them.
fn fleet(somebody: &Somebody<'_>) {
    for (name, scope) in [("A", "patterns"), ("B", "patterns-engines-drivers"), ("C", "patterns")] {
        somebody.does("POST", "domains", &json!({ "name": name, "settings": { "scope": scope } }), 201);
    }
    let adds = (0..9).map(
        |number| json!({ "do": "add_agent", "agent": format!("pc-{number}"), "domain": 1 + number % 3 }),
    );
    let made =
        somebody.does("POST", "agent-tree/changes", &json!({ "actions": adds.collect::<Vec<_>>() }), 200);
    assert_eq!((&made["serial"], &made["changed"]), (&json!(4), &json!(9)));
}

#[test]
fn what_a_whole_domain_may_have_is_not_set_at_an_agent_r10_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let operator = Somebody::new(&relay, Role::Operator);
    fleet(&operator);
    let limit = json!({ "set": { "domain_bytes_per_sec": 1000 } });
    let told = operator.does("PATCH", "agents/pc-0/settings", &limit, 422);
    let detail =
        "'domain_bytes_per_sec' says what a whole domain may have: set it at a domain, not at an agent";
    assert_eq!(told["detail"], detail);
    let actions =
        json!({ "actions": [{ "do": "set", "agents": ["pc-0"], "domains": [1], "set": limit["set"] }] });
    assert_eq!(operator.does("POST", "agent-tree/changes", &actions, 422)["detail"], detail);
    let new = json!({ "id": "new", "domain": 1, "settings": limit["set"] });
    assert_eq!(operator.does("POST", "agents", &new, 422)["detail"], detail);
    operator.does("PATCH", "domains/1/settings", &limit, 200);
}

#[test]
fn of_two_who_change_the_same_domain_one_hears_who_was_quicker_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let (alice, bob) = (Somebody::new(&relay, Role::Operator), Somebody::new(&relay, Role::Operator));
    fleet(&alice);
    let (seen, other) = (alice.tag("domains/1"), alice.tag("domains/2"));
    assert_eq!(seen, bob.tag("domains/1/settings"), "name and settings are one thing");
    json(alice.if_match("PATCH", "domains/1", &seen, &json!({ "name": "Alpha" })), 200);
    let late = json(
        bob.if_match("PATCH", "domains/1/settings", &seen, &json!({ "set": { "update_now": true } })),
        412,
    );
    assert_eq!(late["type"], "urn:forebay:problem:changed-since");
    let changes = late["changes"].as_array().unwrap();
    let name = alice.get("me")["name"].as_str().unwrap().to_owned();
    assert_eq!(
        (&changes[0]["serial"], &changes[0]["who"]),
        (&json!(5), &json!(format!("{name}, from 127.0.0.1")))
    );
    assert_eq!(changes[0]["what"], json!(["rename domain 1 to 'Alpha'"]));
    assert_eq!(late["etag"], bob.tag("domains/1").as_str());
    assert_eq!(other, alice.tag("domains/2"), "another domain's stays");
    let tag = late["etag"].as_str().unwrap();
    json(bob.if_match("PATCH", "domains/1/settings", tag, &json!({ "set": { "update_now": true } })), 200);
    for wrong in ["*", "W/\"1\"", "1", "\"a\", \"b\""] {
        json(bob.if_match("PATCH", "domains/1", wrong, &json!({ "name": "x" })), 400);
    }
    json(alice.call("PUT", "sources", Some(&json!({ "entries": [] }))), 428);
    let tag = alice.tag("sources");
    let entries =
        json!({ "entries": [{ "range": "10.0.0.1-10.0.0.9", "source": { "url": "http://m.example/" } }] });
    json(alice.if_match("PUT", "sources", &tag, &entries), 200);
    json(bob.if_match("PUT", "sources", &tag, &entries), 412);
    assert_eq!(alice.get("sources")["entries"][0]["range"], "10.0.0.1-10.0.0.9");
    relay.stop();
}

#[test]
fn widening_to_all_is_told_in_bytes_and_done_when_it_is_confirmed_r6_5() {
    let relay = Running::refreshed(settings(FIXTURE));
    let somebody = Somebody::new(&relay, Role::Operator);
    fleet(&somebody);
    let generations = somebody.get("generations");
    let classes = generations["items"][0]["classes"].as_array().unwrap();
    let restricted =
        classes.iter().filter(|sum| ["hotfix", "program"].contains(&sum["class"].as_str().unwrap()));
    let bytes: u64 = restricted.map(|sum| sum["bytes"].as_u64().unwrap()).sum();
    assert!(bytes > 0, "{generations}");
    let mut wanted = json!({ "set": { "scope": "all" } });
    let told = somebody.does("PATCH", "domains/1/settings", &wanted, 409);
    let widening = &told["widening"];
    assert_eq!((&widening["agents"], &widening["bytes"]), (&json!(3), &json!(bytes)));
    assert_eq!(widening["total_bytes"], 3 * bytes);
    assert_eq!(somebody.get("domains/1")["scope"], "patterns", "nothing was done");
    wanted["confirm"] = "0123456789abcdef".into();
    somebody.does("PATCH", "domains/1/settings", &wanted, 409);
    wanted["confirm"] = widening["confirm"].clone();
    somebody.does("PATCH", "domains/1/settings", &wanted, 200);
    assert_eq!(somebody.get("agents/pc-0")["scope"], "all");
    // Into the wide domain, by whatever way; and what is narrowed, or wide already, needs no word.
    somebody.does("POST", "agents/pc-1/move", &json!({ "to": 1 }), 409);
    let several = json!({ "actions": [{ "do": "move_agents", "agents": ["pc-1", "pc-2"], "to": 1 }] });
    assert_eq!(somebody.does("POST", "agent-tree/changes", &several, 409)["widening"]["agents"], 2);
    somebody.does("POST", "domains/2/move", &json!({ "to": 1 }), 200);
    let root = json!({ "apply_to": "all", "set": { "scope": "all" } });
    assert_eq!(somebody.does("PATCH", "root/settings", &root, 409)["widening"]["agents"], 6);
    let future = json!({ "apply_to": "future", "set": { "scope": "all" } });
    somebody.does("PATCH", "root/settings", &future, 200);
    somebody.does("PATCH", "domains/1/settings", &json!({ "set": { "scope": "patterns" } }), 200);
    relay.stop();
}

#[test]
fn settings_tell_what_holds_and_who_set_it_for_all_and_for_future_domains_r5_2_r5_3() {
    let relay = Running::refreshed(settings(FIXTURE));
    let somebody = Somebody::new(&relay, Role::Operator);
    fleet(&somebody);
    let of = |path: &str, name: &str| {
        let told = somebody.get(path);
        let all = told["effective"].as_array().unwrap().clone();
        let found = all.into_iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].clone(), found["set_by"].as_str().unwrap().to_owned(), found["domain"].clone())
    };
    assert_eq!(of("agents/pc-0/settings", "scope"), (json!("patterns"), "domain".into(), json!(1)));
    assert_eq!(of("agents/pc-0/settings", "update_now"), (json!(false), "default".into(), Value::Null));
    somebody.does("PATCH", "agents/pc-0/settings", &json!({ "set": { "update_now": true } }), 200);
    assert_eq!(of("agents/pc-0/settings", "update_now"), (json!(true), "agent".into(), Value::Null));
    assert_eq!(somebody.get("agents/pc-0")["own"], json!(["update_now"]));
    let all = json!({ "apply_to": "all", "set": { "update_now": false } });
    somebody.does("PATCH", "root/settings", &all, 200);
    assert_eq!(of("agents/pc-0/settings", "update_now"), (json!(false), "root".into(), Value::Null));
    let future = json!({ "apply_to": "future", "set": { "scan_after_update": true } });
    somebody.does("PATCH", "root/settings", &future, 200);
    assert_eq!(somebody.get("root/settings")["future"], json!({ "scan_after_update": true }));
    let made = somebody.does("POST", "domains", &json!({ "name": "D", "parent": 1 }), 201);
    assert_eq!(made["path"], "A/D");
    assert_eq!(of("domains/4/settings", "scan_after_update"), (json!(true), "future".into(), json!(4)));
    assert_eq!(of("domains/1/settings", "scan_after_update"), (json!(false), "default".into(), Value::Null));
    for (body, status) in [
        (json!({ "set": { "scope": "every" } }), 422),
        (json!({ "set": { "skope": "all" } }), 422),
        (json!({ "set": { "update_now": true }, "clear": ["update_now"] }), 422),
    ] {
        somebody.does("PATCH", "domains/1/settings", &body, status);
    }
    somebody.does("PATCH", "domains/9/settings", &json!({}), 404);
    somebody.does("PATCH", "root/settings", &json!({ "set": {} }), 422);
    relay.stop();
}

#[test]
fn domains_agents_ranges_enrolments_and_files_come_and_go_r5() {
    let relay = Running::refreshed(settings(FIXTURE));
    let somebody = Somebody::new(&relay, Role::Operator);
    fleet(&somebody);
    assert_eq!(somebody.get("domains?path=B")["items"][0]["id"], 2);
    assert_eq!(somebody.get("domains?limit=2")["items"].as_array().unwrap().len(), 2);
    assert!(somebody.does("POST", "domains", &json!({ "name": "A" }), 409)["detail"].is_string());
    somebody.does("DELETE", "domains/1", &json!({}), 409);
    somebody.does("POST", "domains/3/move", &json!({ "to": 2 }), 200);
    somebody.does("POST", "domains/2/move", &json!({ "to": 3 }), 409);
    assert_eq!(somebody.get("domains/2")["agents_within"], 6);
    assert_eq!(somebody.get("agents?within=2")["total"], 6);
    assert_eq!(somebody.get("agents?domain=2")["total"], 3);
    assert_eq!(somebody.get("agents?scope=patterns&text=pc-")["total"], 6);
    somebody.does("POST", "agents", &json!({ "id": "new", "domain": 1 }), 201);
    somebody.does("POST", "agents", &json!({ "id": "new", "domain": 1 }), 409);
    somebody.does("POST", "agents/new/revoke", &json!({}), 200);
    assert_eq!(somebody.get("agents?standing=revoked")["items"][0]["id"], "new");
    somebody.does("POST", "agents/new/readmit", &json!({}), 200);
    somebody.does("DELETE", "agents/new", &json!({}), 200);
    somebody.does("DELETE", "agents/new", &json!({}), 404);

    let enrolment =
        somebody.does("POST", "enrolments", &json!({ "id": "e", "domain": 1, "agents": 2, "hours": 1 }), 201);
    let enrol = json!({ "token": enrolment["token"], "agent": "pc-new" });
    let at = relay.v4();
    let text = enrol.to_string();
    let mut agent = Client::connect(at);
    let length = text.len().to_string();
    agent.ask("POST", "/api/v1/enrol", &[("Content-Length", &length)]).unwrap();
    agent.send(text.as_bytes()).unwrap();
    agent.answer("POST").unwrap().whole(201);
    assert_eq!(somebody.get("agents/pc-new")["keys"], json!(["secret"]));
    let listed = somebody.get("enrolments");
    assert_eq!((&listed["items"][0]["left"], listed["items"][0].get("token")), (&json!(1), None));
    somebody.does("DELETE", "enrolments/e", &json!({}), 200);
    somebody.does("POST", "enrolments", &json!({ "domain": 1, "agents": 0, "hours": 1 }), 422);

    somebody.does("PUT", "ranges", &json!({ "from": "10.0.0.0/8", "domain": 1 }), 200);
    somebody.does("PUT", "ranges", &json!({ "from": "10.0.0.1/8", "domain": 1 }), 422);
    assert_eq!(somebody.get("ranges")["items"], json!([{ "from": "10.0.0.0/8", "domain": 1 }]));
    somebody.does("DELETE", "ranges?from=10.0.0.0%2F8", &json!({}), 200);

    let put = |bytes: &str, status| {
        let mut client = Client::connect(relay.admin());
        let length = bytes.len().to_string();
        let headers = [("Authorization", &*somebody.bearer), ("Content-Length", &length)];
        client.ask("PUT", "/api/v1/files/a.ini?domain=1", &headers).unwrap();
        let _ = client.send(bytes.as_bytes());
        json(client.answer("PUT").unwrap(), status)
    };
    put("x=1", 200);
    put("x=2", 200);
    assert_eq!(put("x=2", 200)["serial"], Value::Null, "the same bytes are no change");
    put(&"x".repeat((1 << 20) + 1), 413);
    assert_eq!(somebody.get("files")["items"][0]["version"], 2);
    let shown = somebody.call("GET", "files/a.ini?domain=1", None);
    assert_eq!(shown.whole(200), b"x=2");
    somebody.does("DELETE", "files/a.ini", &json!({}), 404);
    somebody.does("DELETE", "files/a.ini?domain=1", &json!({}), 200);
    somebody.does("DELETE", "domains/1?with_all_within=true", &json!({}), 200);
    assert_eq!(somebody.get("agents?domain=1")["total"], 0);
    relay.stop();
}

#[test]
fn every_change_is_in_the_audit_log_and_told_as_it_happens_r11_2() {
    let relay = Running::refreshed(settings(FIXTURE));
    let somebody = Somebody::new(&relay, Role::Operator);
    let mut stream = Client::connect(relay.admin());
    stream.ask("GET", "/api/v1/events", &[("Authorization", &somebody.bearer)]).unwrap();
    assert_eq!(stream.read_head("GET").unwrap().status, 200);
    fleet(&somebody);
    let mut seen = String::new();
    while !seen.contains("id: 4") {
        seen += &String::from_utf8(stream.take(1)).unwrap();
    }
    assert_eq!(seen.matches("event: change").count(), 4, "{seen}");
    assert!(seen.find("id: 1\n") < seen.find("id: 4"), "in their order: {seen}");
    // Who comes back hears what it missed.
    let mut again = Client::connect(relay.admin());
    let headers = [("Authorization", &*somebody.bearer), ("Last-Event-ID", "2")];
    again.ask("GET", "/api/v1/events", &headers).unwrap();
    assert_eq!(again.read_head("GET").unwrap().status, 200);
    let mut missed = String::new();
    while !missed.contains("id: 4") {
        missed += &String::from_utf8(again.take(1)).unwrap();
    }
    assert!(missed.contains("id: 3") && !missed.contains("id: 2\n"), "{missed}");

    let page = somebody.get("audit?limit=3");
    let items = page["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["serial"], &items[0]["changed"]), (3, &json!(4), &json!(9)));
    assert!(items[0]["differences"][0]["agent"]["after"]["domain"].is_number(), "{page}");
    let rest = somebody.get(&format!("audit?before={}", page["next"].as_str().unwrap()));
    assert_eq!((&rest["items"][0]["serial"], &rest["next"]), (&json!(1), &Value::Null));
    assert!(rest["items"][0]["who"].as_str().unwrap().ends_with(", from 127.0.0.1"));
    // The streams end with the relay, which does not wait for their readers.
    relay.stop();
}

#[test]
fn what_the_relay_does_can_be_watched_r11_2() {
    let relay = Running::refreshed(settings(FIXTURE));
    let somebody = Somebody::new(&relay, Role::Operator);
    fleet(&somebody);
    let generation = &somebody.get("generations")["items"][0];
    assert_eq!((&generation["tree"], &generation["current"]), (&json!("activeupdate"), &json!(true)));
    assert_eq!(
        (&generation["files"], &generation["bytes"]),
        (&generation["files_held"], &generation["bytes_held"])
    );
    let components = somebody.get("components?tree=activeupdate");
    let packages: u64 =
        generation["classes"].as_array().unwrap().iter().map(|sum| sum["packages"].as_u64().unwrap()).sum();
    assert_eq!(components["total"], packages);
    somebody.does("GET", "components?tree=other", &json!({}), 404);
    assert_eq!(somebody.get("fills")["total"], 0);
    assert!(somebody.get("traffic")["items"].is_array());
    // Somebody whom nobody knows asks for something.
    let refused = fetch(relay.v4(), "/activeupdate/pattern/vsapi329.zip", &[]);
    assert_eq!(refused.head.status, 401);
    fetch(relay.v4(), "/t/pc-0~0/activeupdate/server.ini", &[]);
    let told = loop {
        let told = somebody.get("refusals?limit=1000");
        if told["items"].as_array().is_some_and(|items| !items.is_empty()) {
            break told;
        }
    };
    let first = told["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&first["method"], &first["number"]), (&json!("GET"), &json!(1)));
    assert!(first["reason"].as_str().unwrap().contains("refused"), "{first}");
    assert_eq!(somebody.get("refusals?agent=pc-0")["items"], json!([]));
    relay.stop();
}
