//! A connection of HTTP/2 that the streams of several agents share.
//!
//! A task of its own makes it, and makes it anew for the first who asks once it is closed; a failure is told to all who asked by then.
//! Invariant: at most one connection is open at a time.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Version;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::load::connection::{Way, way};
use crate::load::fault::{Failure, Fault};
use crate::load::fleet::Ground;

/// What sends requests on the connection.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// The connection, as its agents know it.
#[derive(Clone, Debug)]
pub(super) struct Shared(mpsc::Sender<oneshot::Sender<Result<Given, Failure>>>);

/// The connection, as it is given to who asks.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) sender: Sender,
    /// Connections that were made for this one who asked.
    pub(super) made: u64,
}

/// The task's side.
struct Keeper {
    ground: Arc<Ground>,
    /// The first of its agents, whose address it comes from.
    agent: u32,
    open: Option<(Sender, AbortOnDropHandle<()>)>,
}

impl Shared {
    /// Has a connection kept for these agents, of which this is the first.
    pub(super) fn keep(ground: Arc<Ground>, agent: u32, tasks: &mut JoinSet<()>) -> Self {
        let (to, mut asked) = mpsc::channel::<oneshot::Sender<Result<Given, Failure>>>(ASKING_MAX);
        let mut keeper = Keeper { ground, agent, open: None };
        tasks.spawn(async move {
            while let Some(first) = asked.recv().await {
                let given = keeper.give().await;
                if let Err(failure) = &given {
                    while let Ok(other) = asked.try_recv() {
                        // Whoever has left needs no answer.
                        let _ = other.send(Err(failure.clone()));
                    }
                }
                let _ = first.send(given);
            }
        });
        Self(to)
    }

    /// The connection, made anew where there is none.
    pub(super) async fn ask(&self) -> Result<Given, Failure> {
        let (to, given) = oneshot::channel();
        let over = || Failure::new(Fault::Connect, "the run is over");
        self.0.send(to).await.map_err(|_| over())?;
        given.await.map_err(|_| over())?
    }
}

impl Keeper {
    async fn give(&mut self) -> Result<Given, Failure> {
        if let Some((sender, _)) = self.open.as_ref().filter(|(sender, _)| !sender.is_closed()) {
            return Ok(Given { sender: sender.clone(), made: 0 });
        }
        self.open = None;
        let Ground { plan, target, .. } = &*self.ground;
        let (to, from) = target.line(target.place(self.agent), self.agent);
        let opened = match way(target, to, from, plan.silence, Version::HTTP_2).await? {
            Way::Clear(stream) => shake(stream).await,
            Way::Tls(stream) => shake(stream).await,
        };
        let (sender, driven) =
            opened.map_err(|error| Failure::new(Fault::Reset, format!("{to}: {error}")))?;
        self.open = Some((sender.clone(), driven));
        Ok(Given { sender, made: 1 })
    }
}

async fn shake<S>(stream: S) -> hyper::Result<(Sender, AbortOnDropHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        Builder::new(TokioExecutor::new()).handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(async move {
        // What goes wrong here is told to whoever waits for an answer.
        let _ = connection.await;
    });
    Ok((sender, AbortOnDropHandle::new(driven)))
}

/// Agents that may ask at once; more wait.
const ASKING_MAX: usize = 64;
