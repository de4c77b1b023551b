//! Conditional requests, their order, and entity tags that stay as long as the state they name (R3.1, R1.7).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use forebay::config::settings::{AgentRange, Prefetch};
use forebay::fixture::{Fixture, Retired, publish_next};
use forebay::policy::scope::Scope;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::answer::Head;
use crate::raw::{self, Client};
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";
const SIGNATURE: &str = "/activeupdate/pattern/vsapi329.sig";
const MANIFEST: &str = "/activeupdate/server.ini";
const EPOCH: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
const FAR: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

fn head(relay: &Running, method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
    let answer = Client::connect(relay.v4()).exchange(method, target, headers).unwrap();
    let head = answer.head.clone();
    let body = answer.whole(head.status);
    let bodiless = method == "HEAD" || head.status == 304;
    assert_eq!(body.is_empty(), bodiless, "{method} {target} {headers:?}: {}", head.status);
    head
}

fn etag(head: &Head) -> String {
    let etag = head.header("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "strong: {etag}");
    etag.to_owned()
}

#[test]
fn preconditions_hold_in_the_order_of_rfc_9110_r3_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(settings(&origin.url("/")));
    for target in [PACKAGE, SIGNATURE, MANIFEST] {
        let first = head(&relay, "HEAD", target, &[]);
        let tag = etag(&first);
        let weak = format!("W/{tag}");
        let list = format!("\"a\", \"b,c\", {weak}");
        let dated = target != MANIFEST;
        assert_eq!(first.header("last-modified").is_some(), dated, "{target}");
        let date = first.header("last-modified").unwrap_or(FAR);
        let past = httpdate::parse_http_date(date).unwrap() - Duration::from_secs(1);
        let past = httpdate::fmt_http_date(past);
        // What only a date can decide is decided only where there is one.
        let if_dated = |status: u16| if dated { status } else { 200 };
        let cases: &[(u16, &[(&str, &str)])] = &[
            (200, &[]),
            (304, &[("If-None-Match", &tag)]),
            (304, &[("If-None-Match", &weak)]),
            (304, &[("If-None-Match", &list)]),
            (304, &[("If-None-Match", "\"a\""), ("If-None-Match", &tag)]),
            (304, &[("If-None-Match", "*")]),
            (200, &[("If-None-Match", "\"other\"")]),
            (200, &[("If-None-Match", "\"with space\"")]),
            (200, &[("If-None-Match", "\"a,*,b\"")]),
            (200, &[("If-None-Match", "")]),
            (200, &[("If-None-Match", tag.trim_matches('"'))]),
            (200, &[("If-Match", &tag)]),
            (200, &[("If-Match", "*")]),
            (200, &[("If-Match", &format!("\"a\", {tag}"))]),
            (412, &[("If-Match", &weak)]),
            (412, &[("If-Match", "\"other\"")]),
            (412, &[("If-Match", "\"with space\"")]),
            (412, &[("If-Match", "nonsense")]),
            (if_dated(304), &[("If-Modified-Since", date)]),
            (if_dated(304), &[("If-Modified-Since", FAR)]),
            (200, &[("If-Modified-Since", &past)]),
            (200, &[("If-Modified-Since", EPOCH)]),
            (200, &[("If-Modified-Since", "yesterday")]),
            (200, &[("If-Unmodified-Since", date)]),
            (200, &[("If-Unmodified-Since", FAR)]),
            (if_dated(412), &[("If-Unmodified-Since", &past)]),
            (if_dated(412), &[("If-Unmodified-Since", EPOCH)]),
            // If-None-Match makes If-Modified-Since void, If-Match makes If-Unmodified-Since void.
            (200, &[("If-None-Match", "\"other\""), ("If-Modified-Since", FAR)]),
            (304, &[("If-None-Match", &tag), ("If-Modified-Since", EPOCH)]),
            (200, &[("If-Match", &tag), ("If-Unmodified-Since", EPOCH)]),
            (412, &[("If-Match", "\"other\""), ("If-Unmodified-Since", FAR)]),
            // What fails comes before what is known already, and both before ranges.
            (412, &[("If-Match", "\"other\""), ("If-None-Match", &tag)]),
            (304, &[("If-Match", &tag), ("If-None-Match", &tag)]),
            (304, &[("If-None-Match", &tag), ("Range", "bytes=0-1")]),
            (412, &[("If-Match", "\"other\""), ("Range", "bytes=0-1")]),
            (304, &[("If-None-Match", &tag), ("Range", "bytes=99999999-")]),
        ];
        for (status, headers) in cases {
            for method in ["GET", "HEAD"] {
                let got = head(&relay, method, target, headers);
                assert_eq!(got.status, *status, "{method} {target} {headers:?}");
                if *status == 304 {
                    assert_eq!(etag(&got), tag, "{method} {target} {headers:?}");
                    assert_eq!(got.header("cache-control"), first.header("cache-control"));
                    assert!(got.header("content-length").is_none_or(|length| length != "0"), "{target}");
                }
            }
        }
    }
    relay.stop();
}

#[test]
fn entity_tags_are_known_before_the_first_byte_and_stay_r3_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::refreshed(settings.clone());
    let gate = Gate::default();
    origin.script("/pattern/vsapi329.zip", Fault::StallAfter(1000, gate.clone()));
    let mut reader = Client::connect(relay.v4());
    reader.ask("GET", PACKAGE, &[]).unwrap();
    let filling = reader.read_head("GET").unwrap();
    let tag = etag(&filling);
    assert_eq!(etag(&head(&relay, "HEAD", PACKAGE, &[])), tag, "while it is filled");
    assert_eq!(head(&relay, "GET", PACKAGE, &[("If-None-Match", &tag)]).status, 304, "while it is filled");
    gate.open();
    let size = filling.header("content-length").unwrap().parse::<usize>().unwrap();
    assert_eq!(reader.read(usize::MAX).0.len(), size);
    let targets = [PACKAGE, SIGNATURE, MANIFEST];
    let tags = |relay: &Running| targets.map(|target| etag(&head(relay, "GET", target, &[])));
    let after = tags(&relay);
    assert_eq!(after[0], tag, "once it is held");
    let relay = relay.restart();
    assert_eq!(tags(&relay), after, "after a restart");
    relay.stop();
    let other = Running::refreshed(settings);
    assert_eq!(etag(&head(&other, "GET", PACKAGE, &[])), tag, "on another relay of the same upstream");
    other.stop();
}

#[test]
fn a_signatures_entity_tag_moves_with_its_generation_r1_7_r3_1() {
    let tree = tempfile::tempdir().unwrap();
    Fixture::default().write(tree.path(), &mut |_| {}).unwrap();
    let relay = Running::refreshed(settings(tree.path().to_str().unwrap()));
    // These stay as they are in the next release.
    let (package, signature) =
        ("/activeupdate/engine/tsc/tsc64_v75-1186.zip", "/activeupdate/engine/tsc/tsc64_v75-1186.sig");
    let bytes = std::fs::read(tree.path().join("engine/tsc/tsc64_v75-1186.zip")).unwrap();
    let fetch = |agent: u8, target: &str, headers: &[(&str, &str)]| {
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, agent));
        Client::connect_from(source, relay.v4()).exchange("GET", target, headers).unwrap()
    };
    let before = [package, signature, MANIFEST].map(|target| etag(&fetch(2, target, &[]).head));
    publish_next(tree.path(), Retired::Keep, &mut |_| {}).unwrap();
    relay.refresh();
    assert_eq!(relay.generation(), 2);
    let after = [package, signature, MANIFEST].map(|target| etag(&fetch(3, target, &[]).head));
    let same = std::fs::read(tree.path().join("engine/tsc/tsc64_v75-1186.zip")).unwrap() == bytes;
    assert!(same, "the next release has another file: this test needs one that stays");
    assert_eq!(after[0], before[0], "the package is the same");
    assert_ne!(after[1], before[1], "the signature belongs to its generation");
    assert_ne!(after[2], before[2], "the manifest is another one");
    assert_eq!(fetch(3, signature, &[("If-None-Match", &before[1])]).head.status, 200);
    // The agent that took the first manifest stays with it, and its signatures do (R1.4).
    assert_eq!(fetch(2, signature, &[("If-None-Match", &before[1])]).head.status, 304);
    assert_eq!(etag(&fetch(2, MANIFEST, &[]).head), after[2]);
    assert_eq!(etag(&fetch(2, signature, &[]).head), after[1]);
    relay.stop();
}

#[test]
fn manifests_of_different_scopes_have_different_entity_tags_r3_1_r6_2() {
    let mut settings = settings(FIXTURE);
    settings.trees[0].prefetch = Prefetch::None;
    let range = |from: &str, scope| AgentRange { from: from.parse().unwrap(), scope };
    settings.agents.ranges = vec![range("127.0.0.0/8", Scope::Patterns), range("::1/128", Scope::All)];
    let relay = Running::refreshed(settings);
    let [narrow, wide] =
        [relay.v4(), relay.v6()].map(|address| etag(&raw::fetch(address, MANIFEST, &[]).head));
    assert_ne!(narrow, wide);
    let widened = raw::fetch(relay.v6(), MANIFEST, &[("If-None-Match", &narrow)]);
    assert_eq!(widened.head.status, 200, "an agent whose scope was widened gets the other view");
    relay.stop();
}
