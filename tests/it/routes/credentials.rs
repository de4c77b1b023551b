//! What parents are told of who asks: to them alone, from a file, and never in a log (R4.5).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::proxy::{Manner, Proxy, Speech};
use super::{all_by, assert_mirrors, unknown};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::process::{forebay, run};
use crate::relay::Running;
use crate::served::{Place, WITHIN};
use crate::site::Site;

const SECRET: &str = "relay:s3:cret";

/// The same in the form of RFC 7617.
const ENCODED: &str = "cmVsYXk6czM6Y3JldA==";

fn file(place: &Place, text: &str) -> PathBuf {
    let path = place.path("parent.secret");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn each_kind_of_parent_is_told_them_and_no_origin_is_r4_5() {
    let (authority, place) = (Authority::new(), Place::new());
    let file = file(&place, &format!("{SECRET}\r\n"));
    for speech in [Speech::Http, Speech::Https(authority.sign("parent", &["127.0.0.1"]).0), Speech::Socks] {
        let site = Site::with(5, &[4]);
        let origin = Origin::start(site.dir());
        let proxy = Proxy::start(&speech, Manner::LeadsFor(SECRET), origin.address());
        let mut settings = unknown("http://mirror.test/", vec![all_by(&[&proxy.url()], Some(&file))]);
        settings.upstream.ca_file = Some(authority.file());
        let relay = Running::refreshed(settings);
        assert_mirrors(&relay, 5, &[4]);
        for asked in proxy.heard().asked {
            assert!(asked.contains(ENCODED) || asked.ends_with(SECRET), "{asked}");
        }
        let seen = origin.seen();
        let told = |value: &str| value.contains(ENCODED) || value.contains("s3:cret");
        let headers = seen.requests.iter().flat_map(|request| &request.headers);
        for (name, value) in headers {
            assert!(!name.starts_with("proxy-") && !told(value), "{name}: {value}");
        }
        relay.stop();
    }
}

#[test]
fn the_direct_way_of_a_route_is_told_nothing_r4_5() {
    let place = Place::new();
    let file = file(&place, SECRET);
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let dead = format!("http://{}", super::nobody());
    let relay = Running::refreshed(unknown(&origin.url("/"), vec![all_by(&[&dead, "direct"], Some(&file))]));
    assert_mirrors(&relay, 5, &[4]);
    let seen = origin.seen();
    assert!(seen.requests.iter().all(|request| request.header("proxy-authorization").is_none()));
    relay.stop();
}

#[test]
fn a_log_that_tells_everything_tells_no_secret_r4_5() {
    let place = Place::new();
    let file = file(&place, SECRET);
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let works = Proxy::start(&Speech::Http, Manner::LeadsFor(SECRET), origin.address());
    let refuses = Proxy::start(&Speech::Socks, Manner::LeadsFor("other:other"), origin.address());
    let route = format!(
        "\n[[route]]\nvia = [{:?}, {:?}]\ncredentials = {file:?}\n[upstream]\nnat64_prefix = \"off\"\n",
        refuses.url(),
        works.url(),
    );
    place.configure("log.level = \"trace\"", "http://mirror.test/", &route);
    let relay = place.serve_ready();
    relay.wait_line(&format!("by=\"{}\"", works.url()));
    let output = relay.output();
    assert!(output.contains(&refuses.url()), "{output}");
    assert!(!output.contains("s3:cret") && !output.contains(ENCODED), "{output}");
    let stopped = relay.stop();
    assert!(!stopped.stderr.contains("s3:cret") && !stopped.stderr.contains(ENCODED));
}

#[test]
fn a_file_that_is_missing_or_malformed_is_named_and_one_that_others_may_read_is_warned_about_r4_5() {
    let place = Place::new();
    let path = place.path("parent.secret");
    let config = place.config();
    let route = format!("\n[[route]]\nvia = \"socks5://127.0.0.1:1\"\ncredentials = {path:?}\n");
    place.configure("", crate::served::FIXTURE, &route);
    let serve = || run(&mut forebay(["serve", "--config", config.to_str().unwrap()]), WITHIN);
    let refused = |reason: &str| {
        let ended = serve();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let named = format!("route.credentials {}: ", path.display());
        assert!(ended.stderr.contains(&named) && ended.stderr.contains(reason), "{}", ended.stderr);
        assert!(!ended.stderr.contains("3cret"), "{}", ended.stderr);
    };
    refused("No such file");
    file(&place, "3cret\n");
    refused("not user:password");
    file(&place, "relay:\n");
    refused("1 to 255 bytes");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("Is a directory");
    fs::remove_dir(&path).unwrap();
    file(&place, "relay:3cret\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let relay = place.serve_ready();
    relay.wait_line("may be read by everybody");
    relay.stop();
}
