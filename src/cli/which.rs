//! Which relay a command is for: the one of a data folder, or the one at a URL; and the token of whoever types.
//!
//! The relay keeps no token, so none is found in its folder: it comes from a file or a variable. Never speaks to a relay: that is
//! [`client`](crate::cli::client)'s. Invariant: what is typed counts before what a variable says.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use hyper::header::HeaderValue;

use crate::app::{RUNNING, Running};
use crate::cli::client::{Asked, HOW};
use crate::cli::remote::Remote;
use crate::cli::{Failed, settings};
use crate::policy::secret::Token;

/// Which relay.
#[derive(Debug, Args)]
pub struct Which {
    /// The data folder of the relay [default: forebay-data].
    #[arg(long, value_name = "FOLDER", conflicts_with = "config", help_heading = "Which relay")]
    data: Option<PathBuf>,
    /// The settings file of the relay; its data folder is asked.
    #[arg(long, value_name = "FILE", help_heading = "Which relay")]
    config: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
    /// Where the token for a relay that runs is kept.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Which relay",
        help = "A file that holds your token, for a relay that runs; else the variable FOREBAY_TOKEN does"
    )]
    token_file: Option<PathBuf>,
}

/// What there is of the relay that was named.
#[derive(Debug)]
pub enum Found {
    /// It runs, and is asked.
    Relay(Box<Asked>),
    /// Its data folder, on which none runs.
    Folder(PathBuf),
}

/// What the help of a command says that works without a relay that runs, too.
pub const FOLDER_HELP: &str =
    "Where no relay runs, this works on its data folder itself: on its machine, with --data or --config.";

/// Where the relay's data is if nobody says it.
const DATA: &str = "forebay-data";

/// The variable that holds a token.
const VARIABLE: &str = "FOREBAY_TOKEN";

/// Bytes of a file that holds a token, and maybe a line's end.
const TOKEN_FILE_BYTES_MAX: u64 = 1024;

impl Which {
    /// The relay of a data folder.
    pub fn of(data: PathBuf) -> Self {
        Self { data: Some(data), config: None, remote: Remote::default(), token_file: None }
    }

    /// The relay that runs.
    pub fn find(&self) -> Result<Asked, Failed> {
        match self.look()? {
            Found::Relay(asked) => Ok(*asked),
            Found::Folder(data) => Err(Failed::new(format!(
                "no relay runs on data folder {}: start one with 'forebay serve', or name another folder with --data or --config, or a relay \
                 elsewhere with --url",
                data.display()
            ))),
        }
    }

    /// The same, or the data folder where none runs. A relay at a URL has no folder here.
    pub fn look(&self) -> Result<Found, Failed> {
        let data = match (&self.config, &self.data) {
            (Some(file), _) => settings::read(file)?.data,
            (None, Some(data)) => data.clone(),
            (None, None) => match self.remote.url()? {
                Some(url) => {
                    return Ok(Found::Relay(Asked::at(url, self.remote.client()?, self.token()?).into()));
                }
                None => DATA.into(),
            },
        };
        self.remote.is_left_out()?;
        if !is_locked(&data) {
            return Ok(Found::Folder(data));
        }
        let said = std::fs::read(data.join(RUNNING)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let running: Running = said.ok_or_else(|| {
            Failed::new(format!("the relay on data folder {} is only starting or ending", data.display()))
        })?;
        Ok(Found::Relay(Asked::here(&running, self.token()?)?.into()))
    }

    fn token(&self) -> Result<Option<HeaderValue>, Failed> {
        let (text, from) = match &self.token_file {
            Some(file) => {
                let named =
                    |error: &dyn std::fmt::Display| Failed::new(format!("{}: {error}", file.display()));
                let mut text = String::new();
                let opened = std::fs::File::open(file).map_err(|error| named(&error))?;
                opened.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| named(&error))?;
                (text, file.display().to_string())
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, format!("the variable {VARIABLE}")),
                Err(_) => return Ok(None),
            },
        };
        if Token::parse(text.trim()).is_none() {
            return Err(Failed::new(format!("{from} holds no token: one looks like NAME~SECRET, {HOW}")));
        }
        let mut shown = HeaderValue::try_from(format!("Bearer {}", text.trim()))?;
        shown.set_sensitive(true);
        Ok(Some(shown))
    }
}

/// A relay that runs holds its folder's lock; one that was killed leaves its `running.json` behind.
fn is_locked(data: &Path) -> bool {
    let Ok(file) = std::fs::File::open(data.join("lock")) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}
