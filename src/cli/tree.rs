//! `forebay tree export|apply`: the agent tree as a file that people keep, compare and review.
//!
//! Asks the running relay, or where none runs the data folder itself, which must be on this machine: [`keeper`]. Invariant: what is made
//! was shown before.

pub mod keeper;
pub mod who;

use std::io::{self, IsTerminal, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::Failed;
use crate::cli::agree::is_agreed;
use crate::cli::output::{print, print_error};
use crate::cli::tree::keeper::{Keeper, Seen};
use crate::cli::which::{FOLDER_HELP, Which};
use crate::disk::Disk;
use crate::policy::outline::read::{TEXT_BYTES_MAX, read};

/// Reads and writes the agent tree as a file.
#[derive(Debug, Subcommand)]
#[command(after_help = FOLDER_HELP)]
pub enum Tree {
    /// Write the whole agent tree to a file.
    Export(Export),
    /// Make the agent tree what a file says, once it was shown what that changes.
    Apply(Apply),
}

/// Writes the whole agent tree as TOML: domains, agents with the hashes of their secrets, enrolments, ranges, update sources,
/// settings files.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// The file, which is overwritten and then its owner's alone; '-' is standard output.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// Shows what a file would change in the agent tree, asks, and changes it in one transaction. What the file leaves out is removed.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct Apply {
    #[command(flatten)]
    which: Which,
    /// The file; '-' is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask: needed where nobody could answer.
    #[arg(long)]
    yes: bool,
    /// Only show what would change; end with 1 if anything would.
    #[arg(long, conflicts_with = "yes")]
    check: bool,
}

/// How often a change is shown anew because the tree changed meanwhile: where that goes on, somebody must look.
const TRIES_MAX: usize = 5;

impl Tree {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Export(export) => export.run(),
            Self::Apply(apply) => apply.run(),
        }
    }
}

impl Export {
    fn run(self) -> Result<(), Failed> {
        let text = Keeper::find(&self.which)?.export()?;
        if is_standard(&self.file) {
            // The reader may have left.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            return Ok(());
        }
        let path = std::path::absolute(&self.file)?;
        Disk::default()
            .write_whole_private(&path, text.as_bytes())
            .map_err(|error| Failed::new(format!("{}: {error}", self.file.display())))
    }
}

impl Apply {
    fn run(self) -> Result<(), Failed> {
        let nobody_answers = is_standard(&self.file) || !io::stdin().is_terminal();
        if nobody_answers && !self.yes && !self.check {
            return Err(Failed::new(
                "nobody can be asked here: look at it with --check, then change it with --yes",
            ));
        }
        let text = text(&self.file)?;
        // What is wrong with the file needs no relay to be said.
        let named = |errors: &dyn std::fmt::Display| {
            let lines = errors.to_string();
            let lines = lines.lines().map(|line| format!("{}: {line}", self.file.display()));
            Failed::new(lines.collect::<Vec<_>>().join("\n"))
        };
        let read = read(&text).map_err(|errors| named(&errors))?;
        let keeper = Keeper::find(&self.which)?;
        for _ in 0..TRIES_MAX {
            let seen = keeper.compare(&text, &read)?;
            if seen.told.is_empty() {
                print("the agent tree is what the file says: nothing to change");
                return Ok(());
            }
            print(&seen.told.join("\n"));
            if self.check {
                return Err(Failed::new("the agent tree is not what the file says"));
            }
            if !self.yes && !is_agreed("Change it so?")? {
                return Err(Failed::new("nothing was changed"));
            }
            let Seen { last, .. } = seen;
            if let Some(change) = keeper.apply(&text, &read, seen)? {
                print(&format!("done: change {change}"));
                return Ok(());
            }
            print_error(&format!(
                "forebay: nothing was changed: somebody else changed the agent tree after change {last}. Once more:"
            ));
        }
        Err(Failed::new("nothing was changed: the agent tree changes faster than it can be looked at"))
    }
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

fn text(file: &Path) -> Result<String, Failed> {
    let named = |what: &dyn std::fmt::Display| Failed::new(format!("{}: {what}", file.display()));
    let mut bytes = Vec::new();
    let most = TEXT_BYTES_MAX as u64 + 1;
    let read = if is_standard(file) {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| named(&error))?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(named(&format_args!("an agent tree has at most {TEXT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| named(&"the text is not UTF-8"))
}
