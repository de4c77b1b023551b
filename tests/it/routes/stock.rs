//! Trees mirrored through proxies that others wrote: tinyproxy and microsocks (R4.5).

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{all_by, assert_mirrors, nobody, unknown};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::process::{Process, tool};
use crate::relay::{Running, settings};
use crate::served::WITHIN;
use crate::site::Site;

/// Waits until a process listens, which it does not say.
fn listening(address: SocketAddr) {
    let begun = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        assert!(begun.elapsed() < WITHIN, "nobody listens on {address}");
        std::thread::yield_now();
    }
}

/// A clear-text and a TLS upstream are mirrored by this route.
fn mirrors_both(via: &str, credentials: &Path) {
    let authority = Authority::new();
    let site = Site::with(5, &[4]);
    let origin = Origin::start(site.dir());
    let routes = || vec![all_by(&[via], Some(credentials))];
    let relay = Running::refreshed(unknown(&origin.url("/"), routes()));
    assert_mirrors(&relay, 5, &[4]);
    relay.stop();
    let mut serving = settings(site.text());
    serving.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    serving.tls.certificates = vec![authority.sign("mirror", &["localhost"]).0];
    let mut upstream = Running::refreshed(serving);
    let url = format!("https://localhost:{}/activeupdate/", upstream.handle().running().tls[0].port());
    let mut settings = unknown(&url, routes());
    settings.upstream.ca_file = Some(authority.file());
    let relay = Running::refreshed(settings);
    assert_mirrors(&relay, 5, &[4]);
    relay.stop();
    upstream.stop();
}

#[test]
fn tinyproxy_with_a_password_leads_to_both_kinds_of_upstream_r4_5() {
    let Some(tinyproxy) = tool("tinyproxy") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (config, secret) = (folder.path().join("tinyproxy.conf"), folder.path().join("secret"));
    fs::write(&secret, "relay:3cret\n").unwrap();
    let address = nobody();
    let port = address.port();
    let lines = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth relay 3cret\n");
    fs::write(&config, lines).unwrap();
    let mut command = Command::new(tinyproxy);
    let _proxy = Process::start(command.args(["-d", "-c"]).arg(&config));
    listening(address);
    mirrors_both(&format!("http://{address}"), &secret);
}

#[test]
fn microsocks_with_a_password_leads_to_both_kinds_of_upstream_r4_5() {
    let Some(microsocks) = tool("microsocks") else { return };
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "relay:3cret\n").unwrap();
    let address = nobody();
    let mut command = Command::new(microsocks);
    command.args(["-i", "127.0.0.1", "-u", "relay", "-P", "3cret", "-p"]).arg(address.port().to_string());
    let _proxy = Process::start(&mut command);
    listening(address);
    mirrors_both(&format!("socks5://{address}"), &secret);
}
