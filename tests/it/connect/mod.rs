//! Connections to upstreams: races of addresses on real sockets, names, sources, redirects (R4.3).

mod families;
mod names;
mod network;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay::base::clock::SystemClock;
use forebay::base::tally::Tally;
use forebay::config::settings::{Nat64, ReachSettings, UpstreamSettings};
use forebay::config::value::host_entry;
use forebay::upstream::client::Clients;
use forebay::upstream::{Answer, Deadlines, Origin as Place, Part, Request, Upstream, UpstreamError};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

use crate::process;

/// Asks upstreams as a relay does, over connections that are not kept.
struct Asker {
    clients: Clients,
    reach: ReachSettings,
    first_byte: Duration,
    runtime: Runtime,
}

/// Settings under which these names, and no others, have addresses.
fn hosts(lines: &[&str]) -> UpstreamSettings {
    UpstreamSettings {
        hosts: lines.iter().map(|line| host_entry(line).unwrap()).collect(),
        nat64: Nat64::Off,
        ..UpstreamSettings::default()
    }
}

impl Asker {
    fn new(settings: &UpstreamSettings) -> Self {
        Self::with(settings, ReachSettings::default())
    }

    fn with(settings: &UpstreamSettings, reach: ReachSettings) -> Self {
        let clients = Clients::new(settings, &[], Arc::default(), Arc::new(SystemClock::default())).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { clients, reach, first_byte: Duration::from_secs(30), runtime: runtime.unwrap() }
    }

    /// Asks for `/server.ini` at a host and port, over a new connection.
    fn ask(&self, origin: &str) -> Result<Vec<u8>, UpstreamError> {
        let base = format!("{origin}/").parse().unwrap();
        let place = Place::Url(base, Box::new(self.clients.client(self.reach)));
        let deadlines = Deadlines { first_byte: self.first_byte, silence: Duration::from_secs(30) };
        let upstream = Upstream::new(vec![place], deadlines, Arc::new(Tally::default()));
        self.runtime.block_on(async {
            let request = Request { path: "server.ini", part: Part::Whole };
            let Answer::Found(mut transfer) = upstream.fetch(0, request).await? else {
                panic!("bytes were asked for");
            };
            let mut bytes = Vec::new();
            while let Some(chunk) = transfer.chunk().await? {
                bytes.extend(chunk);
            }
            Ok(bytes)
        })
    }

    /// The same where it is to fail: why, in one line.
    fn refused(&self, origin: &str) -> String {
        let reason = self.ask(origin).unwrap_err().to_string();
        assert!(!reason.contains('\n'), "{reason}");
        reason
    }
}

/// A port on which nothing comes back: its queue of connections is full, and the kernel drops what comes.
pub(crate) struct Silent {
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    pub(crate) fn on(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let soon = Duration::from_millis(200);
        let queued: Vec<_> =
            std::iter::from_fn(|| TcpStream::connect_timeout(&address, soon).ok()).take(16).collect();
        assert!(queued.len() < 16, "the queue has no end");
        Self { _listener: listener, _queued: queued }
    }
}

/// The same port on `[::1]` and on 127.0.0.1, of which the second is free to be bound again.
fn port_of_both() -> Option<(TcpListener, SocketAddr)> {
    for _ in 0..100 {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.local_addr().unwrap().port()));
        match TcpListener::bind(v6) {
            Ok(_) => return Some((v4, v6)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(_) => return process::missing("IPv6 on the loopback interface"),
        }
    }
    panic!("no port is free on both families")
}

/// The tests' tree.
fn tree() -> PathBuf {
    crate::served::FIXTURE.into()
}
