//! From end to end with processes alone: upstream, relay, and the tools that administrators have (R1.1, R2.1, R3.1, R4.1).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{Process, forebay, run, tool};
use crate::served::{Place, Served, WITHIN, files};

const PACKAGE: &str = "pattern/vsapi329.zip";

#[test]
fn two_relays_in_a_row_serve_every_file_to_stock_clients_and_then_the_next_release_r1_1_r1_4_r4_1() {
    let (Some(curl), Some(wget)) = (tool("curl"), tool("wget")) else { return };
    let (first, second) = (Place::new(), Place::new());
    let tree = first.path("tree");
    let written = run(forebay(["fixture"]).arg(&tree), WITHIN).succeeded();
    assert!(written.stdout.contains("release 0, 250 files"), "{written:?}");
    first.configure("", tree.to_str().unwrap(), "");
    let upstream = first.serve_ready();
    second.configure("", &format!("http://{}/activeupdate/", upstream.agents[1]), "");
    let relay = second.serve_ready();

    let release = files(&tree, 0);
    let manifest = manifest_over(&curl, "-4", &upstream);
    assert_eq!(manifest_over(&curl, "-6", &relay), manifest);
    let bytes: usize = release.iter().map(|(_, bytes)| bytes.len()).sum();
    let sent = upstream.metric("forebay_sent_bytes_total");
    assert_eq!(sent, (bytes + 2 * manifest.len()) as u64, "each byte left the upstream once (R2.1)");
    for family in ["-6", "-4"] {
        curl_takes_all(&curl, family, &relay, &release);
    }
    wget_takes_all(&wget, &relay, &release);
    assert_eq!(upstream.metric("forebay_sent_bytes_total"), sent, "the relay served from its store");

    run(forebay(["fixture", "--next", "--retire"]).arg(&tree), WITHIN).succeeded();
    let (release_before, release) = (release, files(&tree, 1));
    for place in [&first, &second] {
        let refreshed = place.command(&["refresh"]).succeeded();
        assert_eq!(refreshed.stdout, "activeupdate: generation 2 is new\n");
    }
    // A signature's entity tag names its generation: each comes anew. Of all else only what changed.
    let new = |file: &&(String, Vec<u8>)| {
        Path::new(&file.0).extension().is_some_and(|name| name == "sig") || !release_before.contains(*file)
    };
    let bytes: usize = release.iter().filter(new).map(|(_, bytes)| bytes.len()).sum();
    let next_manifest = manifest_over(&curl, "-6", &relay);
    assert_ne!(next_manifest, manifest);
    let sent_next = upstream.metric("forebay_sent_bytes_total") - sent;
    assert_eq!(sent_next, (bytes + next_manifest.len()) as u64, "what stayed did not come again (R1.3)");
    curl_takes_all(&curl, "-6", &relay, &release);
    let again = second.command(&["refresh"]).succeeded();
    assert_eq!(again.stdout, "activeupdate: nothing new; generation 2 is current\n");
    relay.stop();
    upstream.stop();
}

#[test]
fn stock_clients_resume_take_parts_and_ask_for_heads_r3_1() {
    let (Some(curl), Some(wget)) = (tool("curl"), tool("wget")) else { return };
    let place = Place::new();
    place.configure("", crate::served::FIXTURE, "");
    let relay = place.serve_ready();
    let url = url(&relay, 0, PACKAGE);
    let whole = fs::read(Path::new(crate::served::FIXTURE).join(PACKAGE)).unwrap();
    let (half, file) = (whole.len() / 2, place.path("vsapi329.zip"));
    let curl = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail"]).args(arguments).arg("-o").arg(&file).arg(&url);
        run(&mut command, WITHIN).succeeded().stdout.trim().to_owned()
    };

    curl(&["-r", "10-99"]);
    assert!(fs::read(&file).unwrap() == whole[10..100]);
    curl(&["-r", "-7"]);
    assert!(fs::read(&file).unwrap() == whole[whole.len() - 7..]);
    fs::write(&file, &whole[..half]).unwrap();
    assert_eq!(
        curl(&["-C", "-", "-w", "%{http_code} %{size_download}"]),
        format!("206 {}", whole.len() - half)
    );
    assert!(fs::read(&file).unwrap() == whole);
    let head = curl(&["-I", "-w", "%{http_code} %{size_download} %header{content-length}"]);
    assert_eq!(head, format!("200 0 {}", whole.len()));

    fs::write(&file, &whole[..half]).unwrap();
    let mut command = Command::new(&wget);
    command.env("LC_ALL", "C").args(["-c", &url]).current_dir(file.parent().unwrap());
    let resumed = run(&mut command, WITHIN).succeeded();
    assert!(resumed.stderr.contains("206 Partial Content"), "{}", resumed.stderr);
    assert!(fs::read(&file).unwrap() == whole);
    let done = run(&mut command, WITHIN).succeeded();
    assert!(
        done.stderr.contains("already fully retrieved"),
        "416 says that nothing is left: {}",
        done.stderr
    );
    relay.stop();
}

#[test]
fn a_plain_file_server_is_upstream_enough_r1_2() {
    let (Some(curl), Some(python)) = (tool("curl"), tool("python3")) else { return };
    let place = Place::new();
    let tree = place.path("tree");
    run(forebay(["fixture"]).arg(&tree), WITHIN).succeeded();
    let mut command = Command::new(python);
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(&tree);
    let server = Process::start(&mut command);
    let line = server.wait_line(WITHIN, |line| line.starts_with("Serving HTTP"));
    let base = line.split(['(', ')']).nth(1).unwrap();
    place.configure("", base, "");
    let relay = place.serve_ready();
    curl_takes_all(&curl, "-4", &relay, &files(&tree, 0));
    run(forebay(["fixture", "--next"]).arg(&tree), WITHIN).succeeded();
    assert_eq!(place.command(&["refresh"]).succeeded().stdout, "activeupdate: generation 2 is new\n");
    curl_takes_all(&curl, "-6", &relay, &files(&tree, 1));
    relay.stop();
}

fn url(relay: &Served, family: usize, path: &str) -> String {
    format!("http://{}/activeupdate/{path}", relay.agents[family])
}

/// The loopback addresses stand in the order of the settings: IPv4, IPv6.
fn family_index(family: &str) -> usize {
    usize::from(family == "-6")
}

fn manifest_over(curl: &Path, family: &str, relay: &Served) -> Vec<u8> {
    let url = url(relay, family_index(family), "server.ini");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(curl);
    run(command.args(["-sS", "--fail", family, &url, "-o"]).arg(file.path()), WITHIN).succeeded();
    fs::read(file.path()).unwrap()
}

/// One curl takes all files over one family, and each is what it should be.
fn curl_takes_all(curl: &Path, family: &str, relay: &Served, release: &[(String, Vec<u8>)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = String::new();
    for (path, _) in release {
        let url = url(relay, family_index(family), path);
        let _ = writeln!(config, "url = {url:?}\noutput = {:?}", folder.path().join(path));
    }
    let file = folder.path().join("curl.config");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(curl);
    command.args(["-sS", "--fail-early", "--fail", "--create-dirs", family, "-K"]).arg(file);
    run(&mut command, WITHIN).succeeded();
    same(folder.path(), release);
}

fn wget_takes_all(wget: &Path, relay: &Served, release: &[(String, Vec<u8>)]) {
    let folder = tempfile::tempdir().unwrap();
    let urls: String = release.iter().map(|(path, _)| url(relay, 0, path) + "\n").collect();
    let list = folder.path().join("urls");
    fs::write(&list, urls).unwrap();
    let mut command = Command::new(wget);
    command.args(["-nv", "-x", "-nH", "--cut-dirs=1", "-i"]).arg(&list).arg("-P").arg(folder.path());
    run(&mut command, WITHIN).succeeded();
    same(folder.path(), release);
}

fn same(folder: &Path, release: &[(String, Vec<u8>)]) {
    assert!(release.len() >= 250);
    for (path, bytes) in release {
        assert!(fs::read(folder.join(path)).unwrap() == *bytes, "{path} differs");
    }
}
