//! Tunnels by CONNECT and by SOCKS5: where they lead, what they carry, and what they never get past (R3.2, R4.2, R4.6, R6.2).

mod bytes;
mod ends;
mod many;
mod refused;
mod scope;
mod socks;
mod stock;
pub(crate) mod users;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use forebay::base::destination::HostPattern;
use forebay::config::settings::{Nat64, Settings};
use forebay::config::value::host_entry;
use forebay::policy::reach::{Rule, Tunnels};

use crate::origin::Origin;
use crate::raw::answer::End;
use crate::raw::{Client, PATIENCE};
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";

/// How a tunnel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Connect,
    Socks,
}

const BOTH: [By; 2] = [By::Connect, By::Socks];

/// Settings for an upstream that no name server is needed for; these lines are the only names.
pub(crate) fn named(upstream: &str, hosts: &[&str]) -> Settings {
    let mut settings = settings(upstream);
    settings.upstream.nat64 = Nat64::Off;
    settings.upstream.hosts = hosts.iter().map(|line| host_entry(line).unwrap()).collect();
    settings
}

/// A rule that lists this machine's loopback, or what else these patterns name.
pub(crate) fn rule(hosts: &[&str], ports: &[u16], tunnels: Tunnels) -> Rule {
    let pattern = |text: &&str| match text.parse() {
        Ok(prefix) => HostPattern::Prefix(prefix),
        Err(_) if *text == "*" => HostPattern::Any,
        Err(_) => HostPattern::Name((*text).to_owned()),
    };
    let hosts = hosts.iter().map(pattern).collect();
    Rule { name: "listed".into(), hosts, ports: ports.to_vec(), tunnels }
}

/// A relay whose agents may have tunnels to a port of this machine.
fn leading_to(port: u16) -> Settings {
    let mut settings = named(FIXTURE, &["127.0.0.1 far.test", "::1 far6.test"]);
    settings.proxy.allow =
        vec![rule(&["127.0.0.0/8", "::1/128", "far.test", "far6.test"], &[port], Tunnels::Any)];
    settings
}

/// A server at the far end of tunnels.
pub(crate) struct Far(TcpListener);

impl Far {
    pub(crate) fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next connection; it waits no longer than a test does.
    pub(crate) fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// A relay's address for agents that ask so.
fn door(relay: &Running, by: By) -> SocketAddr {
    match by {
        By::Connect => relay.v4(),
        By::Socks => relay.socks()[0],
    }
}

/// Asks for a tunnel; else gives the status or the reply.
fn tunnel(relay: &Running, by: By, to: &str) -> Result<Client, u16> {
    tunnel_from([127, 0, 0, 1].into(), relay, by, to)
}

/// The same from an address of this machine.
fn tunnel_from(agent: IpAddr, relay: &Running, by: By, to: &str) -> Result<Client, u16> {
    let mut client = Client::connect_from(agent, door(relay, by));
    let told = ask(&mut client, by, to);
    match (by, told) {
        (By::Connect, 200) | (By::Socks, 0) => Ok(client),
        (_, told) => Err(told),
    }
}

/// Asks for a tunnel on a connection; gives the status or the reply.
fn ask(client: &mut Client, by: By, to: &str) -> u16 {
    match by {
        By::Connect => {
            client.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
            client.read_head("CONNECT").unwrap_or_else(|end| panic!("CONNECT {to}: {end:?}")).status
        }
        By::Socks => {
            client.send(&[5, 1, 0]).unwrap();
            assert_eq!(client.take(2), [5, 0]);
            client.send(&socks_ask(1, to)).unwrap();
            socks_reply(client)
        }
    }
}

/// A request of SOCKS5 for a host and port.
pub(crate) fn socks_ask(command: u8, to: &str) -> Vec<u8> {
    let (host, port) = to.rsplit_once(':').unwrap();
    let mut bytes = vec![5, command, 0];
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(v4)) => {
            bytes.push(1);
            bytes.extend(v4.octets());
        }
        Ok(IpAddr::V6(v6)) => {
            bytes.push(4);
            bytes.extend(v6.octets());
        }
        Err(_) => {
            bytes.extend([3, u8::try_from(host.len()).unwrap()]);
            bytes.extend(host.as_bytes());
        }
    }
    bytes.extend(port.parse::<u16>().unwrap().to_be_bytes());
    bytes
}

/// Reads a whole reply of SOCKS5; gives its number.
pub(crate) fn socks_reply(client: &mut Client) -> u16 {
    let head = client.take(4);
    assert_eq!((head.len(), head[0], head[2]), (4, 5, 0), "{head:?}");
    let rest = if head[3] == 1 { 6 } else { 18 };
    assert!(matches!(head[3], 1 | 4) && client.take(rest).len() == rest, "{head:?}");
    head[1].into()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what} in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A relay that mirrors the tests' tree from an origin, which it has fetched.
fn mirroring(origin: &Origin) -> Settings {
    named(&origin.url("/"), &[])
}

/// The connection is closed, in order or not, and nothing was sent on it.
fn is_closed(client: &mut Client) {
    let (bytes, end) = client.read_to_close();
    assert!(bytes.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}: {}", bytes.escape_ascii());
}
