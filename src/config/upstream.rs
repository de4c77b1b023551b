//! Where trees come from and how that is reached: `tree.upstream`, `tree.family` and its like, `[upstream]`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::error::shown;
use crate::config::proxying::{HOSTS_MAX as PATTERNS_MAX, host_pattern};
use crate::config::reader::Section;
use crate::config::settings::{Family, ReachSettings, Upstream, UpstreamSettings};
use crate::config::value::{file_path, host_entry, name_server, nat64, upstream_url};

/// Reads a tree's `upstream`.
pub(super) fn tree_upstream(section: &mut Section<'_>) -> Upstream {
    let sources = section.texts("upstream", UPSTREAM_URLS_MAX, origin).unwrap_or_default();
    section.require("upstream");
    let mut urls = Vec::new();
    let count = sources.len();
    for source in sources {
        match source {
            Source::Folder(folder) if count == 1 => return Upstream::Directory(folder),
            Source::Folder(folder) => {
                let folder = shown(&folder.to_string_lossy());
                section.refuse("upstream", format!("the folder '{folder}' stands in a list"));
                break;
            }
            Source::Url(url) if urls.contains(&url) => {
                section.refuse("upstream", format!("{url} stands in it twice"));
                break;
            }
            Source::Url(url) => urls.push(url),
        }
    }
    Upstream::Urls(urls)
}

/// Reads how a tree's upstream is reached.
pub(super) fn reach(section: &mut Section<'_>) -> ReachSettings {
    ReachSettings {
        family: section.word("family", FAMILIES).unwrap_or_default(),
        source_ipv4: section.text("source_ipv4", source_ipv4),
        source_ipv6: section.text("source_ipv6", source_ipv6),
    }
}

fn source_ipv4(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| "no IPv4 address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err("no connection can come from it".into());
    }
    Ok(address)
}

fn source_ipv6(text: &str) -> Result<Ipv6Addr, String> {
    let address: Ipv6Addr = text.parse().map_err(|_| "no IPv6 address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() || address.to_ipv4_mapped().is_some() {
        return Err("no connection over IPv6 can come from it".into());
    }
    Ok(address)
}

/// Reads `[upstream]`.
pub(super) fn upstream(mut section: Section<'_>) -> UpstreamSettings {
    let default = UpstreamSettings::default();
    UpstreamSettings {
        connect: section.seconds("connect_secs").unwrap_or(default.connect),
        ca_file: section.text("ca_file", file_path),
        attempt_delay: section
            .number("attempt_delay_ms")
            .map_or(default.attempt_delay, Duration::from_millis),
        name_servers: section.texts("nameservers", NAME_SERVERS_MAX, name_server).unwrap_or_default(),
        hosts: section.texts("hosts", HOSTS_MAX, host_entry).unwrap_or_default(),
        nat64: section.text("nat64_prefix", nat64).unwrap_or(default.nat64),
        no_proxy: section.texts("no_proxy", PATTERNS_MAX, host_pattern).unwrap_or_default(),
    }
}

/// One text of `tree.upstream`.
pub(super) enum Source {
    Url(Url),
    Folder(PathBuf),
}

impl Source {
    pub(super) fn alone(self) -> Upstream {
        match self {
            Self::Url(url) => Upstream::Urls(vec![url]),
            Self::Folder(folder) => Upstream::Directory(folder),
        }
    }
}

/// Tells a URL from a folder.
pub(super) fn origin(text: &str) -> Result<Source, String> {
    if text.contains("://") {
        return upstream_url(text).map(Source::Url);
    }
    if ["http:", "https:"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err("a URL has '//' after its scheme".into());
    }
    file_path(text).map(Source::Folder)
}

const FAMILIES: &[(&str, Family)] = &[("race", Family::Race), ("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];

/// Upstreams of one tree: each that is down costs a try.
const UPSTREAM_URLS_MAX: usize = 16;

/// Servers asked for names: a resolver asks few of them before it gives up.
const NAME_SERVERS_MAX: usize = 8;

/// Lines of addresses for names; each connection looks through them.
const HOSTS_MAX: usize = 256;
