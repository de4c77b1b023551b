//! `forebay why`: why an agent gets a file or does not.

use std::fmt::Write as _;

use clap::Args;

use crate::admin::model::why::{About, Step, Verdict, Why as Answer, WhyAsked};
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::api::call::asking;
use crate::cli::api::watch::print_refusals;
use crate::cli::output::print;
use crate::policy::tree::id::AgentId;

/// Says what an agent would be answered for a path now, step by step, and what was refused to it lately. Nothing is fetched for it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  forebay why pc-0421 /activeupdate/pattern/vsapi329.zip\n  forebay why pc-0421 server.ini"
)]
pub struct Why {
    /// The agent.
    #[arg(value_name = "AGENT", value_parser = AgentId::parse)]
    agent: AgentId,
    /// A path of the relay as the log shows it, a path within its only tree, a URL, or HOST:PORT for a tunnel.
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    asking: Asking,
}

impl Why {
    /// Asks and tells.
    pub fn run(self) -> Result<(), Failed> {
        let path = asking(&format!("agents/{}/why", self.agent), &WhyAsked { path: self.path })?;
        let why: Answer = self.asking.api()?.get(&path)?;
        self.asking.print(&why, |why| {
            print(&told(why));
            if !why.refusals.is_empty() {
                print("\nThe last refusals of the same:");
                print_refusals(&why.refusals, "");
            }
            Ok(())
        })
    }
}

fn told(Answer { agent, path, verdict, steps, .. }: &Answer) -> String {
    let verdict = match verdict {
        Verdict::Served => "gets it",
        Verdict::Fetched => "gets it as it is fetched",
        Verdict::Forwarded => "is taken to another server, which decides",
        Verdict::Refused => "is REFUSED",
        Verdict::Missing => "gets 404: NOTHING is there",
        Verdict::NotReady => "gets 503: the relay has NOTHING YET",
        Verdict::Failed => "gets an ERROR: it could not be fetched",
    };
    let mut text = format!("{agent} asks for {path} and {verdict}:\n");
    for Step { about, says, passes } in steps {
        let mark = if *passes { ' ' } else { '!' };
        // Writing into a string does not fail.
        let _ = writeln!(text, "{mark} {:<11} {says}", word(*about));
    }
    text
}

fn word(about: About) -> &'static str {
    match about {
        About::Agent => "agent",
        About::CheckIn => "check-in",
        About::Scope => "scope",
        About::Limits => "limits",
        About::Path => "path",
        About::Generation => "generation",
        About::Policy => "policy",
        About::Store => "store",
    }
}
