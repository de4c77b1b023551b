//! The commands of `forebay`, each a file; what can be typed: [`commands`]. Here: how an error ends the program.
//!
//! Exit codes: 0 done, 1 it failed (the reason on standard error), 2 the command line is wrong (clap's), 3 `scrub` found
//! damaged files, 4 what `load` played did not pass. `tree apply --check` ends with 1 where something would change, too,
//! and `update --wait` where agents gave up.

pub mod admin_token;
pub mod agent;
pub mod agree;
pub mod api;
pub mod certs;
pub mod check;
pub mod client;
pub mod commands;
pub mod completions;
pub mod fixture;
pub mod load;
pub mod logging;
pub mod man;
pub mod output;
pub mod progress;
pub mod refresh;
pub mod remote;
pub mod scrub;
pub mod secret;
pub mod serve;
pub mod service;
pub mod settings;
pub mod status;
pub mod table;
pub mod tree;
pub mod which;

use std::process::ExitCode;

use crate::base::causes::causes;
use crate::cli::output::print_error;

/// Why a command failed, in words for the person who typed it.
#[derive(Debug)]
pub struct Failed {
    text: String,
    code: u8,
}

/// The exit code of a command that failed.
const FAILED: u8 = 1;

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::new(causes(&error))
    }
}

impl Failed {
    /// A failure that no error stands behind.
    pub fn new(text: impl Into<String>) -> Self {
        Self::with_code(FAILED, text)
    }

    /// The same, with an exit code of its own.
    pub fn with_code(code: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), code }
    }
}

/// Runs the command that was typed.
pub fn run() -> ExitCode {
    match commands::typed().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { text, code }) => {
            for line in text.lines() {
                print_error(&format!("forebay: {line}"));
            }
            code.into()
        }
    }
}
