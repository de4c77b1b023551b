//! Many agents over few connections: bounded memory, bounded time. `FOREBAY_AGENTS` says how many.

use super::ground::play;
use crate::relay::{Running, settings};
use crate::site::Site;

/// What the program has before the first agent comes, with a debug build's room to spare.
const PROGRAM_BYTES: u64 = 48 << 20;

/// What an agent may take while it waits.
const AGENT_BYTES: u64 = 200;

fn agents() -> u64 {
    let all = std::env::var("FOREBAY_AGENTS").ok();
    all.map_or(20_000, |count| count.parse().expect("FOREBAY_AGENTS is a number"))
}

#[test]
fn agents_by_the_thousand_come_at_once_and_wait_in_bounded_memory_r12_1() {
    let site = Site::with(7, &[6]);
    let relay = Running::refreshed(settings(site.text()));
    let url = format!("http://{}/activeupdate/", relay.v4());
    let agents = agents();
    // Each thinks after the manifest, so that all of them wait at once.
    let fleet =
        "--connections 64 --scopes patterns --mix increment --no-signatures --think 5s --time-max 10m";
    let said = play(&url, &format!("--agents {agents} {fleet}")).passed();
    assert_eq!((said.at("/agents/updated"), said.kinds("whole")), (agents, [agents, 0, agents, 0]));
    assert!(said.at("/connections/made") <= 64);
    let memory = said.at("/memory_peak_bytes");
    assert!(memory < PROGRAM_BYTES + agents * AGENT_BYTES, "{memory} bytes for {agents} agents");
    println!("{agents} agents: {} requests/s, {memory} bytes", said.json["requests"]["per_sec"]);
    relay.stop();
}
