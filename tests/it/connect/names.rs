//! Names: a name server that is late, broken, lavish or says no; and redirects by name to this machine (R4.3).

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use forebay::config::settings::{Nat64, UpstreamSettings};

use super::{Asker, hosts, port_of_both, tree};
use crate::dns::{NXDOMAIN, NameServer, Reply, SERVFAIL, Zone};
use crate::origin::Origin;
use crate::origin::fault::Fault;

fn asking(server: &NameServer) -> UpstreamSettings {
    UpstreamSettings {
        name_servers: vec![server.address()],
        nat64: Nat64::Off,
        ..UpstreamSettings::default()
    }
}

#[test]
fn a_and_aaaa_are_asked_apart_and_a_late_or_broken_aaaa_holds_up_nobody_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let (one, other) = (Origin::on(v4, &tree()), Origin::start_again(v6, &tree()).unwrap());
    let url = format!("http://au.example:{}", v6.port());
    let both = Zone::of(&["127.0.0.1", "::1"]);
    let late = Zone { aaaa_late: Duration::from_secs(2), ..both.clone() };
    let broken = Zone { aaaa: Reply::Code(SERVFAIL), ..both.clone() };
    let silent = Zone { aaaa: Reply::Silence, ..both.clone() };
    for (index, zone) in [late, broken, silent].into_iter().enumerate() {
        let server = NameServer::start(zone);
        let begun = Instant::now();
        Asker::new(&asking(&server)).ask(&url).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1900), "{index}: {:?}", begun.elapsed());
        assert_eq!((one.seen().requests.len(), other.seen().requests.len()), (index + 1, 0), "{index}");
        let asked = server.asked();
        for question in ["A au.example", "AAAA au.example"] {
            assert!(asked.iter().any(|asked| asked == question), "{asked:?}");
        }
    }
    let server = NameServer::start(both);
    Asker::new(&asking(&server)).ask(&url).unwrap();
    assert_eq!(other.seen().requests.len(), 1, "IPv6 goes first where it is known in time");
}

#[test]
fn names_that_do_not_exist_are_said_and_not_asked_for_again_at_once_r4_3() {
    let zone = Zone { aaaa: Reply::Code(NXDOMAIN), a: Reply::Code(NXDOMAIN), ..Zone::of(&[]) };
    let server = NameServer::start(zone);
    let asker = Asker::new(&asking(&server));
    for _ in 0..3 {
        let reason = asker.refused("http://nowhere.example");
        assert!(reason.contains("there is no such name"), "{reason}");
    }
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
    let server = NameServer::start(Zone::of(&[]));
    let reason = Asker::new(&asking(&server)).refused("http://empty.example");
    assert!(reason.contains("no address"), "{reason}");
    let zone = Zone { aaaa: Reply::Code(SERVFAIL), a: Reply::Code(SERVFAIL), ..Zone::of(&[]) };
    let server = NameServer::start(zone);
    let reason = Asker::new(&asking(&server)).refused("http://broken.example");
    assert!(reason.contains("IPv4 addresses: the name server says: "), "{reason}");
    assert!(reason.contains("IPv6 addresses: the name server says: "), "{reason}");
}

#[test]
fn of_an_answer_with_many_addresses_a_few_are_attempted_r4_3() {
    let origin = Origin::start(&tree());
    let port = origin.address().port();
    let dead = |count: u8| (1..=count).map(|last| format!("127.0.9.{last}"));
    let with = |count| {
        let all: Vec<String> = dead(count).chain(["127.0.0.1".to_owned()]).collect();
        NameServer::start(Zone::of(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let few = with(15);
    Asker::new(&asking(&few)).ask(&format!("http://au.example:{port}")).unwrap();
    let many = with(20);
    let reason = Asker::new(&asking(&many)).refused(&format!("http://au.example:{port}"));
    let expected = dead(16).fold(String::new(), |mut text, address| {
        let _ = write!(text, "{address} ");
        text
    });
    for address in expected.split_whitespace() {
        assert!(reason.contains(&format!("{address}:{port}: Connection refused")), "{reason}");
    }
    assert!(!reason.contains("127.0.9.17:"), "{reason}");
}

#[test]
fn nat64_is_looked_for_when_ipv4_gets_nowhere_and_only_then_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    drop(v4);
    let well_known = "64:ff9b::c000:aa".parse().unwrap();
    // Nobody listens there, and a machine without IPv6 says so at once: what is attempted is what counts here.
    let zone = Zone { discovery: Reply::Addresses(vec![well_known]), ..Zone::of(&["192.0.2.1"]) };
    let server = NameServer::start(zone);
    let mut settings = UpstreamSettings { nat64: Nat64::Discover, ..asking(&server) };
    settings.connect = Duration::from_secs(2);
    let reason = Asker::new(&settings).refused(&format!("http://au.example:{}", v6.port()));
    assert!(reason.contains(&format!("[64:ff9b::c000:201]:{}: ", v6.port())), "{reason}");
    assert!(server.asked().iter().any(|asked| asked == "AAAA ipv4only.arpa"), "{:?}", server.asked());
    let origin = Origin::start(&tree());
    let zone = Zone { discovery: Reply::Addresses(vec![well_known]), ..Zone::of(&["127.0.0.1"]) };
    let server = NameServer::start(zone);
    let settings = UpstreamSettings { nat64: Nat64::Discover, ..asking(&server) };
    Asker::new(&settings).ask(&format!("http://au.example:{}", origin.address().port())).unwrap();
    assert!(!server.asked().iter().any(|asked| asked.contains("arpa")), "{:?}", server.asked());
    let reason = Asker::new(&settings).refused(&format!("http://127.0.0.1:{}", v6.port()));
    assert!(!reason.contains("64:ff9b"), "loopback is never embedded: {reason}");
}

#[test]
fn a_redirect_by_name_to_this_machine_is_refused_unless_the_upstream_is_there_r4_3() {
    let (origin, Some(other)) = (Origin::start(&tree()), Origin::start_v6(&tree())) else { return };
    let lines =
        ["127.0.0.1 mirror.test", "127.0.0.1 mirror2.test", "::1 inside.test", "169.254.169.254 meta.test"];
    let asker = Asker::new(&hosts(&lines));
    let url = format!("http://mirror.test:{}", origin.address().port());
    for to in [format!("http://inside.test:{}/", other.address().port()), "http://meta.test/latest".into()] {
        origin.script("/server.ini", Fault::Redirect(to));
        let reason = asker.refused(&url);
        assert!(reason.contains("redirects to where it may not"), "{reason}");
    }
    assert_eq!(other.seen().connections, 0);
    let same = format!("http://mirror2.test:{}/server.ini", origin.address().port());
    origin.script("/server.ini", Fault::Redirect(same));
    asker.ask(&url).unwrap();
    let allowed = Asker::new(&hosts(&["::1 inside.test"]));
    allowed.ask(&format!("http://inside.test:{}", other.address().port())).unwrap();
    assert_eq!(other.address().ip(), Ipv6Addr::LOCALHOST, "what the settings name is not refused");
}
