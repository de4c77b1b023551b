//! A running relay as its owner holds it: asked, reloaded, stopped.
//!
//! Stop: the workers drain, then fills and refreshes end, then the index is closed; each step has a deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::clients::clients;
use crate::app::control::Control;
use crate::app::watch::watch;
use crate::app::wiring::{compile, millis, notice_limits, upstream};
use crate::app::{Running, StartError, placed};
use crate::base::tally::Tally;
use crate::config::restart_needed;
use crate::config::settings::{FillSettings, Settings, TreeSettings, UpstreamSettings};
use crate::net::pulse::Asker;
use crate::net::tls::Tls;
use crate::net::worker::Stop;
use crate::relay::agents::Agents;
use crate::relay::live::Live;
use crate::relay::resources::Resources;
use crate::relay::tree::Tree;
use crate::schedule::notifier::Notifier;
use crate::state::tokens::{Made, Tokens};
use crate::upstream::client::Clients;

/// How long tasks may take to end once they were told to.
const TASKS_END: Duration = Duration::from_secs(5);

/// How long writes that have begun may take to end: until then the data folder is not another relay's, and a process that waits
/// for its disk could not end before either.
const DISK_END: Duration = Duration::from_secs(30);

/// A running relay. Dropping it stops the relay at once.
#[derive(Debug)]
pub struct RelayHandle {
    pub(super) parts: Option<Parts>,
    pub(super) running: Running,
}

/// Ends a relay from elsewhere than its handle.
#[derive(Clone, Debug)]
pub struct Stopper(Stop);

/// Everything that must be ended.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) control: Control,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) pulse: Vec<Asker>,
    pub(super) stop: Stop,
    pub(super) drain: Duration,
    pub(super) resources: Arc<Resources>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) admin_tls: Option<Arc<Tls>>,
    pub(super) tokens: Arc<Tokens>,
    /// What the first start made, until somebody was told.
    pub(super) first_token: Option<Made>,
    /// What it was started with: the keys that need a restart stay at these.
    pub(super) started: Settings,
    /// How upstreams are asked now, and by which clients.
    pub(super) asking: (FillSettings, UpstreamSettings),
    pub(super) clients: Clients,
    pub(super) running_file: PathBuf,
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

    /// The agents of the agent tree, which is changed through them.
    pub fn agents(&self) -> Option<Arc<Agents>> {
        self.parts.as_ref().map(|parts| parts.live.load().agents.clone())
    }

    /// The tokens of administrators.
    pub fn tokens(&self) -> Option<Arc<Tokens>> {
        self.parts.as_ref().map(|parts| parts.tokens.clone())
    }

    /// The administrator's token that the first start on a data folder makes; given once, to be told to whoever started it.
    pub fn first_token(&mut self) -> Option<Made> {
        self.parts.as_mut()?.first_token.take()
    }

    /// The relay's counts.
    pub fn tally(&self) -> Option<Arc<Tally>> {
        self.parts.as_ref().map(|parts| parts.resources.tally.clone())
    }

    /// Tells each time that so much has passed that all data workers and the control runtime answered within it, and not
    /// when one did not; until the relay has ended. `tell` is called on the control runtime, and is to be quick.
    pub fn watch(&self, every: Duration, tell: impl Fn() + Send + 'static) {
        let Some(parts) = &self.parts else { return };
        let (stop, end) = (parts.stop.clone(), parts.resources.stop.clone());
        let watching = watch(parts.pulse.clone(), every, stop, end, tell);
        parts.resources.tasks.spawn_on(watching, parts.control.runtime().handle());
    }

    /// Takes new settings without dropping a connection. Gives the keys whose change needs a restart: those stay as
    /// they were, all others count from the next request on.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, StartError> {
        let Some(parts) = &mut self.parts else { return Ok(Vec::new()) };
        let settings = placed(settings);
        let clients = clients(&settings, parts.resources.clock.clone())?;
        let fresh = parts.tls.as_ref().filter(|_| !settings.tls.certificates.is_empty());
        let fresh = fresh.map(|tls| tls.read(&settings.tls)).transpose()?;
        let fresh_admin =
            parts.admin_tls.as_ref().filter(|_| !settings.admin_access.tls.certificates.is_empty());
        let fresh_admin = fresh_admin.map(|tls| tls.read(&settings.admin_access.tls)).transpose()?;
        let kept = restart_needed(&parts.started, &settings);
        let trees: Vec<_> = parts.live.load().trees.iter().map(|(_, tree)| tree.clone()).collect();
        for tree in &trees {
            if let Some(new) = settings.trees.iter().find(|new| new.name == tree.name) {
                let old = tree.settings();
                let same = (&old.upstream, old.reach) == (&new.upstream, new.reach);
                let same = same && parts.asks_alike(&settings, &clients);
                let upstream = (!same).then(|| upstream(new, &settings, &clients, &parts.resources));
                tree.reload(TreeSettings { path: tree.settings().path.clone(), ..new.clone() }, upstream);
            }
        }
        if let (Some(tls), Some(fresh)) = (&parts.tls, fresh) {
            tls.show(fresh);
        }
        if let (Some(tls), Some(fresh)) = (&parts.admin_tls, fresh_admin) {
            tls.show(fresh);
        }
        parts.resources.fill_attempts.store(settings.fill.attempts, Ordering::Relaxed);
        parts.resources.far_lanes.store(settings.fill.far_lanes, Ordering::Relaxed);
        parts.resources.fill_wait_ms.store(millis(settings.fill.wait), Ordering::Relaxed);
        parts.resources.prefetch_at_once.store(settings.fill.prefetch_at_once, Ordering::Relaxed);
        parts.resources.store.room().set_quota(settings.quota_bytes);
        parts.resources.sweep_wanted.notify_one();
        parts.resources.scrubber.set(settings.scrub);
        parts.notifier.set_limits(notice_limits(&settings.notices));
        let (cache, agents) = {
            let live = parts.live.load();
            (live.cache.clone(), live.agents.clone())
        };
        cache.table().set_bounds(settings.cache);
        cache.set_silence(settings.fill.silence);
        parts.live.store(Arc::new(compile(&settings, &trees, &clients, &cache, &agents)));
        parts.drain = settings.limits.drain;
        parts.asking = (settings.fill, settings.upstream);
        parts.clients = clients;
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
    /// Whether other settings have upstreams asked as they are now.
    fn asks_alike(&self, settings: &Settings, clients: &Clients) -> bool {
        let (fill, upstream) = &self.asking;
        (fill.first_byte, fill.silence) == (settings.fill.first_byte, settings.fill.silence)
            && *upstream == settings.upstream
            && self.clients.lead_alike(clients)
    }

    fn end(self) {
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
        self.control.end(DISK_END);
        self.resources.store.close();
        // That it is gone already is as good.
        let _ = std::fs::remove_file(&self.running_file);
        info!("stopped");
    }
}
