//! Agents of the agent tree (R5.5, R5.6, R7, R8): how they become known, what they are told, what they get.
//!
//! `api`: enrolment, check-ins, reports, settings files, as agents call them; `ways`: each scope, class and way in, and what is served to
//! nobody but those who fall back on the upstream; `leaving`: what is
//! taken back holds for open connections; `attack`: guesses, replays, races, smuggled identities; `certificates`: those of others, resumed
//! sessions; `bodies`: too large, deep, slow or many; `secrets`: where none appears; `stock`: curl and wget; `why` and `reports`: what
//! administrators are told of it. `line` is what they stand on.

mod api;
mod attack;
mod bodies;
mod certificates;
mod leaving;
mod line;
mod reports;
mod secrets;
mod stock;
mod ways;
mod why;

use std::net::SocketAddr;

use forebay::config::settings::Settings;
use forebay::policy::scope::Scope;
use forebay::policy::secret::SecretHash;
use forebay::policy::tree::change::{Action, Patch};
use forebay::policy::tree::enrolment::Enrolment;
use forebay::policy::tree::id::{AgentId, DomainId, DomainName, EnrolmentId};
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::setting::Values;
use forebay::state::record::Author;
use forebay::state::{ChangeError, Done};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::raw::Client;
use crate::raw::answer::Answer;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";
const PATTERN: &str = "/activeupdate/pattern/vsapi329.zip";

/// A secret that tests know.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

pub(crate) fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

pub(crate) fn token(id: &str) -> String {
    format!("{id}~{SECRET}")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) fn scoped(scope: Scope) -> Values {
    Values { scope: Some(scope), ..Values::default() }
}

/// A relay with a domain for each scope, 1 to 3, and an agent in each: `patterns`, `engines`, `all`.
fn fleet(settings: Settings) -> Running {
    let mut relay = Running::refreshed(settings);
    let mut actions = Vec::new();
    for (number, (name, scope)) in (1..).zip([
        ("patterns", Scope::Patterns),
        ("engines", Scope::PatternsEnginesDrivers),
        ("all", Scope::All),
    ]) {
        let (domain, agent) = (domain(number), agent(name));
        let name = DomainName::parse(name).unwrap();
        actions.extend([
            Action::AddDomain { domain, name, parent: None, values: scoped(scope) },
            Action::AddAgent { agent, domain, values: Values::default() },
            Action::GiveKey { agent, key: Key::Secret(SecretHash::of(SECRET.as_bytes())) },
        ]);
    }
    change(&mut relay, actions);
    relay
}

fn local() -> Settings {
    settings(FIXTURE)
}

fn try_change(relay: &mut Running, actions: Vec<Action>) -> Result<Done, ChangeError> {
    let agents = relay.handle().agents().unwrap();
    agents.state().change(Author::parse("a test").unwrap(), actions).unwrap().wait()
}

pub(crate) fn change(relay: &mut Running, actions: Vec<Action>) {
    try_change(relay, actions).unwrap();
}

pub(crate) fn set(relay: &mut Running, domain: DomainId, values: Values) {
    change(relay, vec![Action::Set { domains: vec![domain], agents: vec![], patch: Patch::set(values) }]);
}

/// Lets so many agents into a domain for an hour.
pub(crate) fn enrolment(id: &str, domain: DomainId, left: u32) -> Action {
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let enrolment = Enrolment { domain, secret: SecretHash::of(SECRET.as_bytes()), left, until };
    Action::AddEnrolment { id: EnrolmentId::parse(id).unwrap(), enrolment }
}

fn get(address: SocketAddr, target: &str, token: &str) -> Answer {
    Client::connect(address).exchange("GET", target, &[("Authorization", &bearer(token))]).unwrap()
}

/// Sends a body of JSON; gives the status and what the answer's body says.
fn post(address: SocketAddr, target: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let mut client = Client::connect(address);
    let answer = post_on(&mut client, target, token, body);
    let says =
        if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body).unwrap() };
    (answer.head.status, says)
}

fn post_on(client: &mut Client, target: &str, token: Option<&str>, body: &Value) -> Answer {
    let body = body.to_string();
    let shown = token.map_or_else(String::new, |token| format!("Authorization: {}\r\n", bearer(token)));
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: relay\r\n{shown}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(format!("{head}{body}").as_bytes()).unwrap();
    client.answer("POST").unwrap()
}
