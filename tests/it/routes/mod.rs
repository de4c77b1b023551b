//! Routes: upstreams reached through parent proxies of each kind, in order, with the failed one rested (R4.5).

mod agents;
mod credentials;
mod failover;
mod mirror;
mod proxy;
mod relay;
mod reload;
mod stock;

use std::net::SocketAddr;
use std::path::Path;

use forebay::base::destination::HostPattern;
use forebay::config::elsewhere::{Hop, Parent, ParentScheme, RouteSettings};
use forebay::config::settings::{Nat64, Settings, UpstreamSettings};

use crate::relay::{Running, settings};
use crate::site;

/// A route to all places by these parents, in their order; `direct` is none.
fn all_by(via: &[&str], credentials: Option<&Path>) -> RouteSettings {
    let hop = |text: &&str| {
        if *text == "direct" {
            return Hop::Direct;
        }
        let (scheme, place) = text.split_once("://").unwrap();
        let scheme = match scheme {
            "http" => ParentScheme::Http,
            "https" => ParentScheme::Https,
            "socks5" => ParentScheme::Socks5,
            other => panic!("{other}"),
        };
        let (host, port) = place.rsplit_once(':').unwrap();
        let credentials = credentials.map(Path::to_owned);
        Hop::Parent(Parent { scheme, host: host.into(), port: port.parse().unwrap(), credentials })
    };
    RouteSettings { to: vec![HostPattern::Any], via: via.iter().map(hop).collect() }
}

/// Settings for an upstream whose name nobody but a parent knows: the relay has no name server that answers.
fn unknown(upstream: &str, routes: Vec<RouteSettings>) -> Settings {
    let mut settings = settings(upstream);
    settings.upstream = nameless();
    settings.routes = routes;
    settings
}

/// Settings under which no name is known.
fn nameless() -> UpstreamSettings {
    UpstreamSettings {
        name_servers: vec!["127.0.0.1:1".parse().unwrap()],
        nat64: Nat64::Off,
        ..UpstreamSettings::default()
    }
}

/// A relay's manifest and files are those of the release that [`site`] writes.
fn assert_mirrors(relay: &Running, version: u32, from: &[u32]) {
    let get = |path: &str| crate::raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[]).whole(200);
    assert_eq!(get("server.ini"), site::view(version, from).as_bytes());
    for path in site::paths(version, from) {
        assert_eq!(get(&path), site::bytes(&path, version), "{path}");
    }
}

/// A port on which nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
