//! What the relay asks of the system as a service, and what it says where that is too little (R11.4).

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::Command;

use crate::process::Process;
use crate::served::{FIXTURE, Place, Served};

/// Runs the relay under a soft and a hard limit of open files.
fn limited(place: &Place, soft: u32, hard: u32) -> Served {
    let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" serve --config \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_forebay")]).arg(place.config());
    Served::wait(Process::start(&mut command)).administered(place)
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one_r11_4() {
    let place = Place::new();
    place.configure("workers = 1", FIXTURE, "[limits]\nconnections_max = 100");
    let relay = limited(&place, 300, 2000);
    relay.wait_line("the limit of open files before=300 now=2000");
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("2000"), "{line}");
    assert!(!relay.stop().stderr.contains("too small"), "100 connections fit");
}

#[test]
fn a_limit_too_small_for_the_connections_is_warned_about_with_the_numbers_r11_4() {
    let place = Place::new();
    place.configure("workers = 1", FIXTURE, "[limits]\nconnections_max = 5000");
    let relay = limited(&place, 300, 2000);
    let line = relay.wait_line("is too small for limits.connections_max");
    for named in ["WARN", "limit=2000", "needed=5768", "connections_max=5000", "LimitNOFILE"] {
        assert!(line.contains(named), "{named} in: {line}");
    }
    relay.stop();
}

#[test]
fn a_data_folder_that_others_may_enter_is_warned_about_and_left_as_it_is_r11_4() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let mode = || fs::metadata(place.data()).unwrap().permissions().mode() & 0o7777;
    let relay = place.serve(&[]);
    assert_eq!(mode(), 0o700, "what the relay makes is its own");
    assert!(!relay.stop().stderr.contains("open to others"));

    fs::remove_dir_all(place.data()).unwrap();
    fs::DirBuilder::new().mode(0o700).create(place.data()).unwrap();
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).unwrap();
    let relay = place.serve(&[]);
    let line = relay.wait_line("the data folder is open to others");
    for named in ["WARN", place.data().to_str().unwrap(), "mode=0755", "chmod 0700"] {
        assert!(line.contains(named), "{named} in: {line}");
    }
    relay.stop();
    assert_eq!(mode(), 0o755, "whoever made it decides");
}
