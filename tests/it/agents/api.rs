//! The agents' API: what they call, what they are told, and what is refused.

use std::net::{IpAddr, Ipv4Addr};

use forebay::base::blob::BlobId;
use forebay::base::tally::{RefusedBy, Went};
use forebay::config::settings::ClearText;
use forebay::policy::identity::Fingerprint;
use forebay::policy::tree::file::{Content, FileName};
use forebay::policy::tree::value::{Enforce, Switch};

use super::*;

const ENROL: &str = "/api/v1/enrol";
const CHECK_IN: &str = "/api/v1/agent/check-in";
const REPORT: &str = "/api/v1/agent/report";
const KEY: &str = "/api/v1/agent/key";
const FILES: &str = "/api/v1/agent/files";

#[test]
fn an_agent_enrols_with_its_domains_token_and_is_known_by_its_own_r5_5() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 2)]);
    let says = json!({ "token": token("branch"), "agent": "pc-1.example" });
    let (status, told) = post(relay.v4(), ENROL, None, &says);
    assert_eq!((status, &told["agent"]), (201, &json!("pc-1.example")), "{told}");
    let own = told["token"].as_str().unwrap();
    assert!(own.starts_with("pc-1.example~"));
    assert_eq!(get(relay.v4(), PATTERN, own).head.status, 200);
    assert_eq!(
        get(relay.v4(), PATTERN, &token("pc-1.example")).head.status,
        401,
        "not with the enrolment's secret"
    );
    let (status, told) = post(relay.v4(), ENROL, None, &json!({ "token": token("branch") }));
    assert_eq!(status, 201, "an id is made for who has none: {told}");
    assert_eq!(get(relay.v4(), PATTERN, told["token"].as_str().unwrap()).head.status, 200);
    for (says, expected) in [
        (says.clone(), 403),
        (json!({ "token": "branch~0" }), 403),
        (json!({ "token": token("other") }), 403),
        (json!({ "token": token("patterns") }), 403),
        (json!({ "agent": "pc-2" }), 400),
        (json!({ "token": token("branch"), "agent": "PC 2" }), 400),
        (json!([1]), 400),
    ] {
        let (status, told) = post(relay.v4(), ENROL, None, &says);
        assert_eq!(status, expected, "{says}: {told}");
        assert!(told["detail"].as_str().is_some_and(|detail| !detail.contains(SECRET)), "{told}");
    }
    let relay = relay.restart();
    assert_eq!(get(relay.v4(), PATTERN, own).head.status, 200, "and outlives a restart");
}

#[test]
fn an_agent_that_is_there_is_not_taken_over_and_renews_what_it_is_known_by_r5_5() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
    let says = json!({ "token": token("branch"), "agent": "patterns" });
    assert_eq!(post(relay.v4(), ENROL, None, &says).0, 409);
    let (status, told) = post(relay.v4(), KEY, Some(&token("patterns")), &json!({}));
    assert_eq!(status, 200, "{told}");
    let own = told["token"].as_str().unwrap();
    assert_eq!(get(relay.v4(), PATTERN, own).head.status, 200);
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 401, "the old one is void");
    assert_eq!(post(relay.v4(), KEY, None, &json!({})).0, 401);
}

#[test]
fn a_signing_request_is_answered_with_a_certificate_that_the_agent_has_from_then_on_r5_5() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let says = json!({ "token": token("branch"), "agent": "pc-1", "certificate_request": request });
    let (status, told) = post(relay.v4(), ENROL, None, &says);
    assert_eq!(status, 201, "{told}");
    assert!(told["token"].is_null() && told["valid_until"].is_string(), "{told}");
    let (_, der) =
        x509_parser::pem::parse_x509_pem(told["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let agents = relay.handle().agents().unwrap();
    let fingerprint = Fingerprint::of(&der.contents);
    assert_eq!(agents.tree().tree().agent_with(fingerprint), Some(&agent("pc-1")));
    let says = json!({ "token": token("branch"), "agent": "pc-2", "certificate_request": "nonsense" });
    let (status, told) = post(relay.v4(), ENROL, None, &says);
    assert_eq!(status, 400, "{told}");
    assert!(agents.tree().tree().agent(&agent("pc-2")).is_none());
}

#[test]
fn secrets_are_not_told_in_clear_text_to_other_machines_unless_the_settings_allow_it() {
    // Whoever a trusted proxy speaks for is on another machine.
    for (allowed, expected) in [(ClearText::Refuse, 403), (ClearText::Allow, 201)] {
        let mut settings = local();
        settings.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        settings.agents.clear_text_enrolment = allowed;
        let mut relay = fleet(settings);
        change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
        let mut client = Client::connect(relay.v4());
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 8080\r\n").unwrap();
        let answer = post_on(&mut client, ENROL, None, &json!({ "token": token("branch") }));
        assert_eq!(answer.head.status, expected);
    }
}

#[test]
fn a_check_in_tells_what_holds_and_where_to_update_from_r5_2_r7() {
    let mut relay = fleet(local());
    set(&mut relay, domain(1), Values { update_now: Some(Switch::On), ..Values::default() });
    let says = json!({ "why": "update-now", "versions": { "VSAPI": "1.2.3" } });
    let (status, told) = post(relay.v4(), CHECK_IN, Some(&token("patterns")), &says);
    assert_eq!(status, 200, "{told}");
    assert_eq!((&told["agent"], &told["domain"]), (&json!("patterns"), &json!("patterns")));
    assert_eq!(told["permission_secs"], json!(14_400));
    assert_eq!(told["settings"]["scope"], json!("patterns"));
    assert_eq!(told["may"], json!({ "update_now": true, "own_proxy": false, "toggle_schedule": false }));
    let tree = &told["trees"][0];
    assert_eq!(tree["manifest"], json!(MANIFEST));
    assert_eq!(tree["generation"], json!(1));
    let base = format!("http://{}/activeupdate/", relay.v4());
    assert_eq!(tree["components"], json!([{ "url": base, "reason": "relay" }]));
    let agents = relay.handle().agents().unwrap();
    let heard = agents.seen().heard(&agent("patterns")).unwrap();
    assert_eq!(heard.versions["VSAPI"].as_ref(), "1.2.3");
    assert_eq!(heard.from, IpAddr::V4(Ipv4Addr::LOCALHOST));
}

#[test]
fn an_update_now_without_the_privilege_is_refused_and_recorded_r8_1() {
    let mut relay = fleet(local());
    let (status, told) =
        post(relay.v4(), CHECK_IN, Some(&token("patterns")), &json!({ "why": "update-now" }));
    assert_eq!(status, 403);
    assert_eq!(told["denied"], json!("its user has not the privilege to update now"));
    assert_eq!(told["settings"]["scope"], json!("patterns"), "what holds is told all the same");
    assert_eq!(relay.handle().tally().unwrap().requests_refused(RefusedBy::Permission), 1);
    for (says, expected) in [
        (json!({ "why": "because" }), 400),
        (json!({}), 400),
        (json!({ "why": "start", "addresses": vec!["192.0.2.1"; 17] }), 400),
        (json!({ "why": "start", "versions": { "a": "b".repeat(129) } }), 400),
        (json!({ "why": "start", "versions": { "a": "b".repeat(70_000) } }), 413),
        (json!({ "why": "start", "new_field": 1 }), 200),
    ] {
        let (status, told) = post(relay.v4(), CHECK_IN, Some(&token("patterns")), &says);
        assert_eq!(status, expected, "{told}");
    }
    assert_eq!(post(relay.v4(), CHECK_IN, None, &json!({ "why": "start" })).0, 401);
    let answer = get(relay.v4(), CHECK_IN, &token("patterns"));
    assert_eq!((answer.head.status, answer.head.header("allow")), (405, Some("POST")));
}

/// Every privilege with what it depends on, as an agent is told it.
#[test]
fn a_check_in_tells_each_privilege_with_what_it_depends_on_r8() {
    let mut relay = fleet(local());
    let agents = token("patterns");
    for number in 0..32 {
        let [update_now, proxy_settings, scheduled, toggle, users] =
            [0, 1, 2, 3, 4].map(|bit| number >> bit & 1 == 1);
        let values = Values {
            update_now: Some(Switch::from(update_now)),
            proxy_settings: Some(Switch::from(proxy_settings)),
            scheduled_updates: Some(Switch::from(scheduled)),
            toggle_schedule: Some(Switch::from(toggle)),
            ..Values::default()
        };
        set(&mut relay, domain(1), values);
        let runs = scheduled && (users || !toggle);
        for (why, allowed) in [("update-now", update_now), ("schedule", runs), ("start", true)] {
            let says = json!({ "why": why, "schedule_enabled": users });
            let (status, told) = post(relay.v4(), CHECK_IN, Some(&agents), &says);
            let what = format!("{number:05b} {why}: {told}");
            assert_eq!(
                (status, told["permission_secs"].is_number()),
                (if allowed { 200 } else { 403 }, allowed),
                "{what}"
            );
            assert_eq!(told["denied"].is_null(), allowed, "{what}");
            let may = json!({
                "update_now": update_now,
                "own_proxy": update_now && proxy_settings,
                "toggle_schedule": scheduled && toggle,
            });
            assert_eq!((&told["may"], &told["schedule_runs"]), (&may, &json!(runs)), "{what}");
        }
    }
}

#[test]
fn packages_come_under_a_permission_where_it_is_enforced_and_are_recorded_where_not_r8() {
    let mut relay = fleet(local());
    let unpermitted = |relay: &mut Running| relay.handle().tally().unwrap().unpermitted.value();
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 200);
    assert_eq!(unpermitted(&mut relay), 1, "recorded");
    set(&mut relay, domain(1), Values { enforce: Some(Enforce::Strict), ..Values::default() });
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 403);
    assert_eq!(get(relay.v4(), MANIFEST, &token("patterns")).head.status, 200, "to see what there is");
    assert_eq!(post(relay.v4(), CHECK_IN, Some(&token("patterns")), &json!({ "why": "update-now" })).0, 403);
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 403);
    assert_eq!(post(relay.v4(), CHECK_IN, Some(&token("patterns")), &json!({ "why": "schedule" })).0, 200);
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 200);
    assert_eq!(unpermitted(&mut relay), 1, "and this was permitted");
    assert_eq!(get(relay.v4(), PATTERN, &token("all")).head.status, 200, "another domain's");
    let status = relay.ask("/api/v1/status");
    let status: Value = serde_json::from_slice(&status).unwrap();
    let agents = &status["agents"];
    assert_eq!(
        (&agents["known"], &agents["heard"], &agents["unpermitted"]),
        (&json!(3), &json!(1), &json!(2))
    );
}

#[test]
fn a_report_is_counted_and_kept_r8() {
    let mut relay = fleet(local());
    let says = json!({ "result": "failed", "detail": "disk full", "versions": { "VSAPI": "1.2.4" } });
    assert_eq!(post(relay.v4(), REPORT, Some(&token("all")), &says).0, 409, "nobody has heard of it");
    assert_eq!(post(relay.v4(), CHECK_IN, Some(&token("all")), &json!({ "why": "start" })).0, 200);
    assert_eq!(post(relay.v4(), REPORT, Some(&token("all")), &says).0, 204);
    assert_eq!(relay.handle().tally().unwrap().reports(Went::Failed), 1);
    let heard = relay.handle().agents().unwrap().seen().heard(&agent("all")).unwrap();
    assert_eq!(heard.versions["VSAPI"].as_ref(), "1.2.4");
    assert_eq!(heard.reported.unwrap().detail.as_ref(), "disk full");
    assert_eq!(post(relay.v4(), REPORT, Some(&token("all")), &json!({ "result": "fine" })).0, 400);
}

#[test]
fn settings_files_are_those_of_the_nearest_node_and_asked_for_conditionally_r5_6() {
    let mut relay = fleet(local());
    let agents = relay.handle().agents().unwrap();
    let put = |text: &[u8]| agents.state().contents().put(text).unwrap();
    let (root, own) = (put(b"root"), put(b"own"));
    let file = |domain, content: Content| Action::PutFile {
        domain,
        name: FileName::parse("agent.conf").unwrap(),
        content: Some(content),
    };
    change(&mut relay, vec![file(None, root), file(Some(domain(1)), own)]);
    let target = format!("{FILES}/agent.conf");
    let answer = get(relay.v4(), &target, &token("patterns"));
    assert_eq!((answer.head.status, &*answer.body), (200, &b"own"[..]));
    assert_eq!(get(relay.v4(), &target, &token("all")).body, b"root");
    let etag = answer.head.header("etag").unwrap().to_owned();
    let bearer = bearer(&token("patterns"));
    let conditional = [("Authorization", &*bearer), ("If-None-Match", &etag)];
    let again = |relay: &Running| Client::connect(relay.v4()).exchange("GET", &target, &conditional).unwrap();
    assert_eq!(again(&relay).head.status, 304);
    let newer = put(b"newer");
    change(&mut relay, vec![file(Some(domain(1)), newer)]);
    assert_eq!(again(&relay).body, b"newer");
    let list: Value = serde_json::from_slice(&get(relay.v4(), FILES, &token("patterns")).body).unwrap();
    let expected = json!([{ "name": "agent.conf", "version": 2, "bytes": 5, "hash": BlobId::of(b"newer") }]);
    assert_eq!(list, expected);
    for (target, expected) in [("/none.conf", 404), ("/..%2fagent.conf", 400), ("/.hidden", 404)] {
        assert_eq!(get(relay.v4(), &format!("{FILES}{target}"), &token("patterns")).head.status, expected);
    }
    assert_eq!(relay.handle().tally().unwrap().settings_files.value(), 5);
    let values = Values { relay_serves_settings: Some(Switch::Off), ..Values::default() };
    set(&mut relay, domain(1), values);
    assert_eq!(get(relay.v4(), &target, &token("patterns")).head.status, 403);
    assert_eq!(get(relay.v4(), PATTERN, &token("patterns")).head.status, 200, "apart from components");
}
