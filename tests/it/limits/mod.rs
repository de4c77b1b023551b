//! Limits of agents and domains (R10.1): what is over them waits or is told when to come back, and no transfer is cut.
//!
//! `shares`: bytes, among connections, domains, agents and streams; `slow`: transfers longer than every deadline, and limits that change
//! under way; `tunnels`: CONNECT, SOCKS and the forward proxy; `requests`: floods.

mod requests;
mod shares;
mod slow;
mod tunnels;

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::base::tally::Tally;
use forebay::config::settings::Settings;
use forebay::policy::secret::SecretHash;
use forebay::policy::tree::change::{Action, Patch};
use forebay::policy::tree::id::{AgentId, DomainId, DomainName};
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Rate;
use forebay::state::record::Author;
use tempfile::TempDir;

use crate::raw::Client;
use crate::relay::Running;
use crate::tunnel::named;

const BIG: &str = "/activeupdate/pattern/big.zip";
const BIG_BYTES: usize = 8 << 20;
const PROGRAM: &str = "/activeupdate/program/setup.zip";
const PROGRAM_BYTES: usize = 2_000_000;
const MANIFEST: &str = "/activeupdate/server.ini";

/// A secret that tests know.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A relay with domain 1, to which 127.1.0.0/16 belongs and the agents `a` and `b`, and domain 2, to which 127.2.0.0/16 does.
struct Ground {
    relay: Running,
    tally: Arc<Tally>,
    big: Vec<u8>,
    program: Vec<u8>,
    _tree: TempDir,
}

impl Ground {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change_settings: impl FnOnce(&mut Settings)) -> Self {
        let tree = TempDir::new().unwrap();
        let big = put(&tree, "pattern/big.zip", BIG_BYTES);
        let program = put(&tree, "program/setup.zip", PROGRAM_BYTES);
        let manifest = format!(
            "[PATTERN]\r\nP.1=pattern/big.zip,100,{BIG_BYTES}\r\n\
             [Info_39_10000_1_1]\r\nVersion=14.0\r\nBuild=1\r\nPath=program/setup.zip,{PROGRAM_BYTES}\r\nMin=1.0\r\nMax=14.0\r\n"
        );
        fs::write(tree.path().join("server.ini"), manifest).unwrap();
        let mut settings = named(tree.path().to_str().unwrap(), &[]);
        change_settings(&mut settings);
        let mut relay = Running::refreshed(settings);
        let tally = relay.handle().tally().unwrap();
        let mut ground = Self { relay, tally, big, program, _tree: tree };
        let mut actions = Vec::new();
        for (number, name) in [(1, "limited"), (2, "other")] {
            let (name, from) = (DomainName::parse(name).unwrap(), format!("127.{number}.0.0/16"));
            actions.extend([
                Action::AddDomain { domain: domain(number), name, parent: None, values: Values::default() },
                Action::SetRange { from: from.parse().unwrap(), domain: Some(domain(number)) },
            ]);
        }
        for agent in ["a", "b"].map(agent) {
            actions.extend([
                Action::AddAgent { agent, domain: domain(1), values: Values::default() },
                Action::GiveKey { agent, key: Key::Secret(SecretHash::of(SECRET.as_bytes())) },
            ]);
        }
        ground.change(actions);
        ground
    }

    fn change(&mut self, actions: Vec<Action>) {
        let agents = self.relay.handle().agents().unwrap();
        agents.state().change(Author::parse("a test").unwrap(), actions).unwrap().wait().unwrap();
    }

    /// Sets these values at domain 1, and those that are not there not at all.
    fn limit(&mut self, values: Values) {
        let names = [
            "requests_per_sec",
            "bytes_per_sec",
            "domain_requests_per_sec",
            "domain_bytes_per_sec",
            "domain_program_bytes_per_sec",
        ];
        let named = |name: &str| serde_json::from_value(serde_json::json!(name)).unwrap();
        let clear = names.iter().map(|name| named(name)).filter(|setting| !values.holds(*setting)).collect();
        let patch = Patch { set: values, clear };
        self.change(vec![Action::Set { domains: vec![domain(1)], agents: vec![], patch }]);
    }

    /// A client of a domain, by one of its addresses.
    fn client(&self, domain: u8, address: u8) -> Client {
        Client::connect_from(IpAddr::from([127, domain, 0, address]), self.relay.v4())
    }

    /// How long it takes to get a file, which comes whole.
    fn took(&self, client: &mut Client, target: &str, headers: &[(&str, &str)]) -> Duration {
        let began = Instant::now();
        let body = client.exchange("GET", target, headers).unwrap().whole(200);
        assert!(body == if target == PROGRAM { &*self.program } else { &*self.big });
        began.elapsed()
    }
}

fn put(tree: &TempDir, path: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut bytes);
    let file = tree.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, &bytes).unwrap();
    bytes
}

fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn bearer(id: &str) -> String {
    format!("Bearer {id}~{SECRET}")
}

fn rate(per_sec: u64) -> Option<Rate> {
    Rate::per_sec(per_sec).ok()
}
