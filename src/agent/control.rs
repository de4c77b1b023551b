//! Commands from the agent's own machine: a Unix socket in its folder, for whoever may enter that.
//!
//! A request is one line of JSON; what happens is told as lines of JSON, of which the last says how it ended. Never decides: whether a
//! user may is the relay's to say. Invariant: lines and connections are bounded.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::agent::folder::{FolderError, Place, named};
use crate::agent::progress::Progress;
use crate::agent::state::Last;
use crate::agent::{Outcome, Updater};
use crate::policy::tree::value::Switch;

/// What the running agent is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Update, because the user wants it (R8.1).
    UpdateNow,
    /// Switch scheduled updates (R8.3).
    Schedule {
        /// How.
        enabled: Switch,
    },
}

/// How it ended: the last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// It is done.
    Done,
    /// The update ended so.
    Updated(Last),
    /// The user may not, for this reason.
    Denied {
        /// Why not.
        reason: String,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Why the running agent cannot be asked.
#[derive(Debug, Error)]
pub enum ControlError {
    /// It does not answer.
    #[error("the agent that runs does not answer at {socket}: {source}")]
    Io {
        /// Where.
        socket: String,
        /// What was said.
        source: io::Error,
    },
    /// It left without saying how it ended.
    #[error("the agent ended before it said what came of it")]
    Left,
}

/// A command for who runs the agent.
#[derive(Debug)]
pub(super) enum Command {
    UpdateNow {
        /// Who watches.
        watch: Sender<Progress>,
        /// Who waits for the end.
        done: oneshot::Sender<Result<Outcome, String>>,
    },
}

const SOCKET: &str = "control.sock";

/// Bytes of a request.
const REQUEST_BYTES_MAX: u64 = 4096;

/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(10);

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;

/// Lines that wait for who watches.
const LINES_MAX: usize = 256;

/// After an error in taking a connection, which is mostly that files are short.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket's name by its folder's descriptor: names of sockets have 107 bytes at most (unix(7)), folders' have more.
struct Address {
    _folder: File,
    short: String,
}

impl Address {
    fn of(place: &Place) -> io::Result<Self> {
        let folder = File::open(place.path())?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        Ok(Self { _folder: folder, short })
    }
}

/// Asks the agent that runs on a folder, and tells what it says until it says how it ended.
pub async fn ask(
    place: &Place,
    request: Request,
    tell: &mut (dyn FnMut(Value) + Send),
) -> Result<End, ControlError> {
    let at = |source| ControlError::Io { socket: place.path().join(SOCKET).display().to_string(), source };
    let address = Address::of(place).map_err(at)?;
    let mut stream = UnixStream::connect(&address.short).await.map_err(at)?;
    let line = serde_json::to_string(&request).expect("a request has names for keys");
    stream.write_all(format!("{line}\n").as_bytes()).await.map_err(at)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(at)? {
        let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
        match End::deserialize(&said) {
            Ok(end) => return Ok(end),
            Err(_) => tell(said),
        }
    }
    Err(ControlError::Left)
}

/// The socket of the agent that runs.
pub(super) fn listen(place: &Place) -> Result<UnixListener, FolderError> {
    let path = place.path().join(SOCKET);
    // Whoever holds the folder's lock is the only one: what is there was left by one that was killed.
    place.disk().remove_if_there(&path).map_err(named(&path))?;
    let bound = Address::of(place).and_then(|address| UnixListener::bind(&address.short));
    bound.map_err(named(&path))
}

/// Takes commands for ever.
pub(super) async fn serve(listener: UnixListener, updater: Updater, to: Sender<Command>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a command was not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (updater, to) = (updater.clone(), to.clone());
        tokio::spawn(async move {
            // Who asked may have left.
            let _ = answer(stream, updater, to).await;
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, updater: Updater, to: Sender<Command>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX));
    timeout(REQUEST, read.read_line(&mut line)).await??;
    let end = match serde_json::from_str(&line) {
        Err(error) => End::Failed { reason: format!("this is no request: {error}") },
        Ok(Request::Schedule { enabled }) => match updater.switch_schedule(enabled).await {
            Ok(()) => End::Done,
            Err(error) => End::Denied { reason: error.to_string() },
        },
        Ok(Request::UpdateNow) => {
            let (watch, mut watched) = mpsc::channel(LINES_MAX);
            let (done, ended) = oneshot::channel();
            if to.send(Command::UpdateNow { watch, done }).await.is_err() {
                return Ok(());
            }
            while let Some(progress) = watched.recv().await {
                write.write_all(&told(&progress)).await?;
            }
            match ended.await {
                Ok(Ok(Outcome::Ended(last))) => End::Updated(last),
                Ok(Ok(Outcome::Denied(reason))) => End::Denied { reason },
                Ok(Err(reason)) => End::Failed { reason },
                Err(_) => End::Failed { reason: "the agent ends".into() },
            }
        }
    };
    write.write_all(&told(&end)).await?;
    write.shutdown().await
}

fn told(what: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(what).expect("what is told has names for keys");
    line.push(b'\n');
    line
}
