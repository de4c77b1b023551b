//! Another relay as the parent: a tree of the parent's is the parent's mirror, also for a relay behind it (R4.5, R6.2).

use forebay::base::destination::HostPattern;
use forebay::config::settings::Settings;
use forebay::policy::reach::{Rule, Tunnels};

use super::{all_by, assert_mirrors, nameless, unknown};
use crate::authority::Authority;
use crate::cache::server::{Act, Server, answer};
use crate::origin::Origin;
use crate::raw::{Client, fetch};
use crate::relay::{Running, settings};
use crate::site::Site;

#[test]
fn a_relay_is_a_parent_of_each_kind_and_answers_from_its_own_store_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut parent = Running::refreshed(settings(&origin.url("/")));
    let asked = origin.seen().requests.len();
    let (http, socks) = (parent.v4(), parent.handle().running().socks[0]);
    for via in [format!("http://{http}"), format!("socks5://{socks}")] {
        let relay = Running::refreshed(unknown(&origin.url("/"), vec![all_by(&[&via], None)]));
        assert_mirrors(&relay, 5, &[4]);
        relay.stop();
    }
    assert_eq!(origin.seen().requests.len(), asked, "all came from the parent's store");
    parent.stop();
}

#[test]
fn a_tunnel_through_a_parent_relay_leads_to_a_tls_upstream_r4_5() {
    let authority = Authority::new();
    let site = Site::with(5, &[4]);
    let mut serving = settings(site.text());
    serving.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    serving.tls.certificates = vec![authority.sign("mirror", &["localhost"]).0];
    let mut upstream = Running::refreshed(serving);
    let url = format!("https://localhost:{}/activeupdate/", upstream.handle().running().tls[0].port());
    let with_authority = |mut settings: Settings| {
        settings.upstream.ca_file = Some(authority.file());
        settings
    };
    let mut parent = Running::refreshed(with_authority(settings(&url)));
    let (http, socks) = (parent.v4(), parent.handle().running().socks[0]);
    for via in [format!("http://{http}"), format!("socks5://{socks}")] {
        let relay = Running::refreshed(with_authority(unknown(&url, vec![all_by(&[&via], None)])));
        assert_mirrors(&relay, 5, &[4]);
        relay.stop();
    }
    parent.stop();
    upstream.stop();
}

/// Settings by which a server whose name nobody knows is reached through these parents.
fn looped(site: &Site, via: &[&str]) -> Settings {
    let mut looped = settings(site.text());
    looped.upstream = nameless();
    looped.proxy.allow.push(Rule {
        name: "others".into(),
        hosts: vec![HostPattern::Name("other.test".into())],
        ports: vec![80],
        tunnels: Tunnels::Any,
    });
    looped.routes = vec![all_by(via, None)];
    looped
}

#[test]
fn a_get_goes_once_more_by_the_same_parent_where_the_connection_that_was_kept_was_closed_r4_4_r4_5() {
    const TRIES: usize = 12;
    // Each connection answers once.
    let parent = Server::start(|asked, _| match asked.earlier {
        0 => answer(200, "Cache-Control: no-store", "body"),
        _ => vec![Act::Close],
    });
    let site = Site::with(5, &[4]);
    // Nobody would answer in its place.
    let relay = Running::refreshed(looped(&site, &[&parent.url("")]));
    for number in 0..TRIES {
        let url = format!("http://other.test/{number}");
        assert_eq!(fetch(relay.v4(), &url, &[]).whole(200), b"body");
    }
    let closed = parent.asked().iter().filter(|asked| asked.earlier > 0).count();
    assert!(closed > 0, "no connection was kept");
    assert_eq!(parent.asked().len() - closed, TRIES, "each was answered once");
    relay.stop();
}

#[test]
fn a_relay_whose_parent_is_itself_refuses_what_comes_back_r4_5_r4_6() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    let own = relay.v4();
    relay.handle().reload(looped(&site, &[&format!("http://{own}")])).unwrap();
    let mut client = Client::connect(own);
    client.ask("GET", "http://other.test/", &[]).unwrap();
    assert_eq!(client.answer("GET").unwrap().head.status, 508);
    relay.stop();
}

#[test]
fn a_tunnel_whose_parent_is_the_relay_itself_leads_nowhere_and_takes_no_places_r4_5_r4_6() {
    let site = Site::with(5, &[4]);
    for by in ["http", "socks5"] {
        let mut relay = Running::refreshed(settings(site.text()));
        let own = if by == "http" { relay.v4() } else { relay.socks()[0] };
        relay.handle().reload(looped(&site, &[&format!("{by}://{own}")])).unwrap();
        let tally = relay.handle().tally().unwrap();
        let mut client = Client::connect(relay.v4());
        for asked in 1..=2 {
            client.send(b"CONNECT other.test:80 HTTP/1.1\r\nHost: other.test:80\r\n\r\n").unwrap();
            let answer = client.answer("CONNECT").unwrap();
            assert_eq!(answer.head.status, 502, "{by}: {answer:?}");
            assert!(tally.connections.value() <= 2 * asked, "{by}: {}", tally.connections.value());
            client = Client::connect(relay.v4());
        }
        relay.stop();
    }
}
