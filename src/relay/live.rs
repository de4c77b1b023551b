//! What a request is served with: one immutable value, swapped whole at a reload.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::base::destination::Destination;
use crate::config::admin_access::AdminClient;
use crate::config::elsewhere::MountSettings;
use crate::config::settings::{ClearText, Http2Settings, LimitSettings, LogSettings, Sendfile};
use crate::net::copy::Bounds;
use crate::policy::decide::Policy;
use crate::policy::users::Users;
use crate::relay::agents::Agents;
use crate::relay::cache::shared::Cache;
use crate::relay::reach::Reach;
use crate::relay::tree::Tree;

/// The settings in force, compiled. A request takes one and keeps it to its end.
#[derive(Debug)]
pub struct Live {
    /// The trees with their base paths, such as `/activeupdate/`.
    pub trees: Vec<(Box<str>, Arc<Tree>)>,
    /// Paths that stand for other servers'.
    pub mounts: Vec<MountSettings>,
    /// What stands for what, as agents that use the relay as their proxy name it.
    pub places: Vec<Place>,
    /// The names under which agents reach the relay itself.
    pub own: Vec<Destination>,
    /// What takes agents to other servers.
    pub reach: Arc<Reach>,
    /// What is kept of their answers.
    pub cache: Arc<Cache>,
    /// The agents of the tree.
    pub agents: Arc<Agents>,
    /// For how long an agent that checked in may take packages.
    pub permission: Duration,
    /// Whether secrets are told in clear text.
    pub clear_text_enrolment: ClearText,
    /// Who may have what.
    pub policy: Policy,
    /// Who may use the relay as a proxy.
    pub users: Users,
    /// The bounds of tunnels.
    pub tunnels: Bounds,
    /// How files are sent.
    pub sendfile: Sendfile,
    /// Who says for whom a connection is.
    pub trusted_proxies: Vec<IpNet>,
    /// The bounds of requests and connections.
    pub limits: LimitSettings,
    /// The bounds of HTTP/2 connections.
    pub http2: Http2Settings,
    /// What is logged.
    pub log: LogSettings,
    /// Who administers by a certificate.
    pub admin_clients: Vec<AdminClient>,
}

impl Live {
    /// Whether an address may say for whom it speaks.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.contains(&address))
    }

    /// How many connections an address may have at a time. Who speaks for others may have any number: those count.
    pub fn connections_of(&self, address: IpAddr) -> usize {
        if self.is_trusted(address) { usize::MAX } else { self.limits.connections_per_address_max }
    }

    /// What a path of the relay stands for, and the rest of the path; of several the longest counts.
    pub fn find<'l, 'p>(&'l self, path: &'p str) -> Option<(Standing<'l>, &'p str)> {
        let trees = self.trees.iter().map(|(base, tree)| (&**base, Standing::Tree(tree)));
        let mounts = self.mounts.iter().map(|mount| (mount.path.as_str(), Standing::Mount(mount)));
        let within =
            trees.chain(mounts).filter_map(|(base, what)| Some((base.len(), what, path.strip_prefix(base)?)));
        within.max_by_key(|(len, ..)| *len).map(|(_, what, rest)| (what, rest))
    }

    /// What a path of another server is here: the path of the relay that stands for it. `path` has no escapes.
    pub fn here(&self, scheme: &str, host: &Destination, path: &str) -> Option<String> {
        let within = self.places.iter().filter(|place| &*place.scheme == scheme && place.host == *host);
        let within =
            within.filter_map(|place| Some((place.path.len(), place, path.strip_prefix(&*place.path)?)));
        within.max_by_key(|(len, ..)| *len).map(|(_, place, rest)| format!("{}{rest}", place.stands_at))
    }
}

/// What stands at a path of the relay.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'l> {
    /// A tree.
    Tree(&'l Arc<Tree>),
    /// Another server's path.
    Mount(&'l MountSettings),
}

/// A path of another server that a tree or a mount stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    scheme: Box<str>,
    host: Destination,
    /// Without escapes.
    path: Box<str>,
    stands_at: Box<str>,
}

impl Place {
    /// What a URL of the settings leads to; `None` where no agent could name it.
    pub fn new(url: &Url, stands_at: &str) -> Option<Self> {
        let path: Cow<'_, str> = percent_decode_str(url.path()).decode_utf8().ok()?;
        Some(Self {
            scheme: url.scheme().into(),
            host: Destination::of(url)?,
            path: path.into(),
            stands_at: stands_at.into(),
        })
    }
}
