//! One host with addresses of both families, of which some are silent, refuse, stall or never shake hands (R4.3).

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::{Duration, Instant};

use forebay::config::settings::{Family, Listen, ReachSettings, UpstreamSettings};

use super::{Asker, Silent, hosts, port_of_both, tree};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::relay::{Running, settings};
use crate::site::Site;

const BOTH: [&str; 2] = ["127.0.0.1 mirror.test", "::1 mirror.test"];

fn manifest() -> Vec<u8> {
    fs::read(tree().join("server.ini")).unwrap()
}

#[test]
fn a_silent_ipv6_address_costs_one_delay_and_goes_behind_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let url = format!("http://mirror.test:{}", v6.port());
    let origin = Origin::on(v4, &tree());
    let asker = Asker::new(&hosts(&BOTH));
    let silent = Silent::on(v6);
    let begun = Instant::now();
    assert_eq!(asker.ask(&url).unwrap(), manifest());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(250), "IPv6 was not attempted first: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(silent);
    let other = Origin::start_again(v6, &tree()).unwrap();
    assert_eq!(asker.ask(&url).unwrap(), manifest());
    assert_eq!((origin.seen().requests.len(), other.seen().requests.len()), (2, 0), "IPv4 goes first now");
    drop(origin);
    assert_eq!(asker.ask(&url).unwrap(), manifest());
    assert_eq!(other.seen().requests.len(), 1, "an address that is behind is attempted all the same");
}

#[test]
fn where_all_addresses_fail_each_is_named_with_its_reason_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let port = v6.port();
    drop(v4);
    let mut settings = hosts(&BOTH);
    let refused = Asker::new(&settings).refused(&format!("http://mirror.test:{port}"));
    for address in
        [format!("[::1]:{port}: Connection refused"), format!("127.0.0.1:{port}: Connection refused")]
    {
        assert!(refused.contains(&address), "{refused}");
    }
    let _silent = Silent::on(v6);
    settings.connect = Duration::from_secs(1);
    let silent = Asker::new(&settings).refused(&format!("http://mirror.test:{port}"));
    for address in
        [format!("[::1]:{port}: no connection within 1 s"), format!("127.0.0.1:{port}: Connection refused")]
    {
        assert!(silent.contains(&address), "{silent}");
    }
    let unknown = Asker::new(&UpstreamSettings { name_servers: vec![v6], ..settings });
    let unknown = unknown.refused("http://elsewhere.test:1");
    assert!(unknown.contains("name server") || unknown.contains("addresses: "), "{unknown}");
}

#[test]
fn a_handshake_that_hangs_has_not_won_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let authority = Authority::new();
    let (files, _) = authority.sign("mirror", &["mirror.test"]);
    let site = Site::with(5, &[4]);
    drop(v4);
    let mut serving = settings(site.text());
    serving.tls.listen = vec![(Ipv4Addr::LOCALHOST, v6.port()).into()];
    serving.tls.certificates = vec![files];
    let relay = Running::refreshed(serving);
    // It connects, since the kernel accepts for it, and says nothing.
    let _mute = TcpListener::bind(v6).unwrap();
    let mut settings = hosts(&BOTH);
    settings.ca_file = Some(authority.file());
    let asker = Asker::new(&settings);
    let begun = Instant::now();
    let manifest = asker.ask(&format!("https://mirror.test:{}/activeupdate", v6.port())).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(manifest, crate::site::view(5, &[4]).as_bytes());
    let wrong = Asker::new(&hosts(&["127.0.0.1 other.test"]));
    let wrong = wrong.refused(&format!("https://other.test:{}/activeupdate", v6.port()));
    assert!(wrong.contains(&format!("127.0.0.1:{}: TLS: ", v6.port())), "{wrong}");
    relay.stop();
}

#[test]
fn an_address_that_connects_and_sends_no_byte_is_left_for_the_other_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let (origin, mute) = (Origin::on(v4, &tree()), Origin::start_again(v6, &tree()).unwrap());
    let gate = Gate::default();
    mute.always("*", Fault::StallBeforeHead(gate.clone()));
    let mut asker = Asker::new(&hosts(&BOTH));
    asker.first_byte = Duration::from_millis(500);
    let url = format!("http://mirror.test:{}", v6.port());
    assert!(asker.refused(&url).contains("no first byte"));
    asker.first_byte = Duration::from_secs(30);
    assert_eq!(asker.ask(&url).unwrap(), manifest());
    assert_eq!((mute.seen().requests.len(), origin.seen().requests.len()), (1, 1));
    gate.open();
}

#[test]
fn a_fill_is_served_by_the_other_address_within_its_attempts_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let site = Site::with(5, &[4]);
    let (_origin, mute) = (Origin::on(v4, site.dir()), Origin::start_again(v6, site.dir()).unwrap());
    let gate = Gate::default();
    mute.always("*", Fault::StallBeforeHead(gate.clone()));
    let mut settings = settings(&format!("http://mirror.test:{}/", v6.port()));
    settings.upstream.hosts = hosts(&BOTH).hosts;
    settings.fill.first_byte = Duration::from_secs(1);
    let relay = Running::start(settings);
    // The first refresh may end at the silent address; the relay asks again by itself.
    relay.wait_progress(|progress| progress.ended >= 1);
    while relay.generation() == 0 {
        relay.refresh();
    }
    assert_eq!(mute.seen().requests.len(), 1, "it was asked once and is behind since");
    gate.open();
    relay.stop();
}

#[test]
fn one_family_alone_is_used_where_the_settings_say_so_r4_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let (one, other) = (Origin::on(v4, &tree()), Origin::start_again(v6, &tree()).unwrap());
    let url = format!("http://mirror.test:{}", v6.port());
    for (family, expected) in [(Family::Ipv4, (1, 0)), (Family::Ipv6, (1, 1)), (Family::Race, (1, 2))] {
        let asker = Asker::with(&hosts(&BOTH), ReachSettings { family, ..ReachSettings::default() });
        asker.ask(&url).unwrap();
        assert_eq!((one.seen().requests.len(), other.seen().requests.len()), expected, "{family:?}");
    }
    drop(one);
    let asker =
        Asker::with(&hosts(&BOTH), ReachSettings { family: Family::Ipv4, ..ReachSettings::default() });
    let reason = asker.refused(&url);
    assert!(reason.contains("127.0.0.1") && !reason.contains("::1"), "{reason}");
}

#[test]
fn connections_come_from_the_address_of_the_settings_r4_3() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        peer.ip()
    });
    let from = |source_ipv4: &str| {
        let source_ipv4 = Some(source_ipv4.parse().unwrap());
        let source_ipv6 = Some(Ipv6Addr::LOCALHOST);
        Asker::with(&hosts(&[]), ReachSettings { source_ipv4, source_ipv6, ..ReachSettings::default() })
    };
    let foreign = from("192.0.2.77").refused(&url);
    assert!(foreign.contains("from 192.0.2.77: Cannot assign"), "{foreign}");
    assert_eq!(from("127.0.0.5").ask(&url).unwrap(), b"ok");
    assert_eq!(seen.join().unwrap(), IpAddr::from([127, 0, 0, 5]));
}

#[test]
fn localhost_is_reached_by_whichever_family_it_listens_on_r4_3() {
    let v4 = Origin::start(&tree());
    let asker = Asker::new(&hosts(&[]));
    assert_eq!(asker.ask(&format!("http://localhost:{}", v4.address().port())).unwrap(), manifest());
    let Some(v6) = Origin::start_v6(&tree()) else { return };
    assert_eq!(asker.ask(&format!("http://localhost:{}", v6.address().port())).unwrap(), manifest());
}

#[test]
fn a_change_of_the_family_counts_from_the_next_request_r4_3_r11_3() {
    let Some((v4, v6)) = port_of_both() else { return };
    let site = Site::with(5, &[4]);
    let (one, other) = (Origin::on(v4, site.dir()), Origin::start_again(v6, site.dir()).unwrap());
    let mut new = settings(&format!("http://mirror.test:{}/", v6.port()));
    new.upstream.hosts = hosts(&BOTH).hosts;
    let mut relay = Running::refreshed(new.clone());
    assert_eq!(one.seen().requests.len(), 0);
    let before = other.seen().requests.len();
    assert!(before > 0);
    new.data = relay.data().to_owned();
    new.listen = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    new.trees[0].reach.family = Family::Ipv4;
    relay.handle().reload(new).unwrap();
    relay.refresh();
    assert!(!one.seen().requests.is_empty());
    assert_eq!(other.seen().requests.len(), before);
    relay.stop();
}
