//! Against a relay: what the fleet counts is what the relay counts, and what the plan says is what is asked for.

use std::collections::BTreeMap;
use std::path::Path;

use forebay::base::tally::Outcome;
use forebay::config::settings::{AgentRange, Settings};
use forebay::fixture::{Fixture, Role};
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;

use super::ground::{ended, load, play};
use crate::authority::Authority;
use crate::cache::server::{Act, Server};
use crate::origin::Origin;
use crate::process::Process;
use crate::relay::{Running, settings};
use crate::served::{FIXTURE, Place};

/// Components of the fixture's tree: each is one file to take.
fn components(sees: impl Fn(&str) -> bool) -> u64 {
    let files = Fixture::default().files();
    files.iter().filter(|file| file.role == Role::Package && sees(file.class)).count() as u64
}

#[test]
fn a_fleet_updates_itself_over_both_families_and_counts_what_the_relay_counts_r12_1() {
    let mut relay = Running::refreshed(settings(FIXTURE));
    let tree = format!("--agents 30 --connections 8 --mix full=1,increment=1 --tree {FIXTURE}");
    let mut requests = 0;
    for (family, address) in [("-4", relay.v4()), ("-6", relay.v6())] {
        let said =
            play(&format!("http://{address}/activeupdate/server.ini"), &format!("{family} {tree}")).passed();
        assert_eq!(said.at("/agents/updated"), 30);
        let [manifests, packages, increments, signatures] = said.kinds("whole");
        assert_eq!((manifests, packages + increments), (30, 30 * components(|_| true)));
        assert_eq!(signatures, packages + increments);
        assert!(packages > 30 && increments > 30, "{said:?}");
        assert_eq!(said.at("/requests/ipv6") == 0, family == "-4");
        assert!(said.at("/connections/made") <= 8, "{said:?}");
        requests += said.at("/requests/total");
    }
    let tally = relay.handle().tally().unwrap();
    assert_eq!(tally.requests(Outcome::Hit), requests);
    relay.stop();
}

#[test]
fn the_same_seed_asks_for_the_same_files_and_another_for_others_r12_1() {
    let asked = |seed: u32, arguments: &str| {
        let origin = Origin::start(Path::new(FIXTURE));
        let arguments = format!("--agents 20 --seed {seed} {arguments}");
        play(&origin.url("/"), &arguments).passed();
        let mut paths: BTreeMap<String, usize> = BTreeMap::new();
        for request in origin.seen().requests {
            *paths.entry(request.path).or_default() += 1;
        }
        paths
    };
    let mix = "--mix full=1,increment=1,current=1 --scopes patterns=3,all=1";
    let first = asked(7, &format!("{mix} --connections 1"));
    let spread = "--connections 9 --threads 3 --think 0s..3ms --arrival poisson --over 50ms";
    assert_eq!(first, asked(7, &format!("{mix} {spread}")), "whatever the order of answers");
    assert_ne!(first, asked(8, mix));
    let patterns = asked(7, "--scopes patterns --reuse request");
    assert!(
        patterns.keys().all(|path| path.starts_with("/pattern/") || path == "/server.ini"),
        "{patterns:?}"
    );
}

#[test]
fn agents_come_from_their_ranges_and_get_what_the_ranges_scopes_allow_r5_5_r6_2() {
    let range = |from: &str, scope| AgentRange { from: from.parse().unwrap(), scope };
    let mut scoped: Settings = settings(FIXTURE);
    scoped.agents.unknown = Unknown::Refuse;
    scoped.agents.ranges = vec![range("127.1.0.0/16", Scope::Patterns), range("127.2.0.0/16", Scope::All)];
    let relay = Running::refreshed(scoped);
    let url = format!("http://{}/activeupdate/", relay.v4());
    let taken = |sources: &str| {
        let said =
            play(&url, &format!("--agents 20 --mix full --no-signatures --connections 5 {sources}")).passed();
        assert_eq!(said.at("/connections/made"), 20, "each agent has its own");
        said.kinds("whole")[1]
    };
    let (patterns, all) = (components(|class| class == "pattern"), components(|_| true));
    assert_eq!(taken("--source 127.1.0.0/16"), 20 * patterns);
    assert_eq!(taken("--source 127.1.0.0/16 --source 127.2.0.0/24"), 10 * patterns + 10 * all);
    let strangers = play(&url, "--agents 3 --source 127.3.0.1").failed_by("refused");
    assert_eq!(strangers.at("/errors/by_status/403"), 3);
    relay.stop();
}

#[test]
fn over_tls_certificates_are_checked_unless_that_is_waived_r4_1() {
    let authority = Authority::new();
    let mut settings = settings(FIXTURE);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["127.0.0.1"]).0];
    let mut relay = Running::refreshed(settings);
    let url = format!("https://{}/activeupdate/", relay.handle().running().tls[0]);
    let fleet = "--agents 10 --connections 4 --mix current";
    play(&url, &format!("{fleet} --ca-file {}", authority.file().display())).passed();
    play(&url, &format!("{fleet} --insecure --reuse agent")).passed();
    let other = Authority::new();
    let refused = play(&url, &format!("{fleet} --ca-file {}", other.file().display())).failed_by("tls");
    assert_eq!((refused.at("/agents/failed"), refused.at("/requests/whole")), (10, 0));
    relay.stop();
}

#[test]
fn what_a_relay_took_over_its_upstream_line_is_told_r12_1() {
    let place = Place::new();
    let origin = Origin::start(Path::new(FIXTURE));
    place.configure("", &origin.url("/"), "prefetch = \"none\"");
    let relay = place.serve_ready();
    let before = origin.seen().body_bytes_total();
    let url = format!("http://{}/activeupdate/", relay.agents[0]);
    let data = format!("--relay {}", place.data().display());
    let token = std::fs::read_to_string(place.token_file()).unwrap();
    let play = |arguments: &str| {
        let mut command = load(&url, &format!("{arguments} --mix full --no-signatures {data}"));
        ended(Process::start(command.env("FOREBAY_TOKEN", &token)))
    };
    let said = play("--agents 40").passed();
    let taken = origin.seen().body_bytes_total() - before;
    assert_eq!(said.at("/upstream/bytes"), taken);
    assert!(taken > 0 && said.at("/bytes/total") > 30 * taken, "each byte once, given out to all: {said:?}");
    let again = play("--agents 2").passed();
    assert_eq!(again.at("/upstream/bytes"), 0);
    relay.stop();
}

#[test]
fn agents_that_give_up_are_no_errors_and_leave_a_relay_that_serves_on() {
    let place = Place::new();
    place.big_tree(4 << 20);
    place.configure("", place.path("tree").to_str().unwrap(), "");
    let relay = place.serve_ready();
    let url = format!("http://{}/activeupdate/", relay.agents[0]);
    std::fs::write(place.path("tree/pattern/big.sig"), "signature").unwrap();
    let said = play(&url, "--agents 20 --connections 4 --give-ups 100% --no-signatures").passed();
    assert_eq!((said.at("/agents/gave_up"), said.kinds("dropped")), (20, [0, 20, 0, 0]));
    let bytes = said.at("/requests/by_kind/package/bytes");
    let whole = 20 * (4 << 20);
    assert!((whole / 10..whole).contains(&bytes), "{bytes}");
    let some =
        play(&url, "--agents 200 --connections 4 --give-ups 50% --mix full=1,current=3 --no-signatures")
            .passed();
    assert!(some.at("/agents/gave_up") > 5 && some.at("/agents/updated") > 100, "{some:?}");
    relay.stop();
}

#[test]
fn an_agent_that_is_told_to_come_back_does_and_it_is_said_r10_1() {
    let server = Server::start(|asked, before| {
        let manifest = "[PATTERN]\nP.4=a.zip,1,3\n";
        let answer = match (asked.target.as_str(), before) {
            ("/server.ini", 0) => "503 Busy\r\nRetry-After: 0\r\nContent-Length: 5\r\n\r\nlater".to_owned(),
            ("/server.ini", _) => format!("200 OK\r\nContent-Length: {}\r\n\r\n{manifest}", manifest.len()),
            _ => "200 OK\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        };
        vec![Act::Send(format!("HTTP/1.1 {answer}").into_bytes())]
    });
    let said = play(&server.url("/"), "--agents 1 --errors-max 1 --no-signatures");
    assert_eq!((said.code, said.at("/agents/updated"), said.at("/errors/by_kind/put-off")), (Some(0), 1, 1));
    assert_eq!(server.asked_for("/server.ini").len(), 2);
    assert_eq!(said.at("/connections/made"), 1, "the page was read, and the connection served on");
}
