//! The units that `forebay service` prints: systemd takes them without a word, and finds little exposed (R11.4).

use std::fs;
use std::process::Command;

use crate::process::{forebay, run, tool};
use crate::served::{FIXTURE, Place, WITHIN};

/// What `systemd-analyze security` may find at most: the relay needs the network, and files beside its own.
const EXPOSURE_MAX: f64 = 2.0;

fn printed(arguments: &[&str]) -> String {
    let mut command = forebay(["service"]);
    run(command.args(arguments), WITHIN).succeeded().stdout
}

#[test]
fn systemd_takes_both_units_and_finds_little_exposed_r11_4() {
    let Some(analyze) = tool("systemd-analyze") else { return };
    let place = Place::new();
    let (service, socket) = (place.path("forebay.service"), place.path("forebay.socket"));
    fs::write(&service, printed(&["unit"])).unwrap();
    fs::write(&socket, printed(&["socket"])).unwrap();
    let verified = run(Command::new(&analyze).arg("verify").args([&service, &socket]), WITHIN).succeeded();
    assert_eq!((verified.stdout.as_str(), verified.stderr.as_str()), ("", ""));

    let mut command = Command::new(&analyze);
    command.args(["security", "--offline=true", "--no-pager"]).arg(&service);
    let said = run(&mut command, WITHIN).succeeded().stdout;
    let words = "Overall exposure level for forebay.service: ";
    let (_, level) = said.split_once(words).unwrap_or_else(|| panic!("no level in:\n{said}"));
    let level: f64 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE_MAX, "{said}");
}

#[test]
fn systemd_complains_of_a_unit_that_is_wrong() {
    let Some(analyze) = tool("systemd-analyze") else { return };
    let place = Place::new();
    let service = place.path("forebay.service");
    let wrong = printed(&["unit"]).replace("ProtectSystem=strict", "ProtectSystem=somewhat");
    fs::write(&service, wrong.replace("ExecStart=", "ExecStart=/nowhere")).unwrap();
    let verified = run(Command::new(&analyze).arg("verify").arg(&service), WITHIN);
    assert!(!verified.status.success() && verified.stderr.contains("somewhat"), "{verified:?}");
}

#[test]
fn the_units_are_those_of_the_settings_file_and_the_user_r11_4() {
    let place = Place::new();
    let binary = env!("CARGO_BIN_EXE_forebay");
    let plain = printed(&["unit"]);
    for line in [
        &format!("ExecStart={binary} serve --config /etc/forebay.toml"),
        "User=forebay",
        "Type=notify",
        "StateDirectory=forebay",
        "StateDirectoryMode=0700",
        "TimeoutStopSec=60",
    ] {
        assert!(plain.lines().any(|found| found == line), "{line} in:\n{plain}");
    }

    place.configure("listen = [\"127.0.0.1:80\", \"[::1]:80\"]", FIXTURE, "[limits]\ndrain_secs = 100");
    let config = place.config();
    let config = config.to_str().unwrap();
    let unit = printed(&["unit", "--config", config, "--user", "relay"]);
    let folder = format!("ReadWritePaths={}", place.data().display());
    for line in
        [&format!("ExecStart={binary} serve --config {config}"), "User=relay", &folder, "TimeoutStopSec=130"]
    {
        assert!(unit.lines().any(|found| found == line), "{line} in:\n{unit}");
    }
    let socket = printed(&["socket", "--config", config]);
    assert!(socket.contains("\nListenStream=127.0.0.1:80\nListenStream=[::1]:80\n"), "{socket}");
    for unit in [plain, unit, socket] {
        let left = unit.lines().filter(|line| !line.starts_with("SystemCallFilter="));
        assert_eq!(left.filter(|line| line.contains('@')).count(), 0, "a place was not filled:\n{unit}");
    }
}

#[test]
fn a_unit_that_could_not_work_is_not_printed_r11_4() {
    let place = Place::new();
    fs::write(place.config(), format!("[[tree]]\nupstream = {FIXTURE:?}\n")).unwrap();
    let ended = place.command(&["service", "unit"]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("a service needs a path that begins with '/'"), "{ended:?}");
    let ended = run(&mut forebay(["service", "unit", "--user", "x\nGroup=root"]), WITHIN);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("allowed: "), "{ended:?}");
}
