//! Who means harm: guesses, replays, races, and identities smuggled past the one place that decides who is calling (R5.5, R6.2).

use forebay::policy::tree::id::EnrolmentId;
use jiff::SignedDuration;

use super::line::{Site, Way, address, basic, connect, socks};
use super::*;
use crate::raw::answer::{End, Head};
use crate::tunnel::users::credentials;

const ENROL: &str = "/api/v1/enrol";
const KEY: &str = "/api/v1/agent/key";

/// What a secret is of that nobody has.
const OTHERS: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// A file that only `all` holds.
fn program() -> String {
    let files = forebay::fixture::Fixture::default().files();
    let program = files.into_iter().find(|file| file.class == "program").unwrap();
    format!("/activeupdate/{}", program.path)
}

/// An answer without what differs from one moment to the next.
fn same(answer: Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let Head { status, mut headers, .. } = answer.head;
    headers.retain(|(name, _)| name != "date");
    (status, headers, answer.body)
}

#[test]
fn a_wrong_guess_does_not_tell_whether_there_is_such_an_agent_r5_5() {
    let mut relay = fleet(local());
    let gone = ["gone", "bare"].map(agent);
    let add = |agent| Action::AddAgent { agent, domain: domain(1), values: Values::default() };
    change(&mut relay, gone.map(add).into());
    let key = Key::Secret(SecretHash::of(SECRET.as_bytes()));
    change(&mut relay, vec![Action::GiveKey { agent: gone[0], key }, enrolment("branch", domain(1), 1)]);
    change(&mut relay, vec![Action::Revoke { agents: vec![gone[0]] }]);
    let guesses = [
        format!("nobody~{SECRET}"),
        format!("all~{OTHERS}"),
        // One that was revoked, one without a secret, an enrolment's.
        token("gone"),
        token("bare"),
        token("branch"),
        // What is stored of a secret is none.
        format!("all~{}", SecretHash::of(SECRET.as_bytes())),
    ];
    let to = relay.v4().to_string();
    let asked = |guess: &str| {
        let ask = |target: &str, headers: &[(&str, &str)]| {
            same(Client::connect(relay.v4()).exchange("GET", target, headers).unwrap())
        };
        let mut tunnel = Client::connect(relay.v4());
        let shown = basic(guess);
        tunnel.ask("CONNECT", "192.0.2.1:443", &[("proxy-authorization", &shown)]).unwrap();
        let mut door = Client::connect(relay.socks()[0]);
        let socks = socks(&mut door, "192.0.2.1:443", guess);
        let mut says = Vec::new();
        for body in [json!({ "token": guess }), json!({ "token": guess, "agent": "pc-1" })] {
            if guess != token("branch") {
                says.push(post(relay.v4(), ENROL, None, &body));
            }
        }
        says.dedup();
        assert!(says.len() < 2, "{says:?}");
        let answers = vec![
            ask(PATTERN, &[("authorization", &bearer(guess))]),
            ask(PATTERN, &[("authorization", &shown)]),
            ask(&format!("/t/{guess}{PATTERN}"), &[]),
            ask(&format!("http://{to}{PATTERN}"), &[("proxy-authorization", &shown)]),
            ask("http://192.0.2.1/", &[("proxy-authorization", &shown)]),
            same(tunnel.answer("GET").unwrap()),
            ask("/api/v1/agent/files", &[("authorization", &shown)]),
        ];
        let statuses: Vec<_> = answers.iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses, [401, 401, 401, 407, 407, 407, 401]);
        (answers, socks)
    };
    let (first, no_tunnel) = asked(&guesses[0]);
    assert_eq!(no_tunnel, None);
    for guess in &guesses[1..] {
        assert_eq!(asked(guess), (first.clone(), no_tunnel), "{guess}");
    }
    let enrolled = |token: &str| post(relay.v4(), ENROL, None, &json!({ "token": token }));
    assert_eq!(enrolled(&format!("branch~{OTHERS}")), enrolled(&format!("nothing~{SECRET}")));
}

#[test]
fn what_was_taken_back_or_has_ended_opens_nothing_again_r5_5() {
    let mut relay = fleet(local());
    let until = |left, until| {
        let secret = SecretHash::of(SECRET.as_bytes());
        Enrolment { domain: domain(1), secret, left, until: Timestamp::now() + until }
    };
    let over = until(9, SignedDuration::from_secs(-1));
    let add = |id: &str, enrolment| Action::AddEnrolment { id: EnrolmentId::parse(id).unwrap(), enrolment };
    change(
        &mut relay,
        vec![add("over", over), enrolment("once", domain(1), 1), enrolment("many", domain(1), 9)],
    );
    let enrol =
        |id: &str, agent: &str| post(relay.v4(), ENROL, None, &json!({ "token": token(id), "agent": agent }));
    assert_eq!(enrol("over", "pc-1").0, 403);
    let (status, told) = enrol("once", "pc-1");
    assert_eq!(status, 201);
    let first = told["token"].as_str().unwrap().to_owned();
    // The same again, and for another agent.
    assert_eq!(enrol("once", "pc-1").0, 403);
    assert_eq!(enrol("once", "pc-2").0, 403);
    // Nobody takes over who is there, in the same domain or elsewhere, whether it has a key or not.
    for taken in ["pc-1", "patterns", "engines", "all"] {
        assert_eq!(enrol("many", taken).0, 409, "{taken}");
    }
    let bare = Action::AddAgent { agent: agent("bare"), domain: domain(3), values: Values::default() };
    change(&mut relay, vec![bare]);
    let enrol =
        |id: &str, agent: &str| post(relay.v4(), ENROL, None, &json!({ "token": token(id), "agent": agent }));
    assert_eq!(enrol("many", "bare").0, 409, "it stands in another domain");
    // Changed keys: the one before is void, and cannot change the one after it.
    let (status, told) = post(relay.v4(), KEY, Some(&first), &json!({}));
    assert_eq!(status, 200);
    let second = told["token"].as_str().unwrap().to_owned();
    assert_eq!(post(relay.v4(), KEY, Some(&first), &json!({})).0, 401);
    assert_eq!(get(relay.v4(), PATTERN, &first).head.status, 401);
    assert_eq!(get(relay.v4(), PATTERN, &second).head.status, 200);
    change(&mut relay, vec![Action::Revoke { agents: vec![agent("pc-1")] }]);
    let enrol =
        |id: &str, agent: &str| post(relay.v4(), ENROL, None, &json!({ "token": token(id), "agent": agent }));
    assert_eq!(post(relay.v4(), KEY, Some(&second), &json!({})).0, 401);
    assert_eq!(enrol("many", "pc-1").0, 409, "who was shut out does not come back by itself");
    let relay = relay.restart();
    for token in [&first, &second] {
        assert_eq!(get(relay.v4(), PATTERN, token).head.status, 401, "nor after a restart");
    }
}

#[test]
fn of_many_that_race_for_an_enrolments_last_place_one_gets_it_r5_5() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 1)]);
    let at = relay.v4();
    let racing: Vec<_> = (0..24)
        .map(|number| {
            std::thread::spawn(move || {
                let says = json!({ "token": token("branch"), "agent": format!("pc-{number}") });
                post(at, ENROL, None, &says).0
            })
        })
        .collect();
    let mut statuses: Vec<_> = racing.into_iter().map(|racing| racing.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses[1..].iter().all(|status| *status == 403), "{statuses:?}");
    assert_eq!(relay.handle().agents().unwrap().tree().tree().agent_count(), 4);
    // The same for an id: whoever comes first has it, and nobody else is told a secret for it.
    change(&mut relay, vec![enrolment("more", domain(1), 24)]);
    let says = || json!({ "token": token("more"), "agent": "pc" });
    let racing: Vec<_> =
        (0..24).map(|_| std::thread::spawn(move || post(at, ENROL, None, &says()).0)).collect();
    let statuses: Vec<_> = racing.into_iter().map(|racing| racing.join().unwrap()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 23, "{statuses:?}");
}

/// The status of a request with these lines, from an address whose domain has the scope `patterns`; none where the connection ends.
fn from_patterns(site: &Site, target: &str, lines: &[u8]) -> Option<u16> {
    let mut client = Client::connect_from(address(1), site.relay.v4());
    let head = [format!("GET {target} HTTP/1.1\r\nHost: relay\r\n").as_bytes(), lines, b"\r\n"].concat();
    client.send(&head).unwrap();
    Some(client.answer("GET").ok()?.head.status)
}

#[test]
fn credentials_that_can_be_read_in_two_ways_are_nobodys_and_other_fields_are_not_believed_r5_5() {
    let site = Site::new();
    let right = token("all");
    let (bearer, basic) = (bearer(&right), basic(&right));
    let coded = |bytes: &[u8]| {
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let number = three.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for at in 0..4 {
                let digit = number >> (18 - 6 * at) & 63;
                let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                text.push(if at > three.len() { '=' } else { char::from(digits[digit as usize]) });
            }
        }
        text
    };
    assert_eq!(basic, format!("Basic {}", coded(format!("anything:{right}").as_bytes())));
    let mut cases: Vec<(Vec<u8>, u16)> = Vec::new();
    let mut case = |line: String, status| cases.push((line.into_bytes(), status));
    // What is right in any case.
    for line in [
        format!("AUTHORIZATION: bEARER {right}\r\n"),
        format!("authorization: BASIC {}\r\n", &basic[6..]),
        format!("Authorization:{bearer}\r\n"),
        format!("Authorization: \t {bearer} \t\r\n"),
        format!("Authorization: {bearer}\r\nX-Forwarded-For: 127.0.3.1\r\n"),
    ] {
        case(line, 200);
    }
    // Two of them, lists, folds, other schemes, and what is nearly one.
    for line in [
        format!("Authorization: {bearer}\r\nAuthorization: {bearer}\r\n"),
        format!("Authorization: {basic}\r\nAuthorization: {bearer}\r\n"),
        format!("Authorization: Bearer x\r\nAuthorization: {bearer}\r\n"),
        format!("Authorization: {bearer}\r\nAuthorization:\r\n"),
        format!("Authorization: {bearer}, {bearer}\r\n"),
        format!("Authorization: {bearer},\r\n"),
        format!("Authorization: {basic},{basic}\r\n"),
        format!("Authorization: Digest username=\"all\", response=\"{SECRET}\"\r\n"),
        format!("Authorization: Token {right}\r\n"),
        format!("Authorization: {right}\r\n"),
        format!("Authorization: Bearer{right}\r\n"),
        format!("Authorization: Bearer \"{right}\"\r\n"),
        format!("Authorization: Bearer {right}\u{e9}\r\n"),
        format!("Authorization: Bearer ALL~{SECRET}\r\n"),
        format!("Authorization: Bearer all~{}\r\n", SECRET.to_uppercase()),
        format!("Authorization: Bearer all%7E{SECRET}\r\n"),
        format!("Authorization: Bearer {right}0\r\n"),
        format!("Authorization: Bearer {}\r\n", &right[..right.len() - 1]),
        format!("Authorization: Bearer {}~{SECRET}\r\n", "a".repeat(10_000)),
        "Authorization:\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        "Authorization: Basic\r\n".to_owned(),
        "Authorization: Basic =\r\n".to_owned(),
        format!("Authorization: Basic {}\r\n", coded(right.as_bytes())),
        format!("Authorization: Basic {}\r\n", coded(format!("x:{right}:{right}").as_bytes())),
        format!("Authorization: Basic {}\r\n", coded(format!("x:{right}\0").as_bytes())),
        format!("Authorization: Basic {}\r\n", coded(format!("x:{right}\n").as_bytes())),
        format!("Authorization: Basic {}\r\n", coded(&[b"\xff:", right.as_bytes()].concat())),
        format!("Authorization: Basic {}\r\n", coded(&[b"x:all\xff~", SECRET.as_bytes()].concat())),
    ] {
        case(line, 401);
    }
    // What hides a field from one reader and shows it to another.
    for line in [
        format!("Authorization: Bearer\r\n {right}\r\n"),
        format!("Authorization : {bearer}\r\n"),
        format!(" Authorization: {bearer}\r\n"),
        format!("X: y\r\n\tz\r\nAuthorization: {bearer}\r\n"),
        format!("Authorization: Bearer {right}\0\r\n"),
        format!("Authorization\0: {bearer}\r\n"),
    ] {
        case(line, 400);
    }
    case(format!("Authorization: Bearer {}\r\n", "a".repeat(64 << 10)), 431);
    // What others put in for clients, and what is for proxies, names nobody.
    for name in [
        "Proxy-Authorization",
        "X-Authorization",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "X-Api-Key",
        "Cookie",
    ] {
        case(format!("{name}: {bearer}\r\n"), 403);
    }
    for line in [
        "X-Forwarded-For: 127.0.3.3\r\nForwarded: for=127.0.3.3\r\nX-Real-IP: 127.0.3.3\r\nTrue-Client-IP: 127.0.3.3\r\n",
        "X-Client-Cert: all\r\nX-SSL-Client-Verify: SUCCESS\r\nX-SSL-Client-S-DN: CN=all\r\nX-Client-DN: CN=all\r\n",
        "X-Forwarded-Client-Cert: By=urn:relay;Subject=\"CN=all\";DNS=all\r\nX-Forwarded-Tlsclient-Cert: all\r\n",
        "X-Forwarded-User: all\r\nX-Remote-User: all\r\nRemote-User: all\r\nX-Agent-Id: all\r\nFrom: all\r\n",
    ] {
        case(line.to_owned(), 403);
    }
    let program = program();
    for (lines, expected) in cases {
        let shown = lines[..lines.len().min(120)].escape_ascii();
        assert_eq!(from_patterns(&site, &program, &lines), Some(expected), "{shown}");
    }
}

#[test]
fn a_token_in_a_path_stands_at_its_beginning_once_and_gives_way_to_a_header_r5_5() {
    let site = Site::new();
    let (right, mine, program) = (token("all"), token("patterns"), program());
    let line = |token: &str| format!("Authorization: {}\r\n", bearer(token));
    let (own, upstream) = (site.relay.v4(), site.origin.address());
    for (target, lines, expected) in [
        (format!("/t/{right}{program}"), String::new(), 200),
        (format!("/t/{right}{program}?/t/{mine}/"), String::new(), 200),
        (format!("http://{own}/t/{right}{program}"), String::new(), 200),
        (format!("/t/{mine}{program}"), line(&right), 200),
        (format!("/t/{right}{program}"), line(&mine), 403),
        (format!("/t/{right}{program}"), "Authorization: Negotiate x\r\n".into(), 401),
        (format!("/t/{right}{program}"), line(&format!("all~{OTHERS}")), 401),
        (format!("/t/all~{OTHERS}{program}"), String::new(), 401),
        (format!("/t/a~b{program}"), String::new(), 401),
        (format!("/t/{program}"), String::new(), 401),
        (format!("/t/%20{right}{program}"), String::new(), 401),
        (format!("/t/{right}%20{program}"), String::new(), 401),
        (format!("/t/{}{program}", "a".repeat(3000)), String::new(), 401),
        ("/t/".into(), String::new(), 404),
        ("/t".into(), String::new(), 404),
        (format!("/t/{right}"), String::new(), 404),
        (format!("/t/{right}/"), String::new(), 404),
        (format!("/t/{right}/{program}"), String::new(), 404),
        (format!("/t/{right}/..{program}"), String::new(), 404),
        (format!("/t/{right}/t/{right}{program}"), String::new(), 404),
        (format!("/t/{mine}/t/{right}{program}"), String::new(), 404),
        (format!("/t/all~{OTHERS}/t/{right}{program}"), String::new(), 404),
        (format!("/T/{right}{program}"), String::new(), 404),
        (format!("//t/{right}{program}"), String::new(), 404),
        (format!("/./t/{right}{program}"), String::new(), 404),
        (format!("/%2574/{right}{program}"), String::new(), 404),
        (format!("/t%2F{right}{program}"), String::new(), 400),
        (format!("/t/{right}%2F..{program}"), String::new(), 400),
        (format!("/t/{right}%00{program}"), String::new(), 400),
        (format!("/t/{}{program}", "a".repeat(8 << 10)), String::new(), 414),
        // To the upstream it is a path like any other: nobody lists it.
        (format!("http://{upstream}/t/{right}{program}"), String::new(), 403),
        (format!("/activeupdate/t/{right}{program}"), String::new(), 403),
    ] {
        assert_eq!(from_patterns(&site, &target, lines.as_bytes()), Some(expected), "{target} {lines}");
    }
}

#[test]
fn within_a_tunnel_nobody_becomes_another_r5_5_r6_2() {
    let site = Site::new();
    let (right, mine) = (token("all"), token("patterns"));
    let program = program().replace("/activeupdate/", "/");
    let upstream = site.origin.address().to_string();
    for by in [Way::Connect, Way::Socks] {
        let mut client = if by == Way::Connect {
            let mut client = Client::connect(site.relay.v4());
            assert_eq!(connect(&mut client, &upstream, &mine), 200);
            client
        } else {
            let mut client = Client::connect(site.relay.socks()[0]);
            assert_eq!(socks(&mut client, &upstream, &mine), Some(0));
            client
        };
        for (target, name, value) in [
            (program.clone(), "authorization", bearer(&right)),
            (program.clone(), "authorization", basic(&right)),
            (program.clone(), "proxy-authorization", basic(&right)),
            (format!("http://{upstream}{program}"), "proxy-authorization", basic(&right)),
            (format!("/t/{right}{program}"), "x", String::new()),
            (format!("http://{}/t/{right}/activeupdate{program}", site.relay.v4()), "x", String::new()),
        ] {
            let answer = client.exchange("GET", &target, &[(name, &value)]).unwrap();
            assert_eq!(answer.head.status, 403, "{by:?} {target} {name}");
        }
        assert_eq!(client.exchange("GET", "/pattern/vsapi329.zip", &[]).unwrap().head.status, 200);
    }
    // Who is somebody is not asked again, whatever else stands beside the token.
    let mut client = Client::connect(site.relay.socks()[0]);
    client.send(&[5, 2, 0, 2]).unwrap();
    assert_eq!(client.take(2), [5, 2], "who can show something is to");
    client.send(&credentials(b"all", mine.as_bytes())).unwrap();
    assert_eq!(client.take(2), [1, 0]);
    client.send(&credentials(b"all", right.as_bytes())).unwrap();
    assert!(matches!(client.read_to_close().1, End::Closed | End::Reset), "credentials are shown once");
}

#[test]
fn an_address_is_not_named_by_whom_nobody_trusts_r4_1_r5_5() {
    let site = Site::new();
    for header in ["PROXY TCP4 127.0.3.3 127.0.0.1 4000 8080\r\n", "PROXY UNKNOWN\r\n"] {
        let mut client = Client::connect(site.relay.v4());
        client.send(format!("{header}GET {} HTTP/1.1\r\nHost: relay\r\n\r\n", program()).as_bytes()).unwrap();
        assert_eq!(client.answer("GET").unwrap().head.status, 400);
        let (bytes, end) = client.read_to_close();
        assert!(bytes.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}");
    }
}
