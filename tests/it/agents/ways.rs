//! Each scope gets its classes and no other, by every way in and however it is known (R5.5, R6.1, R6.2).

use forebay::policy::scope::Scope;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;

use super::line::{AGENTS, Site, WAYS, Way};
use super::{domain, set};
use crate::scopes::{holds, samples};

/// How a file is asked for: method, headers, and the status where it is allowed.
type Ask = (&'static str, &'static [(&'static str, &'static str)], u16);

const ASKS: [Ask; 7] = [
    ("GET", &[], 200),
    ("HEAD", &[], 200),
    ("GET", &[("range", "bytes=0-0")], 206),
    ("GET", &[("range", "bytes=0-0,2-2")], 206),
    ("GET", &[("if-none-match", "*")], 304),
    ("GET", &[("if-match", "\"other\"")], 412),
    ("GET", &[("range", "bytes=99999999-")], 416),
];

#[test]
fn each_scope_gets_its_classes_and_no_other_by_every_way_in_r6_1_r6_2() {
    let mut site = Site::new();
    let scopes = [Scope::Patterns, Scope::PatternsEnginesDrivers, Scope::All];
    let connections = site.origin.seen().connections;
    let mut views = Vec::new();
    for (at, scope) in scopes.into_iter().enumerate() {
        for way in WAYS {
            let what = format!("{} by {way:?}", AGENTS[at]);
            let mut line = site.line(way, at);
            for (method, headers, allowed) in ASKS {
                for file in samples() {
                    let expected = if holds(scope, file.class) { allowed } else { 403 };
                    let answer = line.ask(method, file.path.as_str(), headers);
                    let what = format!("{what}: {method} {} {headers:?}", file.path);
                    assert_eq!(answer.status, expected, "{what}");
                    assert!(expected != 403 || !answer.tells, "a refusal tells nothing: {what}");
                }
                // What nobody names counts as most restricted: only `all` learns that it is not there.
                let expected = if scope == Scope::All { 404 } else { 403 };
                assert_eq!(line.ask(method, "pattern/none.zip", headers).status, expected, "{what}");
                assert_eq!(line.ask(method, "server.ini", headers).status, allowed, "{what}: {method}");
            }
            views.push((scope, line.ask("GET", "server.ini", &[]).body));
        }
    }
    // One view for each scope, by whatever way.
    for (scope, view) in &views {
        assert!(views.iter().all(|(other, own)| (own == view) == (other == scope)), "{scope}");
    }
    assert_eq!(site.origin.seen().connections, connections, "nobody was taken to the upstream");
    site.relay.stop();
}

#[test]
fn who_is_served_nothing_has_the_upstream_by_its_url_where_agents_may_fall_back_on_it_r7_1() {
    let mut site = Site::new();
    let off = Some(Switch::Off);
    let [pattern, program] = ["pattern/vsapi329.zip", "product/tmccsf.zip"];
    let elsewhere = |way| matches!(way, Way::Proxy | Way::ProxyBearer | Way::Connect | Way::Socks);
    for fallback in [Switch::Off, Switch::On] {
        for number in [1, 3] {
            let values = Values {
                relay_serves_components: off,
                relay_serves_programs: off,
                fallback_to_activeupdate: Some(fallback),
                ..Values::default()
            };
            set(&mut site.relay, domain(number), values);
        }
        for way in WAYS {
            for (at, path, sees) in [(0, pattern, true), (0, program, false), (2, pattern, true)] {
                let may = sees && fallback.is_on() && elsewhere(way);
                let status = site.line(way, at).ask("GET", path, &[]).status;
                assert_eq!(
                    status,
                    if may { 200 } else { 403 },
                    "{way:?}, {fallback:?}: {path} for {}",
                    AGENTS[at]
                );
            }
        }
    }
    site.relay.stop();
}
