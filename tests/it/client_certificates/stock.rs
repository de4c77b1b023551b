//! Stock curl and openssl show certificates.

use std::fs;
use std::process::Command;

use forebay::policy::identity::{Certificate, Fingerprint, Validity};
use jiff::Timestamp;
use rcgen::KeyPair;

use super::{Agent, NAMES, Site, named};
use crate::authority::Authority;
use crate::process::{run, tool};
use crate::served::WITHIN;

#[test]
fn stock_clients_show_their_certificates() {
    let (Some(curl), Some(openssl)) = (tool("curl"), tool("openssl")) else { return };
    let authority = Authority::new();
    let agent_key = KeyPair::generate().unwrap();
    let signed = authority.issue(&named(), &agent_key);
    let agent = Agent { chain: vec![signed.der().clone()], key: agent_key };
    let site = Site::new(vec![authority.file()]);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("agent.pem"), folder.path().join("agent.key"));
    fs::write(&certificate, signed.pem()).unwrap();
    fs::write(&key, agent.key.serialize_pem()).unwrap();
    let port = site.address().port();
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--http1.1", "--noproxy", "*", "--cacert"]).arg(site.relays.file());
        command.args(["--resolve", &format!("relay.test:{port}:127.0.0.1")]).args(version);
        command.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        command.arg(format!("https://relay.test:{port}/"));
        let (met, ended) = site.meet(move |_| run(&mut command, WITHIN).succeeded());
        assert_eq!(ended.stdout.trim_end(), "ok");
        assert_eq!(site.seen(&met.unwrap(), Timestamp::now()), Some(agent.as_seen(NAMES)));
    }
    // One that openssl made, as an administrator would, and its fingerprint as openssl prints it.
    let mut command = Command::new(&openssl);
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pc-8", "-days", "2"]);
    command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    run(&mut command, WITHIN).succeeded();
    let mut command = Command::new(&openssl);
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&certificate);
    let printed = run(&mut command, WITHIN).succeeded().stdout;
    let fingerprint: Fingerprint = printed.trim().split_once('=').unwrap().1.parse().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &site.address().to_string(), "-servername", "relay.test"]);
        command.args(["-brief", version, "-cert"]).arg(&certificate).arg("-key").arg(&key);
        command.arg("-CAfile").arg(site.relays.file());
        let (met, ended) = site.meet(move |_| run(&mut command, WITHIN).succeeded());
        assert!((ended.stdout + &ended.stderr).contains("Verification: OK"));
        let expected = Certificate { fingerprint, names: Vec::new(), validity: Validity::Valid };
        assert_eq!(site.seen(&met.unwrap(), Timestamp::now()), Some(expected));
    }
}
