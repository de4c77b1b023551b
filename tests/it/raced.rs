//! `benches/race` in its smallest form, so that it does not rot: the rows are there, whatever the figures (issue 6).
//!
//! The command itself compares bodies with the upstream's files, and ends with an error where one is another.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Ended, forebay, nginx, run, tool};

/// A few measurements of a second each, and a machine that is busy with other tests.
const WITHIN: Duration = Duration::from_mins(5);

const COMMAND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/race/run");

/// The race with this program as the relay; `None` where a tool is missing.
fn race(program: &Path, arguments: &[&str]) -> Option<Ended> {
    nginx()?;
    for name in ["wrk", "taskset", "setpriv"] {
        tool(name)?;
    }
    let mut command = Command::new(tool("python3")?);
    Some(run(command.arg(COMMAND).arg("--smoke").arg("--binary").arg(program).args(arguments), WITHIN))
}

/// The program under test.
fn relay() -> PathBuf {
    forebay::<&str>([]).get_program().into()
}

#[test]
fn the_race_measures_every_row_of_both_servers_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    let Some(ended) = race(&relay(), &["--json", file.to_str().unwrap()]) else { return };
    let said = ended.succeeded().stdout;
    let told: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let rows = told["rows"].as_array().unwrap();
    let of = |server: &str| -> BTreeSet<&str> {
        let its = rows.iter().filter(|row| row["server"] == server);
        its.map(|row| row["row"].as_str().unwrap()).collect()
    };
    assert_eq!((of("forebay").len(), of("nginx").len()), (12, 12), "{said}");
    assert_eq!(of("forebay"), of("nginx"));
    // It is an example, which is not built for one test alone.
    assert!([0, 7].contains(&of("bare").len()), "{said}");
    for row in rows {
        let (name, server) = (row["row"].as_str().unwrap(), row["server"].as_str().unwrap());
        assert!(said.lines().any(|line| line.starts_with('|') && line.contains(server)), "{server}: {said}");
        let is_idle = name.contains("idle");
        let measured = if is_idle { "memory_bytes" } else { "bytes_per_sec" };
        assert!(row[measured].is_number(), "{name}, {server}: {row}");
    }
    // From an upstream near by, and from one that is far away.
    let is_rush =
        |row: &Value| row["row"].as_str().unwrap().contains("not stored") && row["server"] == "forebay";
    let rushes: Vec<_> = rows.iter().filter(|row| is_rush(row)).collect();
    assert_eq!(rushes.len(), 2, "{said}");
    for rush in rushes {
        let remarks = &rush["samples"][0]["remarks"];
        assert!(
            (remarks["origin_bytes_per_unique"].as_f64().unwrap() - 1.0).abs() < f64::EPSILON,
            "{remarks}"
        );
    }
}

#[test]
fn the_race_ends_with_the_name_of_a_body_that_is_not_the_upstreams() {
    let folder = tempfile::tempdir().unwrap();
    // When the relay has everything, a file changes behind its back, so that what it serves is another's.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = refresh ] || exec {program} \"$@\"\n{program} \"$@\" || exit\n\
         printf x >> \"$(dirname \"$3\")/../tree/race/p/small.zip\"\n",
        program = relay().display()
    );
    let program = folder.path().join("relay");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let Some(ended) = race(&program, &[]) else { return };
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("forebay: race/p/small.zip is not the upstream's"), "{ended:?}");
    assert!(!ended.stdout.contains('|'), "{ended:?}");
}
