//! `forebay completions`: what a shell needs to complete commands, options and their values.

use clap::{Args, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::cli::Failed;
use crate::cli::commands::command;

/// Prints completions for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  forebay completions bash > /usr/share/bash-completion/completions/forebay\n  \
    forebay completions zsh > /usr/local/share/zsh/site-functions/_forebay\n  \
    forebay completions fish > ~/.config/fish/completions/forebay.fish"
)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> Result<(), Failed> {
        use std::io::Write as _;

        let (mut command, mut text) = (command(), Vec::new());
        match self.shell {
            Shell::Bash => generate(Bash, &mut command, "forebay", &mut text),
            Shell::Zsh => generate(Zsh, &mut command, "forebay", &mut text),
            Shell::Fish => generate(Fish, &mut command, "forebay", &mut text),
        }
        // The reader may have left.
        let _ = std::io::stdout().lock().write_all(&text);
        Ok(())
    }
}
