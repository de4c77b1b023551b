//! A large fleet over the API: listed, filtered, sorted, paged and moved in bounded time.
//!
//! `FOREBAY_AGENTS` says how many agents; with 100,000 and `--release`, each question is to be answered within 50 ms (issue 7).

use std::time::{Duration, Instant};

use forebay::base::clock::SystemClock;
use forebay::policy::administrator::Role;
use forebay::policy::check_in::{CheckIn, Why};
use forebay::policy::tree::change::Action;
use forebay::policy::tree::id::{AgentId, DomainName};
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use forebay::relay::agents::check_in::{Moment, Versions};
use forebay::state::record::Author;
use serde_json::{Value, json};

use super::{call, json};
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

/// Sets of versions.
const SETS: usize = 2000;

/// For an answer, in a release on an idle machine.
const WITHIN: Duration = Duration::from_millis(50);

/// For one of an unoptimised relay, beside other tests.
const WITHIN_UNOPTIMISED: Duration = Duration::from_secs(5);

fn agent(number: usize) -> AgentId {
    AgentId::parse(&format!("pc-{number:06}")).unwrap()
}

/// What an agent has: one of some thousand sets, as a fleet has them of which many were away for a while.
fn versions(number: usize) -> Versions {
    let version = if number.is_multiple_of(3) { "3.29.0" } else { "9.9.9" };
    let patterns = (0..5).map(|part| (format!("P.{}", 4 << part).into(), version.into()));
    let since = |part: usize| (number % SETS + part * 7) % 50;
    let others = (0..35).map(|part| (format!("X.{part}").into(), format!("1.{}", since(part)).into()));
    let set = ("X.set".into(), format!("{}", number % SETS).into());
    patterns.chain(others).chain([set]).collect()
}

#[test]
fn a_large_fleet_is_listed_filtered_sorted_paged_and_moved_in_bounded_time_r11_1() {
    let count = std::env::var("FOREBAY_AGENTS").map_or(10_000, |count| count.parse().unwrap());
    let mut relay = Running::refreshed(settings(FIXTURE));
    let agents = relay.handle().agents().unwrap();
    let author = || Author::parse("a test").unwrap();
    let domains = 200;
    let plan = move |tree: &forebay::policy::tree::Tree| {
        let mut domain = tree.next_domain();
        let mut ids = Vec::new();
        let mut actions = Vec::new();
        for number in 0..domains {
            let name = DomainName::parse(&format!("d{number}")).unwrap();
            actions.push(Action::AddDomain { domain, name, parent: None, values: Values::default() });
            ids.push(domain);
            domain = domain.after();
        }
        actions.extend((0..count).map(|number| {
            let domain = ids[number % ids.len()];
            Action::AddAgent { agent: agent(number), domain, values: Values::default() }
        }));
        Ok(actions)
    };
    agents.state().plan(author(), plan).unwrap().wait().unwrap();
    // Most have checked in, with the versions of some components.
    let tree = agents.state().current();
    let clock = SystemClock::default();
    for number in 0..count {
        let id = agent(number);
        let versions = versions(number);
        let says = CheckIn { why: Why::Schedule, roaming: Switch::Off, schedule: Switch::On, told: false };
        let moment =
            Moment { at: forebay::base::clock::Clock::wall(&clock), secs: 1, from: [10, 0, 0, 1].into() };
        let effective = tree.agent(&id).unwrap();
        agents.check_in(&id, &effective, says, versions, moment, Duration::from_mins(1)).unwrap();
    }
    drop(tree);
    let within = if cfg!(debug_assertions) { WITHIN_UNOPTIMISED } else { WITHIN };
    let bearer = relay.bearer(Role::Operator);
    let ask = |path: &str| -> Value {
        let begun = Instant::now();
        let told = json(call(relay.admin(), "GET", &format!("/api/v1/{path}"), Some(&bearer), None), 200);
        let took = begun.elapsed();
        println!("{path}: {took:?}");
        assert!(took < within, "{path} took {took:?}");
        told
    };
    for (query, total) in [
        ("limit=1000", count),
        ("domain=7", count / domains),
        ("scope=all&standing=admitted", count),
        ("text=0042", (0..count).filter(|number| format!("pc-{number:06}").contains("0042")).count()),
        ("component=P.4&version=9.9.9", count - count.div_ceil(3)),
        ("out_of_date=true&sort=-out_of_date", count),
        ("sort=-seen&limit=10", count),
    ] {
        assert_eq!(ask(&format!("agents?{query}"))["total"], total, "{query}");
    }
    // How many of each domain are out of date, and of all.
    let all = ask("domains?limit=200");
    let in_domains =
        all["items"].as_array().unwrap().iter().map(|domain| domain["out_of_date"].as_u64().unwrap());
    assert_eq!(in_domains.sum::<u64>(), count as u64);
    let begun = Instant::now();
    let metrics = call(relay.admin(), "GET", "/metrics", Some(&bearer), None).whole(200);
    println!("metrics: {:?}", begun.elapsed());
    assert!(begun.elapsed() < within);
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains(&format!("\nforebay_agents_out_of_date {count}\n")), "{metrics}");
    // Pages in the order of what was heard join without a gap.
    let (mut seen, mut cursor) = (0, String::new());
    for _ in 0..5 {
        let page = ask(&format!("agents?sort=seen&limit=500{cursor}"));
        seen += page["items"].as_array().unwrap().len();
        cursor = format!("&cursor={}", page["next"].as_str().unwrap());
    }
    assert_eq!(seen, 2500);

    let moved = count / 10;
    let ids: Vec<_> = (0..moved).map(|number| agent(number).as_str().to_owned()).collect();
    let act = json!({ "actions": [{ "do": "move_agents", "agents": ids, "to": 1 }] });
    let begun = Instant::now();
    let made =
        json(call(relay.admin(), "POST", "/api/v1/agent-tree/changes", Some(&bearer), Some(&act)), 200);
    println!("{moved} agents moved in one transaction: {:?}", begun.elapsed());
    // Those that were there already have not changed.
    let there = (0..moved).filter(|number| number % domains == 0).count();
    assert_eq!((&made["serial"], &made["changed"]), (&json!(2), &json!(moved - there)));
    relay.stop();
}
