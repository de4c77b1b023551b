//! The relay as a library: started, reloaded and dropped within a program that has tasks of its own.

use std::net::TcpStream;
use std::path::Path;

use forebay::app::{Relay, StartError};
use forebay::config::settings::{Listen, Settings};
use forebay::relay::refresh::Last;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

fn on(data: &Path, upstream: &str) -> Settings {
    Settings { data: data.to_owned(), ..settings(upstream) }
}

#[tokio::test]
async fn a_start_that_fails_within_a_task_is_an_error_and_leaves_nothing_running() {
    let data = tempfile::tempdir().unwrap();
    let Err(error) = Relay::start(on(data.path(), "/nowhere/tree")) else { panic!("it started") };
    assert!(matches!(error, StartError::Upstream { .. }), "{error}");
    let mut with_authorities = on(data.path(), FIXTURE);
    with_authorities.upstream.ca_file = Some("/nowhere/ca.pem".into());
    let Err(error) = Relay::start(with_authorities) else { panic!("it started") };
    assert!(matches!(error, StartError::Client(_)), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = on(data.path(), FIXTURE);
    busy.admin = Listen::Configured(vec![taken.local_addr().unwrap()]);
    let Err(error) = Relay::start(busy) else { panic!("it started") };
    assert!(matches!(error, StartError::Listen(_)), "{error}");
    assert!(!data.path().join("running.json").exists());
    Relay::start(on(data.path(), FIXTURE)).unwrap().shutdown().await;
}

#[tokio::test]
async fn dropping_within_a_task_stops_at_once_what_is_under_way() {
    let origin = Origin::start(Path::new(FIXTURE));
    let gate = Gate::default();
    origin.always("*", Fault::StallBeforeHead(gate.clone()));
    let data = tempfile::tempdir().unwrap();
    let mut settings = on(data.path(), &origin.url("/"));
    settings.limits.drain = std::time::Duration::from_hours(1);
    let relay = Relay::start(settings.clone()).unwrap();
    gate.wait_reached();
    let addresses = relay.running().listen.clone();
    let open = TcpStream::connect(addresses[0]).unwrap();
    drop(relay);
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()));
    assert!(!data.path().join("running.json").exists());
    drop(open);
    gate.open();
    Relay::start(settings).unwrap().shutdown().await;
}

#[test]
fn a_reload_gives_the_keys_that_stay_as_they_were_at_the_start_each_time() {
    let mut relay = Running::refreshed(settings(FIXTURE));
    let mut new = Settings { data: relay.data().to_owned(), ..settings(FIXTURE) };
    assert!(relay.handle().reload(new.clone()).unwrap().is_empty());
    new.fill.at_once += 1;
    new.trees[0].public_base = None;
    for _ in 0..2 {
        assert_eq!(relay.handle().reload(new.clone()).unwrap(), ["fill.at_once"]);
    }
    new.upstream.ca_file = Some("/nowhere/ca.pem".into());
    relay.handle().reload(new).unwrap_err();
    relay.wait_refreshes(2);
    assert_eq!(relay.refresh(), Last::Same);
    relay.stop();
}
