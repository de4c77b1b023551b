//! Where no tunnel leads: places that nothing lists, in whatever form they are named, and places where nobody is (R4.6).

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use forebay::base::tally::RefusedBy;
use forebay::policy::reach::Tunnels;
use http_body_util::Empty;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{BOTH, By, FIXTURE, Far, ask, door, named, rule, tunnel};
use crate::connect::Silent;
use crate::dns::{NameServer, Reply, Zone};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;

/// What tells a refusal by the policy.
fn refusal(by: By) -> u16 {
    match by {
        By::Connect => 403,
        By::Socks => 2,
    }
}

fn nobody_came(far: &Far) {
    far.0.set_nonblocking(true).unwrap();
    assert_eq!(far.0.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    far.0.set_nonblocking(false).unwrap();
}

#[test]
fn by_default_no_tunnel_leads_anywhere_r4_6() {
    let far = Far::start();
    let relay = Running::start(named(FIXTURE, &["127.0.0.1 far.test"]));
    for by in BOTH {
        for host in
            ["127.0.0.1", "far.test", "[::ffff:127.0.0.1]", "192.0.2.1", "[2001:db8::1]", "other.test"]
        {
            let to = format!("{host}:{}", far.port());
            assert_eq!(tunnel(&relay, by, &to).err(), Some(refusal(by)), "{by:?} {to}");
        }
        // Not to the relay itself either.
        for own in [relay.v4(), relay.socks()[0], relay.admin()] {
            assert_eq!(tunnel(&relay, by, &own.to_string()).err(), Some(refusal(by)), "{by:?} {own}");
        }
    }
    nobody_came(&far);
    relay.stop();
}

#[test]
fn reserved_addresses_are_refused_in_every_form_though_a_rule_lists_all_hosts_r4_6() {
    let far = Far::start();
    let mapped = [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "10.1.2.3",
        "169.254.169.254",
    ];
    let lines: Vec<_> = mapped.iter().enumerate().map(|(at, host)| format!("{host} name{at}.test")).collect();
    let mut settings = named(FIXTURE, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    settings.proxy.allow = vec![rule(&["*"], &[80, far.port()], Tunnels::Any)];
    let relay = Running::start(settings);
    let literals = [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2001:0:7f00:1::]",
    ];
    // Names, and what browsers read as addresses.
    let spelled = ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "0", "localhost.", "127.0.0.1."];
    let names = (0..mapped.len()).map(|at| format!("name{at}.test"));
    let hosts = literals.into_iter().chain(spelled.into_iter().take(5)).map(str::to_owned).chain(names);
    for host in hosts {
        for by in BOTH {
            for port in [80, far.port()] {
                let to = format!("{host}:{port}");
                let told = tunnel(&relay, by, &to).err();
                // A name that has an IPv4 address where IPv6 ones stand has no address at all.
                let none = host == "name2.test" && matches!(told, Some(502 | 4));
                assert!(none || told == Some(refusal(by)), "{by:?} {to}: {told:?}");
            }
        }
    }
    // An address as a name of SOCKS is the address.
    for host in literals.iter().map(|host| host.trim_matches(['[', ']'])).chain(spelled) {
        let mut client = Client::connect(relay.socks()[0]);
        let name =
            [&[5, 1, 0, 5, 1, 0, 3, u8::try_from(host.len()).unwrap()], host.as_bytes(), &[0, 80]].concat();
        client.send(&name).unwrap();
        let told = client.take(4);
        assert!(told[..3] == [5, 0, 5] && matches!(told[3], 2 | 4), "{host}: {told:?}");
    }
    nobody_came(&far);
    relay.stop();
}

#[test]
fn a_name_that_turns_to_a_reserved_address_gains_nothing_r4_6() {
    let far = Far::start();
    let server = NameServer::start(Zone::of(&["127.0.0.1", "::1"]));
    let mut settings = named(FIXTURE, &["127.0.0.1 mixed.test", "203.0.113.1 mixed.test"]);
    settings.upstream.name_servers = vec![server.address()];
    settings.upstream.connect = Duration::from_millis(300);
    settings.proxy.allow = vec![rule(&["rebound.test", "mixed.test"], &[far.port()], Tunnels::Any)];
    let relay = Running::start(settings);
    for by in BOTH {
        let told = tunnel(&relay, by, &format!("rebound.test:{}", far.port())).err();
        assert_eq!(told, Some(refusal(by)), "{by:?}");
        // One address may be connected to, and nobody is there; the other may not.
        let told = tunnel(&relay, by, &format!("mixed.test:{}", far.port())).err().unwrap();
        assert!(matches!(told, 502 | 504 | 3 | 4 | 5), "{by:?}: {told}");
    }
    assert!(!server.asked().is_empty());
    nobody_came(&far);
    relay.stop();
}

#[test]
fn a_refusal_names_its_rule_and_tells_nothing_else_r4_6() {
    let far = Far::start();
    let mut settings = named(FIXTURE, &["127.0.0.1 far.test"]);
    settings.proxy.allow =
        vec![rule(&["far.test", "*"], &[80], Tunnels::Never), rule(&["192.0.2.0/24"], &[80], Tunnels::Any)];
    let mut relay = Running::start(settings);
    let tally = relay.handle().tally().unwrap();
    for (to, words) in [
        (format!("far.test:{}", far.port()), format!("the rule 'listed' does not list port {}", far.port())),
        ("far.test:80".to_owned(), "the rule 'listed' has no tunnels for scope 'all'".to_owned()),
    ] {
        let mut client = Client::connect(relay.v4());
        client.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
        let answer = client.answer("CONNECT").unwrap();
        assert_eq!(answer.head.header("connection"), Some("close"));
        assert_eq!(String::from_utf8(answer.whole(403)).unwrap(), format!("refused: {words}\n"));
        super::is_closed(&mut client);
    }
    assert_eq!((tally.requests_refused(RefusedBy::Port), tally.requests_refused(RefusedBy::Tunnel)), (1, 1));
    nobody_came(&far);
    relay.stop();
}

#[test]
fn what_cannot_be_reached_is_told_by_its_kind_and_no_more_r3_2() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let place = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Silent::on(place);
    let mut zone = Zone::of(&[]);
    (zone.a, zone.aaaa) = (Reply::Code(3), Reply::Code(3));
    let server = NameServer::start(zone);
    let mut settings = named(FIXTURE, &["127.0.0.1 closed.test"]);
    settings.upstream.name_servers = vec![server.address()];
    settings.upstream.connect = Duration::from_millis(500);
    let hosts = ["127.0.0.1/32", "closed.test", "nowhere.test"];
    settings.proxy.allow = vec![rule(&hosts, &[port, place.port()], Tunnels::Any)];
    let relay = Running::start(settings);
    for (to, status, reply, words) in [
        (format!("closed.test:{port}"), 502, 5, "the host refused"),
        (place.to_string(), 504, 4, "nobody answered in time"),
        (format!("nowhere.test:{port}"), 502, 4, "its name has no address that may be used"),
    ] {
        let mut client = Client::connect(relay.v4());
        client.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
        let text = String::from_utf8(client.answer("CONNECT").unwrap().whole(status)).unwrap();
        assert_eq!(text, format!("the relay could not connect to it: {words}\n"), "{to}");
        assert_eq!(tunnel(&relay, By::Socks, &to).err(), Some(reply), "{to}");
    }
    drop(silent);
    relay.stop();
}

#[test]
fn a_connect_that_names_no_place_or_has_a_body_is_a_bad_request_r3_3() {
    let far = Far::start();
    let relay = Running::start(super::leading_to(far.port()));
    let port = far.port();
    for target in [
        "far.test".to_owned(),
        "far.test:".to_owned(),
        "far.test:0".to_owned(),
        "far.test:99999".to_owned(),
        format!("far.test:+{port}"),
        format!(":{port}"),
        format!("user@far.test:{port}"),
        format!("user:secret@far.test:{port}"),
        format!("http://far.test:{port}/"),
        format!("http://far.test:{port}"),
        format!("far..test:{port}"),
        format!("::1:{port}"),
        format!("[::1%25lo]:{port}"),
        "/".to_owned(),
        "*".to_owned(),
    ] {
        let mut client = Client::connect(relay.v4());
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: far.test\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.answer("CONNECT").unwrap().head.status, 400, "{target}");
        super::is_closed(&mut client);
    }
    let to = far.address();
    for fields in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Host: other.test",
    ] {
        let mut client = Client::connect(relay.v4());
        client
            .send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n\r\nhello").as_bytes())
            .unwrap();
        assert_eq!(client.answer("CONNECT").unwrap().head.status, 400, "{fields}");
        let (rest, end) = client.read_to_close();
        assert!(rest.is_empty() && matches!(end, End::Closed | End::Reset), "{fields}: {end:?}");
    }
    nobody_came(&far);
    // What follows a CONNECT that failed was not meant as requests, and is not read as such.
    let mut client = Client::connect(relay.v4());
    let request = "GET /activeupdate/server.ini HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: a\r\n\r\n{request}").as_bytes()).unwrap();
    assert_eq!(client.answer("CONNECT").unwrap().head.status, 403);
    super::is_closed(&mut client);
    relay.stop();
}

#[test]
fn over_http_2_a_connect_is_answered_that_it_is_not_for_here_r3_2() {
    let far = Far::start();
    let relay = Running::start(super::leading_to(far.port()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(relay.v4()).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::builder().method(Method::CONNECT).uri(far.address().to_string());
            let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 405);
        }
        drop(sender);
        let _ = connection.await;
    });
    nobody_came(&far);
    relay.stop();
}

#[test]
fn only_connections_are_made_for_socks_and_only_what_it_knows_is_answered_r4_2() {
    let far = Far::start();
    let relay = Running::start(super::leading_to(far.port()));
    let address = door(&relay, By::Socks);
    let port = far.port().to_be_bytes();
    let connect = |command: u8, reserved: u8, kind: u8, host: &[u8]| {
        [&[5, 1, 0, 5, command, reserved, kind], host, &port].concat()
    };
    let here = [127, 0, 0, 1];
    for (bytes, reply) in [
        (connect(2, 0, 1, &here), 7),
        (connect(3, 0, 1, &here), 7),
        (connect(0, 0, 1, &here), 7),
        (connect(255, 0, 1, &here), 7),
        (connect(1, 0, 0, &here), 8),
        (connect(1, 0, 2, &here), 8),
        (connect(1, 0, 255, &here), 8),
        (connect(1, 1, 1, &here), 1),
        (connect(1, 0, 3, &[0]), 1),
        (connect(1, 0, 3, b"\x03a b"), 1),
        (connect(1, 0, 3, b"\x02\xff\xfe"), 1),
        (connect(1, 0, 3, b"\x04a..b"), 1),
        ([&connect(1, 0, 1, &here)[..11], &[0, 0]].concat(), 1),
    ] {
        let mut client = Client::connect(address);
        client.send(&bytes).unwrap();
        let told = client.take(12);
        assert_eq!((&told[..2], &told[2..5]), (&[5, 0][..], &[5, reply, 0][..]), "{bytes:?}");
        super::is_closed(&mut client);
    }
    // No method that is known, and other protocols.
    let mut client = Client::connect(address);
    client.send(&[5, 2, 1, 3]).unwrap();
    assert_eq!(client.take(2), [5, 255]);
    super::is_closed(&mut client);
    for bytes in
        [&b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01"]
    {
        let mut client = Client::connect(address);
        client.send(bytes).unwrap();
        super::is_closed(&mut client);
    }
    nobody_came(&far);
    assert_eq!(ask(&mut Client::connect(address), By::Socks, &far.address().to_string()), 0);
    drop(far);
    relay.stop();
}
