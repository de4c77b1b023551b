//! Trees mirrored through each kind of parent, byte for byte, and by the rules that say which places go where (R4.5).

use forebay::base::destination::HostPattern;
use forebay::config::elsewhere::RouteSettings;

use super::proxy::{Manner, Proxy, Speech};
use super::{all_by, assert_mirrors, unknown};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::relay::{Running, settings};
use crate::site::Site;

/// An upstream that speaks TLS: another relay, on a site of its own.
fn secure_upstream(authority: &Authority) -> (Running, Site, u16) {
    let site = Site::with(5, &[4]);
    let mut serving = settings(site.text());
    serving.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    serving.tls.certificates = vec![authority.sign("mirror", &["mirror.test"]).0];
    let mut relay = Running::refreshed(serving);
    let port = relay.handle().running().tls[0].port();
    (relay, site, port)
}

fn speeches(authority: &Authority) -> [Speech; 3] {
    [Speech::Http, Speech::Https(authority.sign("parent", &["parent.test"]).0), Speech::Socks]
}

#[test]
fn a_clear_text_upstream_is_mirrored_through_each_kind_of_parent_which_resolves_its_name_r4_5() {
    let authority = Authority::new();
    for speech in speeches(&authority) {
        let site = Site::with(5, &[4]);
        let origin = Origin::start(site.dir());
        let proxy = Proxy::start(&speech, Manner::Leads, origin.address());
        let mut settings =
            unknown("http://mirror.test/", vec![all_by(&[&proxy.url_at("parent.test")], None)]);
        settings.upstream.hosts = vec![forebay::config::value::host_entry("127.0.0.1 parent.test").unwrap()];
        settings.upstream.ca_file = Some(authority.file());
        let relay = Running::refreshed(settings);
        assert_mirrors(&relay, 5, &[4]);
        let heard = proxy.heard();
        let as_asked = |asked: &String| match speech {
            Speech::Http | Speech::Https(_) => asked.starts_with("GET http://mirror.test/"),
            Speech::Socks => asked == "SOCKS mirror.test:80 ",
        };
        assert!(!heard.asked.is_empty() && heard.asked.iter().all(as_asked), "{heard:?}");
        assert!(origin.seen().requests.iter().all(|request| request.header("host") == Some("mirror.test")));
        relay.stop();
    }
}

#[test]
fn a_tls_upstream_is_mirrored_through_each_kind_of_parent_which_sees_nothing_of_it_r4_5() {
    let authority = Authority::new();
    for speech in speeches(&authority) {
        let (upstream, _site, port) = secure_upstream(&authority);
        let proxy = Proxy::start(&speech, Manner::Leads, ([127, 0, 0, 1], port).into());
        let url = format!("https://mirror.test:{port}/activeupdate/");
        let mut settings = unknown(&url, vec![all_by(&[&proxy.url_at("parent.test")], None)]);
        settings.upstream.hosts = vec![forebay::config::value::host_entry("127.0.0.1 parent.test").unwrap()];
        settings.upstream.ca_file = Some(authority.file());
        let relay = Running::refreshed(settings);
        assert_mirrors(&relay, 5, &[4]);
        let heard = proxy.heard();
        let place = format!("mirror.test:{port}");
        let as_asked = |asked: &String| match speech {
            Speech::Http | Speech::Https(_) => asked.starts_with(&format!("CONNECT {place} HTTP/1.1\r\n")),
            Speech::Socks => *asked == format!("SOCKS {place} "),
        };
        assert!(!heard.asked.is_empty() && heard.asked.iter().all(as_asked), "{heard:?}");
        relay.stop();
        upstream.stop();
    }
}

#[test]
fn a_parents_certificate_and_its_upstreams_are_checked_r4_5() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (upstream, _site, port) = secure_upstream(&authority);
    let wrong_parent = Speech::Https(other.sign("parent", &["parent.test"]).0);
    let right_parent = Speech::Https(authority.sign("parent", &["parent.test"]).0);
    for (speech, name, word) in [
        (&wrong_parent, "mirror.test", "by https://parent.test:"),
        (&right_parent, "elsewhere.test", "TLS through it: "),
    ] {
        let proxy = Proxy::start(speech, Manner::Leads, ([127, 0, 0, 1], port).into());
        let url = format!("https://{name}:{port}/activeupdate/");
        let mut settings = unknown(&url, vec![all_by(&[&proxy.url_at("parent.test")], None)]);
        settings.upstream.hosts = vec![forebay::config::value::host_entry("127.0.0.1 parent.test").unwrap()];
        settings.upstream.ca_file = Some(authority.file());
        let relay = Running::start(settings);
        let last = format!("{:?}", relay.wait_refreshes(1));
        assert!(last.contains(word) && last.contains("certificate"), "{last}");
        assert_eq!(relay.generation(), 0);
        relay.stop();
    }
    upstream.stop();
}

#[test]
fn no_proxy_and_the_first_rule_decide_and_redirects_go_by_their_own_route_r4_5() {
    let (site, other) = (Site::with(5, &[4]), Site::with(5, &[4]));
    let (origin, elsewhere) = (Origin::start(site.dir()), Origin::start(other.dir()));
    let one = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    let two = Proxy::start(&Speech::Http, Manner::Leads, elsewhere.address());
    let route =
        |to: HostPattern, proxy: &Proxy| RouteSettings { to: vec![to], ..all_by(&[&proxy.url()], None) };
    let name = |text: &str| HostPattern::Name(text.into());
    let mut settings =
        unknown("http://mirror.test/", vec![route(name("mirror.test"), &one), route(HostPattern::Any, &two)]);
    // A package is elsewhere.
    origin.always("/pattern/a5.zip", Fault::Redirect("http://packages.test/pattern/a5.zip".into()));
    let relay = Running::refreshed(settings.clone());
    assert_mirrors(&relay, 5, &[4]);
    assert!(one.heard().asked.iter().all(|asked| asked.contains(" http://mirror.test/")));
    let redirected = two.heard().asked;
    assert!(
        !redirected.is_empty()
            && redirected.iter().all(|asked| asked.contains(" http://packages.test/pattern/a5.zip ")),
        "{redirected:?}"
    );
    relay.stop();
    // The same upstream by its address, which no proxy is wanted for.
    settings = unknown(&origin.url("/"), vec![all_by(&[&two.url()], None)]);
    settings.upstream.no_proxy = vec![HostPattern::Prefix("127.0.0.0/8".parse().unwrap())];
    origin.behave();
    let before = two.heard().connections;
    let relay = Running::refreshed(settings);
    assert_mirrors(&relay, 5, &[4]);
    assert_eq!(two.heard().connections, before);
    relay.stop();
}

#[test]
fn a_redirect_to_this_machine_is_refused_through_a_parent_too_r4_5_r4_6() {
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let proxy = Proxy::start(&Speech::Http, Manner::Leads, origin.address());
    for to in
        ["http://127.0.0.1:9/x", "http://169.254.169.254/latest", "http://localhost:9/x", "http://[::1]:9/x"]
    {
        origin.script("/server.ini", Fault::Redirect(to.into()));
        let relay = Running::start(unknown("http://mirror.test/", vec![all_by(&[&proxy.url()], None)]));
        let last = format!("{:?}", relay.wait_refreshes(1));
        assert!(last.contains("redirects to where it may not"), "{to}: {last}");
        relay.stop();
    }
    assert!(
        proxy.heard().asked.iter().all(|asked| asked.contains(" http://mirror.test/")),
        "{:?}",
        proxy.heard()
    );
}
