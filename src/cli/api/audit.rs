//! `forebay audit`: who changed what of the agent tree and when, and with `--follow` what is changed from now on.
//!
//! Invariant: between what is listed and what follows no change is left out, unless that is said.

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::admin::model::change::{AuditAsked, Change};
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::api::call::{Api, asking, items};
use crate::cli::client::{json, open, refused};
use crate::cli::output::{print, print_error};

/// Lists the changes of the agent tree, the last one first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay audit --limit 20\n  forebay audit --follow")]
pub struct Audit {
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only changes before the one of this number.
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow")]
    before: Option<u64>,
    /// Show the last ones, the oldest first, and then each as it is made, until the relay ends.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    asking: Asking,
}

/// What a stream of events tells of a change.
#[derive(Debug, Deserialize)]
struct Told {
    serial: u64,
    at: Timestamp,
    who: String,
    what: Vec<String>,
}

/// Bytes of an event: a change is told in some lines.
const EVENT_BYTES_MAX: usize = 1 << 20;

impl Audit {
    /// Lists, and follows.
    pub fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let asked = AuditAsked { before: self.before, limit: None };
        let mut listed = api.list(&asking("audit", &asked)?, "before", self.limit as usize)?;
        if !self.follow {
            return self.asking.print(&listed, |listed| {
                if listed.items.is_empty() {
                    print("Nothing was changed yet.");
                }
                items::<Change>(listed.items.clone())?.into_iter().for_each(print_change);
                Ok(())
            });
        }
        listed.items.reverse();
        let last = listed.items.last().and_then(|last| last["serial"].as_u64()).unwrap_or(0);
        for change in listed.items {
            self.print_one(&change)?;
        }
        api.runtime().block_on(self.follow(&api, last))
    }

    /// Shows what changes after this one.
    async fn follow(&self, api: &Api, last: u64) -> Result<(), Failed> {
        let request = Request::builder().uri("/api/v1/events").header("last-event-id", last);
        let answer = open(api.relay(), request.body(Bytes::new())?).await?;
        let status = answer.status();
        let mut events = answer.into_body();
        if status != StatusCode::OK {
            return Err(refused(&json(&events.collect().await?.to_bytes())?));
        }
        let mut waiting: Vec<u8> = Vec::new();
        // The relay gives signs of life: one that says nothing at all is gone.
        while let Some(piece) = api.relay().piece(&mut events).await? {
            waiting.extend(piece);
            // An event ends with an empty line.
            while let Some(end) = waiting.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = waiting.drain(..end + 2).collect();
                self.print_event(&String::from_utf8_lossy(&event))?;
            }
            if waiting.len() > EVENT_BYTES_MAX {
                return Err(Failed::new("the relay's events cannot be read"));
            }
        }
        print_error("forebay: the relay has ended");
        Ok(())
    }

    fn print_event(&self, event: &str) -> Result<(), Failed> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        match (field("event:"), field("data:")) {
            (Some("change"), Some(data)) => self.print_one(&serde_json::from_str(data)?),
            (Some("missed"), Some(_)) => {
                print_error(
                    "forebay: changes were made meanwhile that are not shown here: 'forebay audit' has them",
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A change of the list or of the stream: a line of JSON, or as people read it.
    fn print_one(&self, change: &Value) -> Result<(), Failed> {
        if self.asking.json {
            print(&change.to_string());
            return Ok(());
        }
        let Told { serial, at, who, what } = serde_json::from_value(change.clone())?;
        print(&line(serial, at, &who, &what));
        Ok(())
    }
}

fn print_change(Change { serial, at, who, what, .. }: Change) {
    print(&line(serial, at, &who, &what));
}

fn line(serial: u64, at: Timestamp, who: &str, what: &[String]) -> String {
    format!("{serial:>6}  {at:.0}  {who}: {}", what.join("; "))
}
