//! Each role against each call that the document names: nobody, a viewer, an operator, an administrator.

use std::collections::BTreeSet;

use forebay::policy::administrator::Role;
use serde_json::{Value, json};

use super::call;
use crate::raw::fetch;
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

/// What each call needs: the table that people agreed on, beside the one in the code.
const TABLE: &[(&str, &str, Option<Role>)] = &[
    ("get", "/healthz", None),
    ("get", "/readyz", None),
    ("get", "/api/v1/openapi.json", None),
    ("get", "/metrics", Some(Role::Viewer)),
    ("get", "/api/v1/me", Some(Role::Viewer)),
    ("get", "/api/v1/status", Some(Role::Viewer)),
    ("get", "/api/v1/domains", Some(Role::Viewer)),
    ("get", "/api/v1/domains/{domain}", Some(Role::Viewer)),
    ("get", "/api/v1/domains/{domain}/settings", Some(Role::Viewer)),
    ("get", "/api/v1/agents", Some(Role::Viewer)),
    ("get", "/api/v1/agents/{agent}", Some(Role::Viewer)),
    ("get", "/api/v1/agents/{agent}/settings", Some(Role::Viewer)),
    ("get", "/api/v1/agents/{agent}/why", Some(Role::Viewer)),
    ("get", "/api/v1/root/settings", Some(Role::Viewer)),
    ("get", "/api/v1/sources", Some(Role::Viewer)),
    ("get", "/api/v1/ranges", Some(Role::Viewer)),
    ("get", "/api/v1/enrolments", Some(Role::Viewer)),
    ("get", "/api/v1/files", Some(Role::Viewer)),
    ("get", "/api/v1/generations", Some(Role::Viewer)),
    ("get", "/api/v1/components", Some(Role::Viewer)),
    ("get", "/api/v1/fills", Some(Role::Viewer)),
    ("get", "/api/v1/traffic", Some(Role::Viewer)),
    ("get", "/api/v1/refusals", Some(Role::Viewer)),
    ("get", "/api/v1/reports", Some(Role::Viewer)),
    ("get", "/api/v1/updates", Some(Role::Viewer)),
    ("get", "/api/v1/updates/{id}", Some(Role::Viewer)),
    ("get", "/api/v1/audit", Some(Role::Viewer)),
    ("get", "/api/v1/events", Some(Role::Viewer)),
    ("post", "/api/v1/refresh", Some(Role::Operator)),
    ("post", "/api/v1/scrub", Some(Role::Operator)),
    ("post", "/api/v1/updates", Some(Role::Operator)),
    ("delete", "/api/v1/updates/{id}", Some(Role::Operator)),
    ("get", "/api/v1/agent-tree", Some(Role::Operator)),
    ("post", "/api/v1/agent-tree/changes", Some(Role::Operator)),
    ("post", "/api/v1/domains", Some(Role::Operator)),
    ("patch", "/api/v1/domains/{domain}", Some(Role::Operator)),
    ("delete", "/api/v1/domains/{domain}", Some(Role::Operator)),
    ("post", "/api/v1/domains/{domain}/move", Some(Role::Operator)),
    ("patch", "/api/v1/domains/{domain}/settings", Some(Role::Operator)),
    ("post", "/api/v1/agents", Some(Role::Operator)),
    ("delete", "/api/v1/agents/{agent}", Some(Role::Operator)),
    ("post", "/api/v1/agents/{agent}/move", Some(Role::Operator)),
    ("post", "/api/v1/agents/{agent}/revoke", Some(Role::Operator)),
    ("post", "/api/v1/agents/{agent}/readmit", Some(Role::Operator)),
    ("patch", "/api/v1/agents/{agent}/settings", Some(Role::Operator)),
    ("patch", "/api/v1/root/settings", Some(Role::Operator)),
    ("put", "/api/v1/sources", Some(Role::Operator)),
    ("put", "/api/v1/ranges", Some(Role::Operator)),
    ("delete", "/api/v1/ranges", Some(Role::Operator)),
    ("post", "/api/v1/enrolments", Some(Role::Operator)),
    ("delete", "/api/v1/enrolments/{enrolment}", Some(Role::Operator)),
    ("get", "/api/v1/files/{name}", Some(Role::Operator)),
    ("put", "/api/v1/files/{name}", Some(Role::Operator)),
    ("delete", "/api/v1/files/{name}", Some(Role::Operator)),
    ("post", "/api/v1/agent-tree", Some(Role::Administrator)),
    ("get", "/api/v1/tokens", Some(Role::Administrator)),
    ("post", "/api/v1/tokens", Some(Role::Administrator)),
    ("delete", "/api/v1/tokens/{name}", Some(Role::Administrator)),
];

/// The calls of a document with the roles that it names.
fn documented(document: &Value) -> BTreeSet<(String, String, Option<String>)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let calls = paths.flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, call)| {
            let role = call["security"][0]["token"][0].as_str().map(str::to_owned);
            (method.clone(), path.clone(), role)
        })
    });
    calls.collect()
}

#[test]
fn the_document_names_each_call_and_its_role_and_no_other_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let document: Value =
        serde_json::from_slice(&fetch(relay.admin(), "/api/v1/openapi.json", &[]).whole(200)).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let agreed = TABLE.iter().map(|(method, path, role)| {
        ((*method).to_owned(), (*path).to_owned(), role.map(|role| role.name().to_owned()))
    });
    assert_eq!(documented(&document), agreed.collect());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            let answers = call["responses"].as_object().unwrap();
            let role = call["security"][0]["token"].is_array();
            for status in ["401", "403", "429"].iter().filter(|status| role || **status == "403") {
                assert!(answers.contains_key(*status), "{status} of {method} {path}");
            }
            assert!(call["description"].is_string() || call["summary"].is_string(), "{method} {path}");
        }
    }
    relay.stop();
}

#[test]
fn each_role_is_let_in_where_it_may_and_nowhere_else_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let bearers: Vec<_> = Role::ALL.iter().map(|role| (Some(*role), Some(relay.bearer(*role)))).collect();
    for (method, path, needed) in TABLE {
        let target = path.replace("{domain}", "1").replace("{agent}", "pc-1").replace("{enrolment}", "e");
        let target = target.replace("{name}", "nobody").replace("{id}", "7");
        for (role, bearer) in bearers.iter().chain([&(None, None)]) {
            if path.ends_with("/events") && role.is_some() {
                // It would not end; its own test reads it.
                continue;
            }
            let method = method.to_uppercase();
            let body = (method != "GET" && method != "DELETE").then(|| json!({}));
            let answer = call(relay.admin(), &method, &target, bearer.as_deref(), body.as_ref());
            let status = answer.head.status;
            // Whoever is let in is told what is wrong with what they want, or has it.
            let let_in = !matches!(status, 401 | 403 | 429);
            let open = needed.is_none() || *path == "/metrics";
            assert_eq!(let_in, open || *role >= *needed, "{method} {target} as {role:?}: {status}");
            if !let_in {
                assert_eq!(status, if role.is_some() { 403 } else { 401 }, "{method} {target} as {role:?}");
            }
            assert!(status < 500, "{method} {target} as {role:?}: {status}");
        }
    }
    relay.stop();
}
