//! `forebay admin-token make|list|revoke`: who may administer the relay.
//!
//! Asks the running relay, which wants an administrator's token for it; where none runs, whoever may write to the data folder needs none.
//! Invariant: a token is printed once, and kept by nobody here.

use std::fmt::Write as _;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use hyper::{Method, Request, header};
use jiff::Timestamp;

use crate::admin::model::access::{MadeToken, NewToken, Tokens as ToldTokens};
use crate::app::ADMIN;
use crate::cli::Failed;
use crate::cli::client::{Asked, json, refused, send};
use crate::cli::output::print;
use crate::cli::tree::who::who;
use crate::cli::which::{FOLDER_HELP, Found, Which};
use crate::disk::Disk;
use crate::policy::administrator::{Role, TokenName};
use crate::state::record::Author;
use crate::state::tokens::Tokens;
use crate::store::Store;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(after_help = FOLDER_HELP)]
pub enum AdminToken {
    /// Make a token, and print it once.
    Make(Make),
    /// List all tokens, without their secrets.
    List(List),
    /// Revoke a token: it counts no more.
    Revoke(Revoke),
}

/// Makes a token.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct Make {
    /// Its name, for the audit log: 1 to 63 of a-z, 0-9, '.', '-', '_' and ':'.
    #[arg(value_name = "NAME", value_parser = TokenName::parse)]
    name: TokenName,
    /// What its owner may do.
    #[arg(long, value_enum, default_value_t = Wanted::Viewer)]
    role: Wanted,
    /// Days until it counts no more; where nothing is said, it counts until it is revoked.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3660))]
    days: Option<u16>,
    #[command(flatten)]
    which: Which,
}

/// Lists tokens.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct List {
    #[command(flatten)]
    which: Which,
}

/// Revokes a token.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct Revoke {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = TokenName::parse)]
    name: TokenName,
    #[command(flatten)]
    which: Which,
}

/// What somebody may do, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// Look at everything but what settings files hold.
    Viewer,
    /// Also change the agent tree, and start refreshes and scrubs.
    Operator,
    /// Also say who administers, and replace the whole agent tree.
    Administrator,
}

impl From<Wanted> for Role {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Viewer => Self::Viewer,
            Wanted::Operator => Self::Operator,
            Wanted::Administrator => Self::Administrator,
        }
    }
}

const PATH: &str = "/api/v1/tokens";

const WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

impl AdminToken {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Make(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Revoke(command) => command.run(),
        }
    }
}

impl Make {
    fn run(self) -> Result<(), Failed> {
        let (name, role) = (self.name, self.role.into());
        let token = match keeper(&self.which)? {
            Keeper::Relay(asked) => {
                let new = NewToken { name: name.clone(), role, days: self.days };
                let body = exchange(&asked, Method::POST, PATH, serde_json::to_vec(&new)?.into())?;
                serde_json::from_slice::<MadeToken>(&body)?.token
            }
            Keeper::Here { tokens, .. } => {
                let at = Timestamp::now();
                let until = self.days.map(|days| at + jiff::SignedDuration::from_hours(24 * i64::from(days)));
                tokens.make(name.clone(), role, until, author()?, at)?.text().to_owned()
            }
        };
        print(&format!(
            "The token '{name}' with the role {role}, which is shown this once:\n\n{token}\n\n\
             Commands take it from the variable FOREBAY_TOKEN or from a file named with --token-file; programs send it as\n\
             'Authorization: Bearer ...'."
        ));
        Ok(())
    }
}

impl List {
    fn run(self) -> Result<(), Failed> {
        let mut lines = format!("{:<24}  {:<13}  {:<20}  {:<20}  made by\n", "name", "role", "made", "until");
        let mut line = |name: &str, role: Role, at: Timestamp, until: Option<Timestamp>, by: &str| {
            let until = until.map_or_else(|| "no end".to_owned(), |until| format!("{until:.0}"));
            // Writing into a string does not fail.
            let _ =
                writeln!(lines, "{name:<24}  {role:<13}  {at:<20.0}  {until:<20}  {by}", role = role.name());
        };
        match keeper(&self.which)? {
            Keeper::Relay(asked) => {
                let body = exchange(&asked, Method::GET, PATH, Bytes::new())?;
                for token in serde_json::from_slice::<ToldTokens>(&body)?.items {
                    line(token.name.as_str(), token.role, token.at, token.until, &token.by);
                }
            }
            Keeper::Here { tokens, .. } => {
                for (name, known) in &*tokens.all() {
                    line(name.as_str(), known.role, known.at, known.until, known.by.as_str());
                }
            }
        }
        print(&lines);
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> Result<(), Failed> {
        let name = self.name;
        match keeper(&self.which)? {
            Keeper::Relay(asked) => {
                drop(exchange(&asked, Method::DELETE, &format!("{PATH}/{name}"), Bytes::new())?);
            }
            Keeper::Here { tokens, .. } => tokens.revoke(name.clone(), author()?, Timestamp::now())?,
        }
        print(&format!("the token '{name}' counts no more"));
        Ok(())
    }
}

/// Who has the tokens at this moment.
enum Keeper {
    /// A relay that runs.
    Relay(Box<Asked>),
    /// This process, which holds the data folder's lock.
    Here {
        /// The tokens.
        tokens: Tokens,
        /// Holds the data folder's lock.
        _store: Box<Store>,
    },
}

fn keeper(which: &Which) -> Result<Keeper, Failed> {
    let data = match which.look()? {
        Found::Relay(asked) => return Ok(Keeper::Relay(asked)),
        Found::Folder(data) => data,
    };
    if !data.join("FORMAT").is_file() {
        return Err(Failed::new(format!(
            "{} is no data folder of a relay: name one with --data or --config",
            data.display()
        )));
    }
    let disk = Disk::default();
    let store = Box::new(Store::open(&data, disk.clone())?);
    Ok(Keeper::Here { tokens: Tokens::open(&disk, &data.join(ADMIN))?, _store: store })
}

fn author() -> Result<Author, Failed> {
    Ok(Author::parse(&format!("{}, by forebay admin-token", who()))?)
}

fn exchange(asked: &Asked, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failed> {
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (head, body) = runtime.block_on(send(asked, request.body(body)?, WITHIN))?;
    if head.status.is_success() { Ok(body) } else { Err(refused(&json(&body)?)) }
}
