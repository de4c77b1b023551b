//! The commands of `forebay`, each a file. Here: what can be typed, and how an error ends the program.
//!
//! Exit codes: 0 done, 1 it failed (the reason on standard error), 2 the command line is wrong (clap's), 3 `scrub` found
//! damaged files, 4 what `load` played did not pass. `tree apply --check` ends with 1 where something would change, too.

pub mod admin_token;
pub mod certs;
pub mod check;
pub mod client;
pub mod fixture;
pub mod load;
pub mod logging;
pub mod output;
pub mod progress;
pub mod refresh;
pub mod scrub;
pub mod secret;
pub mod serve;
pub mod service;
pub mod settings;
pub mod status;
pub mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::output::print_error;

/// An update relay for fleets of security agents.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about, arg_required_else_help = true)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the relay.
    Serve(serve::Serve),
    /// Have the running relay ask its upstreams now, and wait for what comes of it.
    Refresh(refresh::Refresh),
    /// Check every stored file against its hash.
    Scrub(scrub::Scrub),
    /// Show what the running relay is doing.
    Status(status::Status),
    /// Keep the agent tree in a file: write it, compare it, have it made so.
    #[command(subcommand)]
    Tree(tree::Tree),
    /// Check something without running the relay.
    #[command(subcommand)]
    Check(check::Check),
    /// Make an authority and a server certificate, to try TLS with.
    Certs(certs::Certs),
    /// Make a secret for a user of the proxy.
    Secret(secret::Secret),
    /// Say who may administer the relay: make a token, list all, revoke one.
    #[command(subcommand)]
    AdminToken(admin_token::AdminToken),
    /// Print units for systemd, which run the relay as a service.
    #[command(subcommand)]
    Service(service::unit::Service),
    /// Write a tree in ActiveUpdate's grammar for tests, or publish the next release into one.
    Fixture(fixture::Fixture),
    /// Play a fleet of agents against a relay, or any server with such a tree, and judge its answers.
    ///
    /// Each agent takes server.ini, reads from it what it wants, and takes that file by file, with signatures. Every answer is checked
    /// to its last byte. Latencies count from the moment at which a request was due, not from its sending. Exit codes: 0 passed,
    /// 4 not passed, 1 could not be played, 2 the command line is wrong.
    Load(Box<load::Load>),
}

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
        let mut text = error.to_string();
        let mut under = error.source();
        while let Some(error) = under {
            let cause = error.to_string();
            // Transparent errors repeat what they wrap.
            if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
            under = error.source();
        }
        Self::new(text)
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
    let done = match Command::parse().verb {
        Verb::Serve(command) => command.run(),
        Verb::Refresh(command) => command.run(),
        Verb::Scrub(command) => command.run(),
        Verb::Status(command) => command.run(),
        Verb::Tree(command) => command.run(),
        Verb::Check(command) => command.run(),
        Verb::Certs(command) => command.run(),
        Verb::Secret(command) => command.run(),
        Verb::AdminToken(command) => command.run(),
        Verb::Service(command) => command.run(),
        Verb::Fixture(command) => command.run(),
        Verb::Load(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { text, code }) => {
            for line in text.lines() {
                print_error(&format!("forebay: {line}"));
            }
            code.into()
        }
    }
}
