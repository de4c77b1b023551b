//! `forebay status` and `forebay refresh`: finding the relay, and what they say of it.

use rustix::process::Signal;

use crate::origin::Origin;
use crate::origin::fault::Fault;
use crate::process::{forebay, run};
use crate::served::{FIXTURE, Place, WITHIN};

#[test]
fn without_a_running_relay_they_say_where_they_looked_and_what_to_do() {
    let place = Place::new();
    let look = |place: &Place| {
        for command in ["status", "refresh"] {
            let ended = run(forebay([command, "--data"]).arg(place.data()), WITHIN);
            assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""));
            let wanted = format!(
                "forebay: no relay runs on data folder {}: start one with 'forebay serve', or name another folder with --data or --config, or a relay elsewhere with --url\n",
                place.data().display()
            );
            assert_eq!(ended.stderr, wanted);
        }
    };
    look(&place);
    place.configure("", FIXTURE, "");
    place.serve_ready().stop();
    look(&place);
    let relay = place.serve(&[]);
    relay.signal(Signal::KILL);
    relay.wait_exit();
    look(&place);
    let missing = run(forebay(["status", "--config"]).arg(place.path("none.toml")), WITHIN);
    assert!(missing.stderr.contains("none.toml: No such file"), "{missing:?}");
}

#[test]
fn the_relay_is_found_by_its_data_folder_and_by_its_settings_file() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let by_config = place.command(&["status"]).succeeded().stdout;
    let mut status = forebay(["status", "--data"]);
    status.arg(place.data()).arg("--token-file").arg(place.token_file());
    let by_data = run(&mut status, WITHIN).succeeded().stdout;
    for screen in [by_config, by_data] {
        for words in [
            &format!("process {}", relay.id()),
            &format!("listens    {}  {}", relay.agents[0], relay.agents[1]),
            &format!("data       {}", place.data().display()),
            "tree activeupdate  at /activeupdate/",
            &format!("  upstream   {FIXTURE}\n"),
            "  generation 1  taken 20",
            "250 of 250 held",
            "  refresh    generation 1 was new",
            "agents     0 in 0 domains, 0 have checked in; 0 ranges, 0 enrolments\n",
            "not held to check-ins\n",
            "requests   none yet",
        ] {
            assert!(screen.contains(words), "'{words}' in:\n{screen}");
        }
    }
    let json = place.command(&["status", "--json"]).succeeded().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pid"], relay.id());
    assert_eq!(json["trees"][0]["generation"]["files_held"], 250);
    let unknown = place.command(&["refresh", "--tree", "other"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(unknown.stderr, "forebay: no tree 'other'; there are: activeupdate\n");
    let known = place.command(&["refresh", "--tree", "activeupdate"]).succeeded();
    assert_eq!(known.stdout, "activeupdate: nothing new; generation 1 is current\n");
    relay.stop();
}

#[test]
fn folders_given_relative_to_where_the_relay_was_started_are_shown_whole() {
    let place = Place::new();
    place.big_tree(1000);
    let mut command = forebay(["serve", "--upstream", "tree", "--data", "data", "--listen", "127.0.0.1:0"]);
    command
        .args(["--admin-listen", "127.0.0.1:0", "--socks-listen", "127.0.0.1:0"])
        .current_dir(place.path(""));
    let relay =
        crate::served::Served::wait(crate::process::Process::start(&mut command)).administered(&place);
    let mut status = forebay(["status", "--data"]);
    status.arg(place.data()).arg("--token-file").arg(place.token_file());
    let screen = run(&mut status, WITHIN).succeeded().stdout;
    for (what, name) in [("upstream  ", "tree"), ("data      ", "data")] {
        let words = format!("{what} {}\n", place.path(name).display());
        assert!(screen.contains(&words), "'{words}' in:\n{screen}");
    }
    relay.stop();
}

#[test]
fn an_upstream_that_is_down_shows_in_refresh_status_log_and_metrics_r1_6() {
    let place = Place::new();
    let origin = Origin::start(std::path::Path::new(FIXTURE));
    place.configure("", &origin.url("/"), "");
    let relay = place.serve_ready();
    origin.always("*", Fault::Status(500));
    let failed = place.command(&["refresh"]);
    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.starts_with("forebay: activeupdate: http://127.0.0.1:"), "{failed:?}");
    assert!(failed.stderr.contains("server.ini: ") && failed.stderr.contains("500"), "{failed:?}");
    let screen = place.command(&["status"]).succeeded().stdout;
    for words in ["DOWN: served from the store", "not confirmed for ", "refresh    FAILED: http://"] {
        assert!(screen.contains(words), "'{words}' in:\n{screen}");
    }
    let line = relay.wait_line("refresh failed: the current generation stays");
    assert!(line.contains("WARN") && line.contains("unconfirmed_secs="), "{line}");
    assert_eq!(relay.metric("forebay_upstream_down{tree=\"activeupdate\"}"), 1);
    assert_eq!(relay.metric("forebay_refreshes_failed_total"), 1);

    origin.behave();
    assert!(place.command(&["refresh"]).succeeded().stdout.contains("nothing new"));
    relay.wait_line("the upstream is back");
    assert_eq!(relay.metric("forebay_upstream_down{tree=\"activeupdate\"}"), 0);
    assert!(place.command(&["status"]).succeeded().stdout.contains("confirmed "));
    relay.stop();
}

#[test]
fn what_an_upstream_sends_cannot_act_on_the_terminal_of_who_asks() {
    let place = Place::new();
    place.big_tree(1000);
    let tree = place.path("tree");
    place.configure("", tree.to_str().unwrap(), "");
    let relay = place.serve_ready();
    std::fs::write(
        tree.join("server.ini"),
        b"[Server]\n[PATTERN]\nP.4\x1b[31m\x9b=\x1b[2J\xc2\x9b../x,1,2\n",
    )
    .unwrap();
    let refreshed = place.command(&["refresh"]);
    let screen = place.command(&["status"]).succeeded().stdout;
    for text in [refreshed.stderr, refreshed.stdout, screen, relay.stop().stderr] {
        let raw = text.chars().find(|char| char.is_control() && *char != '\n');
        assert_eq!(raw, None, "{text:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let script = format!(
        "exec 3>&1; ({} status --config {} --token-file {}; echo ended $? >&3) | true",
        env!("CARGO_BIN_EXE_forebay"),
        place.config().display(),
        place.token_file().display(),
    );
    let ended = run(std::process::Command::new("sh").args(["-c", &script]), WITHIN).succeeded();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("ended 0\n", ""));
    relay.stop();
}
