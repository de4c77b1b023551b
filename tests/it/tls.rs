//! TLS towards agents: which certificate is shown, what happens when it changes, and handshakes that fail (R4.1).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::app::{Relay, StartError};
use forebay::base::tally::Outcome;
use forebay::config::settings::{CertificateFiles, Settings};

use crate::authority::{Authority, get, shake_hands, shown};
use crate::process::{run, tool};
use crate::raw::{self, PATIENCE};
use crate::relay::{Running, settings};
use crate::served::{Place, WITHIN};

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

fn with(certificates: Vec<CertificateFiles>) -> Settings {
    let mut settings = settings(FIXTURE);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    settings.tls.certificates = certificates;
    settings
}

#[test]
fn files_come_over_both_versions_and_families_as_they_do_in_clear_text_r4_1() {
    let authority = Authority::new();
    let mut relay = Running::refreshed(with(vec![authority.sign("relay", &["relay.test"]).0]));
    let addresses = relay.handle().running().tls.clone();
    let expected = raw::fetch(relay.v4(), PACKAGE, &[]).whole(200);
    for (version, address) in
        [(&rustls::version::TLS12, addresses[0]), (&rustls::version::TLS13, addresses[1])]
    {
        let mut config = authority.client(&[version]);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut stream = shake_hands(Arc::new(config), address, "relay.test").unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            let (head, body) = get(&mut stream, PACKAGE);
            assert!(head.starts_with("http/1.1 200 ") && body == expected, "{head}");
        }
    }
    relay.stop();
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate_and_the_first_is_for_all_others() {
    let authority = Authority::new();
    let (first, first_bytes) = authority.sign("first", &["first.test", "127.0.0.1"]);
    let (second, second_bytes) = authority.sign("second", &["second.test"]);
    let (wild, wild_bytes) = authority.sign("wild", &["*.wild.test"]);
    let (exact, exact_bytes) = authority.sign("exact", &["one.wild.test"]);
    let mut relay = Running::refreshed(with(vec![first, second, wild, exact]));
    let address = relay.handle().running().tls[0];
    for (name, expected) in [
        ("first.test", &first_bytes),
        ("Second.TEST", &second_bytes),
        ("two.wild.test", &wild_bytes),
        ("one.wild.test", &exact_bytes),
        ("127.0.0.1", &first_bytes),
    ] {
        assert_eq!(&shown(&authority.connect(address, name).unwrap()), expected, "{name}");
    }
    // The first is shown for these, and is none of theirs.
    for name in ["other.test", "wild.test", "a.b.wild.test"] {
        let refused = authority.connect(address, name).unwrap_err().to_string();
        assert!(refused.contains("not valid for name"), "{name}: {refused}");
    }
    // What a client refused is no harm to the next.
    authority.connect(address, "first.test").unwrap();
    relay.stop();
}

#[test]
fn changed_files_are_taken_without_dropping_a_connection_and_bad_ones_are_not_r11_3() {
    let authority = Authority::new();
    let (files, before) = authority.sign("relay", &["relay.test"]);
    let mut relay = Running::refreshed(with(vec![files.clone()]));
    let address = relay.handle().running().tls[0];
    let mut open = authority.connect(address, "relay.test").unwrap();
    get(&mut open, MANIFEST);
    let (_, after) = authority.sign("relay", &["relay.test"]);
    let deadline = Instant::now() + PATIENCE;
    let now = || shown(&authority.connect(address, "relay.test").unwrap());
    while now() == before {
        assert!(Instant::now() < deadline, "the new certificate is not shown");
    }
    assert_eq!(now(), after);
    get(&mut open, MANIFEST);

    // A key alone, a broken chain, a missing file: what was good stays, also at a reload that is asked for.
    let other = authority.sign("other", &["relay.test"]).0;
    let mut settings = with(vec![files.clone()]);
    settings.data = relay.data().to_owned();
    let damages: [&dyn Fn(); 3] = [
        &|| fs::write(&files.key, fs::read(&other.key).unwrap()).unwrap(),
        &|| fs::write(&files.chain, "junk").unwrap(),
        &|| fs::remove_file(&files.key).unwrap(),
    ];
    for damage in damages {
        damage();
        relay.handle().reload(settings.clone()).unwrap();
        assert_eq!(now(), after);
    }
    // A pair that was not shown before has nothing to fall back on.
    settings.tls.certificates.push(CertificateFiles { chain: "none.pem".into(), key: "none.key".into() });
    let error = relay.handle().reload(settings.clone()).unwrap_err();
    assert!(matches!(error, StartError::Certificate(_)), "{error}");
    settings.tls.certificates = vec![other];
    relay.handle().reload(settings).unwrap();
    assert_ne!(now(), after);
    get(&mut open, MANIFEST);
    relay.stop();
}

#[test]
fn files_that_cannot_be_used_end_the_start_by_name_and_no_key_is_shown() {
    let authority = Authority::new();
    let (good, _) = authority.sign("good", &["a.test"]);
    let (other, _) = authority.sign("other", &["a.test"]);
    let junk = good.chain.with_file_name("junk.pem");
    fs::write(&junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let secret = fs::read_to_string(&good.key).unwrap().replace("PRIVATE KEY", "SECRET");
    let broken = good.key.with_file_name("broken.key");
    fs::write(&broken, &secret).unwrap();
    let absent = good.key.with_file_name("absent");
    for (chain, key, culprit, reason) in [
        (&good.chain, &other.key, &other.key, "not the key of the certificate in"),
        (&good.chain, &absent, &absent, "No such file"),
        (&absent, &good.key, &absent, "No such file"),
        (&junk, &good.key, &junk, "cannot be used"),
        (&good.key, &good.key, &good.key, "holds no certificate"),
        (&good.chain, &good.chain, &good.chain, "holds no private key"),
        (&good.chain, &broken, &broken, "holds no private key"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let mut settings = with(vec![CertificateFiles { chain: chain.clone(), key: key.clone() }]);
        settings.data = data.path().to_owned();
        let error = Relay::start(settings).unwrap_err().to_string();
        assert!(error.contains(culprit.to_str().unwrap()) && error.contains(reason), "{error}");
        assert!(secret.lines().all(|line| !error.contains(line)), "{error}");
    }
}

#[test]
fn a_handshake_that_does_not_end_is_cut_and_junk_is_refused() {
    let authority = Authority::new();
    let mut settings = with(vec![authority.sign("relay", &["relay.test"]).0]);
    settings.limits.head_timeout = Duration::from_millis(400);
    let mut relay = Running::refreshed(settings);
    let address = relay.handle().running().tls[0];
    let began = Instant::now();
    let connect = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    };
    // Nothing; the beginning of a record.
    let waiting = [connect(b""), connect(b"\x16\x03\x01\x02\x00\x01")];
    for mut socket in waiting {
        assert_eq!(socket.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
    let mut answer = Vec::new();
    // A reset is as good: what the relay did not read was dropped.
    let _ = connect(b"\x80\x2e\x01\x03\x01junk").read_to_end(&mut answer);
    assert!(answer.len() < 16, "{answer:?}");
    get(&mut authority.connect(address, "relay.test").unwrap(), MANIFEST);
    relay.stop();
}

#[test]
fn plain_http_to_a_tls_listener_is_told_so_and_counted() {
    let authority = Authority::new();
    let mut relay = Running::refreshed(with(vec![authority.sign("relay", &["relay.test"]).0]));
    let tally = relay.handle().tally().unwrap();
    let answer = raw::fetch(relay.handle().running().tls[0], MANIFEST, &[]);
    assert!(String::from_utf8(answer.whole(400)).unwrap().contains("speaks TLS"));
    relay.stop();
    assert_eq!(tally.requests(Outcome::BadRequest), 1);
}

#[test]
fn stock_clients_take_files_over_tls_and_a_signal_brings_a_new_certificate_r11_3() {
    let (Some(curl), Some(openssl)) = (tool("curl"), tool("openssl")) else { return };
    let authority = Authority::new();
    let (files, _) = authority.sign("relay", &["relay.test"]);
    let place = Place::new();
    let tls = format!(
        "[tls]\nlisten = \"127.0.0.1:0\"\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n",
        files.chain, files.key
    );
    place.configure("", crate::served::FIXTURE, &tls);
    let relay = place.serve_ready();
    let line = relay.wait_line("agents, TLS");
    let port = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let url = format!("https://relay.test:{port}{PACKAGE}");
    let expected = fs::read(format!("{}/pattern/vsapi329.zip", crate::served::FIXTURE)).unwrap();
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let out = place.path("out");
        let mut command = Command::new(&curl);
        command.args([
            "-sS",
            "--fail",
            "--noproxy",
            "*",
            "--resolve",
            &format!("relay.test:{port}:127.0.0.1"),
        ]);
        command.args(version).arg("--cacert").arg(authority.file()).arg("-o").arg(&out).arg(&url);
        run(&mut command, WITHIN).succeeded();
        assert!(fs::read(out).unwrap() == expected);
    }
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "relay.test"]);
    command.args(["-verify_return_error", "-brief", "-CAfile"]).arg(authority.file());
    let ended = run(&mut command, WITHIN).succeeded();
    assert!((ended.stdout + &ended.stderr).contains("Verification: OK"));

    fs::write(&files.chain, "junk").unwrap();
    relay.signal(rustix::process::Signal::HUP);
    let line = relay.wait_line("a certificate is bad");
    assert!(line.contains(files.chain.to_str().unwrap()) && line.contains("holds no certificate"), "{line}");
    relay.stop();
}
