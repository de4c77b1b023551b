//! What `serve` prints, and where it listens by default: in a network of its own, so that the default ports are free (R4.1).

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::process::{Process, run, tool};
use crate::served::{FIXTURE, Place, WITHIN};

/// Runs a shell script in a new network whose loopback is up. Needs to be root.
fn in_network(script: &str) -> Option<Command> {
    let (unshare, _) = (tool("unshare")?, tool("ip")?);
    let works = run(Command::new(&unshare).args(["-n", "true"]), WITHIN).status.success();
    if !works {
        return crate::process::missing("the right to make a network namespace (root)");
    }
    let mut command = Command::new(unshare);
    command.args(["-n", "sh", "-ec", &format!("ip link set lo up\n{script}")]);
    Some(command)
}

const NO_IPV6: &str = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6\n";

fn serve(place: &Place, arguments: &str) -> String {
    let (binary, data) = (env!("CARGO_BIN_EXE_forebay"), place.data());
    format!("{binary} serve --upstream {FIXTURE} --data {} {arguments}", data.display())
}

/// A script that waits for the relay's first generation, tries addresses, and stops the relay.
fn trying(place: &Place, curl: &Path, network: &str, urls: &[&str]) -> String {
    let out = place.path("out");
    let mut script = format!(
        "{network}mkfifo {out}\n{serve} >{out} 2>&1 & relay=$!\n\
         while read -r line; do echo \"$line\"; case $line in *'is published'*) break;; esac; done <{out}\n",
        out = out.display(),
        serve = serve(place, ""),
    );
    for url in urls {
        let curl = curl.display();
        let _ = writeln!(script, "{curl} -sS -o /dev/null -w '{url} %{{http_code}}\\n' '{url}' || true");
    }
    script + "kill $relay\nwait $relay\n"
}

#[test]
fn serve_prints_its_addresses_its_data_and_a_curl_line_that_works_as_printed() {
    if tool("curl").is_none() {
        return;
    }
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let output = relay.output();
    let data = place.data();
    for words in [
        &format!("forebay {} is running", env!("CARGO_PKG_VERSION")),
        &format!("  data            {}", data.display()),
        &format!("  settings        {}", place.config().display()),
        &format!("  administrators  http://{}/metrics", relay.admin),
    ] {
        assert!(output.contains(words), "'{words}' in:\n{output}");
    }
    assert!(relay.agents[0].is_ipv4() && relay.agents[1].is_ipv6(), "{output}");
    let line = relay.wait_line("try: ");
    let curl = line.strip_prefix("try: ").unwrap();
    assert!(curl.starts_with("curl 'http://"), "{curl}");
    let manifest = run(Command::new("sh").args(["-c", curl]), WITHIN).succeeded().stdout;
    assert!(manifest.contains("[PATTERN]"), "{manifest}");

    // The same where only an IPv6 address is given: curl takes the brackets as they are.
    let other = Place::new();
    other.configure("listen = \"[::1]:0\"\nadmin.listen = \"[::1]:0\"", FIXTURE, "");
    let relay = other.serve_ready();
    let line = relay.wait_line("try: ");
    let manifest = run(Command::new("sh").args(["-c", &line["try: ".len()..]]), WITHIN).succeeded().stdout;
    assert!(manifest.contains("[PATTERN]"), "{manifest}");
    assert!(other.command(&["status"]).succeeded().stdout.contains("generation 1"));
    relay.stop();
}

#[test]
fn by_default_both_families_are_served_and_administrators_on_loopback_alone_r4_1() {
    let Some(curl) = tool("curl") else { return };
    let place = Place::new();
    let urls = [
        "http://127.0.0.1:8080/activeupdate/server.ini",
        "http://[::1]:8080/activeupdate/server.ini",
        "http://192.0.2.1:8080/activeupdate/server.ini",
        "http://[2001:db8::1]:8080/activeupdate/server.ini",
        "http://127.0.0.1:8081/healthz",
        "http://[::1]:8081/healthz",
        "http://192.0.2.1:8081/healthz",
        "http://[2001:db8::1]:8081/healthz",
    ];
    let addresses = "ip address add 192.0.2.1/24 dev lo\nip address add 2001:db8::1/64 dev lo\n";
    let Some(mut command) = in_network(&trying(&place, &curl, addresses, &urls)) else { return };
    let ended = run(&mut command, WITHIN).succeeded();
    for (url, status) in urls.iter().zip(["200", "200", "200", "200", "200", "200", "000", "000"]) {
        assert!(ended.stdout.contains(&format!("{url} {status}")), "{url} {status}: {ended:?}");
    }
    for line in ["agents          http://[::]:8080/", "agents          http://0.0.0.0:8080/"] {
        assert!(ended.stdout.contains(line), "{line}: {ended:?}");
    }
    assert!(!ended.stdout.contains("is left out"), "{ended:?}");
}

#[test]
fn where_ipv6_is_disabled_the_defaults_warn_and_go_on_r4_1() {
    let Some(curl) = tool("curl") else { return };
    let place = Place::new();
    let urls = ["http://127.0.0.1:8080/activeupdate/server.ini", "http://127.0.0.1:8081/healthz"];
    let Some(mut command) = in_network(&trying(&place, &curl, NO_IPV6, &urls)) else { return };
    let ended = run(&mut command, WITHIN).succeeded();
    for url in urls {
        assert!(ended.stdout.contains(&format!("{url} 200")), "{ended:?}");
    }
    for address in ["[::]:8080", "[::1]:8081"] {
        let warned = ended.stdout.lines().find(|line| line.contains("WARN") && line.contains(address));
        assert!(warned.is_some_and(|line| line.contains("is left out")), "{address}: {ended:?}");
        assert!(!ended.stdout.contains(&format!("http://{address}")), "{ended:?}");
    }
    assert!(ended.stdout.contains("try: curl 'http://127.0.0.1:8080/"), "{ended:?}");
}

#[test]
fn where_ipv6_is_disabled_a_configured_address_fails_by_name_r4_1() {
    for address in ["[::1]:8080", "[::]:8080"] {
        let place = Place::new();
        for option in ["--listen", "--admin-listen", "--socks-listen"] {
            let script = format!("{NO_IPV6}{}", serve(&place, &format!("{option} '{address}'")));
            let Some(mut command) = in_network(&script) else { return };
            let ended = run(&mut command, WITHIN);
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            let line = format!("forebay: cannot listen on {address}: ");
            assert!(ended.stderr.lines().any(|said| said.starts_with(&line)), "{line}: {ended:?}");
        }
    }
}

#[test]
fn serve_runs_on_when_nobody_reads_what_it_prints() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    // Nobody reads the first token either.
    drop(place.serve(&[]).stop());
    let config = place.config();
    let script = format!("exec {} serve --config {} | true", env!("CARGO_BIN_EXE_forebay"), config.display());
    let process = Process::start(Command::new("sh").args(["-c", &script]));
    process.wait_line(WITHIN, |line| line.contains("a new generation is published"));
    let status = place.command(&["status", "--json"]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let id = i32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    // Its own child started it: the id is the relay's until the shell has seen its end.
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    process.wait_line(WITHIN, |line| line.contains("stopped"));
    process.wait_exit(WITHIN);
}
