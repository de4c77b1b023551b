//! A tree's upstream by its URL: the mirror's answer for each scope, and no trick that gets past it (R6.2); mounts (R4.4).

use forebay::base::destination::HostPattern;
use forebay::config::settings::{AgentRange, Settings};
use forebay::fixture::Fixture;
use forebay::policy::decide::Unknown;
use forebay::policy::reach::{Rule, Tunnels};
use forebay::policy::scope::Scope;

use crate::cache::server::{Server, answer, chunked};
use crate::origin::Origin;
use crate::raw::Client;
use crate::raw::answer::Answer;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

const FIXTURE: &str = "fixtures/activeupdate";

/// Where an agent of each scope calls from.
const AGENTS: [(&str, Scope); 3] =
    [("127.0.0.9", Scope::Patterns), ("127.0.0.3", Scope::PatternsEnginesDrivers), ("127.0.0.4", Scope::All)];

fn scoped(upstream: &str) -> Settings {
    let mut settings = settings(upstream);
    settings.agents.unknown = Unknown::Refuse;
    settings.agents.ranges = AGENTS
        .iter()
        .map(|(from, scope)| AgentRange { from: format!("{from}/32").parse().unwrap(), scope: *scope })
        .collect();
    settings
}

fn ask(relay: &Running, agent: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    Client::connect_from(agent.parse().unwrap(), relay.v4()).exchange(method, target, headers).unwrap()
}

#[test]
fn a_trees_upstream_by_its_url_is_the_mirror_for_each_scope_r6_2() {
    let origin = Origin::start(std::path::Path::new(FIXTURE).parent().unwrap());
    let relay = Running::refreshed(scoped(&origin.url("/activeupdate/")));
    let mut paths = vec!["server.ini".to_owned(), "ini_xml.zip".into(), "unlisted.zip".into()];
    let mut seen = Vec::new();
    for file in Fixture::default().files() {
        if !seen.contains(&(file.class, file.role)) {
            seen.push((file.class, file.role));
            paths.push(file.path.to_string());
        }
    }
    for (agent, _) in AGENTS {
        for path in &paths {
            for (method, headers) in [("GET", &[][..]), ("HEAD", &[]), ("GET", &[("Range", "bytes=1-3")])] {
                let mirror = ask(&relay, agent, method, &format!("/activeupdate/{path}"), headers);
                let url = origin.url(&format!("/activeupdate/{path}"));
                let proxied = ask(&relay, agent, method, &url, headers);
                assert_eq!(proxied.head.status, mirror.head.status, "{agent} {method} {path}");
                assert!(proxied.body == mirror.body && proxied.end == mirror.end, "{agent} {method} {path}");
                let of = |answer: &Answer, name| answer.head.header(name).map(str::to_owned);
                for name in ["etag", "content-length", "content-range", "cache-control"] {
                    assert_eq!(of(&proxied, name), of(&mirror, name), "{agent} {method} {path} {name}");
                }
            }
        }
    }
    relay.stop();
}

#[test]
fn no_spelling_of_an_upstreams_url_reaches_it_for_a_scope_below_all_r6_2() {
    let origin = Origin::start(std::path::Path::new(FIXTURE).parent().unwrap());
    let mut settings = scoped(&origin.url("/activeupdate/"));
    // A rule that lists everything lists no more of an upstream.
    settings.proxy.allow.push(Rule {
        name: "everything".into(),
        hosts: vec![HostPattern::Any],
        ports: vec![origin.address().port()],
        tunnels: Tunnels::Any,
    });
    let relay = Running::refreshed(settings);
    let program = "product/osce14/enu/OSCE14_AGENT_ENU.zip";
    let port = origin.address().port();
    let before = origin.seen().requests.len();
    for url in [
        format!("http://127.0.0.1:{port}/activeupdate/{program}"),
        format!("http://127.0.0.1:{port}//activeupdate/{program}"),
        format!("http://127.0.0.1:{port}/activeupdate//{program}"),
        format!("http://127.0.0.1:{port}/%2e/activeupdate/{program}"),
        format!("http://127.0.0.1:{port}/x/%2e%2e/activeupdate/{program}"),
        format!("http://127.0.0.1:{port}/activeupdate%2f{program}"),
        format!("http://127.0.0.1:{port}/activeupdate%5c{program}"),
        format!("http://127.0.0.1:{port}/%2factiveupdate/{program}"),
        format!("http://127.0.0.1:{port}/\\activeupdate\\{program}"),
        format!("http://127.0.0.1:{port}/%61ctiveupdate/{program}"),
        format!("http://127.0.0.1:{port}/activeupdate/%70roduct/osce14/enu/OSCE14_AGENT_ENU.zip"),
        format!("http://127.0.0.1:{port}/activeupdate/{program}?x"),
        format!("http://127.0.0.1:{port}/activeupdate/{program}%23"),
        format!("http://127.0.0.1:{port}/activeupdate/./{program}"),
        format!("HTTP://127.0.0.1:{port}/activeupdate/{program}"),
        format!("http://127.1:{port}/activeupdate/{program}"),
        format!("http://0x7f000001:{port}/activeupdate/{program}"),
        format!("http://2130706433:{port}/activeupdate/{program}"),
        format!("http://127.0.0.1.:{port}/activeupdate/{program}"),
        format!("http://[::ffff:127.0.0.1]:{port}/activeupdate/{program}"),
        format!("http://localhost:{port}/activeupdate/{program}"),
        format!("http://LOCALHOST.:{port}/activeupdate/{program}"),
        format!("http://user@127.0.0.1:{port}/activeupdate/{program}"),
        format!("https://127.0.0.1:{port}/activeupdate/{program}"),
        format!("http://127.0.0.1:{port}/elsewhere"),
        format!("http://127.0.0.1:{port}/ACTIVEUPDATE/{program}"),
    ] {
        for (agent, _) in &AGENTS[..2] {
            for method in ["GET", "HEAD", "POST"] {
                let answer = ask(&relay, agent, method, &url, &[]);
                assert!(
                    matches!(answer.head.status, 400 | 403 | 404 | 405),
                    "{agent} {method} {url}: {answer:?}"
                );
            }
        }
    }
    assert_eq!(origin.seen().requests.len(), before, "{:?}", origin.seen());
    relay.stop();
}

/// Settings with a mount of a server, for agents of a scope.
pub(crate) fn mounted(site: &Site, server: &Server, scope: &str) -> Settings {
    let mut settings = scoped(site.text());
    let text = format!(
        "[[tree]]\nupstream = {:?}\n[[mount]]\npath = \"/tools/\"\nupstream = \"{}\"\nscope = \"{scope}\"\n",
        site.text(),
        server.url("/base/"),
    );
    settings.mounts = forebay::config::parse(&text).unwrap().mounts;
    settings
}

#[test]
fn a_mount_is_kept_like_anything_else_and_seen_by_its_scope_r4_4() {
    let server = Server::start(|asked, _| match &*asked.method {
        "GET" => chunked(200, "Cache-Control: max-age=60", &format!("{} body", asked.target)),
        _ => answer(200, "", "changed"),
    });
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(mounted(&site, &server, "patterns-engines-drivers"));
    let (patterns, engines) = (AGENTS[0].0, AGENTS[1].0);
    for _ in 0..2 {
        let got = ask(&relay, engines, "GET", "/tools/a%20b/c.zip?x=1", &[]);
        assert_eq!(got.whole(200), b"/base/a%20b/c.zip?x=1 body");
    }
    let by_url = ask(&relay, engines, "GET", &server.url("/base/a%20b/c.zip?x=1"), &[]);
    assert_eq!(by_url.whole(200), b"/base/a%20b/c.zip?x=1 body");
    assert_eq!(server.asked().len(), 1, "one answer, by whatever name it is asked for");
    let part = ask(&relay, engines, "GET", "/tools/a%20b/c.zip?x=1", &[("Range", "bytes=0-4")]);
    assert_eq!(part.whole(206), b"/base");
    for target in ["/tools/a%20b/c.zip?x=1".to_owned(), server.url("/base/a%20b/c.zip?x=1")] {
        assert_eq!(ask(&relay, patterns, "GET", &target, &[]).head.status, 403, "{target}");
    }
    for climbing in ["/tools/../secret", "/tools/%2e%2e/secret", "/tools/a/../../secret"] {
        let got = ask(&relay, engines, "GET", climbing, &[]);
        assert!(matches!(got.head.status, 400 | 404), "{climbing}: {got:?}");
    }
    let post = ask(&relay, engines, "POST", "/tools/a%20b/c.zip?x=1", &[("Content-Length", "0")]);
    assert_eq!(post.whole(200), b"changed");
    ask(&relay, engines, "GET", "/tools/a%20b/c.zip?x=1", &[]).whole(200);
    assert_eq!(server.asked().len(), 3, "asked again after it was changed");
    relay.stop();
}

#[test]
fn a_manifest_leads_agents_to_mounts_under_the_public_base_r4_4_r6_4() {
    let server = Server::start(|_, _| answer(200, "", "a body"));
    let site = Site::with(5, &[4]);
    let named = server.url("/base/setup.exe");
    let elsewhere = "http://192.0.2.9/setup.exe";
    let manifest = site::manifest(5, &[4]) + &format!("[Links]\nOwn={named},1\nOther={elsewhere}\n");
    site.put("server.ini", manifest.as_bytes());
    let mut settings = mounted(&site, &server, "patterns");
    let with_base = "[[tree]]\nupstream = \"x\"\npublic_base = \"http://relay.test:8080\"\n";
    settings.trees[0].public_base = forebay::config::parse(with_base).unwrap().trees[0].public_base.clone();
    let relay = Running::refreshed(settings);
    let seen = ask(&relay, AGENTS[2].0, "GET", "/activeupdate/server.ini", &[]).whole(200);
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("Own=http://relay.test:8080/tools/setup.exe,1\n"), "{seen}");
    assert!(seen.contains(&format!("Other={elsewhere}\n")), "{seen}");
    assert_eq!(ask(&relay, AGENTS[2].0, "GET", "/tools/setup.exe", &[]).whole(200), b"a body");
    relay.stop();
}

#[test]
fn a_request_that_comes_back_to_the_relay_is_not_answered_with_its_own_scope_r6_2() {
    let origin = Origin::start(std::path::Path::new(FIXTURE).parent().unwrap());
    let mut relay = Running::refreshed(scoped(&origin.url("/activeupdate/")));
    let mut looped = scoped(&origin.url("/activeupdate/"));
    looped.proxy.allow.push(Rule {
        name: "near".into(),
        hosts: vec![
            HostPattern::Name("localhost".into()),
            HostPattern::Prefix("127.0.0.0/8".parse().unwrap()),
        ],
        ports: vec![relay.v4().port()],
        tunnels: Tunnels::Any,
    });
    // The relay asks from 127.0.0.1, which has scope `all` here.
    looped.agents.unknown = Unknown::Scope(Scope::All);
    relay.handle().reload(looped).unwrap();
    let port = relay.v4().port();
    let url = format!("http://localhost:{port}/activeupdate/server.ini");
    let answer = ask(&relay, AGENTS[0].0, "GET", &url, &[]);
    assert_eq!(answer.head.status, 508, "{answer:?}");
    relay.stop();
}

#[test]
fn redirects_of_a_mount_stay_on_the_relay_where_it_stands_for_their_place_r4_4() {
    let server = Server::start(|asked, _| {
        let place = asked.target.trim_start_matches("/base/").replace('_', "/");
        answer(302, &format!("Location: {place}"), "")
    });
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(mounted(&site, &server, "patterns"));
    let all = AGENTS[2].0;
    let host = format!("127.0.0.1:{}", server.port());
    for (asked, told) in [
        (format!("http:__{host}_base_x%20y.zip"), "/tools/x%20y.zip".to_owned()),
        (format!("__{host}_base_sub_z?q=1"), "/tools/sub/z?q=1".to_owned()),
        ("_base_a".into(), "/tools/a".into()),
        ("b".into(), "/tools/b".into()),
        ("_other".into(), format!("http://{host}/other")),
        ("http:__else.example_base_".into(), "http://else.example/base/".into()),
    ] {
        let got = ask(&relay, all, "GET", &format!("/tools/{asked}"), &[]);
        assert_eq!((got.head.status, got.head.header("location")), (302, Some(&*told)), "{asked}");
    }
    relay.stop();
}
