//! What the upstream does not have: a package refuses the generation, an increment is withheld, a signature is 404 (R1.5).

use forebay::config::settings::Settings;
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// Settings of a relay that asks once.
fn once(origin: &Origin) -> Settings {
    let mut settings = settings(&origin.url("/"));
    settings.fill.attempts = 1;
    settings
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

#[test]
fn a_missing_package_refuses_the_generation_and_is_named_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    site.publish(6, &[5]);
    site.remove(&site::package(6));
    let before = origin.seen().of("/server.ini").count();
    assert!(matches!(relay.refresh(), Last::Failed(reason) if reason.contains("pattern/a6.zip")));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    assert!(get(&relay, &site::package(5)).whole(200) == site::bytes(&site::package(5), 5));
    assert_eq!(
        origin.seen().of("/server.ini").count(),
        before + 1,
        "a refusal asks for no refresh of its own"
    );
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(6, &[5]).as_bytes());
    relay.stop();
}

#[test]
fn a_page_in_place_of_a_signature_refuses_the_generation_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    site.publish(6, &[5]);
    let signature = "pattern/a6.sig";
    origin.always(&format!("/{signature}"), Fault::Html);
    assert!(matches!(relay.refresh(), Last::Failed(reason) if reason.contains(signature)));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    origin.behave();
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(get(&relay, signature).whole(200) == site::bytes(signature, 6));
    relay.stop();
}

#[test]
fn what_an_unknown_line_seems_to_name_need_not_be_there_r6_3() {
    let site = Site::with(5, &[4]);
    let known = site::manifest(5, &[4]);
    let unknown = "[Else]\r\nGone=other/gone.bin,7\r\nShort=other/short.bin,7\r\nThere=other/there.bin,7\r\n";
    site.put("other/short.bin", b"short");
    site.put("other/there.bin", b"7 bytes");
    site.put("server.ini", format!("{known}{unknown}").as_bytes());
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    assert_eq!(relay.generation(), 1);
    assert!(get(&relay, "server.ini").whole(200).ends_with(unknown.as_bytes()));
    assert_eq!(get(&relay, "other/there.bin").whole(200), b"7 bytes");
    for missing in ["other/gone.bin", "other/short.bin"] {
        assert_eq!(get(&relay, missing).head.status, 404, "{missing}");
    }
    relay.stop();
}

#[test]
fn a_missing_increment_is_withheld_and_the_rest_is_byte_for_byte_r1_5_r6_4() {
    let site = Site::with(5, &[4, 3, 2]);
    site.remove(&site::increment(3, 5));
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    let shown = get(&relay, "server.ini");
    let etag = shown.head.header("etag").unwrap().to_owned();
    assert_eq!(shown.whole(200), site::view(5, &[4, 2]).as_bytes());
    assert_eq!(get(&relay, &site::increment(3, 5)).head.status, 404);
    assert!(get(&relay, &site::increment(2, 5)).whole(200) == site::bytes(&site::increment(2, 5), 5));
    // Still missing: nothing new. The state outlives a restart.
    assert_eq!(relay.refresh(), Last::Same);
    let relay = relay.restart();
    assert_eq!(get(&relay, "server.ini").head.header("etag"), Some(&*etag));
    assert_eq!(relay.wait_refreshes(1), Last::Same);
    site.publish(5, &[4, 3, 2]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4, 3, 2]).as_bytes());
    assert!(get(&relay, &site::increment(3, 5)).whole(200) == site::bytes(&site::increment(3, 5), 5));
    relay.stop();
}

#[test]
fn an_increment_that_appears_in_another_length_changes_nothing_r1_5() {
    let site = Site::with(5, &[4, 3]);
    site.remove(&site::increment(3, 5));
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    site.put(&site::increment(3, 5), b"half");
    assert_eq!(relay.refresh(), Last::Same);
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    relay.stop();
}

#[test]
fn a_missing_signature_is_404_until_it_appears_r1_5() {
    let site = Site::with(5, &[4]);
    site.remove("pattern/a5.sig");
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes(), "nothing is withheld");
    assert_eq!(get(&relay, "pattern/a5.sig").head.status, 404);
    assert_eq!(relay.refresh(), Last::Same);
    let before = origin.seen().body_bytes("/pattern/a5.zip");
    site.publish(5, &[4]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(get(&relay, "pattern/a5.sig").whole(200) == site::bytes("pattern/a5.sig", 5));
    assert_eq!(origin.seen().body_bytes("/pattern/a5.zip"), before, "the package costs a 304 at most");
    relay.stop();
}

#[test]
fn what_appears_at_the_second_of_two_urls_is_found_r1_2_r1_5() {
    let site = Site::with(5, &[4, 3]);
    site.remove(&site::increment(3, 5));
    let (first, second) = (Origin::start(site.dir()), Origin::start(site.dir()));
    first.always("*", Fault::Status(503));
    let mut settings = once(&second);
    let urls = [&first, &second].map(|origin| origin.url("/").parse().unwrap());
    settings.trees[0].upstream = forebay::config::settings::Upstream::Urls(urls.to_vec());
    let relay = Running::refreshed(settings);
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4]).as_bytes());
    site.publish(5, &[4, 3]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(get(&relay, "server.ini").whole(200), site::view(5, &[4, 3]).as_bytes());
    relay.stop();
}

#[test]
fn an_increment_missing_in_a_new_generation_leaves_the_older_one_alone_r1_4_r1_5() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut settings = once(&origin);
    settings.trees[0].prefetch = forebay::config::settings::Prefetch::None;
    let relay = Running::refreshed(settings);
    // A second manifest with the same component, whose increment is gone for a while.
    site.remove(&site::increment(4, 5));
    let next = site::manifest(5, &[4]) + ";published again\r\n";
    site.put("server.ini", next.as_bytes());
    assert!(matches!(relay.refresh(), Last::New(_)));
    let snapshot = relay.tree(0).snapshot().unwrap();
    let withheld: Vec<_> =
        snapshot.published().iter().map(|published| published.generation.withheld()).collect();
    assert_eq!(withheld, [1, 0]);
    relay.stop();
}

#[test]
fn what_head_promises_and_get_refuses_makes_no_generations_r1_4() {
    let site = Site::with(5, &[4, 3]);
    site.remove(&site::increment(3, 5));
    let origin = Origin::start(site.dir());
    let relay = Running::refreshed(once(&origin));
    assert_eq!(relay.generation(), 1);
    // There for a HEAD, and gone again for the GET that follows.
    let path = site::increment(3, 5);
    site.put(&path, &site::bytes(&path, 5));
    for _ in 0..2 {
        origin.script(&format!("/{path}"), Fault::NoRange);
        origin.script(&format!("/{path}"), Fault::Status(404));
        assert_eq!(relay.refresh(), Last::Same);
    }
    assert_eq!(relay.generation(), 1);
    assert!(matches!(relay.refresh(), Last::New(_)), "it is there for both");
    relay.stop();
}
