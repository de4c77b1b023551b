//! The agent tree with 100,000 agents in 2,000 domains: what it holds in memory, what a change costs, what a decision takes, and
//! how long a start reads it.
//!
//! `cargo bench --bench tree`; RESULTS.md has what it gave. Every twentieth agent has values of its own, but for the worst case,
//! in which all have the one that a change at the root clears.

#![allow(missing_docs, reason = "criterion's macros make public items without any")]
#![allow(clippy::unwrap_used, reason = "a bench may stop like a test")]

use std::hint::black_box;
use std::num::NonZero;
use std::sync::Arc;

use arc_swap::ArcSwap;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forebay::base::clock::SystemClock;
use forebay::disk::Disk;
use forebay::manifest::catalogue::Class;
use forebay::policy::caller::{Said, Shown, Who};
use forebay::policy::decide::{Ask, Permission, Policy, Unknown};
use forebay::policy::scope::Scope;
use forebay::policy::secret::{SecretHash, Token};
use forebay::policy::tree::Tree;
use forebay::policy::tree::change::{Action, Patch, Reach};
use forebay::policy::tree::compiled::Compiled;
use forebay::policy::tree::id::{AgentId, DomainId, DomainName};
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;
use forebay::state::record::Author;
use forebay::state::{Keep, State};

const AGENTS: u32 = 100_000;

const DOMAINS: u32 = 2_000;

/// Address ranges, each of another domain.
const RANGES: u32 = 1_792;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Domains right below each other: each domain holds so many until there are enough.
const FANOUT: u32 = 12;

fn id(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

fn agent(number: u32) -> AgentId {
    AgentId::parse(&format!("workstation-{number:06}.branch.example")).unwrap()
}

fn scope(scope: Scope) -> Values {
    Values { scope: Some(scope), ..Values::default() }
}

/// Two transactions: one alone would name too much.
fn actions(own: impl Fn(u32) -> Values) -> [Vec<Action>; 2] {
    let mut actions = Vec::new();
    for number in 1..=DOMAINS {
        let name = DomainName::parse(&format!("Domain {number}")).unwrap();
        let parent = NonZero::new((number - 1) / FANOUT).map(|parent| id(parent.get()));
        let values = if number % 10 == 0 { scope(Scope::Patterns) } else { Values::default() };
        actions.push(Action::AddDomain { domain: id(number), name, parent, values });
    }
    actions.extend((0..AGENTS).map(|number| Action::AddAgent {
        agent: agent(number),
        domain: id(1 + number % DOMAINS),
        values: own(number),
    }));
    let key = Key::Secret(SecretHash::of(SECRET.as_bytes()));
    let mut keys: Vec<_> = (0..AGENTS).map(|number| Action::GiveKey { agent: agent(number), key }).collect();
    keys.extend((0..RANGES).map(|number| Action::SetRange {
        from: format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap(),
        domain: Some(id(1 + number)),
    }));
    [actions, keys]
}

fn tree(own: impl Fn(u32) -> Values) -> Tree {
    let [nodes, keys] = actions(own);
    Tree::default().changed(&nodes).unwrap().tree.changed(&keys).unwrap().tree
}

fn a_few(number: u32) -> Values {
    match number % 40 {
        0 => scope(Scope::PatternsEnginesDrivers),
        20 => Values { update_now: Some(Switch::On), ..Values::default() },
        _ => Values::default(),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn benches(criterion: &mut Criterion) {
    let before = resident_kib();
    let compiled = Compiled::new(tree(a_few));
    println!("tree: {AGENTS} agents in {DOMAINS} domains: {} KiB", resident_kib() - before);

    let mut group = criterion.benchmark_group("tree");
    let change = |compiled: &Compiled, action: &Action| {
        let changed = compiled.tree().changed(std::slice::from_ref(action)).unwrap();
        compiled.after(changed.tree, &changed.differences)
    };
    let all = |reach| Action::SetRoot { reach, patch: Patch::set(scope(Scope::All)) };
    group.bench_function("root change for all agents", |bencher| {
        bencher.iter(|| change(black_box(&compiled), &all(Reach::AllAgents)));
    });
    group.bench_function("root change for future domains", |bencher| {
        bencher.iter(|| change(black_box(&compiled), &all(Reach::FutureDomainsOnly)));
    });
    let domain = Action::Set { domains: vec![id(1)], agents: vec![], patch: Patch::set(scope(Scope::All)) };
    group.bench_function("change of a domain", |bencher| bencher.iter(|| change(&compiled, &domain)));
    let agents = vec![agent(7)];
    let moved = Action::MoveAgents { agents, to: id(99) };
    group.bench_function("an agent moves", |bencher| bencher.iter(|| change(&compiled, &moved)));
    let agents = (0..10_000).map(agent).collect();
    let patch = Patch::set(scope(Scope::Patterns));
    let many = Action::Set { domains: vec![], agents, patch };
    group.bench_function("change of 10,000 agents by name", |bencher| {
        bencher.iter(|| change(&compiled, &many));
    });

    // Agents in an order that no cache foresees.
    let asked: Vec<_> = (0..AGENTS).map(|number| agent(number * 61_803 % AGENTS)).collect();
    let live = ArcSwap::from_pointee(compiled);
    let mut next = asked.iter().cycle();
    let policy = Policy::new([], Unknown::Refuse);
    let decide = |compiled: &Compiled, said: Said<'_>, address: [u8; 4]| {
        let shown = Shown { certificate: None, said, address: address.into() };
        let caller = policy.caller(compiled, &shown).unwrap();
        let permit = policy.decide(&caller, Ask::Component(Class::Pattern), Permission::Closed);
        permit.unwrap().spend(Ask::Component(Class::Pattern))
    };
    group.bench_function("decision: an agent that was known before", |bencher| {
        // Whoever is known before is named by its connection: the id is not what is looked for in memory.
        bencher.iter_batched(
            || *next.next().unwrap(),
            |id| decide(&live.load(), Said::Before(Who::Agent(id)), [192, 0, 2, 1]),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("decision: an agent by its token, its hash included", |bencher| {
        bencher.iter_batched(
            || *next.next().unwrap(),
            |id| decide(&live.load(), Said::Token(Token { id: id.as_str(), secret: SECRET }), [192, 0, 2, 1]),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("decision: a domain by the address", |bencher| {
        let mut third = 0u8;
        bencher.iter(|| {
            third = third.wrapping_add(61);
            decide(&live.load(), Said::Nothing, [10, third % 7, third, 9])
        });
    });
    group.sample_size(20);
    let worst = Compiled::new(tree(|_| scope(Scope::Patterns)));
    group.bench_function("root change that clears a value of every agent", |bencher| {
        bencher.iter(|| change(black_box(&worst), &all(Reach::AllAgents)));
    });
    group.finish();
}

/// Opening the agent tree from a snapshot, and from a journal alone.
fn start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    group.sample_size(10);
    for (name, journal_bytes_max) in [("from a snapshot", 1), ("from a journal", u64::MAX / 2)] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let keep = Keep { journal_bytes_max, ..Keep::default() };
        let clock = Arc::new(SystemClock::default());
        let open = || State::open(&Disk::default(), folder.path(), keep, clock.clone()).unwrap();
        let author = Author::parse("a bench").unwrap();
        let state = open();
        for actions in actions(a_few) {
            state.change(author.clone(), actions).unwrap().wait().unwrap();
        }
        drop(state);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(open().current().tree().agent_count(), AGENTS as usize));
        });
    }
    group.finish();
}

criterion_group!(tree_benches, benches, start);
criterion_main!(tree_benches);
