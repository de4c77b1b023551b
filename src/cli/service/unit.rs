//! `forebay service`: the units for systemd, for this program, its settings file and its user (R11.4).
//!
//! Writes nowhere but to standard output. Invariant: what is put into a unit's text cannot become another line or option of it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::output::print;
use crate::cli::{Failed, settings};
use crate::config::settings::Settings;

const UNIT: &str = include_str!("forebay.service");
const SOCKET: &str = include_str!("forebay.socket");

/// Where systemd keeps the data of services.
const STATE: &str = "/var/lib";

/// The settings file of a service whose administrator names none.
const CONFIG: &str = "/etc/forebay.toml";

/// How long the index and the last tasks may take after the drain.
const CLOSE_SECS: u64 = 30;

/// What can be printed.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Print the service unit: its own user, notices, a watchdog, and no rights that it does not need.
    Unit(What),
    /// Print the socket unit, which holds the agents' ports while the relay restarts.
    Socket(What),
}

/// For whom.
#[derive(Debug, Args)]
pub struct What {
    /// The settings file; it is read for the data folder, the drain and the addresses [default: /etc/forebay.toml, not read].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The user that the service runs as.
    #[arg(long, value_name = "NAME", default_value = "forebay", value_parser = user)]
    user: String,
}

impl Service {
    /// Prints it.
    pub fn run(self) -> Result<(), Failed> {
        let text = match &self {
            Self::Unit(what) => unit(what, &std::env::current_exe()?)?,
            Self::Socket(what) => socket(&what.settings()?),
        };
        print(&text);
        Ok(())
    }
}

impl What {
    fn settings(&self) -> Result<Settings, Failed> {
        let Some(file) = &self.config else {
            // Any upstream does: what is asked for has its default.
            let mut settings = Settings::for_upstream("http://upstream.example/")?;
            settings.data = Path::new(STATE).join("forebay");
            return Ok(settings);
        };
        settings::read(file)
    }
}

fn unit(what: &What, executable: &Path) -> Result<String, Failed> {
    let settings = what.settings()?;
    let config = std::path::absolute(what.config.as_deref().unwrap_or(Path::new(CONFIG)))?;
    let values = [
        ("@EXECUTABLE@", argument(executable)?),
        ("@CONFIG@", argument(&config)?),
        ("@STOP_SECS@", (settings.limits.drain.as_secs() + CLOSE_SECS).to_string()),
        ("@USER@", what.user.clone()),
        ("@DATA@", data(&settings.data)?),
    ];
    Ok(values.iter().fold(UNIT.to_owned(), |text, (name, value)| text.replacen(name, value, 1)))
}

fn socket(settings: &Settings) -> String {
    let lines: Vec<_> =
        settings.listen.addresses().iter().map(|address| format!("ListenStream={address}")).collect();
    SOCKET.replacen("@LISTEN@", &lines.join("\n"), 1)
}

/// The lines that let the service write to its data folder: systemd makes one below its own place for them.
pub(in crate::cli) fn data(folder: &Path) -> Result<String, Failed> {
    if !folder.is_absolute() {
        let shown = folder.display();
        return Err(Failed::new(format!("data = \"{shown}\": a service needs a path that begins with '/'")));
    }
    match folder.strip_prefix(STATE) {
        Ok(below) if below.components().next().is_some() => {
            Ok(format!("StateDirectory={}\nStateDirectoryMode=0700", quoted(below)?))
        }
        _ => Ok(format!(
            "# It must be there: install -d -m 0700 -o USER FOLDER\nReadWritePaths={}",
            quoted(folder)?
        )),
    }
}

/// A path as one word of a unit (systemd.syntax(7), Quoting), without specifiers.
fn quoted(path: &Path) -> Result<String, Failed> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| Failed::new(format!("{}: no such path fits in a unit", path.display())))?;
    let text = text.replace('%', "%%");
    if text.contains([' ', '"', '\'', '\\', ';']) {
        return Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    Ok(text)
}

/// The same for a command line, where variables are filled in too.
pub(in crate::cli) fn argument(path: &Path) -> Result<String, Failed> {
    Ok(quoted(path)?.replace('$', "$$"))
}

/// A user's name as systemd takes it.
pub(in crate::cli) fn user(name: &str) -> Result<String, String> {
    let rest = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let first = |char: char| char.is_ascii_alphabetic() || char == '_';
    if name.len() <= 31 && name.starts_with(first) && name.chars().all(rest) {
        return Ok(name.to_owned());
    }
    Err("allowed: 1 to 31 of A-Z, a-z, 0-9, '_' and '-', first a letter or '_'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_stays_one_word_r11_4() {
        let word = |path: &str| argument(Path::new(path)).map_err(|_| ());
        assert_eq!(word("/usr/bin/forebay"), Ok("/usr/bin/forebay".into()));
        assert_eq!(word("/a b/50%/$HOME"), Ok("\"/a b/50%%/$$HOME\"".into()));
        assert_eq!(word("/a\"\\b"), Ok("\"/a\\\"\\\\b\"".into()));
        assert_eq!(word("/a\nExecStart=/bin/sh"), Err(()));
        for name in ["root\nGroup=x", "", "-x", "a b", "7up", "%u"] {
            assert!(user(name).is_err(), "{name}");
        }
        assert_eq!(user("_relay-2"), Ok("_relay-2".into()));
    }

    #[test]
    fn the_data_folder_is_systemds_or_named_r11_4() {
        let lines = |path: &str| data(Path::new(path)).map_err(|failed| failed.text);
        assert_eq!(lines("/var/lib/forebay").unwrap(), "StateDirectory=forebay\nStateDirectoryMode=0700");
        assert!(lines("/srv/relay").unwrap().ends_with("\nReadWritePaths=/srv/relay"));
        assert!(lines("/var/lib").unwrap().ends_with("\nReadWritePaths=/var/lib"));
        assert!(lines("./forebay-data").unwrap_err().contains("begins with '/'"));
    }
}
