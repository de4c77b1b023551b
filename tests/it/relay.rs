//! A relay inside the test's process: real sockets, a data folder of its own, ended with the test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::app::handle::RelayHandle;
use forebay::app::{Relay, StartError};
use forebay::config::settings::{Listen, Settings};
use forebay::disk::Disk;
use forebay::net::inherited::Inherited;
use forebay::policy::administrator::{Role, TokenName};
use forebay::relay::refresh::{Last, Progress};
use forebay::relay::tree::Tree;
use forebay::state::record::Author;
use tempfile::TempDir;

use crate::raw;

/// How long a refresh may take before the test fails.
const REFRESH: Duration = Duration::from_mins(1);

/// A relay that runs, and its data folder.
pub(crate) struct Running {
    handle: RelayHandle,
    data: TempDir,
    settings: Settings,
    runtime: tokio::runtime::Runtime,
}

/// Settings for one upstream, a URL or a folder: port 0 on both families' loopback, refreshed only when asked to.
pub(crate) fn settings(upstream: &str) -> Settings {
    let mut settings = Settings::for_upstream(upstream).unwrap();
    settings.listen = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    settings.admin = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap()]);
    settings.socks.listen =
        Listen::Configured(vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
    settings.workers = Some(2);
    settings.trees[0].refresh = Duration::from_hours(24);
    settings
}

impl Running {
    /// Starts a relay with an empty data folder.
    pub(crate) fn start(settings: Settings) -> Self {
        Self::start_on(settings, tempfile::tempdir().unwrap())
    }

    /// Starts a relay for an upstream and waits until its first refresh has ended, well or not.
    pub(crate) fn refreshed(settings: Settings) -> Self {
        let relay = Self::start(settings);
        relay.wait_refreshes(1);
        relay
    }

    /// Starts a relay on a data folder.
    pub(crate) fn start_on(settings: Settings, data: TempDir) -> Self {
        Self::try_start(settings, data, &Disk::default()).unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// Starts a relay on a data folder by a way that may have faults; gives the folder back where it does not start.
    pub(crate) fn try_start(
        mut settings: Settings,
        data: TempDir,
        disk: &Disk,
    ) -> Result<Self, (StartError, TempDir)> {
        settings.data = data.path().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match Relay::start_on(settings.clone(), &Inherited::default(), disk) {
            Ok(handle) => Ok(Self { handle, data, settings, runtime }),
            Err(error) => Err((error, data)),
        }
    }

    /// Stops the relay in order and starts it again on the same data.
    pub(crate) fn restart(self) -> Self {
        let (settings, data) = self.stop();
        Self::start_on(settings, data)
    }

    /// Stops the relay in order; gives its settings and its data.
    pub(crate) fn stop(self) -> (Settings, TempDir) {
        self.runtime.block_on(self.handle.shutdown());
        (self.settings, self.data)
    }

    /// Where agents reach it over IPv4.
    pub(crate) fn v4(&self) -> SocketAddr {
        self.handle.running().listen[0]
    }

    /// Where agents reach it over IPv6.
    pub(crate) fn v6(&self) -> SocketAddr {
        self.handle.running().listen[1]
    }

    /// Where agents reach it by SOCKS5, over IPv4 and over IPv6.
    pub(crate) fn socks(&self) -> [SocketAddr; 2] {
        self.handle.running().socks[..].try_into().unwrap()
    }

    /// Where administrators reach it.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.handle.running().admin[0]
    }

    /// What an administrator shows there: a new token of this role.
    pub(crate) fn bearer(&self, role: Role) -> String {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let (name, by) = (TokenName::parse(&name).unwrap(), Author::parse("a test").unwrap());
        let made = self.handle.tokens().unwrap().make(name, role, None, by, jiff::Timestamp::now());
        format!("Bearer {}", made.unwrap().text())
    }

    /// What its admin listener answers an administrator to a GET.
    pub(crate) fn ask(&self, path: &str) -> Vec<u8> {
        let bearer = self.bearer(Role::Administrator);
        raw::fetch(self.admin(), path, &[("Authorization", &bearer)]).whole(200)
    }

    /// The handle itself.
    pub(crate) fn handle(&mut self) -> &mut RelayHandle {
        &mut self.handle
    }

    /// Its settings.
    pub(crate) fn settings(&self) -> Settings {
        Settings { data: self.data.path().to_owned(), ..self.settings.clone() }
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Waits until `count` refreshes of the first tree have ended since the start; gives how the last one did.
    pub(crate) fn wait_refreshes(&self, count: u64) -> Last {
        self.wait_progress(|progress| progress.ended >= count).last.unwrap()
    }

    /// One of its trees.
    pub(crate) fn tree(&self, index: usize) -> Arc<Tree> {
        self.handle.trees()[index].clone()
    }

    /// Waits until the first tree's refresh has come so far.
    pub(crate) fn wait_progress(&self, reached: impl Fn(&Progress) -> bool) -> Progress {
        self.wait_tree(0, reached)
    }

    /// Waits until a tree's refresh has come so far.
    pub(crate) fn wait_tree(&self, index: usize, reached: impl Fn(&Progress) -> bool) -> Progress {
        let tree = self.handle.trees()[index].clone();
        self.runtime.block_on(async {
            let mut progress = tree.progress().subscribe();
            let reached = tokio::time::timeout(REFRESH, progress.wait_for(|now| reached(now))).await;
            reached.expect("the refresh came no further in time").unwrap().clone()
        })
    }

    /// Has the first tree refreshed; gives how the first refresh ended that began after this call.
    pub(crate) fn refresh(&self) -> Last {
        self.refresh_tree(0)
    }

    /// Has a tree refreshed; gives how the first refresh ended that began after this call.
    pub(crate) fn refresh_tree(&self, index: usize) -> Last {
        let wanted = self.want_refresh(index);
        self.wait_tree(index, |progress| progress.ended >= wanted).last.unwrap()
    }

    /// Asks for a refresh of a tree; gives how many will have ended when it has.
    pub(crate) fn want_refresh(&self, index: usize) -> u64 {
        let tree = self.handle.trees()[index].clone();
        let wanted = {
            let now = tree.progress().borrow();
            now.ended + 1 + u64::from(now.running)
        };
        tree.refresh_wanted();
        wanted
    }

    /// The number of the first tree's current generation; 0 before there is one.
    pub(crate) fn generation(&self) -> u64 {
        let snapshot = self.handle.trees()[0].snapshot();
        snapshot.map_or(0, |snapshot| snapshot.current().generation.number().0)
    }
}
