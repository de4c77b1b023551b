//! Another route, or other credentials, from the next request on (R4.5, R11.3).

use std::fs;

use forebay::config::settings::Settings;

use super::proxy::{Manner, Proxy, Speech};
use super::{all_by, assert_mirrors, unknown};
use crate::origin::Origin;
use crate::relay::Running;
use crate::site::Site;

/// The settings as a reload has them.
fn again(relay: &Running, settings: &Settings) -> Settings {
    Settings { data: relay.data().to_owned(), ..settings.clone() }
}

#[test]
fn a_reload_takes_another_route_r4_5_r11_3() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let one = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    let two = Proxy::start(&Speech::Socks, Manner::Leads, origin.address());
    let mut settings = unknown("http://mirror.test/", vec![all_by(&[&one.url()], None)]);
    let mut relay = Running::refreshed(settings.clone());
    let before = one.heard().connections;
    assert!(before > 0 && two.heard().connections == 0);
    settings.routes = vec![all_by(&[&two.url()], None)];
    let new = again(&relay, &settings);
    assert_eq!(relay.handle().reload(new).unwrap(), Vec::<&str>::new());
    site.publish(6, &[5]);
    relay.refresh();
    assert_mirrors(&relay, 6, &[5]);
    assert_eq!(one.heard().connections, before, "nothing goes by the old route");
    assert!(two.heard().connections > 0);
    relay.stop();
}

#[test]
fn a_reload_reads_credentials_again_and_keeps_the_old_settings_where_they_are_wrong_r4_5_r11_3() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let proxy = Proxy::start(&Speech::Http, Manner::LeadsFor("relay:new"), origin.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parent");
    fs::write(&file, "relay:old\n").unwrap();
    let settings = unknown("http://mirror.test/", vec![all_by(&[&proxy.url()], Some(&file))]);
    let mut relay = Running::refreshed(settings.clone());
    assert_eq!(relay.generation(), 0);
    fs::write(&file, "nonsense\n").unwrap();
    let new = again(&relay, &settings);
    let error = relay.handle().reload(new).unwrap_err().to_string();
    assert!(error.contains("route.credentials") && error.contains("user:password"), "{error}");
    fs::write(&file, "relay:new\n").unwrap();
    let new = again(&relay, &settings);
    relay.handle().reload(new).unwrap();
    relay.refresh();
    assert_mirrors(&relay, 5, &[4]);
    relay.stop();
}
