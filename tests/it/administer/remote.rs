//! Commands for a relay elsewhere, by its URL: over TLS, over both families, with a certificate in place of a token; and whom a token is
//! not sent to.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread::{JoinHandle, spawn};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::process::{Ended, Process, forebay, run};
use crate::served::{FIXTURE, Place, Served, WITHIN};

/// A relay whose administrators connect with TLS, and a workstation that has nothing of it but a token.
struct Elsewhere {
    authority: Authority,
    place: Place,
    relay: Served,
    /// Its listener with TLS over IPv4, and the one over IPv6.
    tls: [SocketAddr; 2],
    workstation: TempDir,
}

/// Whom the relay knows by a certificate.
const ALICE: &str = "alice.corp.test";

impl Elsewhere {
    fn start(names: &[&str]) -> Self {
        let authority = Authority::new();
        let place = Place::new();
        let shown = authority.sign("admin", names).0;
        let tail = format!(
            "[admin.tls]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]\nclient_ca_files = {:?}\n\
             [[admin.tls.certificate]]\nchain = {:?}\nkey = {:?}\n\
             [[admin.tls.client]]\nname = \"{ALICE}\"\nrole = \"operator\"\n",
            authority.file(),
            shown.chain,
            shown.key
        );
        place.configure("", FIXTURE, &tail);
        let relay = place.serve_ready();
        let output = relay.output();
        let addresses = output.lines().filter_map(|line| line.split_once("administrators, TLS  https://"));
        let addresses = addresses.map(|(_, rest)| rest.split('/').next().unwrap().parse().unwrap());
        let tls = addresses.collect::<Vec<_>>().try_into().unwrap();
        Self { authority, place, relay, tls, workstation: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        format!("https://{}", self.tls[0])
    }

    /// A command at the workstation, with a token.
    fn command(&self, line: &[&str]) -> Command {
        let mut command = forebay(line);
        command.current_dir(self.workstation.path());
        command.env("FOREBAY_TOKEN", fs::read_to_string(self.place.token_file()).unwrap());
        command
    }

    /// The same, for a URL, with the relay's authority.
    fn at(&self, url: &str, line: &[&str]) -> Command {
        let mut command = self.command(line);
        command.args(["--url", url, "--ca"]).arg(self.authority.file());
        command
    }

    fn typed(&self, line: &[&str]) -> String {
        run(&mut self.at(&self.url(), line), WITHIN).succeeded().stdout
    }
}

/// What a command says that fails.
fn refused(command: &mut Command, code: i32) -> String {
    let Ended { status, stdout, stderr } = run(command, WITHIN);
    assert_eq!(status.code(), Some(code), "{command:?}: {stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Nobody has connected that was not accepted.
fn is_left_alone(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Takes one connection and answers each request on it alike, until it is closed; gives all that was sent.
fn answers(listener: &TcpListener, answer: String) -> JoinHandle<String> {
    let listener = listener.try_clone().unwrap();
    spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return String::from_utf8(heard).unwrap(),
                Ok(count) => heard.extend(&piece[..count]),
            }
            if heard.ends_with(b"\r\n\r\n") {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    })
}

#[test]
fn all_commands_reach_a_relay_elsewhere_by_its_url_over_both_families_r11_1() {
    let there = Elsewhere::start(&["127.0.0.1", "::1", "localhost"]);
    let [v4, v6] = there.tls;
    for url in [
        there.url(),
        format!("https://{v4}/"),
        format!("https://{v6}"),
        format!("https://localhost:{}", v4.port()),
    ] {
        let me = run(&mut there.at(&url, &["me"]), WITHIN).succeeded().stdout;
        assert_eq!(me, "admin, with the role administrator, known by a token\n", "{url}");
    }
    there.typed(&["domains", "create", "Tills", "--set", "scope=patterns"]);
    there.typed(&["agents", "add", "till-1", "--domain", "Tills"]);
    there.typed(&["settings", "set", "domain:Tills", "update_now", "true"]);
    fs::write(there.workstation.path().join("agent.ini"), "[Global]\n").unwrap();
    there.typed(&["files", "put", "agent.ini", "--domain", "Tills"]);
    assert_eq!(there.typed(&["files", "show", "agent.ini", "--domain", "Tills"]), "[Global]\n");
    assert!(there.typed(&["why", "till-1", "server.ini"]).starts_with("till-1 asks for "));
    let status = there.typed(&["status"]);
    assert!(status.contains(&format!("process {}", there.relay.id())), "{status}");
    assert!(there.typed(&["refresh"]).contains("nothing new"));
    assert!(there.typed(&["scrub"]).contains("; 0 damaged"));
    let exported = there.typed(&["tree", "export"]);
    assert_eq!(exported, there.place.command(&["tree", "export"]).succeeded().stdout);
    fs::write(there.workstation.path().join("tree.toml"), exported.replace("patterns", "all")).unwrap();
    assert!(there.typed(&["tree", "apply", "tree.toml", "--yes"]).contains("done: change"));
    assert!(there.typed(&["admin-token", "make", "bob"]).contains("bob~"));
    assert!(there.typed(&["admin-token", "list"]).contains("\nbob "));
    let enrolled = there.typed(&["enrol", "create", "Tills", "--agents", "2"]);
    assert!(enrolled.contains("curl https://RELAY/api/v1/enrol"), "{enrolled}");
    assert!(there.typed(&["audit"]).contains("admin, from 127.0.0.1: "));
    assert_eq!(fs::read_dir(there.workstation.path()).unwrap().count(), 2, "no data folder was made here");
    there.relay.stop();
}

#[test]
fn what_goes_on_is_followed_over_tls_until_it_ends_r9_1d_r11_1() {
    let there = Elsewhere::start(&["127.0.0.1"]);
    let url = there.url();
    there.typed(&["domains", "create", "Tills"]);
    let follow = Process::start(&mut there.at(&url, &["audit", "--follow"]));
    follow.wait_line(WITHIN, |line| line.contains("Tills"));
    there.typed(&["agents", "add", "till-1", "--domain", "Tills"]);
    follow.wait_line(WITHIN, |line| line.contains("till-1"));
    // Nobody tells the agent, so that somebody has to end it.
    let update = Process::start(&mut there.at(&url, &["update", "start", "--agent", "till-1", "--wait"]));
    let until = std::time::Instant::now() + WITHIN;
    while there.typed(&["update", "list"]).starts_with("No update was started") {
        assert!(std::time::Instant::now() < until, "{}", update.output());
    }
    there.typed(&["update", "cancel", "1"]);
    assert!(update.wait_exit(WITHIN).succeeded().stdout.contains(" ended "));
    there.relay.stop();
    let ended = follow.wait_exit(WITHIN).succeeded();
    assert_eq!(ended.stderr, "forebay: the relay has ended\n");
}

#[test]
fn what_is_typed_counts_before_what_the_variable_says() {
    let there = Elsewhere::start(&["127.0.0.1"]);
    let by_variable = |line: &[&str], url: &str| {
        let mut command = there.command(line);
        command.env("FOREBAY_URL", url);
        command
    };
    let mut right = by_variable(&["me"], &there.url());
    assert!(
        run(right.arg("--ca").arg(there.authority.file()), WITHIN).succeeded().stdout.starts_with("admin, ")
    );
    let mut typed = by_variable(&["me", "--data"], "https://192.0.2.1");
    assert!(run(typed.arg(there.place.data()), WITHIN).succeeded().stdout.starts_with("admin, "));
    let mut nowhere = by_variable(&["me", "--data"], &there.url());
    assert!(refused(nowhere.arg(there.workstation.path()), 1).contains("no relay runs on data folder"));
    assert_eq!(
        refused(&mut by_variable(&["me"], "https://relay/activeupdate/"), 1),
        "forebay: FOREBAY_URL https://relay/activeupdate/: it has a path, and the listener for administrators has none; allowed: \
         https://HOST:PORT, and on this machine http://HOST:PORT\n"
    );
    let secret = refused(&mut there.command(&["me", "--url", "https://alice:secret@relay/"]), 1);
    assert!(secret.contains("credentials") && !secret.contains("secret"), "{secret}");
    let mut here = there.command(&["me", "--ca", "ca.pem", "--data"]);
    assert!(refused(here.arg(there.place.data()), 1).contains("named with --url or FOREBAY_URL"));
    for line in [
        &["me", "--url", "https://a", "--data", "b"][..],
        &["me", "--url", "https://a", "--config", "b"],
        &["me", "--url", "https://a", "--cert", "b"],
        &["me", "--url", "https://a", "--key", "b"],
    ] {
        refused(&mut there.command(line), 2);
    }
    there.relay.stop();
}

#[test]
fn whoever_cannot_show_the_relays_certificate_is_told_no_token_r11_1() {
    let there = Elsewhere::start(&["relay.corp.test"]);
    let (url, other) = (there.url(), Authority::new());
    let unknown =
        "no authority that is believed here vouches for it; --ca names a file with the one that does\n";
    let mut wrong = there.command(&["me", "--url", &url, "--ca"]);
    for said in [refused(wrong.arg(other.file()), 1), refused(&mut there.command(&["me", "--url", &url]), 1)]
    {
        assert!(
            said.starts_with(&format!("forebay: the relay at {url}: TLS: ")) && said.ends_with(unknown),
            "{said}"
        );
    }
    let misnamed = refused(&mut there.at(&url, &["me"]), 1);
    assert!(
        misnamed.contains("relay.corp.test") && misnamed.contains(&format!("the relay at {url}: ")),
        "{misnamed}"
    );
    assert!(misnamed.ends_with("--url must name the relay as its certificate does\n"), "{misnamed}");
    let clear = format!("https://{}", there.relay.admin);
    let clear = refused(&mut there.at(&clear, &["me"]), 1);
    assert!(clear.ends_with("what is there may speak no TLS\n"), "{clear}");
    for (file, reason) in [("none.pem", "No such file"), ("empty.pem", "it holds no certificate in PEM")] {
        fs::write(there.workstation.path().join("empty.pem"), "").unwrap();
        let said = refused(&mut there.command(&["me", "--url", &url, "--ca", file]), 1);
        assert!(said.contains(&format!("authorities in {file}: ")) && said.contains(reason), "{said}");
    }
    there.relay.stop();
}

#[test]
fn what_works_without_a_relay_says_that_it_needs_the_data_folder_then() {
    for line in
        ["scrub", "tree export", "tree apply", "admin-token make", "admin-token list", "admin-token revoke"]
    {
        let help = run(&mut forebay(line.split(' ').chain(["--help"])), WITHIN).succeeded().stdout;
        assert!(help.contains("Where no relay runs, this works on its data folder itself"), "{line}: {help}");
    }
}

#[test]
fn a_token_goes_to_no_other_machine_in_clear_text_unless_that_is_allowed_r11_1() {
    // What is sent to 0.0.0.0 comes to this machine, but that is not for a rule about loopback to know.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let there = Elsewhere::start(&["127.0.0.1"]);
    let url = format!("http://0.0.0.0:{port}");
    for line in
        [&["me"][..], &["scrub"], &["tree", "export"], &["admin-token", "list"], &["audit", "--follow"]]
    {
        let said = refused(there.command(line).args(["--url", &url]), 1);
        assert!(said.starts_with(&format!("forebay: --url {url}: without TLS ")), "{said}");
        assert!(said.contains("say --allow-clear-text"), "{said}");
    }
    is_left_alone(&listener);
    listener.set_nonblocking(false).unwrap();
    let heard = answers(&listener, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into());
    let said = refused(&mut there.command(&["me", "--allow-clear-text", "--url", &url]), 1);
    assert!(said.contains("is that where its administrators connect?"), "{said}");
    assert!(heard.join().unwrap().contains("authorization: Bearer admin~"));
    for url in
        [format!("http://{}", there.relay.admin), format!("http://localhost:{}", there.relay.admin.port())]
    {
        let me = run(&mut there.command(&["me", "--url", &url]), WITHIN).succeeded().stdout;
        assert!(me.starts_with("admin, "), "{url}");
    }
    there.relay.stop();
}

#[test]
fn a_server_that_leads_elsewhere_sees_the_token_once_and_nobody_else_does_r11_1() {
    let there = Elsewhere::start(&["127.0.0.1"]);
    let (hostile, other) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}", hostile.local_addr().unwrap());
    for (status, line) in [
        ("301 Moved Permanently", &["me"][..]),
        ("302 Found", &["status"]),
        ("303 See Other", &["refresh"]),
        ("307 Temporary Redirect", &["admin-token", "list"]),
        ("308 Permanent Redirect", &["tree", "export"]),
    ] {
        for to in [format!("http://{}/", other.local_addr().unwrap()), format!("{url}/elsewhere")] {
            let answer = format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            let heard = answers(&hostile, answer);
            let said = refused(there.command(line).args(["--url", &url]), 1);
            let wanted = format!(
                "forebay: the relay at {url}: it answers {status} and leads to {to}: that is not followed, "
            );
            assert!(said.starts_with(&wanted), "{said}");
            assert_eq!(heard.join().unwrap().matches("authorization: Bearer admin~").count(), 1, "{line:?}");
        }
    }
    is_left_alone(&hostile);
    is_left_alone(&other);
    there.relay.stop();
}

#[test]
fn a_certificate_does_in_place_of_a_token_where_the_relay_knows_its_name_r11_1() {
    let there = Elsewhere::start(&["127.0.0.1"]);
    for name in [ALICE, "mallory.corp.test"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let place = |extension: &str| there.workstation.path().join(format!("{name}.{extension}"));
        fs::write(place("pem"), there.authority.issue(&params, &key).pem()).unwrap();
        fs::write(place("key"), key.serialize_pem()).unwrap();
    }
    let shows = |cert: &str, key: &str| {
        let mut command = there.at(&there.url(), &["me", "--cert", cert, "--key", key]);
        command.env_remove("FOREBAY_TOKEN");
        command
    };
    let alice = run(&mut shows("alice.corp.test.pem", "alice.corp.test.key"), WITHIN).succeeded().stdout;
    assert_eq!(alice, format!("{ALICE}, with the role operator, known by a certificate\n"));
    let mallory = refused(&mut shows("mallory.corp.test.pem", "mallory.corp.test.key"), 1);
    assert!(mallory.contains("the relay wants a token"), "{mallory}");
    let mixed = refused(&mut shows("alice.corp.test.pem", "mallory.corp.test.key"), 1);
    assert!(
        mixed.contains("mallory.corp.test.key: it is not the key of the certificate in alice"),
        "{mixed}"
    );
    assert!(!mixed.contains("PRIVATE"), "{mixed}");
    there.relay.stop();
}
