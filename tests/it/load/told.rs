//! Agents that wait to be told: the relay's notices decide when they come (R9.1, R9.4, R12.1; issue 8).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay::config::settings::Listen;
use forebay::policy::administrator::Role;
use forebay::policy::secret::Token;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::id::DomainName;
use forebay::policy::tree::setting::Values;
use rustix::process::Signal;

use super::ground::{Said, ended, load, play};
use crate::authority::Authority;
use crate::cache::server::{Act, Gate, Server};
use crate::process::Process;
use crate::raw::fetch;
use crate::relay::{Running, settings};
use crate::served::{Place, Served, WITHIN, metric};
use crate::site::Site;
use crate::told::{added, change, domain, post, token};

/// Agents that can be told.
const ONLINE: &str = "forebay_notices_online";

/// Notices that ended with a report, as the relay has counted them: a moment after it was answered.
const REPORTED: &str = "forebay_notices_reported_total";

/// A fleet of 30 that listens already. Between its streams and its end a test has things to do.
fn listening(url: &str, tokens: &Path, arguments: &str) -> Process {
    let fleet = "--arrival told --agents 30 --connections 4 --time-max 2m";
    let line = format!("{fleet} --tokens {} {arguments}", tokens.display());
    let process = Process::start(&mut load(url, &line));
    process.wait_line(WITHIN, |line| line == "load: all 30 agents hold their streams");
    process
}

/// What any fleet of 30 says whose agents were told once each.
fn all_were_told(said: &Said) {
    assert_eq!((said.at("/agents/updated"), said.at("/told/agents"), said.at("/told/never")), (30, 30, 0));
    assert_eq!((said.at("/told/notices"), said.at("/told/repeated")), (30, 0), "{said:#?}");
    assert_eq!(said.at("/latency_secs/whole_update/count"), 30);
    for kind in ["check_in", "report"] {
        assert_eq!(said.at(&format!("/requests/by_kind/{kind}/whole")), 30, "{said:#?}");
    }
    let [told, whole] =
        [&said.json["told"]["spread_secs"], &said.json["took_secs"]].map(|secs| secs.as_f64().unwrap());
    assert!(told < whole, "{said:#?}");
}

/// A relay of a site that knows 30 agents, and the file of their tokens.
fn knowing(site: &Site, place: &Place, listen: &str) -> (Running, PathBuf) {
    let mut settings = settings(site.text());
    settings.listen = Listen::Configured(vec![listen.parse().unwrap()]);
    let mut relay = Running::refreshed(settings);
    let name = DomainName::parse("all").unwrap();
    let mut actions =
        vec![Action::AddDomain { domain: domain(1), name, parent: None, values: Values::default() }];
    let ids: Vec<_> = (0..30).map(|number| format!("pc-{number}")).collect();
    actions.extend(ids.iter().flat_map(|id| added(id, domain(1))));
    change(&mut relay, actions);
    let tokens = place.path("tokens");
    std::fs::write(&tokens, ids.iter().map(|id| token(id) + "\n").collect::<String>()).unwrap();
    (relay, tokens)
}

/// Waits until a figure of a relay's metrics is this; `page` asks for them.
fn wait_metric(page: impl Fn() -> String, sample: &str, value: u64) {
    let until = Instant::now() + WITHIN;
    while metric(&page(), sample) != value {
        assert!(Instant::now() < until, "{sample} does not become {value}");
        std::thread::yield_now();
    }
}

/// The metrics of a relay in this process.
fn page(relay: &Running) -> impl Fn() -> String {
    // One token for all that is asked: a relay keeps a bounded number.
    let (admin, bearer) = (relay.admin(), relay.bearer(Role::Viewer));
    move || String::from_utf8(fetch(admin, "/metrics", &[("Authorization", &bearer)]).whole(200)).unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/activeupdate/")
}

/// Publishes a release, and has a relay as a process take it.
fn release(site: &Site, place: &Place, version: u32) {
    site.publish(version, &[version - 1]);
    place.command(&["refresh"]).succeeded();
}

/// A relay as a process that nobody has joined yet, and the token of an enrolment of 30.
fn open_to(site: &Site, place: &Place) -> (Served, String) {
    place.configure("", site.text(), "");
    let relay = place.serve_ready();
    place.command(&["domains", "create", "Tills"]).succeeded();
    let said =
        place.command(&["enrol", "create", "Tills", "--agents", "30", "--hours", "1"]).succeeded().stdout;
    let token = said.lines().find(|line| Token::parse(line).is_some()).unwrap().to_owned();
    (relay, token)
}

#[test]
fn agents_enrol_once_listen_and_update_when_a_release_or_an_administrator_says_so_r9_1a_r9_1d_r12_1() {
    let (site, place) = (Site::with(5, &[4]), Place::new());
    let (relay, enrolment) = open_to(&site, &place);
    let (url, tokens) = (url(relay.agents[0]), place.path("tokens"));

    let fleet = listening(&url, &tokens, &format!("--enrolment {enrolment} --mix increment"));
    release(&site, &place, 6);
    let said = ended(fleet).passed();
    all_were_told(&said);
    assert_eq!(said.kinds("whole"), [30, 30, 30, 60], "{said:#?}");
    assert!(said.stderr.contains("load: 30 agents enrol, as load-"), "{}", said.stderr);
    assert_eq!((said.at("/streams/opened"), said.at("/streams/connections")), (30, 30));
    // Those who reported are not told again.
    wait_metric(|| relay.ask("/metrics"), REPORTED, 30);
    let reports = place.command(&["reports"]).succeeded().stdout;
    assert!(reports.contains("updated") && reports.contains("load-"), "{reports}");

    let fleet = listening(&url, &tokens, "--mix current --streams http2 --streams-per-connection 10");
    place.command(&["update", "start", "--all", "--yes"]).succeeded();
    let said = ended(fleet).passed();
    all_were_told(&said);
    assert_eq!(said.kinds("whole"), [30, 0, 0, 0]);
    assert!(!said.stderr.contains("enrol"), "their tokens were kept: {}", said.stderr);
    assert_eq!((said.at("/streams/opened"), said.at("/streams/connections")), (30, 3));

    let fleet = listening(&url, &tokens, "--mix full --streams polls --threads 2");
    release(&site, &place, 7);
    let said = ended(fleet).passed();
    all_were_told(&said);
    assert!(said.at("/streams/polls") >= 30 && said.at("/streams/connections") == 30, "{said:#?}");
    wait_metric(|| relay.ask("/metrics"), REPORTED, 90);
    assert_eq!(relay.metric("forebay_notices_repeated_total"), 0);

    // What nobody else may read.
    assert_eq!(std::fs::metadata(&tokens).unwrap().permissions().mode() & 0o777, 0o600);
    let said = play(&url, &format!("--agents 30 --tokens {} --mix current", tokens.display())).passed();
    assert_eq!(said.kinds("whole"), [30, 0, 0, 0], "those who come by themselves are known too");
    relay.stop();
}

#[test]
fn streams_outlive_a_relay_that_starts_anew_and_all_are_told_by_the_next_r9_4_r12_1() {
    for (streams, listen) in [("http1", "127.0.3.7:0"), ("http2", "127.0.3.8:0"), ("polls", "127.0.3.9:0")] {
        let (site, place) = (Site::with(5, &[4]), Place::new());
        let (relay, tokens) = knowing(&site, &place, listen);
        let address = relay.v4();
        let fleet = listening(&url(address), &tokens, &format!("--streams {streams} --errors-max 1000"));
        let (mut settings, data) = relay.stop();
        settings.listen = Listen::Configured(vec![address]);
        let relay = Running::start_on(settings, data);
        wait_metric(page(&relay), ONLINE, 30);
        site.publish(6, &[5]);
        relay.refresh();
        let said = ended(fleet);
        assert_eq!((said.code, said.json["passed"].as_bool()), (Some(0), Some(true)), "{said:#?}");
        all_were_told(&said);
        if streams != "polls" {
            assert_eq!((said.at("/streams/lost"), said.at("/streams/again")), (30, 30), "{said:#?}");
        }
        relay.stop();
    }
}

#[test]
fn over_tls_streams_share_connections_as_well_r4_1_r12_1() {
    let authority = Authority::new();
    let (site, place) = (Site::with(5, &[4]), Place::new());
    let (relay, tokens) = knowing(&site, &place, "127.0.0.1:0");
    let (mut settings, data) = relay.stop();
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["127.0.0.1"]).0];
    let mut relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    let url = format!("https://{}/activeupdate/", relay.handle().running().tls[0]);
    let ca = authority.file().display().to_string();
    for (version, streams, connections) in [(6, "http1", 30), (7, "http2", 1)] {
        let fleet = listening(&url, &tokens, &format!("--ca-file {ca} --streams {streams}"));
        site.publish(version, &[version - 1]);
        relay.refresh();
        let said = ended(fleet).passed();
        all_were_told(&said);
        assert_eq!(said.at("/streams/connections"), connections);
    }
    relay.stop();
}

#[test]
fn who_is_never_told_is_left_when_the_time_is_over_and_that_does_not_pass() {
    let (site, place) = (Site::with(5, &[4]), Place::new());
    let (relay, tokens) = knowing(&site, &place, "127.0.0.1:0");
    let fleet = listening(&url(relay.v4()), &tokens, "--mix current");
    let operator = relay.bearer(Role::Operator);
    let only = serde_json::json!({ "agents": ["pc-7"] });
    let (status, said) =
        post(relay.admin(), "/api/v1/updates", operator.strip_prefix("Bearer ").unwrap(), &only);
    assert_eq!(status, 201, "{said}");
    wait_metric(page(&relay), REPORTED, 1);
    fleet.signal(Signal::INT);
    let said = ended(fleet);
    assert_eq!((said.code, said.json["end"].as_str()), (Some(4), Some("stopped")));
    assert_eq!((said.at("/told/agents"), said.at("/told/never")), (1, 29));
    // The one that was told may not have heard yet that its report came.
    assert!(said.at("/agents/left") >= 29, "{said:#?}");
    assert!(said.stderr.contains("and 29 were never told"), "{}", said.stderr);

    let line = format!("--arrival told --agents 3 --tokens {} --time-max 300ms", tokens.display());
    let said = play(&url(relay.v4()), &line);
    assert_eq!((said.code, said.json["end"].as_str()), (Some(4), Some("time-max")), "{said:#?}");
    assert_eq!((said.at("/agents/left"), said.at("/errors/total")), (3, 0));
    relay.stop();
}

#[test]
fn an_odd_relay_is_found_out_and_its_agents_go_on_until_they_are_told_r12_1() {
    let gate = Gate::default();
    let stays = gate.clone();
    let server = Server::start(move |asked, before| {
        let stream = |says: &str| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            Act::Send(format!("{head}retry: 20\nevent: hello\ndata: {{}}\n\n{says}").into_bytes())
        };
        let whole = |status: &str, body: &str| {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            vec![Act::Send(text.into_bytes())]
        };
        let update = "id: 7\nevent: update\ndata: {\"notice\":7,\"reason\":\"moon\"}\n\n";
        match (asked.target.as_str(), before) {
            // It ends at once, says what is none, is another's answer, is refused, or says half a notice; then it is right, twice.
            ("/api/v1/agent/events", 0) => vec![stream(""), Act::Close],
            ("/api/v1/agent/events", 1) => vec![stream("<!doctype html>\n"), Act::Wait(stays.clone())],
            ("/api/v1/agent/events", 2) => whole("200 OK\r\nContent-Type: text/html", "hello"),
            ("/api/v1/agent/events", 3) => whole("500 Oh", "no"),
            ("/api/v1/agent/events", 4) => vec![stream("event: update\ndata: {\"not"), Act::Reset],
            ("/api/v1/agent/events", _) => vec![stream(&update.repeat(2)), Act::Wait(stays.clone())],
            ("/api/v1/agent/check-in", _) => whole("200 OK", "{}"),
            ("/api/v1/agent/report", _) => vec![Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
            ("/server.ini", _) => whole("200 OK", "[PATTERN]\nP.4=a.zip,1,3\n"),
            _ => whole("200 OK", "abc"),
        }
    });
    let place = Place::new();
    std::fs::write(place.path("tokens"), token("pc-1")).unwrap();
    let line =
        format!("--agents 1 --arrival told --no-signatures --tokens {}", place.path("tokens").display());
    let said = play(&server.url("/"), &format!("{line} --mix full --errors-max 3"));
    gate.open();
    assert_eq!((said.code, said.at("/agents/updated")), (Some(0), 1), "{said:#?}");
    assert_eq!(
        (said.at("/errors/by_kind/not-events"), said.at("/errors/by_kind/status")),
        (2, 1),
        "{said:#?}"
    );
    assert_eq!((said.at("/streams/wrong"), said.at("/streams/lost"), said.at("/streams/again")), (1, 3, 3));
    assert_eq!((said.at("/told/notices"), said.at("/told/repeated")), (1, 1));
    let bearer = format!("Bearer {}", token("pc-1"));
    assert!(server.asked().iter().all(|asked| asked.header("authorization").as_ref() == Some(&bearer)));
    let says = |target| server.asked_for(target).iter().map(|asked| asked.body.clone()).collect::<Vec<_>>();
    assert_eq!(says("/api/v1/agent/check-in"), [br#"{"why":"notice"}"#]);
    let report: serde_json::Value = serde_json::from_slice(&says("/api/v1/agent/report")[0]).unwrap();
    assert_eq!((&report["result"], &report["bytes"]), (&"updated".into(), &27.into()), "{report}");
    assert_eq!(report["source"], server.url("/"));
}

#[test]
fn notices_that_come_during_an_update_are_one_more_after_it_r9_4() {
    let (asked, told, stays) = (Gate::default(), Gate::default(), Gate::default());
    let (is_asked, is_told, until_over) = (asked.clone(), told.clone(), stays.clone());
    let server = Server::start(move |asked, before| {
        let notice = |number: u64| {
            format!("event: update\ndata: {{\"notice\":{number},\"reason\":\"generation\"}}\n\n")
        };
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 20\nevent: hello\ndata: {}\n\n";
        let send = |text: String| Act::Send(text.into_bytes());
        let whole =
            |body: &str| send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        match (asked.target.as_str(), before) {
            ("/api/v1/agent/events", 0) => {
                let more = send(notice(2) + &notice(3));
                vec![send(head.to_owned() + &notice(1)), Act::Wait(is_asked.clone()), more, Act::Close]
            }
            ("/api/v1/agent/events", _) => vec![send(head.to_owned()), Act::Wait(until_over.clone())],
            ("/api/v1/agent/check-in", 0) => vec![Act::Wait(is_told.clone()), whole("{}")],
            ("/api/v1/agent/check-in", _) => vec![whole("{}")],
            ("/api/v1/agent/report", _) => vec![send("HTTP/1.1 204 No Content\r\n\r\n".to_owned())],
            _ => vec![whole("[PATTERN]\n")],
        }
    });
    let place = Place::new();
    std::fs::write(place.path("tokens"), token("pc-1")).unwrap();
    let line = format!("--agents 1 --arrival told --tokens {}", place.path("tokens").display());
    let fleet = Process::start(&mut load(&server.url("/"), &line));
    server.wait_for("/api/v1/agent/check-in", 1);
    asked.open();
    // It has heard of both once it asks for what follows them.
    server.wait_for("/api/v1/agent/events", 2);
    assert_eq!(server.asked_for("/api/v1/agent/events")[1].header("last-event-id").as_deref(), Some("3"));
    told.open();
    let said = ended(fleet).passed();
    stays.open();
    assert_eq!((said.at("/agents/updated"), said.at("/told/agents"), said.at("/told/notices")), (1, 1, 3));
    for target in ["/api/v1/agent/check-in", "/server.ini", "/api/v1/agent/report"] {
        assert_eq!(server.asked_for(target).len(), 2, "{target}");
    }
}

#[test]
fn what_an_agent_could_not_say_is_said_again_and_a_failed_update_is_reported_r9_4() {
    let server = Server::start(|asked, before| {
        let whole = |status: &str, body: &str| {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            vec![Act::Send(text.into_bytes())]
        };
        let polled = r#"{"events":[{"event":"update","data":{"notice":1,"reason":"schedule"}}]}"#;
        match (asked.target.split('?').next().unwrap(), before) {
            ("/api/v1/agent/events", _) if asked.target.ends_with("wait=0&after=0") => {
                whole("200 OK\r\nContent-Type: application/json", polled)
            }
            // Something on the way answers at once in the relay's place.
            ("/api/v1/agent/events", _) => {
                whole("200 OK\r\nContent-Type: application/json", r#"{"events":[]}"#)
            }
            ("/api/v1/agent/check-in", _) => whole("200 OK", "{}"),
            ("/api/v1/agent/report", 0) => vec![Act::Close],
            ("/api/v1/agent/report", _) => vec![Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
            ("/server.ini", _) => whole("200 OK", "[PATTERN]\nP.4=a.zip,1,3\n"),
            _ => whole("404 No", ""),
        }
    });
    let place = Place::new();
    std::fs::write(place.path("tokens"), token("pc-1")).unwrap();
    let line =
        format!("--agents 1 --arrival told --streams polls --tokens {}", place.path("tokens").display());
    let said = play(&server.url("/"), &format!("{line} --mix full --errors-max 9 --reuse request"));
    assert_eq!((said.at("/agents/failed"), said.at("/errors/by_kind/status")), (1, 1), "{said:#?}");
    assert_eq!(said.at("/errors/by_kind/reset"), 1, "{said:#?}");
    let check_in = &server.asked_for("/api/v1/agent/check-in")[0];
    assert_eq!(check_in.body, br#"{"why":"schedule"}"#);
    let reports = server.asked_for("/api/v1/agent/report");
    assert!(reports.len() == 2 && reports[1].body.starts_with(b"{"), "{reports:?}");
    let report: serde_json::Value = serde_json::from_slice(&reports[1].body).unwrap();
    assert_eq!(report["result"], "failed");
    let polls = server.asked().iter().filter(|asked| asked.target.contains("wait=30&after=1")).count();
    let secs = Duration::from_secs_f64(said.json["took_secs"].as_f64().unwrap()).as_secs();
    assert!(polls as u64 <= 3 + secs, "{polls} polls in {secs} s follow each other without a pause");
}

#[test]
fn agents_that_are_not_known_are_refused_before_they_play() {
    let (site, place) = (Site::with(5, &[4]), Place::new());
    let (relay, enrolment) = open_to(&site, &place);
    let url = url(relay.agents[0]);
    let tokens = place.path("tokens");
    let typed = |arguments: &str| {
        let arguments = arguments.replace("TOKENS", tokens.to_str().unwrap());
        let ended = Process::start(&mut load(&url, &format!("--arrival told {arguments}"))).wait_exit(WITHIN);
        assert!(!ended.stderr.contains(&token("x")[2..]), "a secret is shown: {}", ended.stderr);
        (ended.status.code(), ended.stderr)
    };
    for (arguments, code, words) in [
        ("--agents 5", 2, "--tokens <FILE>"),
        ("--agents 5 --tokens TOKENS", 1, "tokens: No such file"),
        ("--agents 5 --tokens TOKENS --enrolment secret", 1, "NAME~SECRET"),
        (
            &format!("--agents 5 --tokens TOKENS --enrolment {}", token("nobody")),
            1,
            "the relay let no agent in (403)",
        ),
        (
            &format!("--agents 31 --tokens TOKENS --enrolment {enrolment}"),
            1,
            "the relay let no agent in (403)",
        ),
        // Those who were let in are kept.
        ("--agents 31 --tokens TOKENS", 1, "30 tokens, and 31 agents play: add --enrolment, or --agents 30"),
        ("--agents 30000 --tokens TOKENS", 1, "let streams share theirs with --streams http2"),
    ] {
        let (ended, said) = typed(arguments);
        assert!(ended == Some(code) && said.contains(words), "{arguments}: {ended:?} {said}");
    }
    std::fs::write(&tokens, format!("{}\nnonsense\n", token("x"))).unwrap();
    let (ended, said) = typed("--agents 1 --tokens TOKENS");
    assert!(ended == Some(1) && said.contains("line 2 is no agent's token"), "{said}");
    // A token that the relay does not know opens no stream.
    std::fs::write(&tokens, token("x")).unwrap();
    let line = format!("--arrival told --agents 1 --time-max 2s --tokens {}", tokens.display());
    let said = play(&url, &line).failed_by("refused");
    assert_eq!(said.at("/errors/by_status/401"), said.at("/errors/total"));
    relay.stop();
}
