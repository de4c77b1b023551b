//! Who has the agent tree at this moment: a running relay, which is asked, or nobody, and then the data folder is opened here.
//!
//! Invariant: the data folder is opened under its lock, and while a relay has that, by nobody else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, StatusCode, header};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::app::AGENTS;
use crate::base::clock::SystemClock;
use crate::cli::Failed;
use crate::cli::client::{Asked, json, refused, send};
use crate::cli::tree::who::who;
use crate::cli::which::{Found, Which};
use crate::disk::Disk;
use crate::policy::outline::read::Read;
use crate::state::outline::{ApplyError, Comparison};
use crate::state::record::Author;
use crate::state::{ChangeError, Keep, State};
use crate::store::Store;

/// Who has the tree.
pub enum Keeper {
    /// A relay that runs.
    Relay {
        /// Where it is.
        running: Box<Asked>,
        /// What asks it.
        runtime: Runtime,
    },
    /// This process.
    Here {
        /// The tree.
        state: State,
        /// Holds the data folder's lock.
        _store: Box<Store>,
    },
}

/// What a file would change.
#[derive(Debug)]
pub struct Seen {
    /// The last change of the tree that it was compared with.
    pub last: u64,
    /// What would change, in words; nothing where nothing would.
    pub told: Vec<String>,
    /// The same for whoever makes it, where that is this process.
    compared: Option<Comparison>,
}

/// What a relay says of it.
#[derive(Debug, Deserialize)]
struct Said {
    last_change: u64,
    told: Vec<String>,
}

/// How long a relay may take: the largest tree is read and compared within that on a slow machine.
const WITHIN: Duration = Duration::from_mins(5);

const PATH: &str = "/api/v1/agent-tree";

impl Keeper {
    /// Finds out who has it.
    pub fn find(which: &Which) -> Result<Self, Failed> {
        let data = match which.look()? {
            Found::Relay(running) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                return Ok(Self::Relay { running, runtime });
            }
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
        let clock = Arc::new(SystemClock::default());
        let state = State::open(&disk, &data.join(AGENTS), Keep::default(), clock)?;
        Ok(Self::Here { state, _store: store })
    }

    /// The whole tree as text.
    pub fn export(&self) -> Result<String, Failed> {
        match self {
            Self::Here { state, .. } => Ok(state.outline()?.1),
            Self::Relay { running, runtime } => {
                let request = Request::builder().uri(PATH).body(Bytes::new())?;
                let (head, body) = runtime.block_on(send(running, request, WITHIN))?;
                if head.status != StatusCode::OK {
                    return Err(refused(&json(&body)?));
                }
                String::from_utf8(body.to_vec()).map_err(|_| Failed::new("the relay's answer is not UTF-8"))
            }
        }
    }

    /// What the text would change.
    pub fn compare(&self, text: &str, read: &Read) -> Result<Seen, Failed> {
        match self {
            Self::Here { state, .. } => {
                let compared = state.compare(read)?;
                Ok(Seen { last: compared.last.0, told: compared.told.clone(), compared: Some(compared) })
            }
            Self::Relay { .. } => match self.post(&format!("{PATH}?check"), None, text)? {
                (StatusCode::OK, body) => {
                    let said: Said = serde_json::from_slice(&body)?;
                    Ok(Seen { last: said.last_change, told: said.told, compared: None })
                }
                (_, body) => Err(refused(&json(&body)?)),
            },
        }
    }

    /// Changes what was seen; gives the change's number, or nothing where the tree has changed since.
    pub fn apply(&self, text: &str, read: &Read, seen: Seen) -> Result<Option<u64>, Failed> {
        match (self, seen.compared) {
            (Self::Here { state, .. }, Some(compared)) => {
                let by = format!("{}, by forebay tree apply", who());
                let done = state.apply(Author::parse(&by)?, compared, read);
                match done.and_then(|pending| Ok(pending.wait()?)) {
                    Ok(done) => Ok(Some(done.serial.map_or(seen.last, |serial| serial.0))),
                    Err(ApplyError::Change(ChangeError::Outrun(_))) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            _ => {
                let by = format!("{} with forebay tree apply", who());
                let by = percent_encoding::utf8_percent_encode(&by, percent_encoding::NON_ALPHANUMERIC);
                match self.post(&format!("{PATH}?by={by}"), Some(seen.last), text)? {
                    (StatusCode::OK, body) => Ok(Some(serde_json::from_slice::<Said>(&body)?.last_change)),
                    (StatusCode::PRECONDITION_FAILED, _) => Ok(None),
                    (_, body) => Err(refused(&json(&body)?)),
                }
            }
        }
    }

    fn post(&self, path: &str, last: Option<u64>, text: &str) -> Result<(StatusCode, Bytes), Failed> {
        let Self::Relay { running, runtime } = self else {
            return Err(Failed::new("no relay runs that could be asked"));
        };
        let mut request = Request::builder().method(Method::POST).uri(path);
        if let Some(last) = last {
            request = request.header(header::IF_MATCH, format!("\"{last}\""));
        }
        let request = request.body(Bytes::from(text.to_owned()))?;
        let (head, body) = runtime.block_on(send(running, request, WITHIN))?;
        Ok((head.status, body))
    }
}
