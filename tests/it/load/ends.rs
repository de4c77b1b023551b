//! How a run ends before its time, and what is shown while it goes on.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::ground::{ended, load, play};
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::process::{Process, tool};
use crate::served::{FIXTURE, WITHIN};

const PACKAGE: &str = "/pattern/vsapi329.zip";

#[test]
fn a_signal_ends_it_with_the_figures_so_far() {
    for signal in [Signal::INT, Signal::TERM] {
        let origin = Origin::start(Path::new(FIXTURE));
        let gate = Gate::default();
        origin.always(PACKAGE, Fault::StallAfter(1000, gate.clone()));
        let process = Process::start(&mut load(&origin.url("/"), "--agents 50 --connections 2 --mix full"));
        gate.wait_reached();
        process.signal(signal);
        let said = ended(process);
        assert_eq!((said.code, said.json["end"].as_str()), (Some(4), Some("stopped")), "{said:?}");
        assert_eq!((said.at("/errors/total"), said.at("/agents/left")), (0, 50));
        assert!(
            (1..=2).contains(&said.at("/requests/cut")) && said.at("/agents/left_waiting") == 50,
            "{said:?}"
        );
        assert!(said.stderr.contains("not passed: stopped: 50 agents were left"), "{}", said.stderr);
    }
}

#[test]
fn the_time_ends_it_and_who_waited_is_said_and_does_not_pass() {
    let origin = Origin::start(Path::new(FIXTURE));
    origin.always("/server.ini", Fault::StallBeforeHead(Gate::default()));
    let said = play(&origin.url("/"), "--agents 30 --connections 3 --time-max 400ms");
    assert_eq!((said.code, said.json["end"].as_str()), (Some(4), Some("time-max")));
    assert_eq!(
        (said.at("/agents/left"), said.at("/agents/left_waiting"), said.at("/requests/cut")),
        (30, 30, 3)
    );
    let longest = said.json["agents"]["left_longest_secs"].as_f64().unwrap();
    assert!((0.4..40.0).contains(&longest), "{longest}");
}

#[test]
fn agents_that_had_not_arrived_are_left_but_did_not_wait() {
    let origin = Origin::start(Path::new(FIXTURE));
    let fleet = "--agents 1000 --arrival uniform --over 1h --mix current --time-max 1s";
    let said = play(&origin.url("/"), fleet);
    assert!(said.at("/agents/left") > 900 && said.at("/agents/left_waiting") <= 1, "{said:?}");
}

#[test]
fn a_stall_counts_for_all_who_came_meanwhile_r12_1() {
    let origin = Origin::start(Path::new(FIXTURE));
    let late = std::time::Duration::from_millis(600);
    origin.script("/server.ini", Fault::Late { by: late });
    // The first answer is late; all others come at once, but only after it.
    let said =
        play(&origin.url("/"), "--agents 100 --connections 1 --arrival uniform --over 300ms --mix current");
    let said = said.passed();
    let p50 = |name: &str| said.json["latency_secs"][name]["p50"].as_f64().unwrap();
    assert!(p50("last_byte") > 0.25, "{}", p50("last_byte"));
    assert!(p50("last_byte_from_send") < p50("last_byte") / 2.0, "{said:?}");
}

#[test]
fn a_bar_is_shown_on_a_terminal_and_the_table_after_it() {
    let Some(script) = tool("script") else { return };
    let origin = Origin::start(Path::new(FIXTURE));
    let line = format!(
        "exec {} load {} --agents 20 --mix current --think 1s --arrival uniform --over 1s",
        env!("CARGO_BIN_EXE_forebay"),
        origin.url("/")
    );
    let mut command = Command::new(script);
    let process = Process::start(command.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm"));
    let shown = process.wait_exit(WITHIN).succeeded().stdout;
    assert!(shown.contains("load [") && shown.contains("/20 agents"), "{shown:?}");
    assert!(shown.contains("agents       20 updated, 0 gave up, 0 failed, 0 left"), "{shown:?}");
}
