//! Asking the running relay: finds its admin listener in the data folder and speaks to it, with the token of whoever types.
//!
//! The relay keeps no token, so none is found in its folder: it comes from a file or a variable. Invariant: a token is sent to the
//! relay of the data folder alone, and never shown.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::app::{RUNNING, Running};
use crate::cli::{Failed, settings};
use crate::policy::secret::Token;

/// How long the relay may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: an agent tree of ten times what one change may name.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Which relay.
#[derive(Debug, Args)]
pub struct Which {
    /// The data folder of the relay.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "forebay-data",
        conflicts_with = "config",
        help_heading = "Which relay"
    )]
    data: PathBuf,
    /// The settings file of the relay; its data folder is asked.
    #[arg(long, value_name = "FILE", help_heading = "Which relay")]
    config: Option<PathBuf>,
    /// Where the token for a relay that runs is kept.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Which relay",
        help = "A file that holds your token, for a relay that runs; else the variable FOREBAY_TOKEN does"
    )]
    token_file: Option<PathBuf>,
}

/// The variable that holds a token.
const VARIABLE: &str = "FOREBAY_TOKEN";

/// Bytes of a file that holds a token, and maybe a line's end.
const TOKEN_FILE_BYTES_MAX: u64 = 1024;

/// A relay that runs, to be asked by somebody.
#[derive(Debug)]
pub struct Asked {
    /// How it is reached.
    pub running: Running,
    /// What is shown to it; nothing where there is no token.
    token: Option<HeaderValue>,
}

impl Which {
    /// The relay of a data folder.
    pub fn of(data: PathBuf) -> Self {
        Self { data, config: None, token_file: None }
    }

    /// The data folder.
    pub fn data(&self) -> Result<PathBuf, Failed> {
        match &self.config {
            Some(file) => Ok(settings::read(file)?.data),
            None => Ok(self.data.clone()),
        }
    }

    /// Finds the relay that runs on the data folder.
    pub fn find(&self) -> Result<Asked, Failed> {
        let data = self.data()?;
        self.running()?.ok_or_else(|| {
            Failed::new(format!(
                "no relay runs on data folder {}: start one with 'forebay serve', or name another folder with --data or --config",
                data.display()
            ))
        })
    }

    /// The same; `None` where none runs.
    pub fn running(&self) -> Result<Option<Asked>, Failed> {
        let data = self.data()?;
        if !is_locked(&data) {
            return Ok(None);
        }
        let said = std::fs::read(data.join(RUNNING)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let running = said.ok_or_else(|| {
            Failed::new(format!("the relay on data folder {} is only starting or ending", data.display()))
        })?;
        Ok(Some(Asked { running, token: self.token()? }))
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

/// Makes one request to the relay's admin listener and reads its JSON.
pub async fn ask(relay: &Asked, method: Method, path: &str) -> Result<Value, Failed> {
    let request = Request::builder().method(method).uri(path).body(Full::default())?;
    let (head, body) = send(relay, request, ANSWER).await?;
    let json = json(&body)?;
    if head.status.is_success() { Ok(json) } else { Err(refused(&json)) }
}

/// Where a token comes from.
const HOW: &str = "as the first start prints it and 'forebay admin-token make' does; name it with --token-file or FOREBAY_TOKEN";

/// The reason that a problem gives.
pub fn refused(problem: &Value) -> Failed {
    let detail = problem["detail"].as_str().unwrap_or("the relay refused");
    if problem["status"] == StatusCode::UNAUTHORIZED.as_u16() {
        return Failed::new(format!("the relay wants a token, {HOW}: {detail}"));
    }
    Failed::new(detail)
}

/// An answer's body as JSON.
pub fn json(body: &[u8]) -> Result<Value, Failed> {
    serde_json::from_slice(body)
        .map_err(|error| Failed::new(format!("the relay's answer is no JSON: {error}")))
}

/// Sends a request to the relay's admin listener and reads the answer, whatever its status.
pub async fn send(
    relay: &Asked,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<(Parts, Bytes), Failed> {
    tokio::time::timeout(within, exchange(relay, request))
        .await
        .map_err(|_| Failed::new(format!("the relay did not answer within {} s", within.as_secs())))?
}

async fn exchange(relay: &Asked, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), Failed> {
    let (answer, _connection) = open(relay, request).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| Failed::new(format!("the relay's answer broke off: {error}")))?;
    Ok((head, body.to_bytes()))
}

/// Sends a request to the relay's admin listener; the answer's body comes for as long as the connection is kept.
pub async fn open(
    relay: &Asked,
    mut request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Failed> {
    let address =
        relay.running.admin.first().ok_or_else(|| Failed::new("the relay has no admin listener"))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Failed::new(format!("the relay does not answer at {address}: {error}")))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    request.headers_mut().insert(hyper::header::HOST, HeaderValue::try_from(address.to_string())?);
    if let Some(token) = &relay.token {
        request.headers_mut().insert(hyper::header::AUTHORIZATION, token.clone());
    }
    Ok((sender.send_request(request).await?, sender))
}
