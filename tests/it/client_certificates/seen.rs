//! What is seen of agents: fingerprints, names where an authority vouches for them, sessions that are resumed, files that change.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use forebay::net::tls::{AGENTS, Tls};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind};

use super::{Agent, NAMES, Shows, Site, VERSIONS, named, settings_with};
use crate::authority::{Authority, get, shake_hands};
use crate::raw::PATIENCE;
use crate::relay::{Running, settings};

#[test]
fn an_agent_is_seen_by_its_fingerprint_and_named_where_an_authority_vouches() {
    let authority = Authority::new();
    let (ours, own) = (Agent::signed(&authority, &named()), Agent::self_signed(&named()));
    let others = Agent::signed(&Authority::new(), &named());
    let site = Site::new(vec![authority.file()]);
    for version in VERSIONS {
        assert_eq!(site.sees(version, None), None);
        assert_eq!(site.sees(version, Some(&ours)), Some(ours.as_seen(NAMES)));
        assert_eq!(site.sees(version, Some(&own)), Some(own.as_seen(&[])));
        assert_eq!(site.sees(version, Some(&others)), Some(others.as_seen(&[])));
    }
}

#[test]
fn nobody_is_asked_until_something_could_come_of_it() {
    let authority = Authority::new();
    let agent = Agent::signed(&authority, &named());
    let site = Site::new(Vec::new());
    for version in VERSIONS {
        let asked = |config: Arc<ClientConfig>, shows: &Shows| {
            let met = site.meet_client(config).unwrap();
            (site.seen(&met, Timestamp::now()), shows.asked.swap(0, Ordering::Relaxed))
        };
        // One that was not asked has a session to resume, in which it could not be asked: it is not resumed.
        let (config, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(config.clone(), &shows), (None, 0));
        site.tls.set_fingerprints(1);
        assert_eq!(asked(config.clone(), &shows), (Some(agent.as_seen(&[])), 1));
        site.tls.set_fingerprints(0);
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (None, 0));
        site.reload(vec![authority.file()]);
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (Some(agent.as_seen(NAMES)), 1));
        site.reload(Vec::new());
        let (fresh, shows) = site.client(version, Some(&agent));
        assert_eq!(asked(fresh, &shows), (None, 0));
    }
}

#[test]
fn names_count_only_of_a_clients_certificate_that_is_valid_now() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = named();
        change(&mut params);
        Agent::signed(&authority, &params)
    };
    for agent in [
        with(|params| params.not_after = date_time_ymd(2020, 1, 1)),
        with(|params| params.not_before = date_time_ymd(3020, 1, 1)),
    ] {
        assert_eq!(site.sees(&TLS13, Some(&agent)), Some(agent.as_past()));
    }
    for (what, agent) in [
        ("a server's", with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("nobody's", with(|params| params.extended_key_usages = Vec::new())),
        ("an authority's", with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
    ] {
        assert_eq!(site.sees(&TLS13, Some(&agent)), Some(agent.as_seen(&[])), "{what}");
    }
}

#[test]
fn authorities_in_between_are_shown_by_the_agent() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let mut between = CertificateParams::new(Vec::new()).unwrap();
    between.distinguished_name.push(DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let (between_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let between_certificate = authority.issue(&between, &between_key).der().clone();
    let issuer = Issuer::new(between, between_key);
    let first = named().signed_by(&key, &issuer).unwrap().der().clone();
    let mut agent = Agent { chain: vec![first, between_certificate], key };
    for version in VERSIONS {
        assert_eq!(site.sees(version, Some(&agent)), Some(agent.as_seen(NAMES)));
    }
    agent.chain.truncate(1);
    assert_eq!(site.sees(&TLS13, Some(&agent)), Some(agent.as_seen(&[])));
}

#[test]
fn a_resumed_session_keeps_the_certificate_and_is_judged_anew() {
    let authority = Authority::new();
    let mut params = named();
    params.not_after = date_time_ymd(2090, 1, 1);
    let agent = Agent::signed(&authority, &params);
    let after: Timestamp = "2090-01-02T00:00:00Z".parse().unwrap();
    for version in VERSIONS {
        let site = Site::new(vec![authority.file()]);
        let (config, shows) = site.client(version, Some(&agent));
        let meet = |kind: HandshakeKind| {
            let met = site.meet_client(config.clone()).unwrap();
            assert_eq!(met.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
            met
        };
        let now = Timestamp::now();
        assert_eq!(site.seen(&meet(HandshakeKind::Full), now), Some(agent.as_seen(NAMES)));
        let met = meet(HandshakeKind::Resumed);
        assert_eq!(site.seen(&met, now), Some(agent.as_seen(NAMES)));
        assert_eq!(site.seen(&met, after), Some(agent.as_past()));
        site.reload(vec![Authority::new().file()]);
        assert_eq!(site.seen(&met, now), Some(agent.as_seen(&[])));
        assert_eq!(site.seen(&meet(HandshakeKind::Resumed), now), Some(agent.as_seen(&[])));
        site.reload(vec![authority.file()]);
        assert_eq!(site.seen(&meet(HandshakeKind::Resumed), now), Some(agent.as_seen(NAMES)));
        assert_eq!(shows.asked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_file_of_authorities_that_changes_is_taken_and_a_bad_one_is_not_r11_3() {
    let (first, second) = (Authority::new(), Authority::new());
    let (ours, theirs) = (Agent::signed(&first, &named()), Agent::signed(&second, &named()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agents.pem");
    let replace = |bytes: &[u8]| {
        fs::write(folder.path().join("new"), bytes).unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
    };
    replace(&fs::read(first.file()).unwrap());
    let site = Site::new(vec![file.clone()]);
    assert_eq!(site.sees(&TLS13, Some(&theirs)), Some(theirs.as_seen(&[])));
    let watching = site.runtime.spawn(site.tls.clone().watch());
    // It has its first look at the file as it is now.
    site.runtime.block_on(tokio::task::yield_now());

    replace(&fs::read(second.file()).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while site.sees(&TLS13, Some(&theirs)) != Some(theirs.as_seen(NAMES)) {
        assert!(Instant::now() < deadline, "the new authority is not taken");
    }
    assert_eq!(site.sees(&TLS13, Some(&ours)), Some(ours.as_seen(&[])));
    watching.abort();

    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for bad in [&b""[..], b"junk", junk] {
        replace(bad);
        site.reload(vec![file.clone()]);
        assert_eq!(site.sees(&TLS13, Some(&theirs)), Some(theirs.as_seen(NAMES)));
        let settings = settings_with(&site.certificate, vec![file.clone()]);
        let error = Tls::new(&settings, AGENTS).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
    // Several files vouch, each for its own.
    site.reload(vec![first.file(), second.file()]);
    for agent in [&ours, &theirs] {
        assert_eq!(site.sees(&TLS13, Some(agent)), Some(agent.as_seen(NAMES)));
    }
    let absent = settings_with(&site.certificate, vec![folder.path().join("absent")]);
    assert!(site.tls.read(&absent).unwrap_err().to_string().contains("absent"));
}

#[test]
fn a_relay_asks_and_serves_whoever_shows_one_or_none() {
    let (relays, agents) = (Authority::new(), Authority::new());
    let agent = Agent::signed(&agents, &named());
    let mut settings = settings("fixtures/activeupdate");
    settings.tls = settings_with(&relays.sign("relay", &["relay.test"]).0, vec![agents.file()]);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let mut relay = Running::refreshed(settings);
    let address = relay.handle().running().tls[0];
    for shown in [None, Some(&agent)] {
        let mut config = relays.client(&[&TLS13]);
        let shows = Arc::new(Shows { key: shown.map(Agent::certified), asked: AtomicUsize::new(0) });
        config.client_auth_cert_resolver = shows.clone();
        let mut stream = shake_hands(Arc::new(config), address, "relay.test").unwrap();
        let (head, _) = get(&mut stream, "/activeupdate/server.ini");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(shows.asked.load(Ordering::Relaxed), 1);
    }
    relay.stop();
}
