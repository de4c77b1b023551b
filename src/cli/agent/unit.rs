//! `forebay agent service`: the unit for systemd, for this program and its agent's folder.
//!
//! Writes nowhere but to standard output. Invariant: what is put into a unit's text cannot become another line or option of it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Failed;
use crate::cli::output::print;
use crate::cli::service::unit::{argument, data, user};

const UNIT: &str = include_str!("forebay-agent.service");

/// Where systemd keeps the data of services.
const FOLDER: &str = "/var/lib/forebay-agent";

/// Prints it.
#[derive(Debug, Args)]
pub struct Service {
    /// The agent's folder.
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    dir: PathBuf,
    /// The user that the agent runs as: one that may do what its commands do.
    #[arg(long, value_name = "NAME", default_value = "root", value_parser = user)]
    user: String,
}

impl Service {
    pub(super) fn run(self) -> Result<(), Failed> {
        print(&self.unit(&std::env::current_exe()?)?);
        Ok(())
    }

    fn unit(&self, executable: &Path) -> Result<String, Failed> {
        let values = [
            ("@EXECUTABLE@", argument(executable)?),
            ("@FOLDER@", argument(&self.dir)?),
            ("@USER@", self.user.clone()),
            ("@DATA@", data(&self.dir)?),
        ];
        Ok(values.iter().fold(UNIT.to_owned(), |text, (name, value)| text.replacen(name, value, 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_program_folder_and_user_and_nothing_is_left_open() {
        let service = Service { dir: "/srv/my agent".into(), user: "agent".into() };
        let unit = service.unit(Path::new("/usr/bin/forebay")).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/forebay agent run --dir \"/srv/my agent\"\n"), "{unit}");
        assert!(unit.contains("User=agent\n") && !unit.contains('@'), "{unit}");
        let relative = Service { dir: "agent".into(), user: "agent".into() };
        assert!(relative.unit(Path::new("/usr/bin/forebay")).is_err());
    }
}
