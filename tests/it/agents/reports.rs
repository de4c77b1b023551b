//! What agents report of their updates, as administrators see it: since when they have what they have, the last reports, and how many
//! agents are out of date.

use super::*;

const CHECK_IN: &str = "/api/v1/agent/check-in";
const REPORT: &str = "/api/v1/agent/report";

fn asked(relay: &Running, path: &str) -> Value {
    serde_json::from_slice(&relay.ask(&format!("/api/v1/{path}"))).unwrap()
}

fn check_in(relay: &Running, id: &str, versions: &Value) {
    let says = json!({ "why": "start", "versions": versions });
    assert_eq!(post(relay.v4(), CHECK_IN, Some(&token(id)), &says).0, 200);
}

fn report(relay: &Running, id: &str, says: &Value) -> u16 {
    post(relay.v4(), REPORT, Some(&token(id)), says).0
}

#[test]
fn the_last_reports_say_from_where_how_much_and_how_long_r11_2() {
    let relay = fleet(local());
    check_in(&relay, "all", &json!({}));
    check_in(&relay, "patterns", &json!({}));
    let own = format!("http://user:{SECRET}@{}/t/{}/activeupdate/?{SECRET}", relay.v4(), token("all"));
    let says = json!({ "result": "updated", "source": own, "bytes": 1u64 << 40, "secs": 604_800 });
    assert_eq!(report(&relay, "all", &says), 204);
    assert_eq!(report(&relay, "patterns", &json!({ "result": "failed", "detail": "disk full" })), 204);
    for wrong in [
        json!({ "source": "relay/activeupdate" }),
        json!({ "source": "ftp://relay/" }),
        json!({ "source": format!("http://relay/{}", "a".repeat(1024)) }),
        json!({ "bytes": (1u64 << 40) + 1 }),
        json!({ "bytes": -1 }),
        json!({ "secs": 604_801 }),
        json!({ "secs": 0.5 }),
    ] {
        let mut says = json!({ "result": "updated" });
        says.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(report(&relay, "all", &says), 400, "{says}");
    }
    let all = asked(&relay, "reports");
    assert!(!all.to_string().contains(SECRET), "{all}");
    let items = all["items"].as_array().unwrap();
    let failed = [&items[0]["number"], &items[0]["agent"], &items[0]["result"], &items[0]["detail"]];
    assert_eq!(
        (items.len(), failed),
        (2, [&json!(2), &json!("patterns"), &json!("failed"), &json!("disk full")])
    );
    assert!(items[0].get("source").is_none() && items[0].get("bytes").is_none(), "it said neither");
    let source = format!("http://{}/t/./activeupdate/", relay.v4());
    let updated = [&items[1]["source"], &items[1]["bytes"], &items[1]["secs"], &items[1]["from"]];
    assert_eq!(updated, [&json!(source), &json!(1u64 << 40), &json!(604_800), &json!("127.0.0.1")]);
    let numbers = |query: &str| -> Vec<u64> {
        let page = asked(&relay, &format!("reports?{query}"));
        page["items"].as_array().unwrap().iter().map(|item| item["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        (numbers("agent=all"), numbers("result=failed"), numbers("before=2")),
        (vec![1], vec![2], vec![1])
    );
    assert_eq!((numbers("limit=1"), &asked(&relay, "reports?limit=1")["next"]), (vec![2], &json!("2")));
}

#[test]
fn a_version_counts_since_it_was_first_told_of_r11_2() {
    let relay = fleet(local());
    check_in(&relay, "all", &json!({ "P.6": "1", "E.1": "7" }));
    let first = asked(&relay, "agents/all");
    assert_eq!(
        (&first["since"]["P.6"], &first["since"]["E.1"]),
        (&first["seen"]["at"], &first["seen"]["at"])
    );
    let says = json!({ "result": "updated", "versions": { "P.6": "2", "E.1": "7" } });
    assert_eq!(report(&relay, "all", &says), 204);
    let then = asked(&relay, "agents/all");
    assert_eq!(then["since"]["E.1"], first["since"]["E.1"], "it has it still");
    assert_eq!(then["since"]["P.6"], then["seen"]["report"]["at"], "it has it since its report");
    check_in(&relay, "all", &json!({ "P.6": "2" }));
    let last = asked(&relay, "agents/all");
    assert_eq!(last["since"], json!({ "P.6": then["since"]["P.6"] }));
}

#[test]
fn since_when_an_agent_says_that_it_has_a_version_counts_and_outlives_the_relay_r11_2() {
    let relay = fleet(local());
    let (versions, since) = (json!({ "P.6": "1", "E.1": "7" }), "2026-01-02T03:04:05Z");
    let says = |since: Value| json!({ "why": "start", "versions": versions, "since": since });
    let checked_in = |relay: &Running, since| post(relay.v4(), CHECK_IN, Some(&token("all")), &says(since)).0;
    assert_eq!(checked_in(&relay, json!({ "P.6": since })), 200);
    let relay = relay.restart();
    assert_eq!(checked_in(&relay, json!({ "P.6": since })), 200);
    let then = asked(&relay, "agents/all");
    assert_eq!((&then["since"]["P.6"], &then["since"]["E.1"]), (&json!(since), &then["seen"]["at"]));
    // A report says it too; what is to come is now.
    let said = json!({ "result": "updated", "versions": { "P.6": "2" }, "since": { "P.6": "2999-01-01T00:00:00Z" } });
    assert_eq!(report(&relay, "all", &said), 204);
    let then = asked(&relay, "agents/all");
    assert_eq!(then["since"], json!({ "P.6": then["seen"]["report"]["at"] }));
    for wrong in [
        json!({ "P.7": since }),
        json!({ "P.6": "yesterday" }),
        json!({ "P.6": 1_700_000_000 }),
        json!({ "P.6": null }),
        json!([since]),
    ] {
        assert_eq!(checked_in(&relay, wrong.clone()), 400, "{wrong}");
    }
    assert_eq!(report(&relay, "all", &json!({ "result": "updated", "since": { "P.6": since } })), 400);
    assert_eq!(asked(&relay, "agents/all"), then, "nothing of that was taken in");
    relay.stop();
}

#[test]
fn agents_that_are_out_of_date_are_counted_by_domain_and_in_all_r11_2() {
    let mut relay = fleet(local());
    let below = Action::AddDomain {
        domain: domain(4),
        name: DomainName::parse("below").unwrap(),
        parent: Some(domain(1)),
        values: Values::default(),
    };
    let late = Action::AddAgent { agent: agent("late"), domain: domain(4), values: Values::default() };
    let key = Action::GiveKey { agent: agent("late"), key: Key::Secret(SecretHash::of(SECRET.as_bytes())) };
    change(&mut relay, vec![below, late, key]);
    let counts = |relay: &Running| -> (Vec<u64>, u64) {
        let page = String::from_utf8(relay.ask("/metrics")).unwrap();
        let listed = asked(relay, "domains");
        let of = |item: &Value| item["out_of_date"].as_u64().unwrap();
        let each: Vec<_> = listed["items"].as_array().unwrap().iter().map(of).collect();
        assert_eq!(of(&asked(relay, "domains/1")), each[0]);
        (each, crate::served::metric(&page, "forebay_agents_out_of_date"))
    };
    assert_eq!(counts(&relay), (vec![0; 4], 0), "nobody has told of anything");
    let current = asked(&relay, "components")["items"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|component| (component["component"] == "P.6").then(|| component["version"].clone()));
    check_in(&relay, "late", &json!({ "P.6": "1" }));
    check_in(&relay, "patterns", &json!({ "P.6": current.unwrap() }));
    check_in(&relay, "all", &json!({ "P.6": "1", "nobody knows it": "1" }));
    assert_eq!(counts(&relay), (vec![1, 0, 1, 1], 2), "in a domain are those within it");
    check_in(&relay, "patterns", &json!({ "P.6": "1" }));
    assert_eq!(counts(&relay), (vec![2, 0, 1, 1], 3));
    change(&mut relay, vec![Action::Revoke { agents: vec![agent("late")] }]);
    assert_eq!(counts(&relay), (vec![1, 0, 1, 0], 2), "who is shut out cannot update");
}
