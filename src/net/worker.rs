//! Data workers: one single-threaded runtime for each, accepting on sockets of its own (design.md, Decisions).
//!
//! A worker's connections never leave its thread. Invariant: at most so many connections are served as the limit says; one
//! more of each socket waits accepted, the rest in the kernel's queue.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::net::listen::Transport;
use crate::net::pulse::Answerer;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(50);

/// How a set of workers stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No more connections; those that are open end with the request under way.
    pub drain: CancellationToken,
    /// Everything ends at once.
    pub now: CancellationToken,
}

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub stream: TcpStream,
    /// The other side of the socket.
    pub peer: SocketAddr,
    /// What its listener is for.
    pub transport: Transport,
}

/// Starts a worker on its own thread. `serve` is made on that thread, once, and runs each connection.
pub fn start<M, S, F>(
    name: String,
    listeners: Vec<(TcpListener, Transport)>,
    connections: Arc<Semaphore>,
    stop: Stop,
    answerer: Answerer,
    make: M,
) -> io::Result<JoinHandle<()>>
where
    M: FnOnce() -> S + Send + 'static,
    S: Fn(Accepted, CancellationToken) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let local = LocalSet::new();
        // Made within the set, so that it may spawn tasks of the worker; they end with the thread.
        local.block_on(&runtime, async move {
            tokio::task::spawn_local(answerer.answer());
            run(listeners, connections, stop, make()).await;
        });
        // Reads from the disk that are under way need not be waited for.
        drop(local);
        runtime.shutdown_background();
    })
}

async fn run<S, F>(
    listeners: Vec<(TcpListener, Transport)>,
    connections: Arc<Semaphore>,
    stop: Stop,
    serve: S,
) where
    S: Fn(Accepted, CancellationToken) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let open = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        let (connections, drain, open, serve) =
            (connections.clone(), stop.drain.clone(), open.clone(), serve.clone());
        accepting.spawn_local(async move {
            tokio::select! {
                failed = accept(listener, connections, &drain, open, serve) => {
                    if let Err(error) = failed {
                        error!(%error, "a listener is lost");
                    }
                }
                () = drain.cancelled() => {}
            }
        });
    }
    accepting.close();
    tokio::select! {
        () = accepting.wait() => {}
        () = stop.now.cancelled() => return,
    }
    open.close();
    tokio::select! {
        () = open.wait() => {}
        () = stop.now.cancelled() => {}
    }
}

async fn accept<S, F>(
    (listener, transport): (TcpListener, Transport),
    connections: Arc<Semaphore>,
    drain: &CancellationToken,
    open: TaskTracker,
    serve: S,
) -> io::Result<()>
where
    S: Fn(Accepted, CancellationToken) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(slot) = connections.clone().acquire_owned().await else { return Ok(()) };
                let served = serve(Accepted { stream, peer, transport }, drain.clone());
                open.spawn_local(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                warn!(%error, "no connection can be accepted for the moment");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Whether an error of accept concerns only the connection that was to be accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
