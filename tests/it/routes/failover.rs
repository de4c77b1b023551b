//! Parents that refuse, hang, lie or leave: the next one is asked, and the failed one rests (R4.5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::base::clock::SystemClock;
use forebay::base::tally::Tally;
use forebay::config::elsewhere::RouteSettings;
use forebay::config::settings::{ReachSettings, UpstreamSettings};
use forebay::upstream::client::Clients;
use forebay::upstream::{Answer, Deadlines, Origin as Place, Part, Request, Upstream, UpstreamError};
use tokio::runtime::Runtime;

use super::proxy::{Manner, Proxy, Speech};
use super::{all_by, nameless, nobody};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::relay::{Running, settings};
use crate::site::{Site, manifest};

/// Asks as a relay does.
struct Asker {
    upstream: Upstream,
    runtime: Runtime,
}

impl Asker {
    fn new(url: &str, settings: &UpstreamSettings, routes: &[RouteSettings]) -> Self {
        Self::with(url, settings, routes, Duration::from_secs(20))
    }

    fn with(url: &str, settings: &UpstreamSettings, routes: &[RouteSettings], first_byte: Duration) -> Self {
        let clock = Arc::new(SystemClock::default());
        let clients = Clients::new(settings, routes, Arc::default(), clock).unwrap();
        let place = Place::Url(url.parse().unwrap(), Box::new(clients.client(ReachSettings::default())));
        let deadlines = Deadlines { first_byte, silence: Duration::from_secs(20) };
        let upstream = Upstream::new(vec![place], deadlines, Arc::new(Tally::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { upstream, runtime: runtime.unwrap() }
    }

    fn ask(&self) -> Result<Vec<u8>, UpstreamError> {
        self.runtime.block_on(async {
            let request = Request { path: "server.ini", part: Part::Whole };
            let Answer::Found(mut transfer) = self.upstream.fetch(0, request).await? else {
                panic!("bytes were asked for");
            };
            let mut bytes = Vec::new();
            while let Some(chunk) = transfer.chunk().await? {
                bytes.extend(chunk);
            }
            Ok(bytes)
        })
    }
}

/// No name is known, and connections do not take long.
fn quick() -> UpstreamSettings {
    UpstreamSettings { connect: Duration::from_secs(1), ..nameless() }
}

#[test]
fn a_parent_that_refuses_connections_is_passed_over_and_rests_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let works = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    for scheme in ["http", "https", "socks5"] {
        let dead = format!("{scheme}://{}", nobody());
        let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&dead, &works.url()], None)]);
        assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes(), "{scheme}");
    }
}

#[test]
fn a_socks_or_connect_parent_that_misbehaves_is_passed_over_and_is_not_asked_again_while_it_rests_r4_5() {
    let authority = Authority::new();
    let site = Site::with(5, &[4]);
    let mut serving = settings(site.text());
    serving.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    serving.tls.certificates = vec![authority.sign("mirror", &["mirror.test"]).0];
    let mut relay = Running::refreshed(serving);
    let place = relay.handle().running().tls[0];
    let url = format!("https://mirror.test:{}/activeupdate/", place.port());
    let works = Proxy::start(&Speech::Http, Manner::Leads, place);
    let settings = UpstreamSettings { ca_file: Some(authority.file()), ..quick() };
    let huge: &'static [u8] = Box::leak(
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes().into_boxed_slice(),
    );
    let http: &[Manner] = &[
        Manner::Hangs,
        Manner::LeadsFor("relay:3cret"),
        Manner::Says(b""),
        Manner::Says(b"220 mail.test ESMTP\r\n"),
        Manner::Says(b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno\n"),
        Manner::Says(b"HTTP/1.1 502 Bad\r\nContent-Length: 9000\r\n\r\nbroken"),
        Manner::Says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
        Manner::Says(huge),
    ];
    let socks: &[Manner] = &[
        Manner::Hangs,
        Manner::LeadsFor("relay:3cret"),
        Manner::Says(b""),
        Manner::Says(b"\x04\x5a"),
        Manner::Says(b"HTTP/1.1 400 Bad request\r\n\r\n"),
    ];
    for (speech, manners) in [(Speech::Http, http), (Speech::Socks, socks)] {
        for manner in manners {
            let bad = Proxy::start(&speech, manner.clone(), place);
            let asker = Asker::new(&url, &settings, &[all_by(&[&bad.url(), &works.url()], None)]);
            let begun = Instant::now();
            assert_eq!(asker.ask().unwrap(), crate::site::view(5, &[4]).as_bytes(), "{speech:?} {manner:?}");
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{speech:?} {manner:?}: {:?}",
                begun.elapsed()
            );
            let alone = Asker::new(&url, &settings, &[all_by(&[&bad.url()], None)]);
            let reason = alone.ask().unwrap_err().to_string();
            assert!(reason.contains(&format!("by {}: ", bad.url())) && !reason.contains('\n'), "{reason}");
            assert_eq!(asker.ask().unwrap(), crate::site::view(5, &[4]).as_bytes());
            assert_eq!(
                bad.heard().connections,
                2,
                "{speech:?} {manner:?}: it rests, for those who know that it failed"
            );
        }
    }
    relay.stop();
}

#[test]
fn a_parent_that_fails_once_it_was_asked_is_passed_over_by_the_next_try_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let works = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    for manner in [Manner::Says(b""), Manner::Says(b"SSH-2.0-sshd\r\n"), Manner::Says(b"HTTP/1.1 2")] {
        let bad = Proxy::start(&Speech::Http, manner.clone(), origin.address());
        let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&bad.url(), &works.url()], None)]);
        let failed = asker.ask().unwrap_err();
        assert!(failed.is_passing(), "{failed}");
        assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes(), "{manner:?}");
        assert_eq!(bad.heard().connections, 1, "{manner:?}");
    }
}

#[test]
fn a_parent_that_takes_a_request_and_stays_silent_is_passed_over_by_the_next_try_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let works = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    let mute = Proxy::start(&Speech::Http, Manner::Hangs, origin.address());
    let routes = [all_by(&[&mute.url(), &works.url()], None)];
    let asker = Asker::with("http://mirror.test/", &quick(), &routes, Duration::from_secs(2));
    assert!(matches!(asker.ask(), Err(UpstreamError::FirstByte(_))));
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    assert_eq!(mute.heard().connections, 1);
}

#[test]
fn a_parent_that_does_not_get_to_the_server_is_passed_over_at_once_and_its_word_counts_where_all_do_not_r4_5()
{
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let lost = Proxy::start(&Speech::Http, Manner::Leads, nobody());
    let works = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&lost.url(), &works.url()], None)]);
    for _ in 0..2 {
        assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    }
    assert_eq!(lost.heard().asked.len(), 1, "it rests");
    let both = Proxy::start(&Speech::Http, Manner::Leads, nobody());
    let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&lost.url(), &both.url()], None)]);
    assert!(matches!(asker.ask(), Err(UpstreamError::Status(502))));
    // What a server itself answers through the last way, or the only one, is its answer.
    let dead = format!("socks5://{}", nobody());
    let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&lost.url(), &dead], None)]);
    assert!(matches!(asker.ask(), Err(UpstreamError::Status(502))));
}

#[test]
fn a_parent_that_wants_credentials_is_passed_over_at_once_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let wants = Proxy::start(&Speech::Http, Manner::LeadsFor("relay:3cret"), origin.address());
    let works = Proxy::start(&Speech::Socks, Manner::Leads, origin.address());
    let asker = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&wants.url(), &works.url()], None)]);
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    assert_eq!(wants.heard().connections, 1);
    let alone = Asker::new("http://mirror.test/", &quick(), &[all_by(&[&wants.url()], None)]);
    let reason = alone.ask().unwrap_err().to_string();
    assert!(reason.contains(&wants.url()) && reason.contains("asks for credentials"), "{reason}");
}

#[test]
fn where_all_ways_fail_each_is_named_and_all_are_tried_again_while_they_rest_r4_5() {
    let site = Site::with(5, &[4]);
    let place = nobody();
    let [one, two]: [SocketAddr; 2] = [nobody(), nobody()];
    let via = [format!("http://{one}"), format!("socks5://{two}")];
    let routes = [all_by(&["direct", &via[0], &via[1]], None)];
    let asker = Asker::new(&format!("http://{place}/"), &quick(), &routes);
    for _ in 0..2 {
        let reason = asker.ask().unwrap_err().to_string();
        let mut at = 0;
        for word in [
            format!("directly: {place}: Connection refused"),
            format!("by http://{one}: "),
            format!("by socks5://{two}: "),
        ] {
            let found = reason[at..].find(&word);
            at += found.unwrap_or_else(|| panic!("'{word}' after {at} in: {reason}"));
        }
        assert!(!reason.contains('\n'), "{reason}");
    }
    // What is back is found at once, though it rests.
    let _origin = Origin::start_again(place, site.dir()).unwrap();
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
}

#[test]
fn the_direct_way_may_be_the_second_or_the_first_r4_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let url = origin.url("/");
    let dead = format!("http://{}", nobody());
    let asker = Asker::new(&url, &quick(), &[all_by(&[&dead, "direct"], None)]);
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    let proxy = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    let place = nobody();
    let asker = Asker::new(&format!("http://{place}/"), &quick(), &[all_by(&["direct", &proxy.url()], None)]);
    assert_eq!(asker.ask().unwrap(), manifest(5, &[4]).as_bytes());
    assert_eq!(proxy.heard().asked.len(), 1);
}
