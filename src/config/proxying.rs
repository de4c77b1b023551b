//! Sections -> where agents are taken besides the trees: `[proxy]`, `[socks]`, `[cache]`, `[[mount]]`, `[[route]]`.

use std::collections::HashSet;
use std::sync::Arc;

use url::{Host, Url};

use crate::base::destination::{Destination, HostPattern};
use crate::config::check::SCOPES;
use crate::config::elsewhere::{
    CacheSettings, Hop, MountSettings, Parent, ParentScheme, ProxySettings, RouteSettings, User,
};
use crate::config::reader::Section;
use crate::config::settings::{TreeSettings, Upstream};
use crate::config::upstream::reach;
use crate::config::value::{TreeBase, file_path, prefix, upstream_url};
use crate::policy::reach::{Rule, Tunnels};
use crate::policy::scope::Scope;
use crate::policy::secret::SecretHash;

/// Reads `[proxy]`.
pub(super) fn proxy(mut section: Section<'_>) -> ProxySettings {
    let default = ProxySettings::default();
    let mut names = HashSet::new();
    let allow = section.sections("allow", RULES_MAX).into_iter().flatten();
    let allow = allow.filter_map(|rule| allowed(rule, &mut names)).collect();
    let mut names = HashSet::new();
    let users = section.sections("user", USERS_MAX).into_iter().flatten();
    ProxySettings {
        allow,
        users: users.filter_map(|section| user(section, &mut names)).collect(),
        tunnel_idle: section.seconds("tunnel_idle_secs").unwrap_or(default.tunnel_idle),
        tunnel_total: section.seconds("tunnel_total_secs").unwrap_or(default.tunnel_total),
    }
}

fn allowed(mut section: Section<'_>, names: &mut HashSet<String>) -> Option<Rule> {
    let name = section.text("name", |text| rule_name(text, names));
    let hosts = section.texts("to", HOSTS_MAX, host_pattern);
    let ports = section.numbers("ports", PORTS_MAX, port);
    let tunnels = section.word("tunnels", TUNNELS).unwrap_or_default();
    section.require("name");
    section.require("to");
    Some(Rule { name: name?, hosts: hosts?, ports: ports.unwrap_or_else(|| WEB_PORTS.into()), tunnels })
}

fn rule_name(text: &str, names: &mut HashSet<String>) -> Result<Arc<str>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
        return Err("no name".into());
    }
    if !names.insert(text.to_owned()) {
        return Err("another one has this name".into());
    }
    Ok(text.into())
}

fn user(mut section: Section<'_>, names: &mut HashSet<String>) -> Option<User> {
    let name = section.text("name", |text| rule_name(text, names));
    let secret_hash = section.text("secret_hash", |text| {
        text.parse::<SecretHash>().map_err(|_| "not 64 hexadecimal digits".to_owned())
    });
    section.require("name");
    section.require("secret_hash");
    Some(User { name: name?, secret_hash: secret_hash? })
}

/// Reads `[cache]`.
pub(super) fn cache(mut section: Section<'_>) -> CacheSettings {
    let default = CacheSettings::default();
    CacheSettings {
        bytes_max: section.bytes("bytes_max").unwrap_or(default.bytes_max),
        file_bytes_max: section.bytes("file_bytes_max").unwrap_or(default.file_bytes_max),
        entries_max: section.number("entries_max").unwrap_or(default.entries_max),
    }
}

/// Reads `[[mount]]`, none of which has the path of another or of a tree.
pub(super) fn mounts(root: &mut Section<'_>, trees: &[TreeSettings]) -> Vec<MountSettings> {
    let mut mounts: Vec<MountSettings> = Vec::new();
    for section in root.sections("mount", MOUNTS_MAX).into_iter().flatten() {
        mounts.extend(mount(section, trees, &mounts));
    }
    mounts
}

fn mount(
    mut section: Section<'_>,
    trees: &[TreeSettings],
    before: &[MountSettings],
) -> Option<MountSettings> {
    let path = section.text("path", |text| {
        let path = TreeBase::parse(text)?;
        if let Some(tree) = trees.iter().find(|tree| tree.path == path) {
            return Err(format!("the tree '{}' has this path", tree.name));
        }
        if before.iter().any(|mount| mount.path == path) {
            return Err("another mount has this path".into());
        }
        Ok(path)
    });
    let upstream = section.text("upstream", |text| {
        let url = upstream_url(text)?;
        match trees.iter().find(|tree| holds(&tree.upstream, &url)) {
            Some(tree) => {
                Err(format!("it holds files of the tree '{}', whose scopes it would pass by", tree.name))
            }
            None => Ok(url),
        }
    });
    let reach = reach(&mut section);
    let scope = section.word("scope", SCOPES).unwrap_or(Scope::All);
    section.require("path");
    section.require("upstream");
    Some(MountSettings { path: path?, upstream: upstream?, reach, scope })
}

/// Whether a URL and one of an upstream lie within each other. Servers may read paths without their case.
fn holds(upstream: &Upstream, mount: &Url) -> bool {
    let Upstream::Urls(urls) = upstream else { return false };
    let path = |url: &Url| url.path().to_ascii_lowercase();
    let mounted = path(mount);
    urls.iter().filter(|url| Destination::of(url) == Destination::of(mount)).any(|url| {
        let tree = path(url);
        tree.starts_with(&mounted) || mounted.starts_with(&tree)
    })
}

/// Reads `[[route]]`.
pub(super) fn routes(root: &mut Section<'_>) -> Vec<RouteSettings> {
    root.sections("route", ROUTES_MAX).into_iter().flatten().filter_map(route).collect()
}

fn route(mut section: Section<'_>) -> Option<RouteSettings> {
    let to = section.texts("to", HOSTS_MAX, host_pattern);
    let via = section.texts("via", HOPS_MAX, hop);
    let credentials = section.text("credentials", file_path);
    section.require("via");
    let mut via = via?;
    let parents = via.iter_mut().filter_map(|hop| match hop {
        Hop::Direct => None,
        Hop::Parent(parent) => Some(parent),
    });
    let mut count = 0;
    for parent in parents {
        parent.credentials.clone_from(&credentials);
        count += 1;
    }
    if credentials.is_some() && count == 0 {
        section.refuse("credentials", "the route has no parent".into());
    }
    Some(RouteSettings { to: to.unwrap_or_else(|| vec![HostPattern::Any]), via })
}

/// Reads what names hosts.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if text.contains('/') || text.contains(':') || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return prefix(text.trim_matches(['[', ']'])).map(HostPattern::Prefix);
    }
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    if name.contains('*') {
        return Err("'*' stands for all, or for what comes before a name: \"*.example.net\"".into());
    }
    let host = Destination::new(name, 80).map_err(|_| "neither a name nor a prefix".to_owned())?;
    if host.address().is_some() {
        return Err("an address that is not written as one".into());
    }
    Ok(if below { HostPattern::Below(host.host()) } else { HostPattern::Name(host.host()) })
}

fn port(number: u64) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| "out of bounds".into())
}

fn hop(text: &str) -> Result<Hop, String> {
    if text == "direct" {
        return Ok(Hop::Direct);
    }
    let url = Url::parse(text).map_err(|error| format!("neither \"direct\" nor a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds credentials, which would show in logs: name a file, as credentials".into());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("it has a path, a query or a fragment".into());
    }
    let (scheme, port) = match url.scheme() {
        "http" => (ParentScheme::Http, Some(url.port().unwrap_or(80))),
        "https" => (ParentScheme::Https, Some(url.port().unwrap_or(443))),
        "socks5" | "socks5h" => (ParentScheme::Socks5, Some(url.port().unwrap_or(1080))),
        other => return Err(format!("the scheme is '{other}'")),
    };
    let host = match url.host() {
        // A scheme that browsers do not know has its host left as it is.
        Some(Host::Domain(name)) => Destination::new(name, 80).map_err(|error| error.to_string())?.host(),
        Some(host) => host.to_string(),
        None => return Err("it names no host".into()),
    };
    let port = port.filter(|port| *port != 0).ok_or("it names no port")?;
    Ok(Hop::Parent(Parent { scheme, host, port, credentials: None }))
}

const TUNNELS: &[(&str, Tunnels)] =
    &[("all", Tunnels::All), ("any", Tunnels::Any), ("never", Tunnels::Never)];

/// The ports of a rule that names none.
const WEB_PORTS: [u16; 2] = [80, 443];

/// Rules, users, mounts, routes: each request is held against them.
const RULES_MAX: usize = 256;
const USERS_MAX: usize = 1024;
const MOUNTS_MAX: usize = 64;
const ROUTES_MAX: usize = 64;

/// Hosts and ports of one rule.
pub(super) const HOSTS_MAX: usize = 256;
const PORTS_MAX: usize = 64;

/// Ways of one route: each that is down costs a try.
const HOPS_MAX: usize = 8;

/// Longer names are a mistake, in bytes.
const NAME_BYTES_MAX: usize = 64;
