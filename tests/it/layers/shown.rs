//! The check of layers against made-up sources: each rule is broken once, and each look-alike passes.

use std::path::Path;

use super::{LAYERS, breaches, unnamed};

/// The lines of a made-up file that break a rule.
fn lines(path: &str, text: &str) -> Vec<usize> {
    breaches(Path::new(path), text).iter().map(|breach| breach.line).collect()
}

#[track_caller]
fn breaks(path: &str, text: &str) {
    assert_eq!(lines(path, text).len(), 1, "{path}: {text}: {:?}", breaches(Path::new(path), text));
}

#[track_caller]
fn passes(path: &str, text: &str) {
    assert_eq!(breaches(Path::new(path), text), [], "{path}: {text}");
}

#[test]
fn a_higher_layer_is_refused_in_every_way_to_name_it() {
    for text in [
        "use crate::store::blobs::Blobs;",
        "use crate::{base::path::TreePath, store::blobs::{self as kept}};",
        "use crate :: store as s;",
        "pub(crate) use crate::{\n    store::Store,\n};",
        "fn f() { let _ = crate::store::open(); }",
        "fn f(store: &crate::store::Store) {}",
        "use super::super::store::Store;",
        "use super::{scope::Scope, super::store::Store};",
        "mod tests { use super::super::super::store::Store; }",
        "macro_rules! m { () => { $crate::store::open() } }",
        "const A: char = '\"'; use crate::store::Store; const B: char = '\"';",
        "fn f<'a>(x: &'a str) -> crate::store::Store<'a> {}",
        "#[cfg(test)]\nmod tests { use crate::store::Store; }",
        "use crate::*;",
        "use crate as root;",
        "use crate::unheard_of::Thing;",
        "use crate::Relay;",
    ] {
        breaks("policy/decide.rs", text);
    }
}

#[test]
fn every_layer_is_refused_to_those_below_and_beside_it() {
    for (index, layer) in LAYERS.iter().enumerate() {
        for folder in *layer {
            for (other_index, other_layer) in LAYERS.iter().enumerate() {
                for other in other_layer.iter().filter(|other| *other != folder && **other != "crate") {
                    let path = if *folder == "crate" { "lib.rs".into() } else { format!("{folder}/part.rs") };
                    let found = lines(&path, &format!("\nuse crate::{other}::Thing;"));
                    assert_eq!(found.is_empty(), other_index < index, "{folder} importing {other}");
                }
            }
        }
    }
}

#[test]
fn the_own_folder_and_lower_layers_are_open() {
    for (path, text) in [
        (
            "policy/decide.rs",
            "use crate::manifest::catalogue::Class; use crate::base::{path, range::ByteRange};",
        ),
        ("policy/decide.rs", "use crate::policy::scope::Scope; use super::scope; use self::inner::Thing;"),
        ("policy/decide.rs", "#[cfg(test)] mod tests { use super::*; use super::super::scope::Scope; }"),
        ("policy/mod.rs", "pub mod decide; use self::decide::Permit; use super::base::path;"),
        ("lib.rs", "pub mod base; pub mod cli; pub mod app; use crate::app::App;"),
        ("main.rs", "fn main() { forebay::cli::run(); } mod tests { use super::*; }"),
        ("app.rs", "use crate::relay::serve::Serve; use crate::http::route; mod tests { use super::*; }"),
        ("base/path.rs", "pub(crate) fn f() {} pub(super) struct S; pub(in crate::base) use super::range;"),
        ("cli/serve.rs", "use crate::Relay; use crate::app::App;"),
    ] {
        passes(path, text);
    }
}

#[test]
fn what_is_no_code_is_no_import() {
    for text in [
        "// use crate::store::Store;\n/* crate::store /* nested */ crate::store */",
        "//! [`crate::store`] and tokio\n/// See [`crate::store::Store`], std::fs.\nfn f() {}",
        "const S: &str = \"crate::store::open() \\\" use crate::store; // \";",
        "const S: &str = r#\"crate::store::\"open\"\"#; const B: &[u8] = b\"crate::store\";",
        "fn f(tokio_like: u8, my_crate: u8) {} // crate::store",
        "const SLASHES: &str = \"http://\"; const Q: char = '\\''; const B: u8 = b'\"';",
    ] {
        passes("policy/decide.rs", text);
    }
}

#[test]
fn knowledge_names_no_io_no_async_and_no_clock() {
    for name in [
        "use tokio::sync::watch;",
        "use hyper::Request;",
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "fn f() { std::fs::read(\"x\"); }",
        "use std::net::{IpAddr, TcpStream};",
        "fn f(s: std::net::UdpSocket) {}",
        "use std::time::{Duration, Instant};",
        "fn f() { let _ = std::time::SystemTime::now(); }",
        "fn f() { let _ = jiff::Timestamp::now(); }",
    ] {
        for path in [
            "base/path.rs",
            "manifest/ini.rs",
            "policy/decide.rs",
            "config/settings.rs",
            "schedule/plan/mod.rs",
            "schedule/notices/poll.rs",
        ] {
            breaks(path, name);
        }
        passes("schedule/runner.rs", name);
        passes("net/listen.rs", name);
    }
    passes("policy/decide.rs", "use std::net::IpAddr; use jiff::Timestamp; use std::time::Duration;");
    passes("manifest/ini.rs", "#[cfg(test)]\nmod tests { fn f() { std::fs::read(\"fixtures/x\"); } }");
    breaks("manifest/ini.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nfn f() { std::fs::read(\"x\"); }");
    breaks(
        "manifest/ini.rs",
        "#[cfg(test)]\nconst X: u8 = 1;\nmod inner { fn f() { std::fs::read(\"x\"); } }",
    );
    breaks("manifest/ini.rs", "mod inner { fn f() { std::fs::read(\"x\"); } }");
    breaks("manifest/ini.rs", "#[cfg(test)]\nmod tests { fn f() { std::time::Instant::now(); } }");
    passes("base/clock.rs", "use std::time::Instant; fn f() { jiff::Timestamp::now(); }");
    breaks("base/clock.rs", "use std::fs;");
}

#[test]
fn sled_stays_behind_store_and_state() {
    for path in ["relay/serve.rs", "net/tls.rs", "base/blob.rs", "app.rs", "lib.rs"] {
        breaks(path, "use sled::Db;");
    }
    passes("store/index.rs", "use sled::Db;");
    passes("state/tables.rs", "fn f(db: &sled::Db) {}");
}

#[test]
fn a_breach_says_where_and_what_is_allowed() {
    let found = breaches(Path::new("manifest/view.rs"), "//! View.\n\nuse crate::policy::scope::Scope;\n");
    let expected =
        "src/manifest/view.rs:3: imports crate::policy::scope::Scope: manifest may import manifest and base";
    assert_eq!(found[0].to_string(), expected);
    let nested = "use crate::{\n    base::path,\n    policy::{\n        scope::Scope,\n    },\n};\n";
    assert_eq!(lines("manifest/view.rs", nested), [4]);
    let found = breaches(Path::new("relay/fill.rs"), "use sled::Db;");
    let expected = "src/relay/fill.rs:1: names sled::Db, which is allowed in src/store/ and src/state/ only";
    assert_eq!(found[0].to_string(), expected);
    breaks("new/mod.rs", "fn f() {}");
    breaks("helpers.rs", "");
}

#[test]
fn a_folder_that_the_docs_leave_out_is_named() {
    let folders = ["base", "relay", "cli", "main", "app"].map(str::to_owned);
    let docs = "//! The relay has a base.\n//! `base` is lowest; main.rs and cli/ are highest\npub mod app;";
    assert_eq!(unnamed(docs, &folders), ["relay", "app"]);
}
