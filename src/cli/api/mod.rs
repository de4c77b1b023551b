//! The commands over the administrators' API, each group a file: what is typed becomes a [`call`], the answer a table or, with `--json`,
//! what the API said.
//!
//! Domains are named by their paths, as people know them: [`place`] finds their numbers. Never opens a data folder that a relay uses.
//! Invariant: everything here can be done by programs with the same calls.

pub mod agents;
pub mod audit;
pub mod call;
pub mod domains;
pub mod enrol;
pub mod files;
pub mod me;
pub mod place;
pub mod ranges;
pub mod reports;
pub mod settings;
pub mod sources;
pub mod update;
pub mod values;
pub mod watch;
pub mod why;

use clap::Args;
use serde::Serialize;

use crate::admin::model::change::Made;
use crate::cli::Failed;
use crate::cli::api::call::Api;
use crate::cli::output::print;
use crate::cli::which::Which;

/// Which relay is asked, and for whom the answer is.
#[derive(Debug, Args)]
pub struct Asking {
    #[command(flatten)]
    which: Which,
    /// Print what the API answers, for programs.
    #[arg(long)]
    json: bool,
}

impl Asking {
    /// The relay.
    pub fn api(&self) -> Result<Api, Failed> {
        Api::find(&self.which)
    }

    /// Prints an answer: as JSON, or as `told` has it.
    pub fn print<T: Serialize>(
        &self,
        answer: &T,
        told: impl FnOnce(&T) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        if !self.json {
            return told(answer);
        }
        print(&serde_json::to_string_pretty(answer)?);
        Ok(())
    }

    /// Says that a change was made, or that there was none to make.
    pub fn print_made(&self, made: &Made) -> Result<(), Failed> {
        self.print(made, |made| {
            match made.serial {
                Some(serial) => print(&format!("done: change {serial}")),
                None => print("nothing to change: it is so already"),
            }
            Ok(())
        })
    }
}
