//! Updates that administrators start (R9.1d).

use forebay::policy::administrator::Role;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use serde_json::{Value, json};

use super::line::Line;
use super::{added, change, domain, fleet, follow, get, poll, post, set, token};
use crate::relay::Running;
use crate::site::Site;

const UPDATES: &str = "/api/v1/updates";

fn operator(relay: &Running) -> String {
    relay.bearer(Role::Operator).strip_prefix("Bearer ").unwrap().to_owned()
}

fn start(relay: &Running, what: &Value) -> Value {
    let (status, update) = post(relay.admin(), UPDATES, &operator(relay), what);
    assert_eq!(status, 201, "{update}");
    update
}

/// Waits until an update has come so far.
fn wait(relay: &Running, id: &Value, reached: impl Fn(&Value) -> bool) -> Value {
    let bearer = operator(relay);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (status, update) = get(relay.admin(), &format!("{UPDATES}/{id}"), &bearer);
        assert_eq!(status, 200);
        if reached(&update) {
            return update;
        }
        assert!(std::time::Instant::now() < until, "{update}");
        std::thread::yield_now();
    }
}

#[test]
fn an_administrator_has_agents_update_whatever_their_settings_and_sees_how_far_it_is_r9_1d() {
    let site = Site::with(5, &[4]);
    let mut relay = fleet(&site);
    let off = Values {
        update_on_generation: Some(Switch::Off),
        scheduled_updates: Some(Switch::Off),
        update_now: Some(Switch::Off),
        ..Values::default()
    };
    set(&mut relay, 1, off);
    change(&mut relay, added("second", domain(1)).into());
    let mut line = Line::open(relay.v4(), &token("patterns"), "");
    assert_eq!(
        post(relay.v4(), "/api/v1/agent/check-in", &token("patterns"), &json!({ "why": "notice" })).0,
        403
    );
    let update = start(&relay, &json!({ "domains": [1] }));
    assert_eq!(line.told(), (1, "administrator".into()));
    let now = wait(&relay, &update["id"], |update| update["under_way"] == 1);
    assert_eq!((&now["offline"], &now["done"], &now["over"]), (&json!(1), &json!(0), &json!(false)));
    assert_eq!(follow(&relay, "patterns"), 200, "no privilege is asked for");
    wait(&relay, &update["id"], |update| update["done"] == 1 && update["under_way"] == 0);
    // Who was offline is told when it comes, also by a relay that was started anew.
    let relay = relay.restart();
    assert_eq!(Line::open(relay.v4(), &token("second"), "").told().1, "administrator");
    let now = wait(&relay, &update["id"], |update| update["under_way"] == 1);
    assert_eq!((&now["offline"], &now["done"]), (&json!(0), &json!(1)));
    relay.stop();
}

#[test]
fn who_was_not_told_of_a_cancelled_update_is_not_r9_1d() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let update = start(&relay, &json!({ "all": true }));
    assert_eq!(update["offline"], 3);
    let bearer = format!("Bearer {}", operator(&relay));
    let one = format!("{UPDATES}/{}", update["id"]);
    let cancelled = crate::raw::Client::connect(relay.admin())
        .exchange("DELETE", &one, &[("Authorization", &bearer)])
        .unwrap();
    let cancelled: Value = serde_json::from_slice(&cancelled.whole(200)).unwrap();
    assert_eq!((&cancelled["cancelled"], &cancelled["over"]), (&json!(3), &json!(true)));
    assert_eq!(poll(&relay, "wait=1", "all"), [Value::Null; 0]);
    let (_, listed) = get(relay.admin(), UPDATES, &operator(&relay));
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    relay.stop();
}

#[test]
fn only_agents_with_something_that_is_not_current_are_out_of_date_and_mistakes_are_named_r9_1d() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    for (id, version) in [("patterns", "5"), ("all", "4")] {
        let says = json!({ "why": "start", "versions": { "P.4": version } });
        assert_eq!(post(relay.v4(), "/api/v1/agent/check-in", &token(id), &says).0, 200);
    }
    let update = start(&relay, &json!({ "out_of_date": true }));
    assert_eq!(update["offline"], 1);
    assert_eq!(Line::open(relay.v4(), &token("all"), "").told().1, "administrator");
    let operator = operator(&relay);
    for (wrong, status, says) in [
        (json!({}), 422, "\"all\": true"),
        (json!({ "domains": [9] }), 404, "domain 9"),
        (json!({ "agents": ["nobody"] }), 404, "'nobody'"),
        (json!({ "agents": ["all"], "all": true }), 422, "not all"),
        (json!({ "agent": ["all"] }), 422, "agent"),
    ] {
        let (given, problem) = post(relay.admin(), UPDATES, &operator, &wrong);
        assert_eq!(given, status, "{wrong}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{wrong}: {problem}");
    }
    assert_eq!(get(relay.admin(), "/api/v1/updates/77", &operator).0, 404);
    relay.stop();
}
