//! Parts made from settings, and put together.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use url::Url;

use crate::base::blob::BlobId;
use crate::base::clock::{Clock, SystemClock};
use crate::base::destination::Destination;
use crate::base::tally::Tally;
use crate::config::notices::NoticeSettings;
use crate::config::settings::{self, Listen, Settings, TreeSettings};
use crate::config::value::TreeBase;
use crate::http;
use crate::http::buffers::Buffers;
use crate::http::connection::Worker;
use crate::http::turn::Turns;
use crate::net::copy::Bounds;
use crate::net::inherited::Given;
use crate::net::listen::{ListenError, Listener, Transport, listen};
use crate::net::places::Places;
use crate::net::pulse::Answerer;
use crate::net::tls::Tls;
use crate::net::worker::{self, Accepted, Door, Started, Stop};
use crate::policy::decide::Policy;
use crate::policy::users::Users;
use crate::relay::agents::Agents;
use crate::relay::cache::answer::Now;
use crate::relay::cache::shared::Cache;
use crate::relay::cache::table::Table;
use crate::relay::limits::Limits;
use crate::relay::live::{Live, Place};
use crate::relay::reach::Reach;
use crate::relay::resources::Resources;
use crate::relay::scrub::Scrubber;
use crate::relay::shelf::Shelf;
use crate::relay::sweep::{WANTS_MAX, Want};
use crate::relay::traffic::Traffic;
use crate::relay::tree::Tree;
use crate::schedule::notices::notice;
use crate::schedule::streams::Streams;
use crate::socks;
use crate::store::Store;
use crate::upstream::client::Clients;
use crate::upstream::{Deadlines, Origin, Upstream};

/// What all trees of a relay share, and where those ask who need room.
pub(super) fn resources(
    settings: &Settings,
    store: Arc<Store>,
    runtime: Handle,
) -> (Arc<Resources>, mpsc::Receiver<Want>) {
    let (room_wanted, wants) = mpsc::channel(WANTS_MAX);
    let clock = SystemClock::default();
    let now = Now { wall: clock.wall().into(), monotonic: clock.monotonic() };
    let answers = Arc::new(Table::load(store.clone(), settings.cache, now));
    let (tally, clock) = (Arc::new(Tally::default()), Arc::new(clock));
    let limits = Arc::new(Limits::new(clock.clone(), tally.clone()));
    let resources = Resources {
        store,
        tally,
        clock,
        runtime,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        fill_slots: Semaphore::new(settings.fill.at_once),
        fill_attempts: AtomicU32::new(settings.fill.attempts),
        far_lanes: AtomicUsize::new(settings.fill.far_lanes),
        fill_wait_ms: AtomicU64::new(millis(settings.fill.wait)),
        prefetch_at_once: AtomicUsize::new(settings.fill.prefetch_at_once),
        naming: RwLock::new(()),
        sweep_wanted: Notify::new(),
        room_wanted,
        answers,
        swept: watch::Sender::default(),
        fills: Arc::default(),
        crowds: Arc::default(),
        traffic: Traffic::default(),
        refusals: Arc::default(),
        limits,
        scrubber: Scrubber::new(settings.scrub),
    };
    (Arc::new(resources), wants)
}

pub(super) fn upstream(
    tree: &TreeSettings,
    settings: &Settings,
    clients: &Clients,
    resources: &Resources,
) -> Upstream {
    let origins = match &tree.upstream {
        settings::Upstream::Urls(urls) => {
            urls.iter().map(|url| Origin::Url(url.clone(), Box::new(clients.client(tree.reach)))).collect()
        }
        settings::Upstream::Directory(path) => vec![Origin::Directory(path.clone())],
    };
    let deadlines = Deadlines { first_byte: settings.fill.first_byte, silence: settings.fill.silence };
    Upstream::new(origins, deadlines, resources.tally.clone())
}

pub(super) fn compile(
    settings: &Settings,
    trees: &[Arc<Tree>],
    clients: &Clients,
    cache: &Arc<Cache>,
    agents: &Arc<Agents>,
) -> Live {
    let mounts =
        settings.mounts.iter().filter_map(|mount| Some((Destination::of(&mount.upstream)?, mount.reach)));
    let reach =
        Reach::new(cache.resources().runtime.clone(), clients.clone(), mounts, settings.fill.first_byte);
    let stand_ins = stand_ins(settings, trees);
    let ranges = settings.agents.ranges.iter().map(|range| (range.from, range.scope));
    let policy = Policy::new(ranges, settings.agents.unknown);
    let public =
        trees.iter().filter_map(|tree| Some(tree.settings().public_base.as_ref()?.as_str().to_owned()));
    let own = public.filter_map(|base| Destination::of(&Url::parse(&base).ok()?)).collect();
    Live {
        trees: trees.iter().map(|tree| (tree.settings().path.as_str().into(), tree.clone())).collect(),
        mounts: settings.mounts.clone(),
        places: stand_ins.iter().filter_map(|(url, path)| Place::new(url, path.as_str())).collect(),
        own,
        reach: Arc::new(reach),
        cache: cache.clone(),
        agents: agents.clone(),
        permission: settings.agents.permission,
        clear_text_enrolment: settings.agents.clear_text_enrolment,
        policy: policy.with_destinations(clients.destinations().clone()),
        users: Users::new(settings.proxy.users.iter().map(|user| (user.name.clone(), user.secret_hash))),
        tunnels: Bounds { idle: settings.proxy.tunnel_idle, total: settings.proxy.tunnel_total },
        sendfile: settings.sendfile,
        trusted_proxies: settings.trusted_proxies.clone(),
        limits: settings.limits,
        http2: settings.http2,
        log: settings.log,
        admin_clients: settings.admin_access.clients.clone(),
    }
}

/// URLs that trees and mounts stand for, each with its path on the relay.
fn stand_ins(settings: &Settings, trees: &[Arc<Tree>]) -> Vec<(Url, TreeBase)> {
    let mut all = Vec::new();
    for tree in trees {
        // A tree's path is the one that it was started with.
        let tree = tree.settings();
        if let settings::Upstream::Urls(urls) = &tree.upstream {
            all.extend(urls.iter().map(|url| (url.clone(), tree.path.clone())));
        }
    }
    all.extend(settings.mounts.iter().map(|mount| (mount.upstream.clone(), mount.path.clone())));
    all
}

/// How agents are told.
pub(super) fn notice_limits(settings: &NoticeSettings) -> notice::Limits {
    notice::Limits {
        under_way_max: settings.under_way_max,
        per_sec: settings.per_sec,
        repeat_after: settings.repeat,
        repeats_max: settings.repeats_max,
    }
}

/// Whole milliseconds, as atomics hold them.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The sockets that were given, shared by the workers; else those of the settings' addresses.
pub(super) fn listen_on(
    given: &[Given],
    addresses: &Listen,
    count: usize,
) -> Result<Vec<Listener>, ListenError> {
    if given.is_empty() {
        return bind(addresses, count);
    }
    given.iter().map(|socket| socket.share(count)).collect()
}

/// Binds all addresses, or none. A default address that this machine does not have is a warning: IPv6 may be disabled.
pub(super) fn bind(addresses: &Listen, count: usize) -> Result<Vec<Listener>, ListenError> {
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

/// The same where the relay is of use without: a default address that cannot be had, for whatever reason, is a warning.
pub(super) fn bind_what_can_be_had(addresses: &Listen, count: usize) -> Result<Vec<Listener>, ListenError> {
    let Listen::Default(addresses) = addresses else { return bind(addresses, count) };
    let bound = addresses.iter().map(|address| listen(*address, count));
    let had = |bound: Result<Listener, ListenError>| {
        bound.inspect_err(|error| warn!(%error, "a default address is left out")).ok()
    };
    Ok(bound.filter_map(had).collect())
}

/// Lets a worker's blobs go that nobody names any more or that were removed, also while nobody asks it for anything.
async fn tend(worker: Rc<Worker>, mut swept: watch::Receiver<Arc<HashSet<BlobId>>>) {
    while swept.changed().await.is_ok() {
        let named = swept.borrow_and_update().clone();
        worker.shelf.keep_named(&named);
    }
}

/// What workers serve agents with.
#[derive(Clone, Copy)]
pub(super) struct Serving<'a> {
    pub(super) tls: Option<&'a Arc<Tls>>,
    pub(super) live: &'a Arc<ArcSwap<Live>>,
    pub(super) streams: &'a Arc<Streams>,
    pub(super) resources: &'a Arc<Resources>,
}

/// Starts a worker for each answering end; each has its socket of every listener.
pub(super) fn start_workers(
    answerers: Vec<Answerer>,
    mut listeners: Vec<(Listener, Transport)>,
    settings: &Settings,
    Serving { tls, live, streams, resources }: Serving<'_>,
    stop: &Stop,
) -> io::Result<Vec<Started>> {
    let (tally, clock) = (resources.tally.clone(), resources.clock.clone());
    let places = Arc::new(Places::new(settings.limits.connections_max, answerers.len(), tally, clock));
    let ports: Arc<[u16]> = listeners.iter().map(|(listener, _)| listener.address.port()).collect();
    let start = |(index, answerer)| {
        let inlets =
            listeners.iter_mut().filter_map(|(listener, transport)| listener.take(*transport)).collect();
        let tls = tls.cloned();
        let (live, tally, clock) = (live.clone(), resources.tally.clone(), resources.clock.clone());
        let (refusals, limits) = (resources.refusals.clone(), resources.limits.clone());
        let (streams, crowds) = (streams.clone(), resources.crowds.clone());
        let (swept, condemned) = (resources.swept.subscribe(), resources.store.condemned().clone());
        let rules = live.clone();
        let limit = move |address| rules.load().connections_of(address);
        let door = Door { places: places.clone(), worker: index, limit };
        let (places, ports) = (places.clone(), ports.clone());
        let make = move || {
            let worker = Rc::new(Worker {
                live,
                tally,
                refusals,
                streams,
                limits,
                clock,
                ports,
                tls,
                places,
                shelf: Shelf::new(condemned),
                turns: Rc::new(Turns::new(crowds)),
                buffers: Buffers::default(),
            });
            tokio::task::spawn_local(tend(worker.clone(), swept));
            tokio::task::spawn_local(worker.turns.clone().tend());
            move |accepted: Accepted| {
                let worker = worker.clone();
                async move {
                    match accepted.transport {
                        Transport::Clear | Transport::Tls => {
                            http::connection::serve(worker, accepted).await;
                        }
                        // What HTTP in clear text does not need has a place of its own: each connection would take room for it.
                        Transport::Socks => Box::pin(socks::connection::serve(worker, accepted)).await,
                    }
                }
            }
        };
        worker::start(format!("data-{index}"), inlets, door, stop.clone(), answerer, make)
    };
    answerers.into_iter().enumerate().map(start).collect()
}
