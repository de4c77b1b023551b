//! Who may administer a relay and how (R11.1). `access`: tokens, roles, failed logins, TLS and certificates; `typed`: the first start and
//! `forebay admin-token`; `calls`: each role against each call; `changes`: what the calls do; `commands`: what is typed for them;
//! `dashboard`: the figures that Grafana shows; `document`: what other people's tools say of
//! the API's document, and of the relay by it; `fleet`: a hundred thousand agents; `remote`: commands for a relay elsewhere, by its URL; `updates`: `forebay update`, with agents that listen.

mod access;
mod calls;
mod changes;
mod commands;
mod dashboard;
mod document;
mod fleet;
mod remote;
mod typed;
mod updates;

use std::net::SocketAddr;

use serde_json::Value;

use crate::raw::Client;
use crate::raw::answer::Answer;

/// Sends a call with a body in JSON, where there is one.
fn call(at: SocketAddr, method: &str, path: &str, bearer: Option<&str>, body: Option<&Value>) -> Answer {
    let text = body.map(Value::to_string).unwrap_or_default();
    let length = text.len().to_string();
    let mut headers = vec![("Content-Length", &*length)];
    headers.extend(bearer.map(|bearer| ("Authorization", bearer)));
    headers.extend(body.map(|_| ("Content-Type", "application/json")));
    let mut client = Client::connect(at);
    client.ask(method, path, &headers).unwrap();
    // A relay that refuses early may not read it all.
    let _ = client.send(text.as_bytes());
    client.answer(method).unwrap()
}

/// The JSON of an answer, which is a problem where its status says so.
fn json(answer: Answer, status: u16) -> Value {
    let head = answer.head.clone();
    let body = answer.whole(status);
    let json: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{head:?}"));
    if status >= 400 {
        assert_eq!(head.header("content-type"), Some("application/problem+json"), "{json}");
        for key in ["type", "title", "detail", "instance"] {
            assert!(json[key].is_string(), "{key} in {json}");
        }
        assert_eq!(json["status"], status);
    }
    json
}
