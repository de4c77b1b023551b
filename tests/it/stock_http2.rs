//! Stock clients of HTTP/2 and TLS against a relay as a process: curl, openssl, nghttp, h2load (R1.1, R4.1).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::authority::Authority;
use crate::process::{run, tool};
use crate::served::{FIXTURE, Place, Served, WITHIN};

const PACKAGE: &str = "pattern/vsapi329.zip";

/// A relay with and without TLS, two certificates, and whoever signed them.
struct Ground {
    authority: Authority,
    place: Place,
    relay: Served,
    secure: u16,
}

impl Ground {
    fn new() -> Self {
        let authority = Authority::new();
        let place = Place::new();
        let mut tls = "[tls]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        for (file, name) in [("first", "relay.test"), ("second", "other.test")] {
            let (files, _) = authority.sign(file, &[name]);
            let _ = write!(tls, "[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n", files.chain, files.key);
        }
        place.configure("", FIXTURE, &tls);
        let relay = place.serve_ready();
        let line = relay.wait_line("agents, TLS");
        let port = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap();
        Self { authority, secure: port.parse().unwrap(), place, relay }
    }

    fn clear(&self) -> String {
        format!("http://{}/activeupdate/{PACKAGE}", self.relay.agents[0])
    }

    fn secure(&self) -> String {
        format!("https://relay.test:{}/activeupdate/{PACKAGE}", self.secure)
    }
}

fn whole() -> Vec<u8> {
    fs::read(Path::new(FIXTURE).join(PACKAGE)).unwrap()
}

#[test]
fn curl_takes_whole_files_parts_and_heads_over_each_version_of_http_and_tls_r4_1() {
    let Some(curl) = tool("curl") else { return };
    let ground = Ground::new();
    let out = ground.place.path("out");
    let whole = whole();
    let resolve = format!("relay.test:{}:127.0.0.1", ground.secure);
    let curl = |arguments: &[&str], url: &str| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--noproxy", "*", "--resolve", &resolve, "-w"]);
        command
            .args(["%{http_version} %{http_code} %{size_download}", "--cacert"])
            .arg(ground.authority.file());
        command.args(arguments).arg("-o").arg(&out).arg(url);
        run(&mut command, WITHIN).succeeded().stdout.trim().to_owned()
    };
    let size = whole.len();
    for (how, url, version) in [
        (&["--http2-prior-knowledge"][..], ground.clear(), "2"),
        (&["--http2"], ground.clear(), "1.1"),
        (&["--tls-max", "1.2", "--http2"], ground.secure(), "2"),
        (&["--tlsv1.3", "--http2"], ground.secure(), "2"),
        (&["--tls-max", "1.2", "--http1.1"], ground.secure(), "1.1"),
        (&["--tlsv1.3", "--http1.1"], ground.secure(), "1.1"),
        (&["--tlsv1.3", "--no-alpn"], ground.secure(), "1.1"),
        (&["--http1.0"], ground.secure(), "1"),
    ] {
        assert_eq!(curl(how, &url), format!("{version} 200 {size}"), "{how:?}");
        assert!(fs::read(&out).unwrap() == whole, "{how:?}");
        assert_eq!(curl(&[how, &["-r", "10-99"]].concat(), &url), format!("{version} 206 90"), "{how:?}");
        assert!(fs::read(&out).unwrap() == whole[10..100], "{how:?}");
        assert_eq!(curl(&[how, &["-I"]].concat(), &url), format!("{version} 200 0"), "{how:?}");
    }
    ground.relay.stop();
}

#[test]
fn openssl_sees_the_version_the_protocol_and_the_certificate_of_the_name_r4_1() {
    let Some(openssl) = tool("openssl") else { return };
    let ground = Ground::new();
    let address = format!("127.0.0.1:{}", ground.secure);
    let see = |arguments: &[&str]| {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &address, "-CAfile"]).arg(ground.authority.file());
        let ended = run(command.args(arguments), WITHIN);
        (ended.status.success(), ended.stdout + &ended.stderr)
    };
    for (version, named) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for (name, other) in [("relay.test", "other.test"), ("other.test", "relay.test")] {
            let asked = [version, "-alpn", "h2,http/1.1", "-servername", name, "-verify_return_error"];
            let (done, seen) = see(&[&asked[..], &["-verify_hostname", name]].concat());
            assert!(done && seen.contains(named) && seen.contains("ALPN protocol: h2"), "{seen}");
            let (done, seen) = see(&[&asked[..], &["-verify_hostname", other]].concat());
            assert!(!done, "the certificate of {name} is good for {other}: {seen}");
        }
    }
    let (_, seen) = see(&["-alpn", "http/1.1"]);
    assert!(seen.contains("ALPN protocol: http/1.1"), "{seen}");
    // What is older than TLS 1.2, or speaks no protocol that the relay does, gets no connection.
    for refused in [&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..], &["-alpn", "spdy/3"]] {
        let (done, seen) = see(refused);
        assert!(!done, "{refused:?}: {seen}");
    }
    assert!(ground.relay.metric("forebay_tls_failed_total") >= 2);
    ground.relay.stop();
}

#[test]
fn nghttp_takes_whole_files_and_many_over_one_connection() {
    let Some(nghttp) = tool("nghttp") else { return };
    let ground = Ground::new();
    // It writes what it takes to its standard output, byte by byte.
    let taken = Command::new(&nghttp).args(["--no-push", "--timeout=30", &ground.clear()]).output().unwrap();
    assert!(taken.status.success() && taken.stdout == whole());

    let base = format!("http://{}/activeupdate/", ground.relay.agents[0]);
    let files = ["pattern/vsapi329.zip", "pattern/tmwhite974.zip", "pattern/vsapi_1932700.1932900"];
    let bytes: u64 =
        files.iter().map(|file| fs::metadata(Path::new(FIXTURE).join(file)).unwrap().len()).sum();
    // The second time by a window so narrow that it must be opened again for nearly every frame: no flood.
    for windows in [&[][..], &["--window-bits=10", "--connection-window-bits=10"]] {
        let now = || {
            ["forebay_connections_total", "forebay_sent_bytes_total"].map(|name| ground.relay.metric(name))
        };
        let before = now();
        let mut command = Command::new(&nghttp);
        command.args(["--no-push", "--null-out", "--timeout=30"]).args(windows);
        run(command.args(files.map(|file| format!("{base}{file}"))), WITHIN).succeeded();
        assert_eq!(now(), [before[0] + 1, before[1] + bytes], "{windows:?}");
    }
    assert_eq!(ground.relay.metric("forebay_http2_floods_total"), 0);
    ground.relay.stop();
}

#[test]
fn h2load_gets_every_answer_whole() {
    let Some(h2load) = tool("h2load") else { return };
    let ground = Ground::new();
    let size = whole().len();
    for (url, arguments) in [
        (ground.clear(), &[][..]),
        (format!("https://127.0.0.1:{}/activeupdate/{PACKAGE}", ground.secure), &[]),
        (ground.clear(), &["--h1"]),
        (ground.clear(), &["-w", "14", "-W", "14"]),
    ] {
        let sent = ground.relay.metric("forebay_sent_bytes_total");
        let mut command = Command::new(&h2load);
        command.args(["-n", "2000", "-c", "10", "-m", "20", "-t", "1"]).args(arguments).arg(&url);
        let seen = run(&mut command, WITHIN).succeeded().stdout;
        assert!(
            seen.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{url} {arguments:?}: {seen}"
        );
        assert!(seen.contains("2000 2xx"), "{seen}");
        assert!(seen.contains(&format!("({}) data", 2000 * size)), "{}: {seen}", 2000 * size);
        assert_eq!(ground.relay.metric("forebay_sent_bytes_total") - sent, 2000 * size as u64);
    }
    assert_eq!(ground.relay.metric("forebay_http2_floods_total"), 0);
    ground.relay.stop();
}
