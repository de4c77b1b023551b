//! Why an agent gets a file or does not (`GET /api/v1/agents/AGENT/why`): the same as the agent itself is answered, for each scope, class
//! and setting, and nothing is done for it (R11.2).

use forebay::config::settings::Prefetch;
use forebay::policy::tree::change::Patch;
use forebay::policy::tree::value::{Enforce, Rate, Switch};

use super::*;
use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::site::{self, Site};

const CHECK_IN: &str = "/api/v1/agent/check-in";

/// What the relay would answer an agent, and why.
fn why(relay: &Running, agent: &str, path: &str) -> Value {
    let path = url::form_urlencoded::byte_serialize(path.as_bytes()).collect::<String>();
    serde_json::from_slice(&relay.ask(&format!("/api/v1/agents/{agent}/why?path={path}"))).unwrap()
}

/// The statuses that a verdict may stand for.
fn statuses(verdict: &Value) -> &'static [u16] {
    match verdict.as_str().unwrap() {
        "served" | "fetched" => &[200],
        "refused" => &[401, 403],
        "missing" => &[404],
        "not_ready" => &[503],
        "failed" => &[502, 504, 507],
        other => panic!("{other} is no verdict of a tree's file"),
    }
}

/// What stands in the steps of this kind.
fn says(why: &Value, about: &str) -> String {
    let steps = why["steps"].as_array().unwrap().iter().filter(|step| step["about"] == about);
    steps.map(|step| step["says"].as_str().unwrap()).collect()
}

/// Asks both, and compares.
fn agree(relay: &Running, agent: &str, path: &str) -> Value {
    // The request first would bring the file.
    let told = why(relay, agent, path);
    let status = get(relay.v4(), path, &token(agent)).head.status;
    assert!(statuses(&told["verdict"]).contains(&status), "{agent} {path}: {status}, and {told:#}");
    let steps = told["steps"].as_array().unwrap();
    let stops = steps.iter().filter(|step| step["passes"] == false).count();
    assert_eq!(stops, usize::from(status != 200), "{told:#}");
    assert!(stops == 0 || steps.last().unwrap()["passes"] == false, "the last one stops it: {told:#}");
    told
}

#[test]
fn why_says_what_an_agent_is_answered_by_scope_class_and_setting_r11_2() {
    let mut relay = fleet(local());
    let own = |number, name: &str, values: Values| {
        let (domain, agent) = (domain(number), agent(name));
        let name = DomainName::parse(name).unwrap();
        vec![
            Action::AddDomain { domain, name, parent: None, values },
            Action::AddAgent { agent, domain, values: Values::default() },
            Action::GiveKey { agent, key: Key::Secret(SecretHash::of(SECRET.as_bytes())) },
        ]
    };
    change(&mut relay, own(4, "strict", Values { enforce: Some(Enforce::Strict), ..Values::default() }));
    change(
        &mut relay,
        own(5, "elsewhere", Values { relay_serves_components: Some(Switch::Off), ..Values::default() }),
    );
    change(
        &mut relay,
        own(6, "no-programs", Values { relay_serves_programs: Some(Switch::Off), ..Values::default() }),
    );
    change(&mut relay, own(7, "shut", Values::default()));
    change(&mut relay, vec![Action::Revoke { agents: vec![agent("shut")] }]);
    let components: Value = serde_json::from_slice(&relay.ask("/api/v1/components")).unwrap();
    let mut paths = vec![MANIFEST.to_owned(), PATTERN.replace(".zip", ".sig")];
    for class in ["pattern", "engine", "driver", "hotfix", "program"] {
        let of = |item: &&Value| item["class"] == class;
        let item = components["items"].as_array().unwrap().iter().find(of);
        paths.push(format!(
            "/activeupdate/{}",
            item.unwrap_or_else(|| panic!("a {class}"))["path"].as_str().unwrap()
        ));
    }
    paths.extend(["ini_xml.zip", "", "pattern/none.zip"].map(|rest| format!("/activeupdate/{rest}")));
    paths.push("/elsewhere/server.ini".to_owned());
    let agents = ["patterns", "engines", "all", "strict", "elsewhere", "no-programs", "shut"];
    let compare = |relay: &Running| {
        let mut verdicts = std::collections::BTreeMap::<_, u32>::new();
        for agent in agents {
            for path in &paths {
                let told = agree(relay, agent, path);
                *verdicts.entry(told["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        verdicts
    };
    let before = compare(&relay);
    assert!(before["served"] > 15 && before["refused"] > 15 && before["missing"] > 5, "{before:?}");
    assert_eq!(post(relay.v4(), CHECK_IN, Some(&token("strict")), &json!({ "why": "start" })).0, 200);
    let after = compare(&relay);
    assert!(after["served"] > before["served"], "the permission is open: {after:?}");

    let told = why(&relay, "patterns", &paths[3]);
    assert!(
        says(&told, "agent").contains("'patterns' belongs to the domain patterns; it is known by its secret")
    );
    assert_eq!(says(&told, "scope"), "scope 'patterns', set at the domain patterns");
    assert!(says(&told, "path").contains("of the class engine, in the tree 'activeupdate'"), "{told:#}");
    let policy = "refused: outside the scope 'patterns' (scope is set at the domain patterns)";
    assert_eq!(says(&told, "policy"), policy);
    let policy = says(&why(&relay, "elsewhere", PATTERN), "policy");
    assert!(policy.contains("(relay_serves_components is set at the domain elsewhere)"), "{policy}");
    assert!(
        says(&why(&relay, "strict", PATTERN), "check_in").contains("permission to take packages is open for")
    );
    assert!(says(&why(&relay, "shut", PATTERN), "agent").contains("was revoked"));
    relay.stop();
}

#[test]
fn why_says_what_slows_an_agent_down_and_what_set_it_r10_1() {
    let mut relay = fleet(local());
    assert_eq!(says(&why(&relay, "all", PATTERN), "limits"), "", "nothing does");
    let rate = |rate| Rate::per_sec(rate).ok();
    let domains =
        Values { domain_bytes_per_sec: rate(30_000_000), bytes_per_sec: rate(9), ..Values::default() };
    let own = Values { bytes_per_sec: rate(20_000_000), ..Values::default() };
    let set =
        |domains: Vec<_>, agents: Vec<_>, values| Action::Set { domains, agents, patch: Patch::set(values) };
    change(&mut relay, vec![set(vec![domain(3)], vec![], domains), set(vec![], vec![agent("all")], own)]);
    let told = agree(&relay, "all", PATTERN);
    assert_eq!(
        says(&told, "limits"),
        "in a second, at most 20000000 bytes of its own (bytes_per_sec is set at the agent), 30000000 bytes of its domain \
         (domain_bytes_per_sec is set at the domain all)"
    );
    relay.stop();
}

#[test]
fn nothing_is_counted_fetched_or_pinned_for_who_asks_why() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut own = settings(&origin.url("/"));
    own.trees[0].prefetch = Prefetch::None;
    let mut relay = fleet(own);
    let seen = origin.seen().requests.len();
    let package = format!("/activeupdate/{}", site::package(5));
    for path in [MANIFEST, &package, "/activeupdate/none.zip"] {
        why(&relay, "all", path);
    }
    assert_eq!(origin.seen().requests.len(), seen);
    let tally = relay.handle().tally().unwrap();
    assert_eq!((tally.unpermitted.value(), tally.fills_begun.value()), (0, tally.fills_completed.value()));
    let on = |relay: &Running| relay.tree(0).pins.find(Ok::<_, std::net::IpAddr>(agent("all")), 600);
    assert_eq!(on(&relay), None);
    assert_eq!(get(relay.v4(), MANIFEST, &token("all")).head.status, 200);
    assert_eq!(on(&relay), Some(1), "its generation is the one of the manifest that it takes itself");
    relay.stop();
}

#[test]
fn why_says_whether_the_relay_has_a_file_or_can_get_it() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut own = settings(&origin.url("/"));
    own.trees[0].prefetch = Prefetch::None;
    own.fill.attempts = 1;
    let relay = fleet(own);
    let [package, gone] =
        [site::package(5), site::increment(4, 5)].map(|path| format!("/activeupdate/{path}"));
    let told = agree(&relay, "all", &package);
    assert_eq!(told["verdict"], "fetched");
    assert!(
        says(&told, "store").contains("is fetched from the upstream when an agent asks for it"),
        "{told:#}"
    );
    // An agent has its last byte a moment before the store has the file.
    let told = loop {
        let told = agree(&relay, "all", &package);
        if told["verdict"] == "served" {
            break told;
        }
    };
    assert_eq!(says(&told, "store"), "the store has it, 9000 bytes");
    origin.always(&format!("/{}", site::increment(4, 5)), Fault::Status(404));
    assert_eq!(get(relay.v4(), &gone, &token("all")).head.status, 502);
    let told = agree(&relay, "all", &gone);
    assert_eq!(told["verdict"], "failed");
    assert!(says(&told, "store").contains("the upstream has no such file"), "{told:#}");
    // What was newer is named by an older generation alone.
    site.publish(6, &[5]);
    relay.refresh();
    let told = agree(&relay, "all", &package);
    assert!(says(&told, "generation").starts_with("generation 1 names it"), "{told:#}");
    relay.stop();

    let empty = Origin::start(Site::new().dir());
    let relay = fleet(settings(&empty.url("/")));
    for path in [MANIFEST, &package] {
        let told = agree(&relay, "all", path);
        assert_eq!(told["verdict"], "not_ready");
    }
    relay.stop();
}

#[test]
fn why_shows_the_last_refusals_of_the_same_and_of_nothing_else() {
    let mut relay = fleet(local());
    post(relay.v4(), CHECK_IN, Some(&token("patterns")), &json!({ "why": "start" }));
    let engine = "/activeupdate/engine/none.zip";
    get(relay.v4(), engine, &token("patterns"));
    get(relay.v4(), engine, &token("engines"));
    get(relay.v4(), "/activeupdate/other.zip", &token("patterns"));
    // As the token in a path; and as nobody, from where the agent was heard of.
    crate::raw::fetch(relay.v4(), &format!("/t/{}{engine}", token("patterns")), &[]);
    crate::raw::fetch(relay.v4(), engine, &[]);
    let refusals = loop {
        let refusals = why(&relay, "patterns", engine)["refusals"].as_array().unwrap().clone();
        if refusals.len() >= 3 {
            break refusals;
        }
    };
    let agents: Vec<_> = refusals.iter().map(|refusal| refusal["agent"].as_str()).collect();
    assert_eq!(agents, [None, Some("patterns"), Some("patterns")], "the last one first");
    assert!(
        refusals.iter().all(|refusal| refusal["path"].as_str().unwrap().ends_with(engine)),
        "{refusals:?}"
    );
    change(&mut relay, vec![Action::RemoveAgents { agents: vec![agent("engines")] }]);
    let bearer = relay.bearer(forebay::policy::administrator::Role::Viewer);
    let ask = |path: &str| crate::raw::fetch(relay.admin(), path, &[("Authorization", &bearer)]).head.status;
    assert_eq!(ask("/api/v1/agents/engines/why?path=/x"), 404, "no such agent");
    assert_eq!(ask("/api/v1/agents/patterns/why"), 400, "no path");
    assert_eq!(ask("/api/v1/agents/patterns/why?path=/activeupdate/a//b"), 422, "no file is called that");
    relay.stop();
}

#[test]
fn why_knows_a_file_by_each_of_its_names_and_says_where_else_the_relay_takes_an_agent() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut relay = fleet(settings(&origin.url("/")));
    let inner = site::package(5);
    for name in [
        inner.clone(),
        format!("/t/./activeupdate/{inner}"),
        format!("/activeupdate/{inner}"),
        origin.url(&format!("/{inner}")),
    ] {
        let told = why(&relay, "patterns", &name);
        assert_eq!(
            (&told["path"], &told["verdict"]),
            (&json!(format!("/activeupdate/{inner}")), &json!("served")),
            "{name}"
        );
    }
    for (name, verdict) in [
        ("http://elsewhere.example/x", "refused"),
        ("elsewhere.example:443", "refused"),
        (&*origin.url("/other/x"), "refused"),
    ] {
        assert_eq!(why(&relay, "patterns", name)["verdict"], verdict, "{name}");
    }
    assert_eq!(why(&relay, "all", &origin.url("/../x"))["verdict"], "missing");
    // Where the relay serves nothing and agents may fall back on the upstream, its proxy leads there.
    let values = Values {
        relay_serves_components: Some(Switch::Off),
        fallback_to_activeupdate: Some(Switch::On),
        ..Values::default()
    };
    change(
        &mut relay,
        vec![Action::Set { domains: vec![domain(1)], agents: vec![], patch: Patch::set(values) }],
    );
    for (name, verdict) in [(inner.clone(), "refused"), (origin.url(&format!("/{inner}")), "served")] {
        assert_eq!(why(&relay, "patterns", &name)["verdict"], verdict, "{name}");
    }
    relay.stop();
}
