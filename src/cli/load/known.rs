//! What agents are known by to a relay: the tokens in a file, and those whom an enrolment lets in.
//!
//! Invariant: a token that an agent was given is in the file before the next one is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Failed;
use crate::cli::output::print_error;
use crate::load::plan::{Plan, Streams};
use crate::load::target::Target;
use crate::load::told::enrol::{Newcomers, enrol};
use crate::load::told::tokens::Tokens;
use crate::policy::secret::Token;

/// How agents are known.
#[derive(Debug, Args)]
#[command(next_help_heading = "Agents that the relay knows, and tells when to update")]
pub(super) struct KnownOptions {
    /// A file of agents' tokens, a line each: the first agent shows the first with all that it asks for, and so on. Without it, agents
    /// are known by their addresses.
    #[arg(long, value_name = "FILE", required_if_eq("arrival", "told"))]
    tokens: Option<PathBuf>,
    /// The token of an enrolment, by which those are let in for whom the file has none; their own are added to it. '-' reads it from
    /// standard input, where no list of processes shows it.
    #[arg(long, value_name = "TOKEN", requires = "tokens")]
    enrolment: Option<String>,
    /// What those hold who are told.
    #[arg(long, value_enum, default_value = "http1")]
    streams: Holds,
    /// Streams on a connection of HTTP/2, at most; no more than the relay allows, by default 100.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    streams_per_connection: u16,
}

/// What agents hold that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Holds {
    /// A stream on a connection of its own, as agents do.
    Http1,
    /// A stream on a connection that many share: for more agents than this machine can open connections.
    Http2,
    /// None: they poll, each on a connection of its own.
    Polls,
}

impl KnownOptions {
    /// How streams are held.
    pub(super) fn streams(&self) -> Streams {
        match self.streams {
            Holds::Http1 => Streams::Own,
            Holds::Http2 => Streams::Shared { per_connection: self.streams_per_connection.into() },
            Holds::Polls => Streams::Polls,
        }
    }

    /// The tokens of the plan's agents; enrols those who have none.
    pub(super) async fn tokens(&self, plan: &Plan, target: &Target) -> Result<Tokens, Failed> {
        let Some(path) = &self.tokens else { return Ok(Tokens::default()) };
        let failed = |error: &dyn std::error::Error| Failed::new(format!("{}: {error}", path.display()));
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.enrolment.is_some() => {
                String::new()
            }
            read => read.map_err(|error| failed(&error))?,
        };
        let mut tokens = Tokens::parse(&text).map_err(|error| failed(&error))?;
        let (has, needs) = (tokens.len(), plan.agents as usize);
        if has >= needs {
            return Ok(tokens);
        }
        let Some(enrolment) = self.enrolment()? else {
            return Err(Failed::new(format!(
                "{}: {has} tokens, and {needs} agents play: add --enrolment, or --agents {has}",
                path.display()
            )));
        };
        let mut file = Keeper::open(path, &text).map_err(|error| failed(&error))?;
        let named = format!("load-{:08x}", rand::random::<u32>());
        let count = needs - has;
        print_error(&format!("load: {count} agents enrol, as {named}-0 and on"));
        let at_once = plan.connections.min(ENROLLING_MAX);
        let newcomers =
            Newcomers { named: &named, count, at_once, silence: plan.silence.max(ENROL_SILENCE_MIN) };
        enrol(target, &enrolment, newcomers, |token| {
            tokens.add(token).filter(|is_new| *is_new).ok_or_else(|| io::Error::other("it is none"))?;
            file.keep(token)
        })
        .await?;
        Ok(tokens)
    }

    fn enrolment(&self) -> Result<Option<String>, Failed> {
        let Some(token) = &self.enrolment else { return Ok(None) };
        let mut token = token.clone();
        if token == "-" {
            token.clear();
            io::stdin().read_line(&mut token)?;
        }
        let token = token.trim();
        if Token::parse(token).is_none() {
            return Err(Failed::new("--enrolment: this is no enrolment's token: one looks like NAME~SECRET"));
        }
        Ok(Some(token.to_owned()))
    }
}

/// The file, to whose end tokens are added. Nobody else may read it.
struct Keeper(BufWriter<File>);

impl Keeper {
    fn open(path: &Path, text: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(file);
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        Ok(Self(file))
    }

    fn keep(&mut self, token: &str) -> io::Result<()> {
        writeln!(self.0, "{token}")?;
        self.0.flush()
    }
}

/// Agents that enrol at once: each is a change of the agent tree, and those that come together are one write to the relay's disk.
const ENROLLING_MAX: usize = 64;

/// For the answer to an enrolment, at least: thousands of them take their time.
const ENROL_SILENCE_MIN: Duration = Duration::from_secs(30);
