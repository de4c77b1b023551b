//! What cannot start says so once, by name, with what is allowed instead, and ends with 1 (issue 2, bad input).

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::process::{Ended, forebay, run};
use crate::served::{FIXTURE, Place, WITHIN};

/// The lines on standard error that the program itself wrote there; all others are the log's.
fn complaints(ended: &Ended) -> Vec<&str> {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "", "nothing is promised before it failed");
    let lines = ended.stderr.lines().filter_map(|line| line.strip_prefix("forebay: "));
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains(" ERROR "), "{}", ended.stderr);
    lines.collect()
}

/// `serve` from this upstream fails with one line that holds all these words.
fn fails(place: &Place, arguments: &[&str], words: &[&str]) {
    let data = place.data();
    let mut command = forebay(["serve"]);
    command.args(arguments);
    if !arguments.contains(&"--config") {
        command.args(["--admin-listen", "127.0.0.1:0", "--socks-listen", "127.0.0.1:0"]);
    }
    if !arguments.contains(&"--listen") && !arguments.contains(&"--config") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    if !arguments.contains(&"--data") {
        command.arg("--data").arg(data);
    }
    let ended = run(&mut command, WITHIN);
    let complaints = complaints(&ended);
    assert_eq!(complaints.len(), 1, "{ended:?}");
    for word in words {
        assert!(complaints[0].contains(word), "'{word}' in: {}", complaints[0]);
    }
}

#[test]
fn a_port_in_use_by_a_program_or_a_relay_is_named() {
    let place = Place::new();
    let program = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = program.local_addr().unwrap().to_string();
    fails(&place, &["--upstream", FIXTURE, "--listen", &taken], &[&taken, "the port is in use"]);

    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let second = Place::new();
    for taken in relay.agents.iter().chain([&relay.admin]) {
        let taken = taken.to_string();
        fails(&second, &["--upstream", FIXTURE, "--listen", &taken], &[&taken, "another relay"]);
    }
    relay.stop();
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named_with_the_reason() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let data = place.data();
    let data = data.to_str().unwrap();
    let pid = format!("process {}", relay.id());
    fails(&place, &["--upstream", FIXTURE], &[data, "in use by another relay", &pid]);
    relay.stop();

    let foreign = place.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "mine").unwrap();
    let foreign = foreign.to_str().unwrap();
    fails(&place, &["--upstream", FIXTURE, "--data", foreign], &[foreign, "name an empty or a new folder"]);
    assert_eq!(fs::read(Path::new(foreign).join("letter.txt")).unwrap(), b"mine");

    fs::write(place.data().join("FORMAT"), "99\n").unwrap();
    fails(&place, &["--upstream", FIXTURE], &[data, "format '99'", "this program reads 1"]);

    let file = place.path("file");
    fs::write(&file, "").unwrap();
    let below = file.join("data");
    let below = below.to_str().unwrap();
    fails(&place, &["--upstream", FIXTURE, "--data", below], &[below, "Not a directory"]);
    fails(&place, &["--upstream", FIXTURE, "--data", "/proc/forebay"], &["/proc/forebay", "make folder"]);
}

#[test]
fn an_upstream_folder_that_is_no_tree_is_named_with_the_reason() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    for (folder, reason) in [
        ("nowhere", "No such file or directory"),
        ("empty", "the directory is no tree: server.ini in it cannot be read"),
        ("forebay.toml", "Not a directory"),
    ] {
        place.configure("", FIXTURE, "");
        let path = place.path(folder);
        let path = path.to_str().unwrap();
        fails(&place, &["--upstream", path], &["tree 'activeupdate'", path, reason]);
    }
    fails(
        &place,
        &["--upstream", "ftp://x/"],
        &["ftp://x/", "the scheme is 'ftp'", "allowed: an http or https URL"],
    );
    fails(&place, &["--upstream", ""], &["allowed: "]);
    // What failed to start leaves a folder that the next start takes without a word.
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    assert!(!relay.output().contains("index"), "{}", relay.output());
    relay.stop();
}

#[test]
fn a_settings_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    let config = place.config();
    let config = config.to_str().unwrap();
    fails(&place, &["--config", config], &["settings file", config, "No such file"]);
    fs::write(config, b"\xff\xfe").unwrap();
    fails(&place, &["--config", config], &[config, "not UTF-8"]);
    fs::write(config, "data = = 1").unwrap();
    fails(&place, &["--config", config], &[config, "line 1, column 8: not valid TOML"]);
    let folder = place.path("");
    let folder = folder.to_str().unwrap();
    fails(&place, &["--config", folder], &[folder, "Is a directory"]);
    place.configure("", FIXTURE, "[upstream]\nca_file = \"/nowhere/ca.pem\"");
    fails(&place, &["--config", config], &["upstream.ca_file /nowhere/ca.pem", "No such file"]);
}

#[test]
fn serve_and_check_name_every_error_of_a_settings_file_with_line_key_value_and_what_is_allowed_r11_3() {
    let place = Place::new();
    place.configure("wrokers = 2\nlog.level = \"loud\"", FIXTURE, "prefetch = 3\n[limits]\ndrain_secs = -1");
    let config = place.config();
    let config = config.to_str().unwrap();
    let expected = [
        "line 5: wrokers: unknown key in the top level (is 'workers' meant?); allowed: ",
        "line 6: log.level = \"loud\": ",
        "line 10: tree[0].prefetch = 3: ",
        "line 12: limits.drain_secs = -1: out of bounds; allowed: a whole number from 0 to 3600",
    ];
    for command in [["check", "config"].as_slice(), &["serve", "--config"]] {
        let ended = run(forebay(command).arg(config), WITHIN);
        let complaints = complaints(&ended);
        assert_eq!(complaints.len(), expected.len(), "{ended:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.starts_with(&format!("{config}: {expected}")), "{complaint}");
            assert!(complaint.contains("allowed: "), "{complaint}");
        }
    }
    assert!(!place.data().exists(), "nothing was begun");

    place.configure("", FIXTURE, "");
    let checked = run(forebay(["check", "config"]).arg(config), WITHIN).succeeded();
    assert_eq!(checked.stdout, format!("{config}: valid; trees: /activeupdate/\n"));
    assert!(!place.data().exists());
}

/// Runs the program as a user that file permissions hold for, from a copy that this user can reach.
fn unprivileged(place: &Place, arguments: &[&str]) -> Ended {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let program = place.path("forebay");
    fs::copy(env!("CARGO_BIN_EXE_forebay"), &program).unwrap();
    open(&place.path(""), 0o777);
    open(&program, 0o755);
    let mut command = Command::new(&program);
    command.arg("serve").args(arguments);
    for option in ["--listen", "--socks-listen", "--admin-listen"] {
        command.args([option, "127.0.0.1:0"]);
    }
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    run(&mut command, WITHIN)
}

/// The user that owns nothing.
const NOBODY: u32 = 65534;

#[test]
fn a_folder_that_may_not_be_read_is_named_r11_4() {
    let place = Place::new();
    let (data, tree) = (place.path("data"), place.path("tree"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("server.ini"), "[PATTERN]\n").unwrap();
    let lock = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    let (data, upstream) = (data.to_str().unwrap(), tree.to_str().unwrap());
    for locked in [tree.join("server.ini"), tree.clone()] {
        lock(&locked);
        let ended = unprivileged(&place, &["--upstream", upstream, "--data", data]);
        let complaints = complaints(&ended);
        assert!(
            complaints[0].contains(upstream) && complaints[0].contains("ermission denied"),
            "{complaints:?}"
        );
    }
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    let locked = place.path("locked");
    fs::create_dir(&locked).unwrap();
    lock(&locked);
    let ended = unprivileged(&place, &["--upstream", upstream, "--data", locked.to_str().unwrap()]);
    let complaints = complaints(&ended);
    assert!(complaints[0].contains("locked") && complaints[0].contains("ermission denied"), "{complaints:?}");
}
