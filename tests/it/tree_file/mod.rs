//! The agent tree as a file (R5): `forebay tree export` and `apply`, with a running relay and without, and what they ask it.
//!
//! `command`: what is typed and printed, from nothing to a changed fleet; `terminal`: who is asked, and what comes between;
//! `hostile`: files that are none; `api`: the admin listener; `large`: a whole fleet, in how long; `kill`: SIGKILL while it is made.

mod api;
mod command;
mod hostile;
mod kill;
mod large;
pub(crate) mod terminal;

use std::fs;
use std::path::PathBuf;

use forebay::disk::Disk;
use forebay::store::Store;

use crate::process::Ended;
use crate::served::{FIXTURE, Place};

/// A small fleet, with a thing of each kind.
const FLEET: &str = r#"
[root]
scope = "patterns"

[[domain]]
path = "Branches"

[[domain]]
path = "Branches/North"
values.scope = "all"

[[agent]]
id = "pc-1"
domain = "Branches/North"
secret_hash = "00000000000000000000000000000000000000000000000000000000000000aa"

[[agent]]
id = "pc-2"
domain = "Branches"

[[enrolment]]
id = "spring"
domain = "Branches"
secret_hash = "00000000000000000000000000000000000000000000000000000000000000bb"
left = 5
until = "2100-01-01T00:00:00Z"

[[range]]
from = "10.0.0.0/8"
domain = "Branches"

[[source]]
range = "192.0.2.1-192.0.2.9"
url = "http://mirror.example/"

[[file]]
domain = "Branches"
name = "x.ini"
text = """
[Global]
x=1
"""
"#;

/// A place with settings and an empty data folder, on which nobody runs.
fn place() -> Place {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    drop(Store::open(&place.data(), Disk::default()).unwrap());
    place
}

fn file(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.path(name);
    fs::write(&path, text).unwrap();
    path
}

/// `forebay tree` with these arguments, on this place.
fn tree(place: &Place, arguments: &[&str]) -> Ended {
    place.command(&[&["tree"], arguments].concat())
}

/// Applies a text.
fn apply(place: &Place, text: &str, arguments: &[&str]) -> Ended {
    let file = file(place, "fleet.toml", text);
    tree(place, &[&["apply", file.to_str().unwrap()], arguments].concat())
}

fn export(place: &Place) -> String {
    tree(place, &["export"]).succeeded().stdout
}

/// A command that was refused: exit code 1, and the reasons.
fn refused(ended: &Ended) -> String {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended.stderr.clone()
}
