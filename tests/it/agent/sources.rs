//! Sources in their order: what each does wrong, and where the next one goes on (R7).

use std::fs;

use forebay::agent::progress::Progress;
use forebay::agent::relay::Went;
use forebay::config::agent::Settings;
use forebay::policy::check_in::Why;
use forebay::policy::reach::Tunnels;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::Switch;

use super::machine::{Machine, Told};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::answer::Validators;
use crate::origin::fault::Fault;
use crate::relay::settings;
use crate::site::{self, PACKAGE_BYTES, Site};
use crate::tunnel::rule;

const PACKAGE: &str = "/pattern/a2.zip";

/// A machine whose customised list names an origin with release 2; the relay has that release too.
fn customised() -> (Machine, Origin) {
    let mut machine = Machine::enrolled();
    machine.update(Why::Start).ended();
    machine.publish(2, &[]);
    let origin = Origin::start(machine.site.dir());
    machine.customise(&origin.url("/"));
    (machine, origin)
}

/// The source that gave most, as the update says.
fn source(told: &Told) -> String {
    told.ended().source.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_customised_source_comes_first_and_the_relay_where_it_is_gone_r7_1() {
    let (machine, origin) = customised();
    let told = machine.update(Why::Start);
    assert_eq!(source(&told), origin.url("/"));
    machine.check_has(2);
    let asked = origin.seen();
    assert!(asked.requests.iter().all(|request| request.header("authorization").is_none()), "no token");
    drop(origin);
    machine.publish(3, &[]);
    let told = machine.update(Why::Start);
    assert_eq!(source(&told), format!("http://{}/activeupdate/", machine.relay.v4()));
    assert!(told.progress.iter().any(|said| matches!(said, Progress::SourceFailed { .. })));
    machine.check_has(3);
}

#[test]
fn what_a_source_began_the_next_one_goes_on_with_where_both_have_the_same_bytes() {
    let (machine, origin) = customised();
    origin.script(PACKAGE, Fault::ResetAfter(5000));
    // Nothing comes of the attempts that follow, so the relay has its turn.
    (0..3).for_each(|_| origin.script(PACKAGE, Fault::ResetAfter(0)));
    let told = machine.update(Why::Start);
    assert_eq!(told.ended().result, Went::Updated);
    machine.check_has(2);
    let left = told.progress.iter().position(|said| matches!(said, Progress::SourceFailed { .. })).unwrap();
    let done = |said: &Progress| match said {
        Progress::Bytes { done, .. } => Some(*done),
        _ => None,
    };
    assert_eq!(told.progress[..left].iter().filter_map(done).max(), Some(5000));
    assert!(told.progress[left..].iter().filter_map(done).all(|done| done > 5000), "it began anew");
}

#[test]
fn a_line_that_breaks_off_is_gone_on_with_under_the_same_tag() {
    for validators in [Validators::Strong, Validators::None] {
        let (machine, origin) = customised();
        origin.set_validators(validators);
        origin.script(PACKAGE, Fault::ResetAfter(3000));
        origin.script(PACKAGE, Fault::CloseAfter(3000));
        let told = machine.update(Why::Start);
        assert_eq!((told.ended().result, source(&told)), (Went::Updated, origin.url("/")));
        machine.check_has(2);
        let ranges: Vec<_> =
            origin.seen().of(PACKAGE).filter_map(|request| request.range().map(str::to_owned)).collect();
        assert_eq!(ranges.len(), 2, "{ranges:?}");
        let if_range =
            origin.seen().of(PACKAGE).filter(|request| request.header("if-range").is_some()).count();
        assert_eq!(if_range, if validators == Validators::Strong { 2 } else { 0 });
    }
}

#[test]
fn a_file_that_changed_under_the_agent_is_taken_from_its_start() {
    for validators in [Validators::Strong, Validators::None] {
        let (machine, origin) = customised();
        origin.set_validators(validators);
        // Its bytes from 0 to 4999 are others; the site's come after.
        origin.script_together(PACKAGE, vec![Fault::ChangedFrom(0), Fault::ResetAfter(5000)]);
        machine.update(Why::Start).ended();
        let taken = fs::read(machine.current("pattern/a2.zip")).unwrap();
        let changed = crate::raw::fetch(origin.address(), PACKAGE, &[]).whole(200);
        assert!(taken == changed, "{validators:?}: bytes of two states were joined");
    }
}

#[test]
fn a_package_of_another_size_than_the_manifests_is_refused_and_the_old_set_stays_r1_5() {
    for fault in [
        Fault::TooLong { by: 1 },
        Fault::WrongLength { declared: PACKAGE_BYTES - 1 },
        Fault::WrongLength { declared: PACKAGE_BYTES + 1 },
        Fault::Html,
    ] {
        let (mut machine, origin) = customised();
        machine.set(Values { relay_serves_components: Some(Switch::Off), ..Values::default() });
        origin.always(PACKAGE, fault.clone());
        let told = machine.update(Why::Start);
        assert_eq!(told.ended().result, Went::Failed, "{fault:?}");
        assert!(told.ended().detail.contains("a2.zip"), "{}", told.ended().detail);
        machine.check_has(1);
        origin.behave();
        assert_eq!(machine.update(Why::Start).ended().result, Went::Updated, "{fault:?}");
        machine.check_has(2);
    }
}

#[test]
fn a_set_is_whole_or_it_is_not_current() {
    let (mut machine, origin) = customised();
    machine.set(Values { relay_serves_components: Some(Switch::Off), ..Values::default() });
    let engine = "engine/e2.zip";
    let text = site::manifest(2, &[]).replace(site::ENGINE, engine).replace("1.0.1", "1.0.2");
    machine.site.put("server.ini", text.as_bytes());
    let told = machine.update(Why::Start);
    assert_eq!(told.ended().result, Went::Failed);
    assert!(told.ended().detail.contains(engine), "{}", told.ended().detail);
    machine.check_has(1);
    machine.site.put(engine, &site::bytes(site::ENGINE, 1));
    let before = origin.seen().body_bytes(PACKAGE);
    assert_eq!(machine.update(Why::Start).ended().result, Went::Updated);
    assert_eq!(origin.seen().body_bytes(PACKAGE), before, "what came whole before is not taken twice");
    assert!(machine.current(engine).is_file());
}

#[test]
fn a_missing_signature_is_no_error_and_a_signature_that_cannot_be_had_is() {
    let (mut machine, origin) = customised();
    machine.set(Values { relay_serves_components: Some(Switch::Off), ..Values::default() });
    origin.always("/pattern/a2.sig", Fault::Status(500));
    assert_eq!(machine.update(Why::Start).ended().result, Went::Failed);
    machine.check_has(1);
    origin.behave();
    origin.always("/pattern/a2.sig", Fault::Status(404));
    assert_eq!(machine.update(Why::Start).ended().result, Went::Updated);
    assert!(machine.current("pattern/a2.zip").is_file() && !machine.current("pattern/a2.sig").exists());
}

#[test]
fn the_users_own_proxy_counts_during_update_now_where_it_may_r8_2() {
    let mut machine = Machine::enrolled();
    let origin = Origin::start(machine.site.dir());
    machine.customise(&origin.url("/"));
    // A proxy that cannot be reached: what goes by it fails, and what does not is seen to go another way.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Some(format!("http://{nowhere}/").parse().unwrap());
    let settings = |machine: &Machine| Settings { proxy: proxy.clone(), ..machine.settings() };
    let on = Some(Switch::On);
    let alone = || Values { relay_serves_components: Some(Switch::Off), ..Values::default() };
    machine.set(Values { update_now: on, ..alone() });
    assert_eq!(machine.update_with(settings(&machine), Why::UpdateNow).ended().result, Went::Updated);
    machine.publish(2, &[]);
    machine.set(Values { update_now: on, proxy_settings: on, ..alone() });
    assert_eq!(machine.update_with(settings(&machine), Why::Schedule).ended().result, Went::Updated);
    machine.publish(3, &[]);
    let told = machine.update_with(settings(&machine), Why::UpdateNow);
    assert_eq!(told.ended().result, Went::Failed);
    assert!(told.ended().detail.contains("no connection"), "{}", told.ended().detail);
}

#[test]
fn the_upstream_is_reached_by_the_relays_proxy_in_clear_text_and_over_tls_r7_1() {
    // The agent's own proxy is the relay: the same requests as where the relay tells it to go through it.
    let authority = Authority::new();
    let site = Site::with(1, &[]);
    let mut upstream = settings(site.text());
    upstream.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    upstream.tls.certificates = vec![authority.sign("upstream", &["localhost", "127.0.0.1"]).0];
    let mut upstream = crate::relay::Running::refreshed(upstream);
    let (clear, tls) = (upstream.v4(), upstream.handle().running().tls[0]);
    for (base, port) in [
        (format!("http://{clear}/activeupdate/"), clear.port()),
        (format!("https://{tls}/activeupdate/"), tls.port()),
    ] {
        let mut relay = settings(site.text());
        relay.proxy.allow = vec![rule(&["127.0.0.1/32"], &[port], Tunnels::Any)];
        let mut machine = Machine::on(Site::new(), relay);
        machine.enrol();
        machine.customise(&base);
        let on = Some(Switch::On);
        machine.set(Values { update_now: on, proxy_settings: on, ..Values::default() });
        let secret = fs::read_to_string(machine.folder().join("token")).unwrap();
        let credentials = machine.folder().join("proxy");
        fs::write(&credentials, format!("agent:{}", secret.trim())).unwrap();
        let settings = Settings {
            proxy: Some(format!("http://{}/", machine.relay.v4()).parse().unwrap()),
            proxy_credentials: Some(credentials),
            ca_file: Some(authority.file()),
            ..machine.settings()
        };
        let told = machine.update_with(settings, Why::UpdateNow);
        assert_eq!(told.ended().result, Went::Updated, "{base}: {}", told.ended().detail);
        assert_eq!(source(&told), base);
        machine.check_has(1);
    }
}

#[test]
fn a_relay_with_a_certificate_of_its_own_is_believed_by_the_file_that_names_its_authority() {
    let authority = Authority::new();
    let site = Site::with(1, &[]);
    let mut relay = settings(site.text());
    relay.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    relay.tls.certificates = vec![authority.sign("relay", &["localhost"]).0];
    let mut machine = Machine::on(site, relay);
    machine.enrol();
    let tls = machine.relay.handle().running().tls[0];
    // The certificate is for a name alone; the relay tells its address.
    let there = Settings::for_relay(&format!("https://localhost:{}/", tls.port())).unwrap();
    let settings = Settings { folder: Some(machine.folder().to_owned()), ..there };
    let refused = machine.update_with(settings.clone(), Why::Start).outcome.unwrap_err().to_string();
    assert!(refused.contains("TLS"), "{refused}");
    let trusting = Settings { ca_file: Some(authority.file()), ..settings };
    let told = machine.update_with(trusting, Why::Start);
    assert_eq!(told.ended().result, Went::Updated, "{}", told.ended().detail);
    assert_eq!(source(&told), format!("https://localhost:{}/activeupdate/", tls.port()));
    machine.check_has(1);
}
