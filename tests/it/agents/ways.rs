//! Each scope gets its classes and no other, by every way in and however it is known (R5.5, R6.1, R6.2).

use forebay::policy::scope::Scope;

use super::line::{AGENTS, Site, WAYS};
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
