//! The relay put together: the only place that wires parts and owns tasks.
//!
//! Start: store (locked) -> upstreams and trees -> sockets -> data workers -> control tasks (refresh for each tree, sweep,
//! admin). Stop: the workers drain, then fills and refreshes end, then the index is closed; each step has a deadline.
//! Invariant: nothing listens before the whole of the settings was found usable.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin;
use crate::base::clock::SystemClock;
use crate::base::tally::Tally;
use crate::config::restart_needed;
use crate::config::settings::{self, Listen, Settings, TreeSettings};
use crate::http::connection::{self, Worker};
use crate::net::listen::{ListenError, Listener, listen};
use crate::net::worker::{self, Stop};
use crate::policy::decide::Policy;
use crate::relay::live::Live;
use crate::relay::refresh::{self, MANIFEST};
use crate::relay::shelf::Shelf;
use crate::relay::sweep;
use crate::relay::tree::{Resources, Tree};
use crate::store::{Store, StoreError, disk};
use crate::upstream::client::{Client, ClientError, client};
use crate::upstream::{Deadlines, Origin, Upstream};

/// Where a running relay says in its data folder how it can be reached.
pub const RUNNING: &str = "running.json";

/// How long tasks may take to end once they were told to.
const TASKS_END: Duration = Duration::from_secs(5);

/// Threads of the control runtime: fills, refreshes and the admin listener wait more than they work.
const CONTROL_THREADS: usize = 2;

/// The relay, to be started.
#[derive(Debug)]
pub struct Relay;

/// A running relay. Dropping it stops the relay at once.
#[derive(Debug)]
pub struct RelayHandle {
    parts: Option<Parts>,
    running: Running,
}

/// What a relay says of itself in [`RUNNING`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process id.
    pub pid: u32,
    /// The addresses that agents reach it at.
    pub listen: Vec<SocketAddr>,
    /// The addresses of its admin listener.
    pub admin: Vec<SocketAddr>,
}

/// Ends a relay from elsewhere than its handle.
#[derive(Clone, Debug)]
pub struct Stopper(Stop);

/// Why a relay does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The upstreams' client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A directory that is to be an upstream.
    #[error("tree '{tree}': upstream {path}: {reason}", path = path.display())]
    Upstream {
        /// The tree.
        tree: String,
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Everything that must be ended.
#[derive(Debug)]
struct Parts {
    control: Control,
    workers: Vec<JoinHandle<()>>,
    stop: Stop,
    drain: Duration,
    resources: Arc<Resources>,
    live: Arc<ArcSwap<Live>>,
    /// What it was started with: the keys that need a restart stay at these.
    started: Settings,
    running_file: PathBuf,
}

/// The control runtime. Dropped, it does not wait: a start that fails may be dropped within another runtime's task.
#[derive(Debug)]
struct Control(Option<Runtime>);

impl Control {
    fn start() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| StartError::System("control runtime", error))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("the runtime is there until it is dropped")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Relay {
    /// Starts a relay: it listens when this returns. Blocks while the data folder is opened.
    pub fn start(settings: Settings) -> Result<RelayHandle, StartError> {
        let settings = placed(settings);
        let workers =
            settings.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let store = Arc::new(Store::open(&settings.data)?);
        let running_file = settings.data.join(RUNNING);
        let writing = |error| StartError::System("writing running.json", error);
        // A relay that was killed left it behind: nobody is to be sent there.
        disk::remove_if_there(&running_file).map_err(writing)?;
        let listeners = bind(&settings.listen, workers)?;
        let admin_listeners = bind(&settings.admin, 1)?;
        let control = Control::start()?;
        let runtime = control.runtime().handle().clone();
        let resources = resources(&settings, store, runtime.clone());
        let client = client(settings.upstream.connect, settings.upstream.ca_file.as_deref())?;
        let trees = open_trees(&settings, &client, &resources)?;
        let live = Arc::new(ArcSwap::from_pointee(compile(&settings, trees.clone())));
        let running = Running {
            pid: std::process::id(),
            listen: listeners.iter().map(|listener| listener.address).collect(),
            admin: admin_listeners.iter().map(|listener| listener.address).collect(),
        };
        let text = serde_json::to_vec_pretty(&running).unwrap_or_default();
        disk::write_whole(&running_file, &text).map_err(writing)?;
        let stop = Stop::default();
        let threads = start_workers(workers, listeners, &settings, &live, &resources, &stop)
            .inspect_err(|_| stop.now.cancel())
            .map_err(|error| StartError::System("data workers", error))?;
        for tree in &trees {
            resources.tasks.spawn_on(refresh::run(tree.clone()), &runtime);
        }
        resources.tasks.spawn_on(sweep::run(resources.clone(), trees), &runtime);
        let state = admin::State::new(live.clone(), resources.clone(), running.clone());
        for listener in admin_listeners.into_iter().flat_map(|listener| listener.sockets) {
            resources.tasks.spawn_on(admin::serve(listener, state.clone()), &runtime);
        }
        let drain = settings.limits.drain;
        let parts = Parts {
            control,
            workers: threads,
            stop,
            drain,
            resources,
            live,
            started: settings,
            running_file,
        };
        Ok(RelayHandle { parts: Some(parts), running })
    }
}

impl RelayHandle {
    /// How it can be reached.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Ends the relay from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.parts.as_ref().map(|parts| parts.stop.clone()).unwrap_or_default())
    }

    /// The relay's trees.
    pub fn trees(&self) -> Vec<Arc<Tree>> {
        let live = self.parts.as_ref().map(|parts| parts.live.load_full());
        live.iter().flat_map(|live| live.trees.iter().map(|(_, tree)| tree.clone())).collect()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.parts.as_ref().map(|parts| parts.resources.store.root().to_owned()).unwrap_or_default()
    }

    /// The relay's counts.
    pub fn tally(&self) -> Option<Arc<Tally>> {
        self.parts.as_ref().map(|parts| parts.resources.tally.clone())
    }

    /// Takes new settings without dropping a connection. Gives the keys whose change needs a restart: those stay as
    /// they were, all others count from the next request on.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, StartError> {
        let Some(parts) = &mut self.parts else { return Ok(Vec::new()) };
        let settings = placed(settings);
        let client = client(settings.upstream.connect, settings.upstream.ca_file.as_deref())?;
        let kept = restart_needed(&parts.started, &settings);
        let trees: Vec<_> = parts.live.load().trees.iter().map(|(_, tree)| tree.clone()).collect();
        for tree in &trees {
            if let Some(new) = settings.trees.iter().find(|new| new.name == tree.name) {
                let upstream = upstream(new, &settings, &client, &parts.resources);
                tree.reload(TreeSettings { path: tree.settings().path.clone(), ..new.clone() }, upstream);
            }
        }
        parts.resources.fill_attempts.store(settings.fill.attempts, Ordering::Relaxed);
        parts.resources.prefetch_at_once.store(settings.fill.prefetch_at_once, Ordering::Relaxed);
        parts.live.store(Arc::new(compile(&settings, trees)));
        parts.drain = settings.limits.drain;
        Ok(kept)
    }

    /// Stops the relay: no new connections, those under way have the drain's deadline to end.
    pub async fn shutdown(mut self) {
        let Some(parts) = self.parts.take() else { return };
        let (done, ended) = oneshot::channel();
        std::thread::spawn(move || {
            parts.end();
            // The caller may have gone.
            let _ = done.send(());
        });
        // The sender goes only when the thread is over.
        let _ = ended.await;
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            parts.stop.now.cancel();
            // A runtime cannot be dropped from within another one's task.
            let ended = std::thread::spawn(move || parts.end()).join();
            if ended.is_err() {
                warn!("the relay did not end in order");
            }
        }
    }
}

impl Stopper {
    /// Ends all transfers at once.
    pub fn now(&self) {
        self.0.now.cancel();
    }
}

impl Parts {
    fn end(mut self) {
        self.stop.drain.cancel();
        let (now, drain) = (self.stop.now.clone(), self.drain);
        let drained = CancellationToken::new();
        let deadline = {
            let drained = drained.clone();
            self.control.runtime().spawn(async move {
                if tokio::time::timeout(drain, drained.cancelled()).await.is_err() {
                    warn!(secs = drain.as_secs(), "transfers are cut: the drain's deadline is over");
                    now.cancel();
                }
            })
        };
        for worker in self.workers {
            if worker.join().is_err() {
                warn!("a data worker died");
            }
        }
        drained.cancel();
        deadline.abort();
        self.resources.stop.cancel();
        self.resources.tasks.close();
        let tasks = self.resources.tasks.clone();
        if self
            .control
            .runtime()
            .block_on(async { tokio::time::timeout(TASKS_END, tasks.wait()).await })
            .is_err()
        {
            warn!("fills or refreshes did not end in time");
        }
        if let Some(runtime) = self.control.0.take() {
            runtime.shutdown_timeout(TASKS_END);
        }
        self.resources.store.close();
        // That it is gone already is as good.
        let _ = std::fs::remove_file(&self.running_file);
        info!("stopped");
    }
}

/// Folders as they are from wherever one looks: relative ones count from where the relay was started.
fn placed(mut settings: Settings) -> Settings {
    // Where the working folder is gone, they stay as they are and show so in the first error.
    let place = |path: &mut PathBuf| {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| std::mem::take(path));
    };
    place(&mut settings.data);
    for tree in &mut settings.trees {
        if let settings::Upstream::Directory(folder) = &mut tree.upstream {
            place(folder);
        }
    }
    settings
}

fn resources(settings: &Settings, store: Arc<Store>, runtime: Handle) -> Arc<Resources> {
    Arc::new(Resources {
        store,
        tally: Arc::new(Tally::default()),
        clock: Arc::new(SystemClock::default()),
        runtime,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        fill_slots: Semaphore::new(settings.fill.at_once),
        fill_attempts: AtomicU32::new(settings.fill.attempts),
        prefetch_at_once: AtomicUsize::new(settings.fill.prefetch_at_once),
        naming: RwLock::new(()),
        sweep_wanted: Notify::new(),
    })
}

fn open_trees(
    settings: &Settings,
    client: &Client,
    resources: &Arc<Resources>,
) -> Result<Vec<Arc<Tree>>, StartError> {
    let mut trees = Vec::new();
    for tree in &settings.trees {
        let opened =
            Tree::open(tree.clone(), upstream(tree, settings, client, resources), resources.clone())?;
        if let settings::Upstream::Directory(path) = &tree.upstream
            && let Err(reason) = check_directory(path)
        {
            if opened.snapshot().is_none() {
                return Err(StartError::Upstream { tree: tree.name.to_string(), path: path.clone(), reason });
            }
            warn!(tree = %tree.name, upstream = %path.display(), %reason, "the upstream cannot be read: served from the store");
        }
        trees.push(opened);
    }
    Ok(trees)
}

/// A directory that holds no tree is most likely a typing error: better said at once than at the first refresh.
fn check_directory(path: &Path) -> Result<(), String> {
    std::fs::read_dir(path).map_err(|error| format!("the directory cannot be read: {error}"))?;
    let manifest = path.join(MANIFEST);
    let opened = std::fs::File::open(&manifest);
    opened
        .map(|_| ())
        .map_err(|error| format!("the directory is no tree: {MANIFEST} in it cannot be read: {error}"))
}

fn upstream(tree: &TreeSettings, settings: &Settings, client: &Client, resources: &Resources) -> Upstream {
    let origins = match &tree.upstream {
        settings::Upstream::Urls(urls) => {
            urls.iter().map(|url| Origin::Url(url.clone(), Box::new(client.clone()))).collect()
        }
        settings::Upstream::Directory(path) => vec![Origin::Directory(path.clone())],
    };
    let deadlines = Deadlines { first_byte: settings.fill.first_byte, silence: settings.fill.silence };
    Upstream::new(origins, deadlines, resources.tally.clone())
}

fn compile(settings: &Settings, trees: Vec<Arc<Tree>>) -> Live {
    let ranges = settings.agents.ranges.iter().map(|range| (range.from, range.scope));
    Live {
        trees: trees.into_iter().map(|tree| (tree.settings().path.as_str().into(), tree)).collect(),
        policy: Policy::new(ranges, settings.agents.unknown),
        limits: settings.limits,
        log: settings.log,
    }
}

/// Binds all addresses, or none. A default address that this machine does not have is a warning: IPv6 may be disabled.
fn bind(addresses: &Listen, count: usize) -> Result<Vec<Listener>, ListenError> {
    match addresses {
        Listen::Configured(addresses) => addresses.iter().map(|address| listen(*address, count)).collect(),
        Listen::Default(addresses) => {
            let mut listeners = Vec::new();
            let mut missing = None;
            for address in addresses {
                match listen(*address, count) {
                    Ok(listener) => listeners.push(listener),
                    Err(error @ ListenError::Unavailable(_)) => {
                        warn!(%error, "a default address is left out");
                        missing = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            missing.filter(|_| listeners.is_empty()).map_or(Ok(listeners), Err)
        }
    }
}

/// Starts the workers; each has its socket of every listener.
fn start_workers(
    count: usize,
    mut listeners: Vec<Listener>,
    settings: &Settings,
    live: &Arc<ArcSwap<Live>>,
    resources: &Arc<Resources>,
    stop: &Stop,
) -> io::Result<Vec<JoinHandle<()>>> {
    let connections = Arc::new(Semaphore::new(settings.limits.connections_max));
    let start = |index| {
        let sockets = listeners.iter_mut().filter_map(|listener| listener.sockets.pop()).collect();
        let (live, tally, clock) = (live.clone(), resources.tally.clone(), resources.clock.clone());
        let make = move || {
            let worker = Rc::new(Worker { live, tally, clock, shelf: Shelf::default() });
            move |stream, peer, drain| connection::serve(worker.clone(), stream, peer, drain)
        };
        worker::start(format!("data-{index}"), sockets, connections.clone(), stop.clone(), make)
    };
    (0..count).map(start).collect()
}
