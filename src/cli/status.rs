//! `forebay status`: a screen of what the running relay is doing.

use std::fmt::Write;

use clap::Args;
use hyper::Method;
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde_json::Value;

use crate::cli::Failed;
use crate::cli::client::ask;
use crate::cli::output::print;
use crate::cli::which::Which;

/// Shows a running relay.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let relay = self.which.find()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let status = runtime.block_on(ask(&relay, Method::GET, "/api/v1/status"))?;
        if self.json {
            print(&serde_json::to_string_pretty(&status)?);
        } else {
            print(&screen(&status));
        }
        Ok(())
    }
}

fn screen(status: &Value) -> String {
    let mut text = String::new();
    let list = |values: &Value| {
        let words = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join("  ")
    };
    let some =
        |what: &str, words: &str| if words.is_empty() { String::new() } else { format!("{what}{words}\n") };
    // Writing into a string does not fail.
    let _ = writeln!(
        text,
        "forebay {}  process {}  up {}\nlistens    {}\n{}{}admin      {}\ndata       {}\nroom       {}{} taken",
        status["version"].as_str().unwrap_or_default(),
        status["pid"],
        duration(&status["uptime_secs"]),
        list(&status["listen"]),
        some("with TLS   ", &list(&status["tls"])),
        some("SOCKS5     ", &list(&status["socks"])),
        list(&status["admin"]),
        status["data"].as_str().unwrap_or_default(),
        bytes(&status["taken_bytes"]),
        if status["quota_bytes"].is_null() {
            String::new()
        } else {
            format!(" of {}", bytes(&status["quota_bytes"]))
        },
    );
    for tree in status["trees"].as_array().into_iter().flatten() {
        let _ = write!(text, "\n{}", tree_screen(tree, &list(&tree["upstream"])));
    }
    let counts = &status["counts"];
    let _ = writeln!(
        text,
        "\nto agents  {}  over {} connections, {} open\nupstream   {}  in {} requests; fills: {} under way, {} complete, {} failed",
        bytes(&counts["sent_bytes"]),
        count(&counts["connections"]),
        count(&counts["connections_now"]),
        bytes(&counts["upstream_bytes"]),
        count(&counts["upstream_requests"]),
        count(&counts["fills_now"]),
        count(&counts["fills_completed"]),
        count(&counts["fills_failed"]),
    );
    let _ = writeln!(text, "agents     {}", agents_screen(&status["agents"]));
    let _ = writeln!(text, "scrub      {}", scrub_screen(&status["scrub"]));
    let requests = status["requests"].as_object().into_iter().flatten();
    let requests =
        requests.filter(|(_, value)| **value != 0).map(|(name, value)| format!("{name} {}", count(value)));
    let requests = requests.collect::<Vec<_>>().join("  ");
    let _ = writeln!(text, "requests   {}", if requests.is_empty() { "none yet" } else { &requests });
    text
}

/// Who is known; while nobody is, everybody is served by the settings' ranges alone.
fn agents_screen(agents: &Value) -> String {
    let known = format!(
        "{} in {} domains, {} have checked in; {} ranges, {} enrolments",
        count(&agents["known"]),
        count(&agents["domains"]),
        count(&agents["heard"]),
        count(&agents["ranges"]),
        count(&agents["enrolments"]),
    );
    let taken = &agents["unpermitted"];
    let unpermitted = if *taken == 0 {
        String::new()
    } else {
        format!("\n           {} packages without a permission", count(taken))
    };
    let note = agents["not_enforced"].as_str().unwrap_or_default();
    format!("{known}{unpermitted}\n           {note}")
}

fn tree_screen(tree: &Value, upstream: &str) -> String {
    let mut text = String::new();
    let generation = &tree["generation"];
    let down = match (tree["upstream_down"] == true, generation.is_null()) {
        (false, _) => "",
        (true, false) => "  DOWN: served from the store",
        (true, true) => "  DOWN",
    };
    let _ = writeln!(
        text,
        "tree {}  at {}\n  upstream   {upstream}{down}",
        tree["name"].as_str().unwrap_or_default(),
        tree["path"].as_str().unwrap_or_default(),
    );
    if generation.is_null() {
        let _ = writeln!(text, "  generation none yet");
    } else {
        let _ = writeln!(
            text,
            "  generation {}  taken {}  {}  ({} kept)\n  files      {} of {} held, {} of {}; {} increments withheld, {} unknown lines",
            generation["number"],
            generation["taken"].as_str().unwrap_or_default(),
            confirmed(tree),
            tree["kept"],
            count(&generation["files_held"]),
            count(&generation["files"]),
            bytes(&generation["bytes_held"]),
            bytes(&generation["bytes"]),
            count(&generation["withheld"]),
            count(&generation["unknown"]),
        );
    }
    let refresh = &tree["refresh"];
    let state = match &refresh["last"] {
        _ if refresh["running"] == true => format!(
            "under way: file {} of {}, {} of {}",
            refresh["files_done"],
            refresh["files"],
            bytes(&refresh["bytes_done"]),
            bytes(&refresh["bytes"])
        ),
        Value::String(_) => "nothing new".to_owned(),
        Value::Object(last) if last.contains_key("failed") => {
            format!("FAILED: {}", last["failed"].as_str().unwrap_or_default())
        }
        Value::Object(last) => format!("generation {} was new", last["new"]),
        _ => "none yet".to_owned(),
    };
    let _ = writeln!(text, "  refresh    {state}");
    if tree["missing_bytes"] != 0 {
        let _ = writeln!(
            text,
            "  room       {} MORE ARE NEEDED: raise quota_bytes",
            bytes(&tree["missing_bytes"])
        );
    }
    text
}

/// How far the scrubber is, and what its last pass found.
fn scrub_screen(scrub: &Value) -> String {
    let (pass, last) = (&scrub["pass"], &scrub["last"]);
    let now = (!pass.is_null()).then(|| {
        let done = bytes(&pass["bytes"]);
        format!("under way: {done} of {}, {} damaged", bytes(&scrub["bytes"]), count(&pass["bad"]))
    });
    let before = (!last.is_null()).then(|| {
        let (files, bytes, bad) = (count(&last["blobs"]), bytes(&last["bytes"]), count(&last["bad"]));
        let ended = last["ended"].as_str().unwrap_or_default();
        let ended = ended.split_once('.').map_or(ended.to_owned(), |(seconds, _)| format!("{seconds}Z"));
        format!("last ended {ended}: {files} files, {bytes}, {bad} damaged")
    });
    let told: Vec<_> = now.into_iter().chain(before).collect();
    if told.is_empty() { "none yet".to_owned() } else { told.join("; ") }
}

/// When the upstream last said that the current generation is its own.
fn confirmed(tree: &Value) -> String {
    let since = duration(&tree["unconfirmed_secs"]);
    let refresh = &tree["refresh"];
    if refresh["last"].is_null() || tree["upstream_down"] == true {
        format!("not confirmed for {since}")
    } else {
        format!("confirmed {since} ago")
    }
}

fn bytes(value: &Value) -> String {
    HumanBytes(value.as_u64().unwrap_or(0)).to_string()
}

fn count(value: &Value) -> String {
    HumanCount(value.as_u64().unwrap_or(0)).to_string()
}

fn duration(value: &Value) -> String {
    HumanDuration(std::time::Duration::from_secs(value.as_u64().unwrap_or(0))).to_string()
}
