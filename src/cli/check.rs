//! `forebay check`: is it right, before it runs?

mod certificate;
mod told;
pub mod upstream;

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::output::print;
use crate::cli::{Failed, settings};

/// What can be checked.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// Read a settings file whole and name everything that is wrong with it.
    Config {
        /// The settings file, in TOML.
        file: PathBuf,
    },
    /// Ask an upstream as the relay would, and show what happens on the way.
    Upstream(upstream::Upstream),
}

impl Check {
    /// Checks it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Config { file } => {
                let settings = settings::read(&file)?;
                let trees: Vec<&str> = settings.trees.iter().map(|tree| tree.path.as_str()).collect();
                print(&format!("{}: valid; trees: {}", file.display(), trees.join(", ")));
                Ok(())
            }
            Self::Upstream(check) => check.run(),
        }
    }
}
