//! The relay put together: the only place that wires parts and owns tasks.
//!
//! Start: store (locked) -> upstreams and trees -> sockets -> data workers -> control tasks (refresh for each tree, sweep,
//! scrubber, admin). Stop: the workers drain, then fills and refreshes end, then the index is closed; each step has a deadline.
//! Invariant: nothing listens before the whole of the settings was found usable.

mod background;
pub mod clients;
pub mod control;
mod follow;
pub mod handle;
mod watch;
mod wiring;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::warn;

use crate::admin;
use crate::app::clients::clients;
use crate::app::control::Control;
use crate::app::follow::follow;
use crate::app::handle::{Parts, RelayHandle};
use crate::app::wiring::{
    Serving, bind, bind_what_can_be_had, compile, listen_on, notice_limits, resources, start_workers,
    upstream,
};
use crate::base::clock::Clock;
use crate::config::admin_access::NOT_LOOPBACK;
use crate::config::elsewhere::{Hop, Parent};
use crate::config::settings::{self, ClearText, Listen, Settings, TlsSettings};
use crate::disk::Disk;
use crate::net::certificate::CertificateError;
use crate::net::inherited::Inherited;
use crate::net::listen::{ListenError, Listener, Transport};
use crate::net::pulse::pulse;
use crate::net::tls::{self, Protocols, Tls};
use crate::net::worker::Stop;
use crate::policy::administrator::{Role, TokenName};
use crate::relay::agents::Agents;
use crate::relay::cache::shared::Cache;
use crate::relay::limits;
use crate::relay::mend;
use crate::relay::refresh::{self, MANIFEST};
use crate::relay::resources::Resources;
use crate::relay::scrub;
use crate::relay::sweep::{self, Want};
use crate::relay::traffic;
use crate::relay::tree::Tree;
use crate::schedule::notifier::{self, Notifier};
use crate::schedule::streams::Streams;
use crate::state::load::LoadError;
use crate::state::record::Author;
use crate::state::tokens::{FIRST, Made, TokenError, Tokens, TokensError};
use crate::state::{Keep, State};
use crate::store::{Store, StoreError};
use crate::upstream::client::{ClientError, Clients};

/// Where a running relay says in its data folder how it can be reached.
pub const RUNNING: &str = "running.json";

/// Where the agent tree is in the data folder.
pub const AGENTS: &str = "agents";

/// Where the tokens of administrators are in the data folder.
pub const ADMIN: &str = "admin";

/// Where what agents were told is in the data folder.
pub const NOTICES: &str = "notices";

/// Where what signs agents' certificates is in the data folder.
pub const AUTHORITY: &str = "authority";

/// The relay, to be started.
#[derive(Debug)]
pub struct Relay;

/// What a relay says of itself in [`RUNNING`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process id.
    pub pid: u32,
    /// The addresses that agents reach it at.
    pub listen: Vec<SocketAddr>,
    /// The addresses that agents reach it at with TLS.
    #[serde(default)]
    pub tls: Vec<SocketAddr>,
    /// The addresses that agents reach it at with SOCKS5; none where the defaults could not be had.
    #[serde(default)]
    pub socks: Vec<SocketAddr>,
    /// The addresses of its admin listener.
    pub admin: Vec<SocketAddr>,
    /// The addresses that administrators reach it at with TLS.
    #[serde(default)]
    pub admin_tls: Vec<SocketAddr>,
}

/// Why a relay does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent tree.
    #[error(transparent)]
    State(#[from] LoadError),
    /// What agents were told.
    #[error("the journal of notices: {0}")]
    Notices(#[source] io::Error),
    /// The tokens of administrators.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The token of the first start.
    #[error("administrators' tokens: {0}")]
    FirstToken(#[from] TokenError),
    /// An address for administrators.
    #[error("the admin listener at {0}: {NOT_LOOPBACK}")]
    AdminClearText(SocketAddr),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
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

impl Relay {
    /// Starts a relay: it listens when this returns. Blocks while the data folder is opened.
    pub fn start(settings: Settings) -> Result<RelayHandle, StartError> {
        Self::start_on(settings, &Inherited::default(), &Disk::default())
    }

    /// The same, on sockets that the relay is given in place of the settings' addresses, and by this way to its data.
    pub fn start_on(
        settings: Settings,
        inherited: &Inherited,
        disk: &Disk,
    ) -> Result<RelayHandle, StartError> {
        let settings = placed(settings);
        let workers = worker_count(&settings);
        let store = Arc::new(Store::open(&settings.data, disk.clone())?);
        let running_file = settings.data.join(RUNNING);
        let writing = |error| StartError::System("writing running.json", error);
        // A relay that was killed left it behind: nobody is to be sent there.
        disk.remove_if_there(&running_file).map_err(writing)?;
        let listeners = listen_on(&inherited.agents, &settings.listen, workers)?;
        let admin_listeners = listen_on(&inherited.admin, &settings.admin, 1)?;
        check_admin(&admin_listeners, settings.admin_access.clear_text)?;
        let admin_tls_listeners = bind(&Listen::Configured(settings.admin_access.tls.listen.clone()), 1)?;
        let socks_listeners = match &inherited.socks[..] {
            [] => bind_what_can_be_had(&settings.socks.listen, workers)?,
            given => listen_on(given, &settings.socks.listen, workers)?,
        };
        let tls_listeners = bind(&Listen::Configured(settings.tls.listen.clone()), workers)?;
        let tls = shown(&settings.tls, tls::AGENTS)?;
        let admin_tls = shown(&settings.admin_access.tls, tls::ADMINISTRATORS)?;
        let control = Control::start()?;
        let runtime = control.runtime().handle().clone();
        store.room().set_quota(settings.quota_bytes);
        let (resources, wants) = resources(&settings, store, runtime.clone());
        let clients = clients(&settings, resources.clock.clone())?;
        let trees = open_trees(&settings, &clients, &resources)?;
        let cache = Arc::new(Cache::new(resources.clone(), rand::random(), settings.fill.silence));
        let clock = resources.clock.clone();
        let state = State::open(disk, &settings.data.join(AGENTS), Keep::default(), clock)?;
        let tokens = Arc::new(Tokens::open(disk, &settings.data.join(ADMIN))?);
        let first_token = first_token(&tokens, &*resources.clock)?;
        let authority = settings.data.join(AUTHORITY);
        let agents = Arc::new(Agents::new(state, disk.clone(), authority, runtime.clone()));
        let notifier = open_notifier(&settings, disk, &agents, resources.clock.clone())?;
        resources.tasks.spawn_on(follow(agents.clone(), tls.clone(), &resources), &runtime);
        let pacing = limits::run(resources.limits.clone(), agents.changes(), resources.stop.clone());
        resources.tasks.spawn_on(pacing, &runtime);
        let live = Arc::new(ArcSwap::from_pointee(compile(&settings, &trees, &clients, &cache, &agents)));
        let running = Running {
            pid: std::process::id(),
            listen: addresses(&listeners),
            tls: addresses(&tls_listeners),
            socks: addresses(&socks_listeners),
            admin: addresses(&admin_listeners),
            admin_tls: addresses(&admin_tls_listeners),
        };
        let text = serde_json::to_vec_pretty(&running).unwrap_or_default();
        disk.write_whole(&running_file, &text).map_err(writing)?;
        let stop = Stop::default();
        let listeners = listeners.into_iter().map(|listener| (listener, Transport::Clear));
        let tls_listeners = tls_listeners.into_iter().map(|listener| (listener, Transport::Tls));
        let socks_listeners = socks_listeners.into_iter().map(|listener| (listener, Transport::Socks));
        let listeners = listeners.chain(tls_listeners).chain(socks_listeners).collect();
        let (pulse, answerers) = (0..workers).map(|index| pulse(format!("data-{index}"))).unzip();
        let streams = notifier.streams();
        let serving = Serving { tls: tls.as_ref(), live: &live, streams, resources: &resources };
        let started = start_workers(answerers, listeners, &settings, serving, &stop)
            .inspect_err(|_| stop.now.cancel())
            .map_err(|error| StartError::System("data workers", error))?;
        spawn_tasks(&resources, trees, &notifier, wants);
        for tls in [&tls, &admin_tls].into_iter().flatten() {
            let (watch, stopping) = (tls.clone().watch(), resources.stop.clone());
            resources.tasks.spawn_on(async move { stopping.run_until_cancelled(watch).await }, &runtime);
        }
        let mut runtimes = vec![("control".to_owned(), runtime.metrics())];
        let numbered = started.iter().enumerate();
        runtimes.extend(numbered.map(|(index, worker)| (format!("data-{index}"), worker.metrics.clone())));
        let administers = admin::State::new(
            live.clone(),
            notifier.clone(),
            resources.clone(),
            tokens.clone(),
            running.clone(),
            runtimes,
        );
        let clear =
            admin_listeners.into_iter().flat_map(|listener| listener.sockets).map(|socket| (socket, None));
        let encrypted = admin_tls_listeners.into_iter().flat_map(|listener| listener.sockets);
        for (listener, tls) in clear.chain(encrypted.map(|socket| (socket, admin_tls.clone()))) {
            resources.tasks.spawn_on(admin::serve(listener, tls, administers.clone()), &runtime);
        }
        let drain = settings.limits.drain;
        let parts = Parts {
            control,
            workers: started.into_iter().map(|worker| worker.thread).collect(),
            pulse,
            stop,
            drain,
            resources,
            live,
            notifier,
            tls,
            admin_tls,
            tokens,
            first_token,
            asking: (settings.fill, settings.upstream.clone()),
            clients,
            started: settings,
            running_file,
        };
        Ok(RelayHandle { parts: Some(parts), running })
    }
}

/// Goes on telling agents where the relay before left off.
fn open_notifier(
    settings: &Settings,
    disk: &Disk,
    agents: &Arc<Agents>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Notifier>, StartError> {
    let streams = Arc::new(Streams::new(clock.clone()));
    let (folder, limits) = (settings.data.join(NOTICES), notice_limits(&settings.notices));
    let opened = Notifier::open(disk, &folder, limits, agents.clone(), streams, clock);
    opened.map(Arc::new).map_err(StartError::Notices)
}

/// Starts what the relay does by itself.
fn spawn_tasks(
    resources: &Arc<Resources>,
    trees: Vec<Arc<Tree>>,
    notifier: &Arc<Notifier>,
    wants: mpsc::Receiver<Want>,
) {
    let (tasks, runtime) = (&resources.tasks, &resources.runtime);
    for tree in &trees {
        tasks.spawn_on(refresh::run(tree.clone()), runtime);
    }
    tasks.spawn_on(notifier::run(notifier.clone(), trees.clone(), resources.clone()), runtime);
    tasks.spawn_on(traffic::run(resources.clone()), runtime);
    tasks.spawn_on(sweep::run(resources.clone(), trees.clone(), wants), runtime);
    let (mends, mending) = mpsc::channel(mend::MENDS_MAX);
    tasks.spawn_on(mend::run(resources.clone(), mending), runtime);
    let bookmark = resources.store.bookmark();
    tasks.spawn_on(scrub::run(resources.clone(), trees, bookmark, mends), runtime);
}

/// Without TLS, administrators are listened to where the settings allow it.
fn check_admin(listeners: &[Listener], clear_text: ClearText) -> Result<(), StartError> {
    let reached = listeners.iter().find(|listener| !listener.address.ip().is_loopback());
    let refused = reached.filter(|_| clear_text == ClearText::Refuse);
    refused.map_or(Ok(()), |listener| Err(StartError::AdminClearText(listener.address)))
}

/// The TLS side of some listeners, where they have certificates.
fn shown(settings: &TlsSettings, protocols: Protocols) -> Result<Option<Arc<Tls>>, CertificateError> {
    let some = (!settings.certificates.is_empty()).then(|| Tls::new(settings, protocols));
    Ok(some.transpose()?.map(Arc::new))
}

/// A token for whoever started a relay that nobody could administer before.
fn first_token(tokens: &Tokens, clock: &dyn Clock) -> Result<Option<Made>, TokenError> {
    if !tokens.is_untouched() {
        return Ok(None);
    }
    let name = TokenName::parse(FIRST).expect("the first token's name is one");
    let by = Author::parse("the first start").expect("it is short and plain");
    tokens.make(name, Role::Administrator, None, by, clock.wall()).map(Some)
}

/// How many data workers these settings start: one for each core unless they say how many.
pub fn worker_count(settings: &Settings) -> usize {
    settings.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
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
    let admin = &mut settings.admin_access.tls;
    for certificate in settings.tls.certificates.iter_mut().chain(&mut admin.certificates) {
        place(&mut certificate.chain);
        place(&mut certificate.key);
    }
    settings.tls.client_authorities.iter_mut().chain(&mut admin.client_authorities).for_each(place);
    for hop in settings.routes.iter_mut().flat_map(|route| &mut route.via) {
        if let Hop::Parent(Parent { credentials: Some(file), .. }) = hop {
            place(file);
        }
    }
    settings.linked()
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().map(|listener| listener.address).collect()
}

fn open_trees(
    settings: &Settings,
    clients: &Clients,
    resources: &Arc<Resources>,
) -> Result<Vec<Arc<Tree>>, StartError> {
    let mut trees = Vec::new();
    for tree in &settings.trees {
        let opened =
            Tree::open(tree.clone(), upstream(tree, settings, clients, resources), resources.clone())?;
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
