//! SIGHUP: new settings without dropping a connection; bad ones change nothing (R11.3).

use rustix::process::Signal;

use crate::raw::Client;
use crate::raw::answer::End;
use crate::served::{FIXTURE, Place};

const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/big.zip";

#[test]
fn new_settings_are_in_force_on_connections_that_stay_open_r11_3() {
    let place = Place::new();
    let package = place.big_tree(24 << 20);
    let tree = place.path("tree");
    let tree = tree.to_str().unwrap();
    place.configure("", tree, "");
    let relay = place.serve_ready();
    let mut kept = Client::connect(relay.agents[0]);
    kept.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
    let mut slow = Client::connect(relay.agents[1]);
    slow.ask("GET", PACKAGE, &[]).unwrap();
    slow.read_head("GET").unwrap();
    let (mut bytes, _) = slow.read(1000);

    place.configure(
        "",
        tree,
        "[agents]\nunknown = \"refuse\"\n[[agents.range]]\nfrom = \"192.0.2.0/24\"\nscope = \"all\"",
    );
    relay.signal(Signal::HUP);
    relay.wait_line("the settings are read again and in force");
    let refused = kept.exchange("GET", MANIFEST, &[]).expect("the kept connection is open");
    assert_eq!(refused.head.status, 403);
    let (rest, end) = slow.read(usize::MAX);
    bytes.extend(rest);
    assert_eq!(end, Some(End::Complete));
    assert!(bytes == package, "the transfer under way ended whole");
    relay.stop();
}

#[test]
fn a_bad_file_leaves_the_old_settings_and_the_log_names_each_error_r11_3() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    place.configure(
        "log.level = \"debug\"\nlog.access = \"on\"",
        FIXTURE,
        "[agents]\nunknown = \"refuse\"\nunknwon = 1\n[limits]\nranges_max = -1",
    );
    relay.signal(Signal::HUP);
    let line = relay.wait_line("the settings are wrong: those before stay in force");
    for named in ["ERROR", "agents.unknwon", "limits.ranges_max = -1", "forebay.toml: line "] {
        assert!(line.contains(named), "{named} in: {line}");
    }
    assert!(!line.contains('\n'));

    // What parses but cannot be used changes nothing either, not even the log's level.
    place.configure("log.level = \"error\"", FIXTURE, "[upstream]\nca_file = \"/nowhere/ca.pem\"");
    relay.signal(Signal::HUP);
    relay.wait_line("/nowhere/ca.pem");

    std::fs::remove_file(place.config()).unwrap();
    relay.signal(Signal::HUP);
    relay.wait_line("No such file");
    let mut client = Client::connect(relay.agents[0]);
    client.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
    relay.wait_line("path=\"/activeupdate/server.ini\"");
    assert!(relay.stop().stderr.contains("INFO"), "the level stayed");
}

#[test]
fn keys_that_need_a_restart_are_named_each_time() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    place.configure(
        "log.format = \"json\"\nworkers = 7",
        FIXTURE,
        "[limits]\nconnections_max = 7\n[fill]\nat_once = 7",
    );
    for count in 1..=2 {
        relay.signal(Signal::HUP);
        let line = relay.wait_lines(count, "which need a restart");
        let named = "needs_restart=workers, log.format, limits.connections_max, fill.at_once";
        assert!(line.contains("WARN") && line.contains(named), "{line}");
    }
    place.configure("", FIXTURE, "");
    relay.signal(Signal::HUP);
    relay.wait_line("the settings are read again and in force");
    relay.stop();
}

#[test]
fn without_a_settings_file_there_is_nothing_to_read_again() {
    let place = Place::new();
    let data = place.data();
    let mut command = crate::process::forebay(["serve", "--upstream", FIXTURE, "--listen", "[::1]:0"]);
    command.args(["--socks-listen", "[::1]:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data);
    let relay = crate::served::Served::wait(crate::process::Process::start(&mut command));
    relay.signal(Signal::HUP);
    relay.wait_line("there is no settings file to read again");
    relay.stop();
}
