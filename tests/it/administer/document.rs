//! The document of the API against tools that others made: `openapi-spec-validator` says that it is one, and `schemathesis` that the relay
//! does what it says, over requests that it generates by the thousand.
//!
//! Both come from `PyPI`; `tests/run` installs them into a place of their own below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{missing, run};
use crate::raw::fetch;
use crate::served::{FIXTURE, Place};

/// A few thousand requests against an unoptimised relay on a busy machine.
const WITHIN: Duration = Duration::from_mins(15);

/// Requests that are generated at least.
const REQUESTS_MIN: u64 = 2000;

/// What schemathesis does not know by itself: a body that is TOML.
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/administer/hooks.py");

/// A program of the Python environment that `tests/run` makes.
fn tool(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/api-tools/bin").join(name);
    if path.is_file() { Some(path) } else { missing(name) }
}

#[test]
fn the_document_is_one_for_a_validator_r11_1() {
    let Some(python) = tool("python") else { return };
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let document = place.path("openapi.json");
    fs::write(&document, fetch(relay.admin, "/api/v1/openapi.json", &[]).whole(200)).unwrap();
    let checked = run(Command::new(python).args(["-m", "openapi_spec_validator"]).arg(&document), WITHIN);
    checked.succeeded();
    relay.stop();
}

#[test]
fn thousands_of_generated_requests_meet_no_answer_that_the_document_does_not_name_r11_1() {
    let Some(schemathesis) = tool("schemathesis") else { return };
    let place = Place::new();
    place.configure("log.access = \"off\"", FIXTURE, "");
    let relay = place.serve_ready();
    // Something to find, and the relay's own token is not to be revoked: another administrator has the last one.
    for (path, body) in [
        ("domains", r#"{ "name": "A" }"#),
        ("agents", r#"{ "id": "pc-1", "domain": 1 }"#),
        ("tokens", r#"{ "name": "other", "role": "administrator" }"#),
    ] {
        let body: Value = serde_json::from_str(body).unwrap();
        let at = format!("/api/v1/{path}");
        super::json(super::call(relay.admin, "POST", &at, Some(&relay.bearer()), Some(&body)), 201);
    }
    let mut command = Command::new(schemathesis);
    command.arg("run").arg(format!("http://{}/api/v1/openapi.json", relay.admin));
    command.args(["--header", &format!("Authorization: {}", relay.bearer())]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--seed",
        "7",
        "--max-examples",
        "40",
        "--no-color",
    ]);
    // One does not end, the other would revoke the token.
    command.args(["--exclude-path", "/api/v1/events", "--exclude-path", "/api/v1/tokens/{name}"]);
    command.args(["--generation-database", "none", "--request-timeout", "30", "--continue-on-failure"]);
    command.env("SCHEMATHESIS_HOOKS", HOOKS).current_dir(place.path(""));
    let played = run(&mut command, WITHIN);
    println!("{}", played.stdout);
    let said = played.succeeded().stdout;
    let generated = said.lines().find_map(|line| {
        let (before, _) = line.split_once(" generated")?;
        before.rsplit(' ').next()?.replace(',', "").parse::<u64>().ok()
    });
    assert!(generated.is_some_and(|count| count >= REQUESTS_MIN), "{said}");
    relay.stop();
}
