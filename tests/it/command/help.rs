//! What the program says of itself, and how it refuses a command line.

use crate::process::{Ended, forebay, run};
use crate::served::WITHIN;

fn typed(line: &str) -> Ended {
    run(&mut forebay(line.split_whitespace()), WITHIN)
}

#[test]
fn help_of_every_command_says_what_it_does_in_lines_that_fit_a_terminal() {
    let commands = [
        "",
        "serve",
        "refresh",
        "scrub",
        "status",
        "tree",
        "check",
        "certs",
        "secret",
        "service",
        "check config",
        "check upstream",
        "service unit",
        "service socket",
        "admin-token make",
        "admin-token list",
        "admin-token revoke",
        "tree export",
        "tree apply",
        "fixture",
        "load",
    ];
    for command in commands {
        let help = typed(&format!("{command} --help")).succeeded().stdout;
        assert!(help.contains(&format!("Usage: forebay {command}").trim_end().to_owned()), "{help}");
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        for ugly in ["`", "[OPTIONS] [OPTIONS]", "<CONFIG>", "<UPSTREAM>", "<DATA>"] {
            assert!(!help.contains(ugly), "{ugly} in:\n{help}");
        }
    }
    let all = typed("--help").stdout;
    assert!(commands[1..9].iter().all(|command| all.contains(&format!("\n  {command} "))), "{all}");
}

#[test]
fn alone_it_prints_its_help_and_with_version_its_version() {
    let alone = typed("");
    assert_eq!((alone.status.code(), alone.stdout.as_str()), (Some(2), ""));
    assert!(alone.stderr.contains("Usage: forebay <COMMAND>") && alone.stderr.contains("serve"), "{alone:?}");
    let version = typed("--version").succeeded().stdout;
    assert_eq!(version, format!("forebay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_names_what_is_missing_or_too_much() {
    for (line, named) in [
        ("serve", "<--config <FILE>|--upstream <URL|FOLDER>>"),
        ("serve --config a --upstream b", "cannot be used with"),
        ("serve --upstream a --listen 8080", "'8080'"),
        ("serve --upstream a --listen localhost:80", "'localhost:80'"),
        ("status --data a --config b", "cannot be used with"),
        ("fixture d --retire", "--next"),
        ("fixture d --scale huge", "small, real"),
        ("check", "forebay check <COMMAND>"),
        ("frobnicate", "'frobnicate'"),
    ] {
        let ended = typed(line);
        assert_eq!(ended.status.code(), Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains(named), "{line}: {}", ended.stderr);
    }
}
