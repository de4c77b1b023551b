//! Long work: a bar on a terminal, lines elsewhere; and what `forebay fixture` writes and refuses (issue 2, points 3 and 11).

use std::fs;
use std::path::Path;
use std::process::Command;

use forebay::app::Running;
use rustix::process::{Pid, Signal, kill_process};

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::process::{Ended, Process, forebay, run, tool};
use crate::served::{FIXTURE, Place, WITHIN};

/// Runs the program with a terminal for its streams, all of which come back as standard output.
fn on_terminal(arguments: &str) -> Option<Process> {
    let script = tool("script")?;
    let line = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_forebay"));
    Some(Process::start(Command::new(script).args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm")))
}

fn fixture(arguments: &[&str], folder: &Path) -> Ended {
    run(forebay(["fixture"]).args(arguments).arg(folder), WITHIN)
}

#[test]
fn writing_a_tree_shows_a_bar_on_a_terminal_and_only_its_result_elsewhere() {
    let place = Place::new();
    let quiet = fixture(&[], &place.path("quiet")).succeeded();
    assert_eq!(quiet.stderr, "", "short work is silent");
    assert_eq!(quiet.stdout, format!("{}: release 0, 250 files, 1.01 MiB\n", place.path("quiet").display()));
    let Some(process) = on_terminal(&format!("fixture {}", place.path("shown").display())) else { return };
    let shown = process.wait_exit(WITHIN).succeeded().stdout;
    assert!(shown.contains("fixture [") && shown.contains(" MiB"), "{shown:?}");
    let last = shown.lines().last().unwrap();
    assert!(last.contains("release 0, 250 files"), "the bar is taken away: {last:?}");
}

#[test]
fn the_first_mirror_shows_a_bar_on_a_terminal_and_a_line_of_the_log_elsewhere() {
    let place = Place::new();
    let origin = Origin::start(Path::new(FIXTURE));
    let gate = Gate::default();
    origin.always("/pattern/vsapi329.zip", Fault::StallAfter(1000, gate.clone()));
    place.configure("log.format = \"json\"", &origin.url("/"), "");
    let relay = place.serve(&[]);
    gate.wait_reached();
    let line = relay.wait_line("fetching: file ");
    assert!(
        line.starts_with("{\"timestamp\"")
            && line.contains("\"bytes_done\":")
            && line.contains("\"tree\":\"activeupdate\""),
        "{line}"
    );
    let screen = place.command(&["status"]).succeeded().stdout;
    assert!(screen.contains("generation none yet"), "{screen}");
    assert!(screen.contains("refresh    under way: file ") && screen.contains(" of 250, "), "{screen}");
    relay.stop();

    let config = place.config();
    let Some(process) = on_terminal(&format!("serve --config {}", config.display())) else { return };
    process.wait_line(WITHIN, |line| line.contains("try: curl"));
    gate.open();
    process.wait_line(WITHIN, |line| line.contains("a new generation is published"));
    let shown = process.output();
    assert!(shown.contains("activeupdate [") && shown.contains(" file "), "{shown:?}");
    // Its terminal's program would leave it behind.
    let running = fs::read_to_string(place.data().join("running.json")).unwrap();
    let running: Running = serde_json::from_str(&running).unwrap();
    kill(running.pid);
    process.wait_exit(WITHIN).succeeded();
}

fn kill(process: u32) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    kill_process(process, Signal::TERM).unwrap();
}

#[test]
fn refresh_shows_a_bar_on_a_terminal_while_it_waits() {
    let place = Place::new();
    run(forebay(["fixture"]).arg(place.path("tree")), WITHIN).succeeded();
    let origin = Origin::start(&place.path("tree"));
    place.configure("", &origin.url("/"), "");
    let relay = place.serve_ready();
    fixture(&["--next"], &place.path("tree")).succeeded();
    let gate = Gate::default();
    origin.always("/pattern/vsapi330.zip", Fault::StallAfter(1000, gate.clone()));
    let Some(process) = on_terminal(&format!(
        "refresh --config {} --token-file {}",
        place.config().display(),
        place.token_file().display()
    )) else {
        return;
    };
    gate.wait_reached();
    let seen = origin.seen().requests.len();
    gate.open();
    let shown = process.wait_exit(WITHIN).succeeded().stdout;
    assert!(shown.contains("activeupdate ["), "{shown:?} after {seen} requests");
    assert!(shown.lines().last().unwrap().contains("activeupdate: generation 2 is new"), "{shown:?}");
    relay.stop();
}

#[test]
fn fixture_refuses_what_is_not_its_own_and_moves_only_a_tree_that_is_there() {
    let place = Place::new();
    let refused = |ended: Ended, words: &str| {
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("forebay: ") && ended.stderr.contains(words), "{ended:?}");
    };
    let foreign = place.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "mine").unwrap();
    refused(fixture(&[], &foreign), "name a new or an empty folder");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    refused(fixture(&["--next"], &foreign), "no whole tree is here");
    refused(fixture(&["--next"], &place.path("nowhere")), "no whole tree is here");
    assert!(!place.path("nowhere").exists());
    refused(fixture(&[], &foreign.join("letter.txt")), "letter.txt");

    let tree = place.path("tree");
    fixture(&["--seed", "7"], &tree).succeeded();
    for release in 1..=2 {
        let next = fixture(&["--next"], &tree).succeeded().stdout;
        assert!(next.contains(&format!("release {release}, 250 files")), "{next}");
    }
}
