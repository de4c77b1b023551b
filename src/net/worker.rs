//! Data workers: one single-threaded runtime for each, accepting on sockets of its own (design.md, Decisions).
//!
//! A worker's connections never leave its thread. Invariant: at most so many connections are served as there are places; one
//! more of each socket waits accepted until whoever has been idle longest makes room, the rest in the kernel's queue.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{LocalOptions, LocalRuntime, RuntimeMetrics};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::base::address::normalised;
use crate::net::addresses::Counted;
use crate::net::heap;
use crate::net::idle::{Idle, Place};
use crate::net::listen::{Inlet, Transport};
use crate::net::places::Places;
use crate::net::pulse::Answerer;
use crate::net::wakes::Wakes;

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
    /// Its socket, which sends what it is given at once.
    pub stream: TcpStream,
    /// The other side of the socket.
    pub peer: SocketAddr,
    /// This side; `None` where it was closed meanwhile.
    pub local: Option<SocketAddr>,
    /// What its listener is for.
    pub transport: Transport,
    /// Where it tells whether it is idle.
    pub place: Rc<Place>,
}

/// The places that connections take, and who gets how many of them.
#[derive(Debug)]
pub struct Door<L> {
    /// The places.
    pub places: Arc<Places>,
    /// The worker's number among those that share them.
    pub worker: usize,
    /// How many an address may have.
    pub limit: L,
}

/// What a worker accepts with.
#[derive(Debug)]
struct Entrance<L> {
    idle: Rc<Idle>,
    wakes: Arc<Wakes>,
    limit: L,
}

/// A worker that was started.
#[derive(Debug)]
pub struct Started {
    /// Its thread.
    pub thread: JoinHandle<()>,
    /// What its runtime counts.
    pub metrics: RuntimeMetrics,
}

/// Starts a worker on its own thread. `serve` is made on that thread, once, and runs each connection. Blocks until the thread
/// has its runtime.
pub fn start<L, M, S, F>(
    name: String,
    inlets: Vec<Inlet>,
    door: Door<L>,
    stop: Stop,
    answerer: Answerer,
    make: M,
) -> io::Result<Started>
where
    L: Fn(IpAddr) -> usize + Send + 'static,
    M: FnOnce() -> S + Send + 'static,
    S: Fn(Accepted) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let (built, metrics) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        heap::grow_once();
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                // Whoever started the thread waits for this.
                let _ = built.send(Err(error));
                return;
            }
        };
        let _ = built.send(Ok(runtime.metrics()));
        // Made within the runtime, so that it may spawn tasks of the worker; they end with the thread.
        runtime.block_on(async move {
            tokio::task::spawn_local(answerer.answer());
            let idle = Idle::new(door.places, door.worker, stop.drain.clone());
            tokio::task::spawn_local(idle.clone().tend());
            let wakes = Wakes::of_this_thread();
            tokio::task::spawn_local(wakes.clone().tell());
            let entrance = Entrance { idle, wakes, limit: door.limit };
            run(inlets, Rc::new(entrance), stop, make()).await;
        });
        // Reads from the disk that are under way need not be waited for.
        runtime.shutdown_background();
    })?;
    let metrics = metrics.recv().map_err(|_| io::Error::other("the thread ended before it began"))??;
    Ok(Started { thread, metrics })
}

async fn run<L, S, F>(inlets: Vec<Inlet>, entrance: Rc<Entrance<L>>, stop: Stop, serve: S)
where
    L: Fn(IpAddr) -> usize + 'static,
    S: Fn(Accepted) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let open = TaskTracker::new();
    let accepting = TaskTracker::new();
    for inlet in inlets {
        let (entrance, drain, open, serve) =
            (entrance.clone(), stop.drain.clone(), open.clone(), serve.clone());
        accepting.spawn_local(async move {
            tokio::select! {
                failed = accept(inlet, &entrance, open, serve) => {
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

async fn accept<L, S, F>(inlet: Inlet, entrance: &Entrance<L>, open: TaskTracker, serve: S) -> io::Result<()>
where
    L: Fn(IpAddr) -> usize,
    S: Fn(Accepted) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let Inlet { socket, transport, local } = inlet;
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let mut has_nodelay = None;
    let places = entrance.idle.places();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Who has too many is sent away before anybody makes room.
                let Some(counted) = entrance.count(peer.ip()) else { continue };
                let Some(held) = places.place().await else { return Ok(()) };
                // What the first has of the listener, all after it have. Those that waited before a socket was passed in have not.
                if !*has_nodelay.get_or_insert_with(|| stream.nodelay().unwrap_or(false)) {
                    let _ = stream.set_nodelay(true);
                }
                let local = local.or_else(|| stream.local_addr().ok());
                let place = entrance.idle.enter();
                // Boxed: a future that is moved into another one takes its room in it twice.
                let served = Box::pin(serve(Accepted { stream, peer, local, transport, place }));
                let wakes = entrance.wakes.clone();
                open.spawn_local(async move {
                    wakes.bundle(served).await;
                    drop((held, counted));
                });
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                places.failed(&error);
                tokio::time::sleep(REST).await;
            }
        }
    }
}

impl<L: Fn(IpAddr) -> usize> Entrance<L> {
    /// Counts a connection of this address; `None` where it has too many.
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let address = normalised(address);
        self.idle.places().count(address, (self.limit)(address))
    }
}

/// Whether an error of accept concerns only the connection that was to be accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A worker's runtime. Of two turns one is for a task that another thread has woken, if there is any: what tells connections of theirs
/// (`net/wakes.rs`), reads from the disk and streams of HTTP/2 would have one where those that go on by themselves have thirty, which is
/// tokio's way.
fn runtime() -> io::Result<LocalRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().global_queue_interval(2).build_local(LocalOptions::default())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Poll;

    use futures_util::future::join_all;
    use tokio::sync::oneshot;

    use super::*;

    /// Tasks that go on by themselves, and tasks that wait for another thread.
    const MANY: usize = 100;

    #[test]
    fn who_waits_for_another_thread_has_its_turns_among_those_who_go_on_by_themselves() {
        let turns = Rc::new(Cell::new(0));
        runtime().unwrap().block_on(async {
            for _ in 0..MANY {
                let turns = turns.clone();
                let goes_on = poll_fn(move |cx| {
                    turns.set(turns.get() + 1);
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                });
                tokio::task::spawn_local(goes_on);
            }
            let (tell, wait): (Vec<_>, Vec<_>) = (0..MANY).map(|_| oneshot::channel::<()>()).unzip();
            let waiting: Vec<_> = wait.into_iter().map(tokio::task::spawn_local).collect();
            // All have begun.
            tokio::task::yield_now().await;
            std::thread::spawn(|| tell.into_iter().for_each(|tell| tell.send(()).unwrap())).join().unwrap();
            let before = turns.get();
            join_all(waiting).await;
            let between = turns.get() - before;
            assert!(between < 4 * MANY, "{between} turns of others before {MANY} that were woken had theirs");
        });
    }
}
