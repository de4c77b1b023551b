//! Who may import whom: the files below src/ against the table of layers (design.md, "Layers").
//!
//! The table here is the one that counts; the one in src/lib.rs is prose for people, and is checked to name every folder.
//! Reads text, not types: an import is whatever path begins at `crate`, `forebay`, `self` or `super` (see [`source`]).

mod shown;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// The layers, lowest first. A file imports its own folder and strictly lower layers. `crate` is what src/lib.rs itself
/// holds: the public face.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["manifest"],
    &["policy"],
    &["config"],
    &["disk"],
    &["net", "store", "upstream", "state"],
    &["client"],
    &["relay"],
    &["schedule"],
    &["http"],
    &["socks", "admin", "console", "load", "fixture", "agent"],
    &["app"],
    &["crate"],
    &["cli"],
    &["main"],
];

/// Folders that know and do not act: no I/O, no async, no clock.
const KNOWLEDGE: &[&str] = &["base", "manifest", "policy", "config"];

/// Parts of other folders that do not act either.
const PURE: &[&str] = &["schedule/plan", "schedule/notices"];

/// What may be named in some places only.
const CONFINED: &[Confined] = &[
    Confined {
        paths: &["sled"],
        to: "src/store/ and src/state/",
        allows: |file| file.is_in(&["store", "state"]),
    },
    Confined {
        paths: &["Instant", "Timestamp::now", "SystemTime", "Zoned::now"],
        to: "base/clock.rs and the layers above config",
        allows: |file| file.acts() || file.path == Path::new("base/clock.rs"),
    },
    Confined {
        paths: &[
            "tokio",
            "tokio_util",
            "futures_util",
            "hyper",
            "hyper_util",
            "axum",
            "socket2",
            "rustix",
            "std::fs",
            "std::os",
            "std::process",
            "std::thread",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
        ],
        to: "the layers above config, and tests",
        allows: |file| file.acts() || file.in_tests,
    },
];

struct Confined {
    /// Paths, or runs of segments in them.
    paths: &'static [&'static str],
    to: &'static str,
    allows: fn(&Place<'_>) -> bool,
}

/// Where a name stands.
struct Place<'a> {
    /// Below src/.
    path: &'a Path,
    folder: &'a str,
    /// In a module that is compiled for tests only.
    in_tests: bool,
}

impl Place<'_> {
    fn is_in(&self, folders: &[&str]) -> bool {
        folders.contains(&self.folder)
    }

    fn acts(&self) -> bool {
        !self.is_in(KNOWLEDGE) && !PURE.iter().any(|part| self.path.starts_with(part))
    }
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "src/{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// Every breach in one file, given by its path below src/ and its text.
fn breaches(path: &Path, text: &str) -> Vec<Breach> {
    let source = Source::read(path, text);
    let folder = source.folder.as_str();
    let Some(own) = layer(folder) else {
        let what = format!("'{folder}' has no place in the table of layers in tests/it/layers/mod.rs");
        return vec![Breach { path: path.into(), line: 1, what }];
    };
    let mut found = Vec::new();
    for name in &source.names {
        let mut breach = |what| found.push(Breach { path: path.into(), line: name.line, what });
        if let Some(target) = &name.target {
            let allowed = || format!("{folder} may import {}", allowed(folder, own));
            match layer(target) {
                // src/lib.rs declares every module and is the public face.
                _ if target == folder || folder == "crate" && name.declares => {}
                Some(other) if other < own => {}
                Some(_) => breach(format!("imports {}: {}", name.path, allowed())),
                None => breach(format!("imports {}, which no layer holds: {}", name.path, allowed())),
            }
        }
        for confined in CONFINED {
            let place = Place { path, folder, in_tests: name.in_tests };
            if confined.paths.iter().any(|path| name.holds(path)) && !(confined.allows)(&place) {
                breach(format!("names {}, which is allowed in {} only", name.path, confined.to));
            }
        }
    }
    found
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

fn allowed(folder: &str, own: usize) -> String {
    let lower: Vec<_> = LAYERS[..own].iter().flat_map(|layer| layer.iter().copied()).collect();
    if lower.is_empty() { format!("{folder} alone") } else { format!("{folder} and {}", lower.join(", ")) }
}

/// Folders and files right below src/ that docs do not name as `` `name` `` or `name/`.
fn unnamed(docs: &str, folders: &[String]) -> Vec<String> {
    let docs: String = docs.lines().filter_map(|line| line.trim_start().strip_prefix("//!")).collect();
    let words: Vec<_> =
        docs.split(|letter: char| !letter.is_alphanumeric() && !"_`/.".contains(letter)).collect();
    let is_named = |folder: &String| {
        words.iter().any(|word| {
            let plain = word.trim_matches('`');
            plain == format!("{folder}/") || plain == format!("{folder}.rs") || *word == format!("`{folder}`")
        })
    };
    folders.iter().filter(|folder| !is_named(folder)).cloned().collect()
}

/// The Rust files below a folder, with their paths below it.
fn rust_files(root: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(root).unwrap().to_path_buf();
                files.push((below, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn files_import_lower_layers_only() {
    let files = rust_files(&src());
    assert!(files.len() > 10, "found {} files only", files.len());
    let broken: Vec<_> = files.iter().flat_map(|(path, text)| breaches(path, text)).collect();
    let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_fleet_shares_no_code_with_what_it_plays_against_r12_1() {
    let serving = ["relay", "net", "store", "upstream", "state", "disk", "http"];
    for (path, text) in rust_files(&src()).iter().filter(|(path, _)| source::folder(path) == "load") {
        let source = Source::read(path, text);
        let shared = source
            .names
            .iter()
            .filter(|name| name.target.as_deref().is_some_and(|target| serving.contains(&target)));
        let shared: Vec<_> =
            shared.map(|name| format!("src/{}:{}: {}", path.display(), name.line, name.path)).collect();
        assert!(shared.is_empty(), "{}", shared.join("\n"));
    }
}

#[test]
fn the_crate_docs_name_every_folder() {
    let mut folders: Vec<_> = rust_files(&src()).iter().map(|(path, _)| source::folder(path)).collect();
    folders.retain(|folder| folder != "crate");
    folders.dedup();
    let unnamed = unnamed(&fs::read_to_string(src().join("lib.rs")).unwrap(), &folders);
    assert!(
        unnamed.is_empty(),
        "the map in src/lib.rs's docs does not name {unnamed:?}, as `name/` or `name.rs`"
    );
}
