//! Scopes: an agent sees and gets what its scope allows, in whatever way it asks (R6), known by the address it calls from.

use std::net::{IpAddr, SocketAddr};

use forebay::config::settings::{AgentRange, Settings};
use forebay::config::value::PublicBase;
use forebay::fixture::{Fixture, FixtureFile, Role};
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;

use crate::raw::Client;
use crate::raw::answer::Answer;
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";

/// Where an agent of each scope calls from; the last is in no range.
const PATTERNS: &str = "127.0.0.9";
const ENGINES: &str = "127.0.0.3";
const ALL: &str = "127.0.0.4";
const UNKNOWN: &str = "127.0.1.1";

/// Longer prefixes inside shorter ones, in no order.
fn scoped() -> Settings {
    let range = |from: &str, scope| AgentRange { from: from.parse().unwrap(), scope };
    let mut settings = settings(FIXTURE);
    settings.agents.unknown = Unknown::Refuse;
    settings.agents.ranges = vec![
        range("127.0.0.4/32", Scope::All),
        range("127.0.0.0/24", Scope::Patterns),
        range("127.0.0.2/31", Scope::PatternsEnginesDrivers),
        range("::/64", Scope::All),
        range("::1/128", Scope::Patterns),
    ];
    settings
}

fn ask(relay: &Running, agent: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let source: IpAddr = agent.parse().unwrap();
    let address: SocketAddr = if source.is_ipv4() { relay.v4() } else { relay.v6() };
    Client::connect_from(source, address).exchange(method, target, headers).unwrap()
}

/// Whether a scope holds a class, from R6.1 and not from the code.
pub(crate) fn holds(scope: Scope, class: &str) -> bool {
    match scope {
        Scope::Patterns => class == "pattern",
        Scope::PatternsEnginesDrivers => matches!(class, "pattern" | "engine" | "driver"),
        Scope::All => true,
    }
}

/// One file of each class and role.
pub(crate) fn samples() -> Vec<FixtureFile> {
    let mut samples: Vec<FixtureFile> = Vec::new();
    for file in Fixture::default().files() {
        if !samples.iter().any(|sample| (sample.class, sample.role) == (file.class, file.role)) {
            samples.push(file);
        }
    }
    // Packages and signatures of five classes; increments of patterns alone.
    assert_eq!(samples.len(), 11);
    samples
}

#[test]
fn each_scope_gets_its_classes_and_no_other_in_whatever_way_it_asks_r6_1_r6_2() {
    let relay = Running::refreshed(scoped());
    let ways = [
        ("GET", &[][..], 200),
        ("HEAD", &[], 200),
        ("GET", &[("Range", "bytes=0-0")], 206),
        ("GET", &[("Range", "bytes=0-0,2-2")], 206),
        ("GET", &[("If-None-Match", "*")], 304),
        ("GET", &[("If-Match", "\"other\"")], 412),
        ("GET", &[("Range", "bytes=99999999-")], 416),
    ];
    for (agent, scope) in [
        (PATTERNS, Scope::Patterns),
        (ENGINES, Scope::PatternsEnginesDrivers),
        (ALL, Scope::All),
        ("::1", Scope::Patterns),
    ] {
        for file in samples() {
            let target = format!("/activeupdate/{}", file.path);
            for (method, headers, allowed) in ways {
                let expected = if holds(scope, file.class) { allowed } else { 403 };
                let answer = ask(&relay, agent, method, &target, headers);
                let what = format!("{scope}: {method} {} {target} {headers:?}", file.class);
                assert_eq!(answer.head.status, expected, "{what}");
                if expected == 403 {
                    let told =
                        ["etag", "last-modified", "content-range"].map(|name| answer.head.header(name));
                    assert_eq!(told, [None; 3], "a refusal tells nothing: {what}");
                }
            }
        }
        // What nobody names counts as most restricted: only `all` learns that it is not there.
        let expected = if scope == Scope::All { 404 } else { 403 };
        for target in
            ["/activeupdate/fixture.toml", "/activeupdate/pattern/none.zip", "/activeupdate/none.sig"]
        {
            assert_eq!(ask(&relay, agent, "GET", target, &[]).head.status, expected, "{scope}: {target}");
        }
        for (method, headers, allowed) in ways {
            assert_eq!(
                ask(&relay, agent, method, MANIFEST, headers).head.status,
                allowed,
                "{scope} {method}"
            );
        }
    }
    relay.stop();
}

#[test]
fn an_unknown_agent_is_refused_everything_or_has_the_scope_of_the_unknown_r5_5() {
    let relay = Running::refreshed(scoped());
    let files = samples().into_iter().map(|file| format!("/activeupdate/{}", file.path));
    for target in files.chain([MANIFEST, "/activeupdate/none"].map(str::to_owned)) {
        for (method, headers) in [
            ("GET", &[][..]),
            ("HEAD", &[]),
            ("GET", &[("Range", "bytes=0-0")]),
            ("GET", &[("If-None-Match", "*")]),
            ("GET", &[("X-Forwarded-For", ALL), ("Forwarded", "for=127.0.0.4"), ("X-Real-IP", ALL)]),
        ] {
            let answer = ask(&relay, UNKNOWN, method, &target, headers);
            assert_eq!(answer.head.status, 403, "{method} {target} {headers:?}");
            assert!(answer.head.header("etag").is_none());
        }
    }
    relay.stop();
    let mut settings = scoped();
    settings.agents.unknown = Unknown::Scope(Scope::Patterns);
    let relay = Running::refreshed(settings);
    for file in samples() {
        let expected = if file.class == "pattern" { 200 } else { 403 };
        let answer = ask(&relay, UNKNOWN, "GET", &format!("/activeupdate/{}", file.path), &[]);
        assert_eq!(answer.head.status, expected, "{}", file.path);
    }
    relay.stop();
}

/// The lines of a manifest without those under `[Server]`.
fn lines(manifest: &[u8]) -> Vec<&[u8]> {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in manifest.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"[") {
            inside = line.starts_with(b"[Server]");
        }
        if !inside {
            kept.push(line);
        }
    }
    kept
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn a_manifest_names_exactly_what_its_scope_may_fetch_in_the_upstreams_own_bytes_r6_2_r6_4() {
    let relay = Running::refreshed(scoped());
    let upstream = std::fs::read(format!("{FIXTURE}/server.ini")).unwrap();
    for (agent, scope) in
        [(PATTERNS, Scope::Patterns), (ENGINES, Scope::PatternsEnginesDrivers), (ALL, Scope::All)]
    {
        let view = ask(&relay, agent, "GET", MANIFEST, &[]).whole(200);
        let mut all = lines(&upstream).into_iter();
        for line in lines(&view) {
            assert!(all.any(|own| own == line), "{scope}: not the upstream's: {}", line.escape_ascii());
        }
        let named_line = |line: &&[u8]| !line.starts_with(b";");
        let listed = lines(&view).into_iter().filter(named_line).collect::<Vec<_>>().concat();
        for file in Fixture::default().files() {
            if file.role != Role::Signature {
                let named = contains(&listed, file.path.as_str());
                assert_eq!(named, holds(scope, file.class), "{scope}: {} {}", file.class, file.path);
            }
            let status = ask(&relay, agent, "HEAD", &format!("/activeupdate/{}", file.path), &[]).head.status;
            assert_eq!(status, if holds(scope, file.class) { 200 } else { 403 }, "{scope}: {}", file.path);
        }
        if scope == Scope::All {
            assert!(lines(&view).concat() == lines(&upstream).concat(), "all: nothing but [Server] differs");
        }
    }
    relay.stop();
}

#[test]
fn server_lines_are_commented_out_or_name_the_public_base_never_the_requests_host_r6_4() {
    let relay = Running::refreshed(settings(FIXTURE));
    let from = |relay: &Running| {
        let mut client = Client::connect(relay.v4());
        let forged = "X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example";
        let request = format!("GET {MANIFEST} HTTP/1.1\r\nHost: evil.example\r\n{forged}\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        client.answer("GET").unwrap().whole(200)
    };
    let view = from(&relay);
    let upstream = std::fs::read(format!("{FIXTURE}/server.ini")).unwrap();
    let text = String::from_utf8_lossy(&upstream).replace("\nServer.", "\n;Server.");
    assert_eq!(String::from_utf8_lossy(&view), text);
    relay.stop();

    let mut settings = settings(FIXTURE);
    settings.trees[0].public_base = Some(PublicBase::parse("https://relay.example:8443").unwrap());
    let relay = Running::refreshed(settings);
    let view = from(&relay);
    assert!(!contains(&view, "evil"));
    assert!(!contains(&view, "trendmicro"), "no way past the relay");
    let view = String::from_utf8_lossy(&view);
    let servers: Vec<_> = view.lines().filter(|line| line.starts_with("Server.")).collect();
    assert_eq!(servers.len(), 3);
    for server in servers {
        let value = server.split_once('=').unwrap().1.trim();
        assert_eq!(value, "https://relay.example:8443/activeupdate", "{server}");
    }
    relay.stop();
}
