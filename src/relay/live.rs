//! What a request is served with: one immutable value, swapped whole at a reload.

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
    /// The tree that a path lies in, and the rest of the path.
    pub fn tree<'p>(&self, path: &'p str) -> Option<(&Arc<Tree>, &'p str)> {
        self.trees.iter().find_map(|(base, tree)| Some((tree, path.strip_prefix(&**base)?)))
    }
}
