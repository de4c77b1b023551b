//! `certs`: what it writes is what the relay takes and what stock clients trust.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::process::{forebay, run, tool};
use crate::served::{FIXTURE, Place, WITHIN};

#[test]
fn its_settings_and_its_curl_line_work_as_printed() {
    let Some(curl) = tool("curl") else { return };
    let place = Place::new();
    let dir = place.path("certs");
    let mut command =
        forebay(["certs", dir.to_str().unwrap(), "--name", "relay.test", "--name", "127.0.0.1"]);
    let printed = run(command.args(["--name", "::1"]), WITHIN).succeeded().stdout;
    for (file, mode) in
        [("authority.pem", 0o644), ("authority.key", 0o600), ("relay.pem", 0o644), ("relay.key", 0o600)]
    {
        let found = fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{file}: {found:o}");
    }
    let settings = &printed[printed.find("[tls]").unwrap()..printed.find("try: ").unwrap()];
    let settings = settings.replace("[\"[::]:8443\", \"0.0.0.0:8443\"]", "[\"127.0.0.1:0\", \"[::1]:0\"]");
    place.configure("", FIXTURE, &settings);
    let relay = place.serve_ready();
    relay.wait_line("agents, TLS");
    let output = relay.output();
    let urls = output.lines().filter_map(|line| Some(line.split_once("agents, TLS")?.1.trim()));
    let urls: Vec<_> = urls.collect();
    assert_eq!(urls.len(), 2, "{output}");
    let screen = place.command(&["status"]).succeeded().stdout;
    for url in &urls {
        let address = url.trim_start_matches("https://").split('/').next().unwrap();
        assert!(screen.contains("\nwith TLS   ") && screen.contains(address), "{address} in:\n{screen}");
    }
    for url in urls {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--noproxy", "*", "--cacert"]).arg(dir.join("authority.pem"));
        run(command.arg(format!("{url}server.ini")), WITHIN).succeeded();
    }
    assert!(printed.contains("'https://relay.test:8443/activeupdate/server.ini'"), "{printed}");
    relay.stop();
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let place = Place::new();
    let dir = place.path("certs");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("relay.key"), "mine").unwrap();
    let certs = |arguments: &[&str]| run(forebay(["certs", dir.to_str().unwrap()]).args(arguments), WITHIN);
    let refused = certs(&["--name", "a.test"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("relay.key is there already"), "{refused:?}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(dir.join("relay.key")).unwrap(), "mine");
    assert_eq!(certs(&[]).status.code(), Some(2));
    fs::remove_file(dir.join("relay.key")).unwrap();
    assert_eq!(certs(&["--name", "na\u{ef}ve"]).status.code(), Some(1));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}
