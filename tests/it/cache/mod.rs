//! The forward proxy and mounts with their general cache (R3.2, R4.2, R4.4, R6.2), on real sockets.

mod broken;
mod carried;
mod damaged;
mod hostile;
mod interim;
mod killed;
mod scope;
mod sentences;
pub(crate) mod server;
mod shared;
mod stock;
mod stored;

use std::net::SocketAddr;

use forebay::base::destination::HostPattern;
use forebay::config::settings::Settings;
use forebay::policy::reach::{Rule, Tunnels};

use crate::raw;
use crate::raw::answer::Answer;
use crate::relay::{self, Running};
use crate::site::Site;

/// Settings of a relay that takes agents to these ports of this machine.
fn settings(site: &Site, ports: &[u16]) -> Settings {
    let mut settings = relay::settings(site.text());
    let hosts = vec![HostPattern::Prefix("127.0.0.0/8".parse().unwrap())];
    settings.proxy.allow =
        vec![Rule { name: "loopback".into(), hosts, ports: ports.into(), tunnels: Tunnels::Never }];
    settings
}

/// A relay that takes agents to these ports of this machine.
fn proxy(ports: &[u16]) -> Running {
    let site = Site::with(5, &[4]);
    Running::refreshed(settings(&site, ports))
}

/// A GET of a URL through a proxy.
fn get(relay: SocketAddr, url: &str, headers: &[(&str, &str)]) -> Answer {
    raw::fetch(relay, url, headers)
}

/// What the relay's cache says of an answer; the last line of the field, which is its own.
fn cache_status(answer: &Answer) -> String {
    let own = answer.head.headers.iter().rfind(|(name, _)| name == "cache-status");
    own.map(|(_, value)| value.clone()).unwrap_or_default()
}
