//! What is typed wrong is refused with what is allowed, before anything is sent.

use std::net::TcpListener;
use std::process::Command;

use crate::process::{Ended, forebay, run};
use crate::served::{FIXTURE, WITHIN};

fn typed(line: &str) -> Ended {
    run(&mut forebay(line.split_whitespace()), WITHIN)
}

#[test]
fn a_wrong_option_ends_with_2_and_says_what_is_allowed() {
    for (arguments, allowed) in [
        ("--agents 0", "1..=10000000"),
        ("--arrival never", "all-at-once, poisson, uniform"),
        ("--over 60", "250ms, 30s or 5m"),
        ("--over 0s", "longer than nothing"),
        ("--scopes engines", "patterns, patterns-engines-drivers, all"),
        ("--mix half=1", "full, increment, current"),
        ("--mix full=0", "nothing has a weight"),
        ("--think 5s..1s", "the shorter time first"),
        ("--give-ups 101%", "from 0% to 100%"),
        ("--connections 0", "1 to 1000000"),
        ("--reuse never", "fleet, agent, request"),
        ("--source 300.0.0.0/8", "127.1.0.0/16"),
        ("--threads 0", "1..=256"),
        ("-4 -6", "cannot be used with"),
        ("--insecure --ca-file x", "cannot be used with"),
        ("--errors-max few", "0.1%"),
        ("--time-max 25h", "at most 24h"),
    ] {
        let ended = typed(&format!("load http://127.0.0.1:9/ {arguments}"));
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""), "{arguments}: {ended:?}");
        assert!(ended.stderr.contains(allowed), "{arguments}: {}", ended.stderr);
    }
    assert!(typed("load").stderr.contains("<URL>"));
}

#[test]
fn a_target_that_cannot_be_played_against_ends_with_1_and_says_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}/");
    for (arguments, words) in [
        ("ftp://127.0.0.1/", "allowed: an http or https URL"),
        ("nonsense", "allowed: an http or https URL"),
        ("http://user:secret@127.0.0.1/", "without credentials"),
        ("http://192.0.2.1/", "is a public address, and a load test hits whom it names: add --yes"),
        ("http://[2001:db8::1]/", "add --yes"),
        ("http://127.0.0.1:9/ -6", "127.0.0.1 has no IPv6 address"),
        ("http://[::1]:9/ --source 127.0.0.0/8", "no address of a source's family"),
        ("http://127.0.0.1:9/ --source 127.0.0.0/8 --reuse fleet", "allowed: agent, request"),
        ("https://127.0.0.1:9/ --ca-file /nonexistent", "/nonexistent"),
        ("http://127.0.0.1:9/ --tree /nonexistent", "/nonexistent"),
        (nobody.as_str(), "takes no connection"),
    ] {
        let ended = typed(&format!("load {arguments} --timeout 5s"));
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{arguments}: {ended:?}");
        assert!(ended.stderr.starts_with("forebay: ") && ended.stderr.contains(words), "{}", ended.stderr);
        assert!(!ended.stderr.contains("secret@"), "{}", ended.stderr);
    }
    let elsewhere = typed(&format!("load http://127.0.0.1:9/ --tree {FIXTURE}/pattern"));
    assert!(elsewhere.stderr.contains("it has no server.ini"), "{elsewhere:?}");
}

#[test]
fn more_connections_than_files_are_refused_with_how_many_fit() {
    let line = format!(
        "ulimit -n 200; exec {} load http://127.0.0.1:9/ --connections 500",
        env!("CARGO_BIN_EXE_forebay")
    );
    let ended = run(Command::new("sh").args(["-c", &line]), WITHIN);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("at most 136, or raise it with 'ulimit -Hn'"), "{}", ended.stderr);
}
