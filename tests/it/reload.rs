//! Settings that are read again: in force for the next request, without dropping a connection (R11.3).

use std::time::Duration;

use forebay::config::settings::{Listen, Prefetch, Settings, Upstream};
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::answer::{Answer, End};
use crate::raw::{self, Client};
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// The settings of a file with these lines, on the data and the addresses of a running relay.
fn with(relay: &Running, upstream: &str, lines: &str) -> Settings {
    let text = format!("[[tree]]\nupstream = \"{upstream}\"\n{lines}");
    let parsed = forebay::config::parse(&text).unwrap();
    let mut new = settings(upstream);
    new.data = relay.data().to_owned();
    new.trees = parsed.trees;
    new.trees[0].refresh = Duration::from_hours(24);
    new.agents = parsed.agents;
    new
}

fn next(client: &mut Client, path: &str) -> Answer {
    client.exchange("GET", &format!("/activeupdate/{path}"), &[]).unwrap()
}

#[test]
fn a_public_base_is_in_force_for_the_next_request_of_a_connection_r6_4_r11_3() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    let mut client = Client::connect(relay.v4());
    let before = next(&mut client, "server.ini");
    let new = with(&relay, site.text(), "public_base = \"https://relay.example\"\n");
    assert!(relay.handle().reload(new).unwrap().is_empty());
    let after = next(&mut client, "server.ini");
    assert_ne!(before.head.header("etag"), after.head.header("etag"));
    let expected = site::manifest(5, &[4]).replace("http://up/au", "https://relay.example/activeupdate");
    assert_eq!(after.whole(200), expected.as_bytes());
    relay.stop();
}

#[test]
fn scopes_are_in_force_for_the_next_request_of_a_connection_r6_2_r11_3() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    let mut client = Client::connect(relay.v4());
    assert_eq!(next(&mut client, site::ENGINE).head.status, 200);
    let range = "[[agents.range]]\nfrom = \"127.0.0.0/8\"\nscope = \"patterns\"\n";
    let new = with(&relay, site.text(), range);
    relay.handle().reload(new).unwrap();
    assert_eq!(next(&mut client, site::ENGINE).head.status, 403);
    assert!(!String::from_utf8(next(&mut client, "server.ini").whole(200)).unwrap().contains("[ENGINE]"));
    let mut new = with(&relay, site.text(), "");
    new.agents.unknown = Unknown::Scope(Scope::All);
    relay.handle().reload(new).unwrap();
    assert_eq!(next(&mut client, site::ENGINE).head.status, 200);
    relay.stop();
}

#[test]
fn a_catalogue_is_in_force_for_every_kept_generation_r6_2_r11_3() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut relay = Running::refreshed(settings(&origin.url("/")));
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let range = "[[agents.range]]\nfrom = \"127.0.0.0/8\"\nscope = \"patterns-engines-drivers\"\n";
    let rule = "[[tree.catalogue]]\npath = \"engine/*\"\nclass = \"driver\"\n";
    let new = with(&relay, &origin.url("/"), &format!("{rule}{range}"));
    relay.handle().reload(new).unwrap();
    let class = |relay: &Running| {
        let snapshot = relay.tree(0).snapshot().unwrap();
        let classes = snapshot.published().iter().map(|published| {
            let path = forebay::base::path::TreePath::parse(site::ENGINE.as_bytes()).unwrap();
            let signature = path.signature().unwrap();
            let class = |path| format!("{:?}", published.generation.listed(path).unwrap().class);
            (class(&path), class(&signature))
        });
        classes.collect::<Vec<_>>()
    };
    let driver = ("Driver".to_owned(), "Driver".to_owned());
    assert_eq!(class(&relay), [driver.clone(), driver]);
    relay.wait_progress(|progress| !progress.running && progress.ended >= 3);
    // The same entries: nothing was fetched again, and what a fill brings is in the journals still.
    assert_eq!(origin.seen().body_bytes(&format!("/{}", site::ENGINE)), site::PACKAGE_BYTES as u64);
    fs_remove(&relay, site::ENGINE);
    let relay = relay.restart();
    assert!(
        raw::fetch(relay.v4(), &format!("/activeupdate/{}", site::ENGINE), &[]).whole(200)
            == site::bytes(site::ENGINE, 6)
    );
    let engine = class(&relay);
    assert_eq!(engine[0].0, "Engine", "start_on takes the settings of the first start");
    relay.stop();
}

fn fs_remove(relay: &Running, path: &str) {
    std::fs::remove_file(site::blob_file(relay.data(), &site::bytes(path, 6))).unwrap();
}

#[test]
fn fewer_kept_generations_leave_at_once_r1_7_r11_3() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let mut client = Client::connect(relay.v4());
    assert_eq!(next(&mut client, &site::package(5)).head.status, 200);
    let new = with(&relay, site.text(), "keep_generations = 1\n");
    relay.handle().reload(new).unwrap();
    assert_eq!(next(&mut client, &site::package(5)).head.status, 404);
    assert_eq!(next(&mut client, &site::package(6)).head.status, 200);
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["2"]);
    relay.stop();
}

#[test]
fn another_upstream_is_asked_at_once_and_what_is_there_stays_r1_2_r11_3() {
    let (site, other) = (Site::with(5, &[4]), Site::with(6, &[5]));
    let mut relay = Running::refreshed(settings(site.text()));
    let origin = Origin::start(other.dir());
    let new = with(&relay, &origin.url("/"), "");
    relay.handle().reload(new).unwrap();
    relay.wait_progress(|progress| matches!(progress.last, Some(Last::New(number)) if number.0 == 2));
    let mut client = Client::connect(relay.v4());
    assert_eq!(next(&mut client, "server.ini").whole(200), site::view(6, &[5]).as_bytes());
    assert!(next(&mut client, &site::package(5)).whole(200) == site::bytes(&site::package(5), 5));
    assert_eq!(origin.seen().of(&format!("/{}", site::ENGINE)).count(), 0, "it is there already");
    relay.stop();
}

#[test]
fn a_refresh_under_way_mixes_no_files_of_two_upstreams_r1_4_r11_3() {
    let (site, other) = (Site::with(5, &[4]), Site::with(6, &[5, 4]));
    let origin = Origin::start(site.dir());
    let mut first = settings(&origin.url("/"));
    first.fill.prefetch_at_once = 1;
    let gate = Gate::default();
    origin.script("/pattern/a_4.sig", Fault::StallBeforeHead(gate.clone()));
    let mut relay = Running::start(first);
    gate.wait_reached();
    // From here on files come from the other directory, whose signatures are another release's.
    other.publish(5, &[4]);
    other.put("pattern/a5.sig", &site::bytes("pattern/a5.sig", 6));
    other.put(site::ENGINE, &site::bytes(site::ENGINE, 0));
    other.put("server.ini", site::manifest(6, &[5, 4]).as_bytes());
    let new = with(&relay, other.text(), "");
    relay.handle().reload(new).unwrap();
    gate.open();
    assert!(matches!(relay.wait_refreshes(1), Last::Failed(reason) if reason.contains("reload")));
    assert!(matches!(relay.wait_refreshes(2), Last::New(_)));
    let mut client = Client::connect(relay.v4());
    assert_eq!(next(&mut client, "server.ini").whole(200), site::view(6, &[5, 4]).as_bytes());
    relay.stop();
}

#[test]
fn a_transfer_under_way_goes_on_r11_3() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let mut first = settings(&origin.url("/"));
    first.trees[0].prefetch = Prefetch::None;
    let mut relay = Running::refreshed(first);
    let gate = Gate::default();
    origin.script("/pattern/a5.zip", Fault::StallAfter(4000, gate.clone()));
    let mut client = Client::connect(relay.v4());
    client.ask("GET", "/activeupdate/pattern/a5.zip", &[]).unwrap();
    assert_eq!(client.read_head("GET").unwrap().status, 200);
    let (mut bytes, _) = client.read(1000);
    let other = Site::with(6, &[5]);
    let range = "keep_generations = 1\n[agents]\nunknown = \"refuse\"\n";
    let new = with(&relay, other.text(), range);
    relay.handle().reload(new).unwrap();
    relay.wait_progress(|progress| matches!(progress.last, Some(Last::New(number)) if number.0 == 2));
    gate.open();
    let (rest, end) = client.read(usize::MAX);
    bytes.extend(rest);
    assert_eq!(end, Some(End::Complete));
    assert!(bytes == site::bytes(&site::package(5), 5));
    assert_eq!(next(&mut client, "server.ini").head.status, 403, "the next request is another matter");
    relay.stop();
}

#[test]
fn keys_that_need_a_restart_are_named_each_time_and_stay_r11_3() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    let mut new = with(&relay, site.text(), "path = \"/elsewhere/\"\nname = \"activeupdate\"\n");
    new.listen = Listen::Configured(vec!["127.0.0.1:1".parse().unwrap()]);
    new.workers = Some(7);
    new.fill.at_once = 9;
    new.limits.connections_max = 9;
    for _ in 0..2 {
        let named = relay.handle().reload(new.clone()).unwrap();
        assert_eq!(named, ["workers", "listen", "tree", "limits.connections_max", "fill.at_once"]);
    }
    let mut client = Client::connect(relay.v4());
    assert_eq!(next(&mut client, "server.ini").head.status, 200, "the path is still the old one");
    assert!(matches!(new.trees[0].upstream, Upstream::Directory(_)));
    relay.stop();
}

#[test]
fn a_reload_that_does_not_concern_upstreams_keeps_them_and_another_url_does_not_r11_3() {
    let site = Site::with(5, &[4]);
    let mut relay = Running::refreshed(settings(site.text()));
    let tree = relay.handle().trees().remove(0);
    let before = tree.upstream();
    let same = with(&relay, site.text(), "keep_generations = 2\n");
    relay.handle().reload(same).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &tree.upstream()), "a refresh under way may go on");
    let other = Site::with(6, &[5]);
    let other = with(&relay, other.text(), "");
    relay.handle().reload(other).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&before, &tree.upstream()));
    relay.stop();
}
