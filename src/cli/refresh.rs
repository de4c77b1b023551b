//! `forebay refresh`: has the running relay ask its upstreams, and says what came of it.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use indicatif::MultiProgress;
use serde_json::Value;

use crate::cli::Failed;
use crate::cli::client::ask;
use crate::cli::output::print;
use crate::cli::progress::{Lines, Unit, Work};
use crate::cli::which::Which;

/// Between two looks at the relay.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks for a refresh and waits for it.
#[derive(Debug, Args)]
pub struct Refresh {
    #[command(flatten)]
    which: Which,
    /// Only this tree; all where none is named.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
}

impl Refresh {
    /// Asks, and shows progress until every tree asked is done.
    pub fn run(self) -> Result<(), Failed> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.ask())
    }

    async fn ask(self) -> Result<(), Failed> {
        let relay = self.which.find()?;
        let query = self.tree.as_ref().map_or_else(String::new, |tree| {
            format!(
                "?tree={}",
                percent_encoding::utf8_percent_encode(tree, percent_encoding::NON_ALPHANUMERIC)
            )
        });
        let asked = ask(&relay, Method::POST, &format!("/api/v1/refresh{query}")).await?;
        let bars = Arc::new(MultiProgress::new());
        let mut failed = Vec::new();
        for tree in asked["trees"].as_array().into_iter().flatten() {
            let name = tree["name"].as_str().unwrap_or_default();
            let until = tree["until_ended"].as_u64().unwrap_or_default();
            let mut work = Work::begin(&bars, name, Unit::Bytes, Lines::Printed);
            let ended = loop {
                let status = ask(&relay, Method::GET, "/api/v1/status").await?;
                let refresh = find(&status, name)["refresh"].clone();
                if refresh["ended"].as_u64() >= Some(until) {
                    break find(&status, name).clone();
                }
                let files = format!("file {} of {}", refresh["files_done"], refresh["files"]);
                work.show(number(&refresh["bytes_done"]), number(&refresh["bytes"]), &files);
                tokio::time::sleep(LOOK_EVERY).await;
            };
            drop(work);
            let generation = &ended["generation"]["number"];
            match &ended["refresh"]["last"] {
                Value::Object(last) if last.contains_key("failed") => {
                    failed.push(format!("{name}: {}", last["failed"].as_str().unwrap_or_default()));
                }
                Value::Object(_) => print(&format!("{name}: generation {generation} is new")),
                _ => print(&format!("{name}: nothing new; generation {generation} is current")),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Failed::new(failed.join("\n"))) }
    }
}

fn find<'s>(status: &'s Value, name: &str) -> &'s Value {
    let trees = status["trees"].as_array();
    trees.into_iter().flatten().find(|tree| tree["name"] == name).unwrap_or(&Value::Null)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
