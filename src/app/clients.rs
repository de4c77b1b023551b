//! The clients that a relay of some settings asks other servers with.
//!
//! Never asks anything itself. Invariant: who checks an upstream asks it as the relay would.

use std::sync::Arc;

use crate::app::placed;
use crate::base::clock::Clock;
use crate::base::destination::Destination;
use crate::config::settings::{self, Settings};
use crate::policy::reach::{Destinations, Speech};
use crate::upstream::client::{ClientError, Clients};
use crate::upstream::watch::Watcher;

/// Clients for these settings, which tell who watches what happens.
pub fn watched(settings: Settings, clock: Arc<dyn Clock>, watcher: Watcher) -> Result<Clients, ClientError> {
    let settings = placed(settings);
    Clients::watched(&settings.upstream, &settings.routes, destinations(&settings), clock, watcher)
}

/// The same where nobody watches.
pub(super) fn clients(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Clients, ClientError> {
    Clients::new(&settings.upstream, &settings.routes, destinations(settings), clock)
}

/// Where agents may be taken.
fn destinations(settings: &Settings) -> Arc<Destinations> {
    let trees = settings.trees.iter().flat_map(|tree| match &tree.upstream {
        settings::Upstream::Urls(urls) => &urls[..],
        settings::Upstream::Directory(_) => &[],
    });
    let places = trees.chain(settings.mounts.iter().map(|mount| &mount.upstream)).filter_map(|url| {
        let speech = if url.scheme() == "https" { Speech::Tls } else { Speech::Clear };
        Some((Destination::of(url)?, speech))
    });
    Arc::new(Destinations::new(places, settings.proxy.allow.clone()))
}
