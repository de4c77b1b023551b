//! What was given is taken back from the next request on, on connections that are open: narrower scopes, moves, removals, revoked
//! agents, changed keys (R5.2, R5.5, R6.2). Tunnels elsewhere end, and bodies under way do not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use forebay::policy::reach::{Rule, Tunnels};
use forebay::policy::tree::change::Below;

use super::line::{Certificate, Line, Site, WAYS, Way, connect, socks};
use super::*;
use crate::raw::answer::End;
use crate::served::Place;
use crate::tunnel::{By, Far, rule};

/// A file of a pattern, and one that only `all` holds.
const PATTERN: &str = "pattern/vsapi329.zip";

fn program() -> String {
    let files = forebay::fixture::Fixture::default().files();
    files.into_iter().find(|file| file.class == "program").unwrap().path.to_string()
}

/// One line of an agent for each way.
fn lines(site: &mut Site, at: usize) -> Vec<(Way, Line)> {
    WAYS.map(|way| (way, site.line(way, at))).into()
}

fn each_gets(lines: &mut [(Way, Line)], path: &str, expected: impl Fn(Way) -> u16) {
    for (way, line) in lines {
        assert_eq!(line.get(path), expected(*way), "{way:?} {path}");
    }
}

#[test]
fn a_narrower_scope_holds_for_the_next_request_of_each_open_connection_r6_2() {
    let mut site = Site::new();
    let program = program();
    let mut lines = lines(&mut site, 2);
    each_gets(&mut lines, &program, |_| 200);
    for (scope, expected) in
        [(Scope::PatternsEnginesDrivers, 403), (Scope::All, 200), (Scope::Patterns, 403), (Scope::All, 200)]
    {
        set(&mut site.relay, domain(3), scoped(scope));
        each_gets(&mut lines, &program, |_| expected);
        each_gets(&mut lines, PATTERN, |_| 200);
    }
    // A moved agent has the values of its new domain; what has the domain's addresses alone stays there.
    let moved = |to| Action::MoveAgents { agents: vec![agent("all")], to: domain(to) };
    change(&mut site.relay, vec![moved(1)]);
    each_gets(&mut lines, &program, |way| if way == Way::Range { 200 } else { 403 });
    // What stands at the agent itself goes before what its domain has.
    let patch = Patch::set(scoped(Scope::All));
    change(&mut site.relay, vec![Action::Set { domains: vec![], agents: vec![agent("all")], patch }]);
    each_gets(&mut lines, &program, |_| 200);
}

/// What who is shut out is told, by the way that it came.
fn shut_out(way: Way) -> u16 {
    match way {
        Way::Proxy | Way::ProxyBearer => 407,
        Way::Bearer | Way::Basic | Way::Prefix | Way::PrefixEscaped | Way::Http2 | Way::Http2Prefix => 401,
        Way::Connect | Way::Socks | Way::Fingerprint | Way::FingerprintHttp2 | Way::Name | Way::NameHttp2 => {
            403
        }
        Way::Range => 200,
    }
}

#[test]
fn a_revoked_agent_is_refused_from_the_next_request_of_each_open_connection_r5_5() {
    let mut site = Site::new();
    let (mut lines, mut others) = (lines(&mut site, 0), lines(&mut site, 1));
    each_gets(&mut lines, PATTERN, |_| 200);
    let agents = vec![agent("patterns")];
    change(&mut site.relay, vec![Action::Revoke { agents: agents.clone() }]);
    each_gets(&mut lines, PATTERN, shut_out);
    each_gets(&mut lines, "server.ini", shut_out);
    each_gets(&mut others, PATTERN, |_| 200);
    // Whoever is readmitted has no keys; a certificate that names it is as good as before, and so is a tunnel.
    change(&mut site.relay, vec![Action::Readmit { agents }]);
    let readmitted = [Way::Name, Way::NameHttp2, Way::Connect, Way::Socks];
    each_gets(&mut lines, PATTERN, |way| if readmitted.contains(&way) { 200 } else { shut_out(way) });
}

#[test]
fn a_removed_agent_or_domain_is_nobodys_from_the_next_request_on_r5_5() {
    let mut site = Site::new();
    let (mut lines_of, mut all) = (lines(&mut site, 0), lines(&mut site, 2));
    each_gets(&mut lines_of, PATTERN, |_| 200);
    each_gets(&mut all, PATTERN, |_| 200);
    change(&mut site.relay, vec![Action::RemoveAgents { agents: vec![agent("patterns")] }]);
    let nobody = |way| match way {
        Way::Connect | Way::Socks => 401,
        way => shut_out(way),
    };
    each_gets(&mut lines_of, PATTERN, nobody);
    change(&mut site.relay, vec![Action::RemoveDomain { domain: domain(3), below: Below::Removed }]);
    each_gets(&mut all, PATTERN, |way| if way == Way::Range { 401 } else { nobody(way) });
}

#[test]
fn a_changed_key_holds_for_the_next_request_of_each_open_connection_r5_5() {
    let mut site = Site::new();
    let mut lines = lines(&mut site, 0);
    each_gets(&mut lines, PATTERN, |_| 200);
    let (status, told) = post(site.relay.v4(), "/api/v1/agent/key", Some(&token("patterns")), &json!({}));
    assert_eq!(status, 200, "{told}");
    // Whoever opened a tunnel was let in; its connection is not shown a key again. Certificates stay.
    let by_token = |way| {
        let token = !matches!(way, Way::Connect | Way::Socks | Way::Name | Way::NameHttp2);
        token && !matches!(way, Way::Fingerprint | Way::FingerprintHttp2)
    };
    each_gets(&mut lines, PATTERN, |way| if by_token(way) { shut_out(way) } else { 200 });
    assert_eq!(get(site.relay.v4(), super::PATTERN, told["token"].as_str().unwrap()).head.status, 200);
    let key = Key::Certificate(Certificate::naming(site.authority(), "other").fingerprint());
    change(&mut site.relay, vec![Action::GiveKey { agent: agent("patterns"), key }]);
    each_gets(&mut lines, PATTERN, |way| match way {
        Way::Fingerprint | Way::FingerprintHttp2 => 403,
        way if by_token(way) => shut_out(way),
        _ => 200,
    });
}

#[test]
fn an_enrolment_that_is_removed_lets_nobody_in_and_whom_it_let_in_stays_r5_5() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
    let enrol =
        |relay: &Running| post(relay.v4(), "/api/v1/enrol", None, &json!({ "token": token("branch") }));
    let (status, told) = enrol(&relay);
    assert_eq!(status, 201);
    change(&mut relay, vec![Action::RemoveEnrolment { id: EnrolmentId::parse("branch").unwrap() }]);
    assert_eq!(enrol(&relay).0, 403);
    assert_eq!(get(relay.v4(), super::PATTERN, told["token"].as_str().unwrap()).head.status, 200);
}

#[test]
fn a_body_under_way_ends_whole_when_its_agent_is_revoked_r5_5() {
    let place = Place::new();
    // More than the buffers of sockets and streams hold.
    let bytes = place.big_tree(24 << 20);
    let folder = place.path("tree").display().to_string();
    for way in [Way::Bearer, Way::Prefix, Way::Http2, Way::Fingerprint, Way::NameHttp2] {
        let mut site = Site::with(|settings| settings.trees[0].upstream = local_tree(&folder));
        let mut line = site.line(way, 0);
        let relay = &mut site.relay;
        let body = line.get_meanwhile("pattern/big.zip", || {
            change(relay, vec![Action::Revoke { agents: vec![agent("patterns")] }]);
        });
        assert!(body == bytes, "{way:?}");
        assert_eq!(line.get("pattern/big.zip"), shut_out(way), "{way:?}");
    }
}

fn local_tree(folder: &str) -> forebay::config::settings::Upstream {
    settings(folder).trees.remove(0).upstream
}

/// A tunnel of an agent to a server, which is at work.
struct Through {
    client: Client,
    server: TcpStream,
}

impl Through {
    fn open(site: &Site, by: By, far: &Far, who: &str) -> Self {
        let to = far.address().to_string();
        let client = match by {
            By::Connect => {
                let mut client = Client::connect(site.relay.v4());
                assert_eq!(connect(&mut client, &to, &token(who)), 200);
                client
            }
            By::Socks => {
                let mut client = Client::connect(site.relay.socks()[0]);
                assert_eq!(socks(&mut client, &to, &token(who)), Some(0));
                client
            }
        };
        let mut through = Self { client, server: far.accept() };
        through.works();
        through
    }

    fn works(&mut self) {
        self.client.send(b"up").unwrap();
        self.server.read_exact(&mut [0; 2]).unwrap();
        self.server.write_all(b"down").unwrap();
        assert_eq!(self.client.take(4), b"down");
    }

    /// Neither side takes it for an end in order.
    fn ends_broken(mut self, what: &str) {
        assert_eq!(self.client.read_to_close(), (Vec::new(), End::Reset), "{what}");
        assert!(self.server.read(&mut [0; 9]).is_err(), "{what}");
    }
}

fn each_is_cut(tunnels: impl IntoIterator<Item = Through>, what: &str) {
    for tunnel in tunnels {
        tunnel.ends_broken(what);
    }
}

const BOTH: [By; 2] = [By::Connect, By::Socks];

/// Tunnels to one server are for every agent, to the other for those with scope `all`.
fn two_ways_out() -> (Site, Far, Far) {
    let (every, few) = (Far::start(), Far::start());
    let ports = [every.port(), few.port()];
    let site = Site::with(move |settings| {
        let open = |name: &str, port, tunnels| Rule {
            name: name.into(),
            ..rule(&["127.0.0.1/32"], &[port], tunnels)
        };
        settings.proxy.allow =
            vec![open("every", ports[0], Tunnels::Any), open("few", ports[1], Tunnels::All)];
    });
    (site, every, few)
}

#[test]
fn tunnels_end_broken_when_their_agent_may_not_have_them_any_more_and_others_stay_r5_5_r6_2() {
    let (mut site, every, few) = two_ways_out();
    let mut stay = Vec::new();
    let still = |stay: &mut Vec<Through>| stay.iter_mut().for_each(Through::works);
    for by in BOTH {
        stay.push(Through::open(&site, by, &every, "engines"));
        stay.push(Through::open(&site, by, &every, "all"));
    }
    let narrow = BOTH.map(|by| Through::open(&site, by, &few, "all"));
    set(&mut site.relay, domain(3), scoped(Scope::Patterns));
    each_is_cut(narrow, "its scope does not open it any more");
    still(&mut stay);
    set(&mut site.relay, domain(3), scoped(Scope::All));

    let moved = BOTH.map(|by| Through::open(&site, by, &few, "all"));
    change(&mut site.relay, vec![Action::MoveAgents { agents: vec![agent("all")], to: domain(2) }]);
    each_is_cut(moved, "its agent was moved");
    still(&mut stay);

    let revoked = BOTH.map(|by| Through::open(&site, by, &every, "patterns"));
    change(&mut site.relay, vec![Action::Revoke { agents: vec![agent("patterns")] }]);
    each_is_cut(revoked, "its agent was revoked");
    still(&mut stay);

    let key = Key::Secret(SecretHash::of(SECRET.as_bytes()));
    change(&mut site.relay, vec![Action::GiveKey { agent: agent("patterns"), key }]);
    let removed = BOTH.map(|by| Through::open(&site, by, &every, "patterns"));
    change(&mut site.relay, vec![Action::RemoveAgents { agents: vec![agent("patterns")] }]);
    each_is_cut(removed, "its agent was removed");
    still(&mut stay);

    change(&mut site.relay, vec![Action::RemoveDomain { domain: domain(2), below: Below::Removed }]);
    each_is_cut(stay, "its agent's domain was removed");
}

#[test]
fn a_tunnel_at_full_speed_ends_too_r5_5() {
    let (mut site, every, _) = two_ways_out();
    for by in BOTH {
        let Through { mut client, mut server } = Through::open(&site, by, &every, "all");
        // As fast as both sides can.
        let sending = std::thread::spawn(move || while server.write_all(&[7; 8192]).is_ok() {});
        assert_eq!(client.take(1 << 20).len(), 1 << 20);
        change(&mut site.relay, vec![Action::Revoke { agents: vec![agent("all")] }]);
        let end = loop {
            if let (_, Some(end)) = client.read_raw(1 << 20) {
                break end;
            }
        };
        assert_eq!(end, End::Reset, "{by:?}");
        sending.join().unwrap();
        let key = Key::Secret(SecretHash::of(SECRET.as_bytes()));
        change(&mut site.relay, vec![Action::GiveKey { agent: agent("all"), key }]);
    }
}
