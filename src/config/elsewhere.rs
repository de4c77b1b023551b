//! What the relay runs by when it takes agents elsewhere than to its trees: `[proxy]`, `[socks]`, `[cache]`, `[[mount]]`,
//! `[[route]]`; every setting with its default and the reason for it.
//!
//! Invariant: values were checked, one by one and against each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::base::destination::HostPattern;
use crate::config::settings::{Listen, ReachSettings};
use crate::config::value::TreeBase;
use crate::policy::reach::Rule;
use crate::policy::scope::Scope;
use crate::policy::secret::SecretHash;

/// `[proxy]`: agents that use the relay as their proxy, by HTTP requests, CONNECT or SOCKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// `[[proxy.allow]]`: where agents may be taken besides the upstreams of trees and mounts. Default nowhere: a proxy that
    /// leads anywhere is everybody's.
    pub allow: Vec<Rule>,
    /// `[[proxy.user]]`: who may use the proxy. Default none, which is everybody whom `[agents]` knows: what upstreams have is
    /// for all agents.
    pub users: Vec<User>,
    /// `tunnel_idle_secs`: a tunnel without a byte in either direction for so long is closed. Default 300: longer than an agent
    /// thinks, shorter than a NAT forgets.
    pub tunnel_idle: Duration,
    /// `tunnel_total_secs`: a tunnel that is older is closed. Default 12 hours: longer than any download on a thin line.
    pub tunnel_total: Duration,
}

/// `[[proxy.user]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name that the user gives.
    pub name: Arc<str>,
    /// `secret_hash`: the BLAKE3 hash of the secret, as `forebay secret` prints it.
    pub secret_hash: SecretHash,
}

/// `[socks]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocksSettings {
    /// Where agents speak SOCKS5. Default `[::]:1080` and `0.0.0.0:1080`, the protocol's port; a default one that cannot be had
    /// is left out.
    pub listen: Listen,
}

/// `[cache]`: the general cache, of what is in no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// What its files may take in all, in bytes. Default 4 GiB: some programs of every product.
    pub bytes_max: u64,
    /// The largest file that is kept, in bytes. Default 1 GiB: installers are smaller.
    pub file_bytes_max: u64,
    /// Answers that are remembered. Default 10,000: each takes about a kilobyte of memory.
    pub entries_max: usize,
}

/// `[[mount]]`: a path of the relay that stands for another server's; a tree's is `[[tree]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// Where it stands; of several mounts and trees the longest path counts. There is no default.
    pub path: TreeBase,
    /// What it stands for; it ends with `/`. There is no default.
    pub upstream: Url,
    /// How that is reached.
    pub reach: ReachSettings,
    /// The least scope that sees it. Default all: what nobody described counts as most restricted (R6).
    pub scope: Scope,
}

/// `[[route]]`: how places are connected to; the first rule that names a place counts, and without one it is direct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The places. Default all.
    pub to: Vec<HostPattern>,
    /// Tried in order; there is no default.
    pub via: Vec<Hop>,
}

/// One way of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// No proxy.
    Direct,
    /// A parent proxy.
    Parent(Parent),
}

/// A proxy that the relay itself uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// What it speaks.
    pub scheme: ParentScheme,
    /// Its host, as URLs have it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `credentials`: a file that holds `user:password`, read when the relay starts or reloads.
    pub credentials: Option<PathBuf>,
}

/// What a parent proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentScheme {
    /// HTTP.
    Http,
    /// HTTP in TLS.
    Https,
    /// SOCKS5; the parent resolves names.
    Socks5,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            users: Vec::new(),
            tunnel_idle: Duration::from_mins(5),
            tunnel_total: Duration::from_hours(12),
        }
    }
}

impl Default for SocksSettings {
    fn default() -> Self {
        use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
        let both = [
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 1080)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1080)),
        ];
        Self { listen: Listen::Default(both.into()) }
    }
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { bytes_max: 4 << 30, file_bytes_max: 1 << 30, entries_max: 10_000 }
    }
}
