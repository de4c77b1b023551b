//! Stock curl through each kind of tunnel, to the mirror and to a TLS server, over both families: every byte as it is (R3.2, R4.2).

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use forebay::policy::reach::Tunnels;

use super::{FIXTURE, mirroring, named, rule};
use crate::authority::Authority;
use crate::origin::Origin;
use crate::process::{run, tool};
use crate::raw;
use crate::relay::{Running, settings};
use crate::served::WITHIN;

const FILES: [&str; 3] = ["server.ini", "pattern/vsapi329.zip", "pattern/ssaptn649.zip"];

/// The ways that curl has of asking for a tunnel.
fn ways(http: SocketAddr, socks: SocketAddr) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let (http, socks) = (format!("http://{http}"), socks.to_string());
    vec![
        words(&["-p", "-x", &http]),
        words(&["-p", "--proxy1.0", http.trim_start_matches("http://")]),
        words(&["--socks5", &socks]),
        words(&["--socks5-hostname", &socks]),
        words(&["-x", &format!("socks5h://name:secret@{socks}")]),
        words(&["--socks5", &socks, "--socks5-basic"]),
    ]
}

fn get(curl: &Path, way: &[String], rest: &[&str], urls: &[String]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(curl);
    // All in one connection, where curl can.
    command.args(["-sS", "--fail", "--noproxy", ""]).args(way).args(rest);
    let files: Vec<_> = (0..urls.len()).map(|at| folder.path().join(at.to_string())).collect();
    for (url, file) in urls.iter().zip(&files) {
        command.arg("-o").arg(file).arg(url);
    }
    run(&mut command, WITHIN).succeeded();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn curl_gets_the_mirrors_files_through_each_kind_of_tunnel_r3_2() {
    let Some(curl) = tool("curl") else { return };
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(mirroring(&origin));
    let expected = FILES.map(|file| raw::fetch(relay.v4(), &format!("/activeupdate/{file}"), &[]).whole(200));
    let urls = FILES.map(|file| origin.url(&format!("/{file}")));
    let asked = origin.seen().connections;
    for (http, socks) in [(relay.v4(), relay.socks()[0]), (relay.v6(), relay.socks()[1])] {
        for way in ways(http, socks) {
            assert!(get(&curl, &way, &[], &urls) == expected, "{way:?}");
        }
    }
    assert_eq!(origin.seen().connections, asked, "the mirror answered all of it");
    relay.stop();
}

#[test]
fn curl_gets_a_tls_servers_files_through_each_kind_of_tunnel_by_name_and_by_address_r4_2() {
    let Some(curl) = tool("curl") else { return };
    let authority = Authority::new();
    let mut up = settings(FIXTURE);
    up.tls.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    up.tls.certificates = vec![authority.sign("up", &["up.test", "127.0.0.1", "::1"]).0];
    let mut up = Running::refreshed(up);
    let places = up.handle().running().tls.clone();
    let expected = FILES.map(|file| raw::fetch(up.v4(), &format!("/activeupdate/{file}"), &[]).whole(200));
    // The name has an address of either family here, and curl need not know it.
    let mut settings = named(FIXTURE, &["127.0.0.1 up.test", "::1 up.test"]);
    let ports: Vec<u16> = places.iter().map(SocketAddr::port).collect();
    settings.proxy.allow = vec![rule(&["127.0.0.1/32", "::1/128", "up.test"], &ports, Tunnels::Any)];
    let relay = Running::start(settings);
    let ca = authority.file();
    for (http, socks) in [(relay.v4(), relay.socks()[0]), (relay.v6(), relay.socks()[1])] {
        for way in ways(http, socks) {
            let resolves_itself = way[0] == "--socks5";
            for place in &places {
                let hosts = [place.to_string(), format!("up.test:{}", place.port())];
                for host in &hosts[..if resolves_itself { 1 } else { 2 }] {
                    let urls = FILES.map(|file| format!("https://{host}/activeupdate/{file}"));
                    let got = get(&curl, &way, &["--cacert", ca.to_str().unwrap()], &urls);
                    assert!(got == expected, "{way:?} {host}");
                }
            }
        }
    }
    relay.stop();
    up.stop();
}
