//! Who is let in: tokens and their roles, logins that fail, TLS, certificates, and problems of every kind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use forebay::config::admin_access::AdminClient;
use forebay::config::settings::{Listen, TlsSettings};
use forebay::policy::administrator::Role;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use super::{call, json};
use crate::authority::{Authority, get, shake_hands};
use crate::raw::{Client, fetch};
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

const STATUS: &str = "/api/v1/status";

#[test]
fn a_token_opens_what_its_role_may_and_nothing_else_is_let_in_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let at = relay.admin();
    for open in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        assert_eq!(fetch(at, open, &[]).head.status, 200, "{open} on this machine");
    }
    let nobody = fetch(at, STATUS, &[]);
    assert_eq!(nobody.head.header("www-authenticate"), Some("Bearer realm=\"forebay\""));
    assert_eq!(json(nobody, 401)["instance"], STATUS);
    for role in Role::ALL {
        let bearer = relay.bearer(role);
        let me = json(fetch(at, "/api/v1/me", &[("Authorization", &bearer)]), 200);
        assert_eq!((&me["role"], &me["known_by"]), (&role.name().into(), &"token".into()));
        let refresh = call(at, "POST", "/api/v1/refresh", Some(&bearer), None);
        assert_eq!(refresh.head.status, if role < Role::Operator { 403 } else { 202 }, "{role}");
        let tokens = call(at, "GET", "/api/v1/tokens", Some(&bearer), None);
        assert_eq!(tokens.head.status, if role < Role::Administrator { 403 } else { 200 }, "{role}");
    }
    let bearer = relay.bearer(Role::Viewer);
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let (name, secret) = token.split_once('~').unwrap();
    for wrong in [
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {name}~{}", "0".repeat(64)),
        format!("Bearer other~{secret}"),
        "Bearer".to_owned(),
        String::new(),
    ] {
        assert_eq!(fetch(at, STATUS, &[("Authorization", &wrong)]).head.status, 401, "{wrong}");
    }
    let twice = [("Authorization", &*bearer), ("Authorization", &*bearer)];
    assert_eq!(fetch(at, STATUS, &twice).head.status, 401, "one too many");
    let right = [("authorization", &*bearer.replace("Bearer", "bEARER"))];
    assert_eq!(fetch(at, STATUS, &right).head.status, 200);
    relay.stop();
}

#[test]
fn tokens_are_made_listed_and_revoked_over_the_api_and_the_last_one_stays_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let at = relay.admin();
    let bearer = relay.bearer(Role::Administrator);
    let ask = |method: &str, path: &str, body| call(at, method, path, Some(&bearer), body);
    let new = json!({ "name": "bob", "role": "viewer", "days": 1 });
    let made = json(ask("POST", "/api/v1/tokens", Some(&new)), 201);
    let bobs = format!("Bearer {}", made["token"].as_str().unwrap());
    assert_eq!(fetch(at, STATUS, &[("Authorization", &bobs)]).head.status, 200);
    assert!(
        json(ask("POST", "/api/v1/tokens", Some(&new)), 409)["detail"]
            .as_str()
            .unwrap()
            .contains("'bob' already")
    );
    let listed = json(ask("GET", "/api/v1/tokens", None), 200);
    let bob = listed["items"].as_array().unwrap().iter().find(|token| token["name"] == "bob").unwrap();
    assert!(bob["until"].is_string() && bob.get("secret").is_none(), "{bob}");
    assert!(bob["by"].as_str().unwrap().ends_with(", from 127.0.0.1"), "{bob}");
    for wrong in [
        json!({ "name": "Bob", "role": "viewer" }),
        json!({ "name": "b", "role": "root" }),
        json!({ "name": "b", "role": "viewer", "days": 0 }),
        json!({ "name": "b", "role": "viewer", "dayz": 1 }),
    ] {
        json(call(at, "POST", "/api/v1/tokens", Some(&bearer), Some(&wrong)), 422);
    }
    ask("DELETE", "/api/v1/tokens/bob", None).whole(204);
    assert_eq!(fetch(at, STATUS, &[("Authorization", &bobs)]).head.status, 401);
    json(ask("DELETE", "/api/v1/tokens/bob", None), 404);
    json(ask("DELETE", "/api/v1/tokens/B%20ob", None), 400);
    let relay = relay.restart();
    assert_eq!(fetch(relay.admin(), STATUS, &[("Authorization", &bobs)]).head.status, 401, "for good");
    let ask = |path: &str| call(relay.admin(), "DELETE", path, Some(&bearer), None);
    ask("/api/v1/tokens/admin").whole(204);
    let own = json(fetch(relay.admin(), "/api/v1/me", &[("Authorization", &bearer)]), 200)["name"].clone();
    let last = json(ask(&format!("/api/v1/tokens/{}", own.as_str().unwrap())), 409);
    assert!(
        last["detail"].as_str().unwrap().contains("the last token with the role administrator"),
        "{last}"
    );
    let journal = fs::read_to_string(relay.data().join("admin/tokens.journal")).unwrap();
    assert!(!journal.contains(bobs.split_once('~').unwrap().1), "no secret is kept");
    relay.stop();
}

#[test]
fn who_fails_too_often_is_told_to_wait_and_is_not_heard_meanwhile_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let at = relay.admin();
    let bearer = relay.bearer(Role::Viewer);
    let wrong = format!("Bearer admin~{}", "a".repeat(64));
    for attempt in 0..10 {
        assert_eq!(fetch(at, STATUS, &[("Authorization", &wrong)]).head.status, 401, "{attempt}");
    }
    for shown in [&wrong, &bearer] {
        let late = fetch(at, STATUS, &[("Authorization", shown)]);
        let wait: u64 = late.head.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        json(late, 429);
    }
    assert_eq!(fetch(at, STATUS, &[]).head.status, 401, "who shows nothing has not failed");
    assert_eq!(fetch(at, "/metrics", &[]).head.status, 200);
    let page = String::from_utf8(fetch(at, "/metrics", &[]).whole(200)).unwrap();
    assert_eq!(crate::served::metric(&page, "forebay_admin_refused_total"), 10);
    relay.stop();
}

#[test]
fn with_tls_a_certificate_that_the_settings_name_needs_no_token_r11_1() {
    let authority = Authority::new();
    let (files, _) = authority.sign("admin", &["relay.corp.test"]);
    let mut settings = settings(FIXTURE);
    settings.admin_access.tls = TlsSettings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        certificates: vec![files],
        client_authorities: vec![authority.file()],
    };
    settings.admin_access.clients =
        vec![AdminClient { name: "alice.corp.test".into(), role: Role::Operator }];
    let mut relay = Running::refreshed(settings);
    let at = relay.handle().running().admin_tls[0];
    let connect = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = authority.issue(&params, &key);
        let mut config = authority.client(rustls::DEFAULT_VERSIONS);
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let resolver = rustls::sign::CertifiedKey::from_der(
            vec![certificate.der().clone()],
            key,
            &rustls::crypto::ring::default_provider(),
        );
        let resolver = rustls::sign::SingleCertAndKey::from(resolver.unwrap());
        config.client_auth_cert_resolver = Arc::new(resolver);
        shake_hands(Arc::new(config), at, "relay.corp.test").unwrap()
    };
    let (head, body) =
        get(&mut connect("alice.corp.test", ExtendedKeyUsagePurpose::ClientAuth), "/api/v1/me");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let me: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(me, json!({ "name": "alice.corp.test", "role": "operator", "known_by": "certificate" }));
    for (name, usage) in [
        ("mallory.corp.test", ExtendedKeyUsagePurpose::ClientAuth),
        ("alice.corp.test", ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let (head, _) = get(&mut connect(name, usage), "/api/v1/me");
        assert!(head.starts_with("http/1.1 401"), "{name}: {head}");
    }
    // Without a certificate, a token does; and a name is a host's right name where TLS vouches for it.
    let mut plain = authority.connect(at, "relay.corp.test").unwrap();
    let bearer = relay.bearer(Role::Viewer);
    write!(plain, "GET {STATUS} HTTP/1.1\r\nHost: relay.corp.test\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
    relay.stop();
}

#[test]
fn an_address_that_others_reach_wants_tls_or_a_word_for_it_r11_1() {
    let mut reached = settings(FIXTURE);
    reached.admin = Listen::Configured(vec!["0.0.0.0:0".parse().unwrap()]);
    let refused =
        Running::try_start(reached.clone(), tempfile::tempdir().unwrap(), &forebay::disk::Disk::default());
    let Err((error, _)) = refused else { panic!("it started") };
    assert!(error.to_string().contains("or say admin.clear_text = \"allow\""), "{error}");
    reached.admin_access.clear_text = forebay::config::settings::ClearText::Allow;
    let relay = Running::start(reached);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], relay.admin().port()));
    assert_eq!(fetch(at, STATUS, &[]).head.status, 401);
    relay.stop();
}

#[test]
fn whatever_is_wrong_with_a_request_is_told_as_a_problem_r11_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let bearer = relay.bearer(Role::Administrator);
    let own = ("Authorization", &*bearer);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let mut client = Client::connect(relay.admin());
        let length = body.len().to_string();
        client.ask(method, path, &[headers, &[own, ("Content-Length", &length)]].concat()).unwrap();
        let _ = client.send(body);
        client.answer(method).unwrap()
    };
    let media = ("Content-Type", "application/json");
    let large = vec![b' '; 3 << 20];
    for (method, path, headers, body, status) in [
        ("GET", "/api/v1/nothing", &[][..], &b""[..], 404),
        ("PUT", "/api/v1/tokens", &[media], b"{}", 405),
        ("POST", "/api/v1/tokens", &[media], b"{", 400),
        ("POST", "/api/v1/tokens", &[media], b"[]", 422),
        ("POST", "/api/v1/tokens", &[], b"{}", 415),
        ("POST", "/api/v1/tokens", &[media], &large, 413),
        ("DELETE", "/api/v1/tokens/%ff", &[], b"", 400),
    ] {
        let problem = json(ask(method, path, headers, body), status);
        assert_eq!(problem["type"], "about:blank", "{problem}");
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
    }
    assert_eq!(ask("PUT", "/api/v1/tokens", &[], b"").head.header("allow"), Some("GET,HEAD,POST"));
    relay.stop();
}
