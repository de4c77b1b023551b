//! Agents are told: the streams that they hold, and what they hear on them (R9.1, R9.3, R9.4).
//!
//! `stream`: events over HTTP/1, HTTP/2 and by polls; `missed`: releases that come while the relay is down; `starts`: updates that
//! administrators start; `crowd`: many streams at once. `line` is what they stand on.

mod crowd;
pub(crate) mod line;
mod missed;
mod starts;
mod stream;

use std::net::SocketAddr;

use forebay::policy::scope::Scope;
use forebay::policy::secret::SecretHash;
use forebay::policy::tree::change::{Action, Patch};
use forebay::policy::tree::id::{AgentId, DomainId, DomainName};
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::setting::Values;
use forebay::state::record::Author;
use serde_json::Value;

use crate::raw::Client;
use crate::relay::{Running, settings};
use crate::site::Site;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

pub(crate) fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

pub(crate) fn token(id: &str) -> String {
    format!("{id}~{SECRET}")
}

/// A relay of a site with a domain for each scope, 1 to 3, and an agent in each: `patterns`, `engines`, `all`.
fn fleet(site: &Site) -> Running {
    let mut relay = Running::refreshed(settings(site.dir().to_str().unwrap()));
    let mut actions = Vec::new();
    for (number, (name, scope)) in (1..).zip([
        ("patterns", Scope::Patterns),
        ("engines", Scope::PatternsEnginesDrivers),
        ("all", Scope::All),
    ]) {
        let values = Values { scope: Some(scope), ..Values::default() };
        let (domain, name) = (domain(number), DomainName::parse(name).unwrap());
        actions.push(Action::AddDomain { domain, name: name.clone(), parent: None, values });
        actions.extend(added(name.as_str(), domain));
    }
    change(&mut relay, actions);
    relay
}

pub(crate) fn added(id: &str, domain: DomainId) -> [Action; 2] {
    let key = Key::Secret(SecretHash::of(SECRET.as_bytes()));
    [
        Action::AddAgent { agent: agent(id), domain, values: Values::default() },
        Action::GiveKey { agent: agent(id), key },
    ]
}

pub(crate) fn change(relay: &mut Running, actions: Vec<Action>) {
    let agents = relay.handle().agents().unwrap();
    agents.state().change(Author::parse("a test").unwrap(), actions).unwrap().wait().unwrap();
}

fn set(relay: &mut Running, number: u32, values: Values) {
    let patch = Patch::set(values);
    change(relay, vec![Action::Set { domains: vec![domain(number)], agents: vec![], patch }]);
}

/// Sends a body of JSON with a token; gives the status and what is answered.
pub(crate) fn post(address: SocketAddr, target: &str, token: &str, body: &Value) -> (u16, Value) {
    let text = body.to_string();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut client = Client::connect(address);
    client.send(request.as_bytes()).unwrap();
    let answer = client.answer("POST").unwrap();
    let says =
        if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body).unwrap() };
    (answer.head.status, says)
}

fn get(address: SocketAddr, target: &str, token: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let answer = Client::connect(address).exchange("GET", target, &[("Authorization", &bearer)]).unwrap();
    (answer.head.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

/// The notices that a poll is answered with, but for that settings changed.
fn poll(relay: &Running, query: &str, id: &str) -> Vec<Value> {
    let (status, says) = get(relay.v4(), &format!("/api/v1/agent/events?{query}"), &token(id));
    assert_eq!(status, 200, "{says}");
    let mut events = says["events"].as_array().unwrap().clone();
    events.retain(|told| told["event"] != "settings");
    events
}

/// An agent checks in because it was told, and reports.
fn follow(relay: &Running, id: &str) -> u16 {
    let says = serde_json::json!({ "why": "notice" });
    let (status, _) = post(relay.v4(), "/api/v1/agent/check-in", &token(id), &says);
    let says = serde_json::json!({ "result": "updated" });
    assert_eq!(post(relay.v4(), "/api/v1/agent/report", &token(id), &says).0, 204);
    status
}
