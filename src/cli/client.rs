//! Asking the running relay: finds its admin listener in the data folder and speaks to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::app::{RUNNING, Running};
use crate::cli::{Failed, settings};

/// How long the relay may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which relay.
#[derive(Debug, Args)]
pub struct Which {
    /// The data folder of the relay.
    #[arg(long, value_name = "FOLDER", default_value = "forebay-data", conflicts_with = "config")]
    data: PathBuf,
    /// The settings file of the relay; its data folder is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Which {
    /// The relay of a data folder.
    pub fn of(data: PathBuf) -> Self {
        Self { data, config: None }
    }

    /// The data folder.
    pub fn data(&self) -> Result<PathBuf, Failed> {
        match &self.config {
            Some(file) => Ok(settings::read(file)?.data),
            None => Ok(self.data.clone()),
        }
    }

    /// Finds the relay that runs on the data folder.
    pub fn find(&self) -> Result<Running, Failed> {
        let data = self.data()?;
        self.running()?.ok_or_else(|| {
            Failed::new(format!(
                "no relay runs on data folder {}: start one with 'forebay serve', or name another folder with --data or --config",
                data.display()
            ))
        })
    }

    /// The same; `None` where none runs.
    pub fn running(&self) -> Result<Option<Running>, Failed> {
        let data = self.data()?;
        if !is_locked(&data) {
            return Ok(None);
        }
        let said = std::fs::read(data.join(RUNNING)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        said.map(Some).ok_or_else(|| {
            Failed::new(format!("the relay on data folder {} is only starting or ending", data.display()))
        })
    }
}

/// A relay that runs holds its folder's lock; one that was killed leaves its `running.json` behind.
fn is_locked(data: &Path) -> bool {
    let Ok(file) = std::fs::File::open(data.join("lock")) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}

/// Makes one request to the relay's admin listener and reads its JSON.
pub async fn ask(relay: &Running, method: Method, path: &str) -> Result<Value, Failed> {
    tokio::time::timeout(ANSWER, exchange(relay, method, path))
        .await
        .map_err(|_| Failed::new(format!("the relay did not answer within {} s", ANSWER.as_secs())))?
}

async fn exchange(relay: &Running, method: Method, path: &str) -> Result<Value, Failed> {
    let address = relay.admin.first().ok_or_else(|| Failed::new("the relay has no admin listener"))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Failed::new(format!("the relay does not answer at {address}: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body =
        body.map_err(|error| Failed::new(format!("the relay's answer broke off: {error}")))?.to_bytes();
    driven.abort();
    let json: Value = serde_json::from_slice(&body)
        .map_err(|error| Failed::new(format!("the relay's answer is no JSON: {error}")))?;
    if status.is_success() || status == StatusCode::ACCEPTED {
        Ok(json)
    } else {
        Err(Failed::new(json["detail"].as_str().unwrap_or("the relay refused").to_owned()))
    }
}
