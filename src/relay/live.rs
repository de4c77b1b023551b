//! What a request is served with: one immutable value, swapped whole at a reload.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::settings::{Http2Settings, LimitSettings, LogSettings};
use crate::policy::decide::Policy;
use crate::relay::tree::Tree;

/// The settings in force, compiled. A request takes one and keeps it to its end.
#[derive(Debug)]
pub struct Live {
    /// The trees with their base paths, such as `/activeupdate/`.
    pub trees: Vec<(Box<str>, Arc<Tree>)>,
    /// Who may have what.
    pub policy: Policy,
    /// Who says for whom a connection is.
    pub trusted_proxies: Vec<IpNet>,
    /// The bounds of requests and connections.
    pub limits: LimitSettings,
    /// The bounds of HTTP/2 connections.
    pub http2: Http2Settings,
    /// What is logged.
    pub log: LogSettings,
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

    /// The tree that a path lies in, and the rest of the path.
    pub fn tree<'p>(&self, path: &'p str) -> Option<(&Arc<Tree>, &'p str)> {
        self.trees.iter().find_map(|(base, tree)| Some((tree, path.strip_prefix(&**base)?)))
    }
}
