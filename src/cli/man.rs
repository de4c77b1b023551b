//! `forebay man`: the manual pages, made of what `--help` says.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use clap_mangen::{Man as Page, generate_to};

use crate::cli::Failed;
use crate::cli::commands::command;

/// Prints the manual page, or writes those of all commands into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay man | man -l -\n  forebay man /usr/local/share/man/man1")]
pub struct Man {
    /// The folder, which is made where it is not there.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Man {
    /// Writes.
    pub fn run(self) -> Result<(), Failed> {
        let Some(folder) = self.folder else {
            let mut text = Vec::new();
            Page::new(command()).render(&mut text)?;
            // The reader may have left.
            let _ = io::stdout().lock().write_all(&text);
            return Ok(());
        };
        let named = |error: &io::Error| Failed::new(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(|error| named(&error))?;
        generate_to(command(), &folder).map_err(|error| named(&error))
    }
}
