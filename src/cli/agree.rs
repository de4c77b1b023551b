//! Asking the person at the terminal. Anything but a clear yes is a no, and who cannot be asked has not agreed.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;

use crate::cli::Failed;
use crate::cli::output::print_error;

/// Whether somebody is asked.
#[derive(Clone, Copy, Debug, Args)]
pub struct Agreement {
    /// Do not ask: needed where nobody could answer.
    #[arg(long)]
    pub yes: bool,
}

impl Agreement {
    /// Says what would be done, and goes on where that is agreed to.
    pub fn to(self, what: &str, question: &str) -> Result<(), Failed> {
        print_error(what);
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failed::new("nothing was changed: nobody can be asked here; --yes agrees to it"));
        }
        if is_agreed(question)? { Ok(()) } else { Err(Failed::new("nothing was changed")) }
    }
}

/// Asks.
pub fn is_agreed(question: &str) -> Result<bool, Failed> {
    let mut out = io::stdout().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
