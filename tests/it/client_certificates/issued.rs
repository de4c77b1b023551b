//! Certificates that the relay's own authority makes for agents' requests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forebay::disk::Disk;
use forebay::policy::identity::{Certificate, Validity};
use forebay::policy::tree::id::AgentId;
use forebay::state::authority::{Authority, SignError};
use forebay::state::signing_request::RequestError;
use jiff::Timestamp;

use super::Site;
use crate::process::{run, tool};
use crate::served::WITHIN;

const DAY: Duration = Duration::from_hours(24);

/// Has openssl make a key and a request, as an agent's installer would.
fn request(openssl: &Path, folder: &Path, options: &[&str]) -> Vec<u8> {
    let mut command = Command::new(openssl);
    command.args(["req", "-new", "-nodes", "-subj", "/CN=anything"]).args(options);
    command.arg("-keyout").arg(folder.join("agent.key")).arg("-out").arg(folder.join("agent.csr"));
    run(&mut command, WITHIN).succeeded();
    fs::read(folder.join("agent.csr")).unwrap()
}

#[test]
fn an_agent_shows_what_it_was_given_and_is_known_by_its_fingerprint_alone() {
    let Some(openssl) = tool("openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority =
        Authority::open(&Disk::default(), &folder.path().join("authority"), Timestamp::now()).unwrap();
    let agent = AgentId::parse("pc-7").unwrap();
    // Whoever takes the relay's own authority for one of the fleet's gets no names by it: they could not be revoked.
    let file = folder.path().join("authority").join("authority.pem");
    let site = Site::new(vec![file.clone()]);
    let certificate = folder.path().join("agent.pem");
    for options in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-newkey", "ed25519"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "DER"],
        &["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"],
    ] {
        let request = request(&openssl, folder.path(), options);
        let issued = authority.sign(&request, &agent, Timestamp::now(), DAY).unwrap();
        fs::write(&certificate, &issued.certificate).unwrap();
        let mut command = Command::new(&openssl);
        command
            .args(["verify", "-purpose", "sslclient", "-x509_strict", "-CAfile"])
            .arg(&file)
            .arg(&certificate);
        run(&mut command, WITHIN).succeeded();
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &site.address().to_string(), "-servername", "relay.test"]);
        command.arg("-brief").arg("-cert").arg(&certificate).arg("-key").arg(folder.path().join("agent.key"));
        let (met, _) = site.meet(move |_| run(&mut command, WITHIN).succeeded());
        let expected =
            Certificate { fingerprint: issued.fingerprint, names: Vec::new(), validity: Validity::Valid };
        assert_eq!(site.seen(&met.unwrap(), Timestamp::now()), Some(expected), "{options:?}");
    }
}

#[test]
fn weak_keys_and_keys_that_no_handshake_takes_are_refused() {
    let Some(openssl) = tool("openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&Disk::default(), folder.path(), Timestamp::now()).unwrap();
    let agent = AgentId::parse("pc-7").unwrap();
    for (options, reason) in [
        (&["-newkey", "rsa:1024"][..], RequestError::Weak),
        (&["-newkey", "rsa:2040"], RequestError::Weak),
        (&["-newkey", "rsa:2048", "-sha1"], RequestError::Unproven),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], RequestError::Unproven),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], RequestError::Unproven),
        (&["-newkey", "ed448"], RequestError::Unproven),
    ] {
        let request = request(&openssl, folder.path(), options);
        let refused = authority.sign(&request, &agent, Timestamp::now(), DAY);
        assert!(matches!(refused, Err(SignError::Request(why)) if why == reason), "{options:?}: {refused:?}");
    }
}
