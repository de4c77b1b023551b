//! The addresses of an upstream's name: literals, hosts of the settings and the system, `localhost`, and DNS.
//!
//! The system's files are read at each look-up, as its own resolver does: a machine that moves to another network needs no
//! restart. Answers, also those that there is nothing, are kept for as long as they say and no longer than the bounds here.
//! Never connects to what it finds. Invariant: A and AAAA are asked apart, so that neither waits for the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::base::nat64::{DISCOVERY_NAME, Prefix};
use crate::config::settings::{HostEntry, Nat64, UpstreamSettings};
use crate::config::value::host_entry;

/// How long it is believed that a name has no address: short, so that one which appears is soon used.
pub const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(1);

/// How long an answer is believed, whatever it says: so that a NAT64's prefix, too, is asked for again.
pub const POSITIVE_TTL_MAX: Duration = Duration::from_hours(1);

/// Answers that are kept: upstreams and where they redirect to are few.
const ANSWERS_MAX: u64 = 1024;

/// What is read of a system's file, in bytes: lists of blocked names make hosts files of megabytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Addresses of a name.
#[derive(Debug)]
pub struct Resolver {
    hosts: Vec<HostEntry>,
    name_servers: Vec<SocketAddr>,
    nat64: Nat64,
    files: Files,
    /// Guards what was last read of the system's files.
    system: Mutex<System>,
}

/// The system's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Who is asked.
    pub resolv_conf: PathBuf,
    /// Names and addresses of the machine's own.
    pub hosts: PathBuf,
}

/// Which addresses of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host is written as an address.
    Literal,
    /// The settings' hosts.
    Settings,
    /// The name says it: `localhost`.
    Localhost,
    /// The system's hosts.
    Hosts,
    /// A name server.
    Dns,
    /// The network's NAT64.
    Nat64,
}

#[derive(Debug, Default)]
struct System {
    resolv_conf: Vec<u8>,
    dns: Option<TokioResolver>,
    hosts_text: Vec<u8>,
    hosts: Vec<HostEntry>,
}

impl Default for Files {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

impl Resolver {
    /// A resolver that asked nobody yet.
    pub fn new(settings: &UpstreamSettings, files: Files) -> Self {
        Self {
            hosts: settings.hosts.clone(),
            name_servers: settings.name_servers.clone(),
            nat64: settings.nat64,
            files,
            system: Mutex::default(),
        }
    }

    /// Addresses of a host, as a URL has it; none where it has none of this kind. The error is why it is not known, in one line.
    pub async fn look_up(&self, host: &str, kind: Kind) -> Result<Vec<IpAddr>, String> {
        self.find(host, kind).await.1
    }

    /// The same, and who knows it.
    pub async fn find(&self, host: &str, kind: Kind) -> (Source, Result<Vec<IpAddr>, String>) {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return (Source::Literal, Ok(kind.only([address])));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if let Some(addresses) = named(&self.hosts, &name) {
            return (Source::Settings, Ok(kind.only(addresses)));
        }
        // Always both (RFC 6761 section 6.3): many a hosts file lacks one.
        if name == "localhost" || name.ends_with(".localhost") {
            let both = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            return (Source::Localhost, Ok(kind.only(both)));
        }
        let resolv_conf = read(self.files.resolv_conf.clone());
        let hosts = read(self.files.hosts.clone());
        let (resolv_conf, hosts) = (resolv_conf.await, hosts.await.unwrap_or_default());
        if let Some(addresses) = self.in_hosts_file(&name, hosts) {
            return (Source::Hosts, Ok(kind.only(addresses)));
        }
        (Source::Dns, self.ask(host, kind, resolv_conf).await)
    }

    async fn ask(
        &self,
        host: &str,
        kind: Kind,
        resolv_conf: Result<Vec<u8>, String>,
    ) -> Result<Vec<IpAddr>, String> {
        let dns = self.dns(resolv_conf)?;
        let record = match kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
        };
        match dns.lookup(host, record).await {
            Ok(found) => Ok(kind.only(found.answers().iter().filter_map(|record| record.data.ip_addr()))),
            Err(error) => nothing(&error),
        }
    }

    /// Under which prefixes IPv4 addresses can be reached on this network; none where it has no NAT64.
    pub async fn nat64(&self) -> Result<Vec<Prefix>, String> {
        match self.nat64 {
            Nat64::Off => Ok(Vec::new()),
            Nat64::Prefix(prefix) => Ok(vec![prefix]),
            Nat64::Discover => {
                let found = self.look_up(DISCOVERY_NAME, Kind::Aaaa).await?;
                let found = found.into_iter().filter_map(|address| match address {
                    IpAddr::V6(v6) => Some(v6),
                    IpAddr::V4(_) => None,
                });
                Ok(Prefix::discovered(&found.collect::<Vec<_>>()))
            }
        }
    }

    /// Whether IPv4 addresses may be embedded at all.
    pub fn embeds(&self) -> bool {
        self.nat64 != Nat64::Off
    }

    fn in_hosts_file(&self, name: &str, text: Vec<u8>) -> Option<Vec<IpAddr>> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if system.hosts_text != text {
            let lines = String::from_utf8_lossy(&text);
            let lines = lines.lines().map(|line| line.split('#').next().unwrap_or_default());
            system.hosts = lines.filter_map(|line| host_entry(line).ok()).collect();
            system.hosts_text = text;
        }
        named(&system.hosts, name)
    }

    /// Who is to be asked now, with the answers that are kept for as long as that does not change.
    fn dns(&self, resolv_conf: Result<Vec<u8>, String>) -> Result<TokioResolver, String> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if self.name_servers.is_empty() { resolv_conf? } else { Vec::new() };
        if let Some(dns) = system.dns.as_ref().filter(|_| system.resolv_conf == text) {
            return Ok(dns.clone());
        }
        let (config, options) = if self.name_servers.is_empty() {
            let path = self.files.resolv_conf.display();
            parse_resolv_conf(&text).map_err(|error| format!("no name server: {path}: {error}"))?
        } else {
            let servers = self.name_servers.iter().map(|server| name_server(*server)).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let bounded = builder.options_mut();
        *bounded = options;
        bounded.use_hosts_file = ResolveHosts::Never;
        bounded.cache_size = ANSWERS_MAX;
        bounded.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        bounded.positive_max_ttl = Some(POSITIVE_TTL_MAX);
        // The first server may know names that the second one does not.
        bounded.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        bounded.num_concurrent_reqs = 1;
        let dns = builder.build().map_err(|error| format!("no name server: {error}"))?;
        (system.dns, system.resolv_conf) = (Some(dns.clone()), text);
        Ok(dns)
    }
}

impl Kind {
    fn only(self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        let fits = |address: &IpAddr| match address {
            IpAddr::V4(_) => self == Self::A,
            // An IPv4-mapped address is no address of a machine over IPv6.
            IpAddr::V6(v6) => self == Self::Aaaa && v6.to_ipv4_mapped().is_none(),
        };
        addresses.into_iter().filter(fits).collect()
    }
}

fn named(hosts: &[HostEntry], name: &str) -> Option<Vec<IpAddr>> {
    let with_name = |entry: &&HostEntry| entry.names.iter().any(|known| known == name);
    let addresses: Vec<IpAddr> = hosts.iter().filter(with_name).map(|entry| entry.address).collect();
    (!addresses.is_empty()).then_some(addresses)
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    config
}

/// That there is no address is an answer; all else is a reason, in a few words.
fn nothing(error: &NetError) -> Result<Vec<IpAddr>, String> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => Ok(Vec::new()),
            ResponseCode::NXDomain => Err("there is no such name".into()),
            code => Err(format!("the name server says: {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Err(format!("the name server says: {code}")),
        NetError::Timeout => Err("no name server answered".into()),
        error => Err(error.to_string()),
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read.await {
        Ok(read) => read.map_err(|error| format!("no name server is known: {shown}: {error}")),
        Err(_) => Err("the reading thread ended".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(hosts: &[&str]) -> UpstreamSettings {
        let hosts = hosts.iter().map(|line| host_entry(line).unwrap()).collect();
        UpstreamSettings { hosts, ..UpstreamSettings::default() }
    }

    fn files(folder: &tempfile::TempDir) -> Files {
        Files { resolv_conf: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") }
    }

    async fn texts(resolver: &Resolver, host: &str) -> [Vec<String>; 2] {
        let found = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect();
        let aaaa = resolver.look_up(host, Kind::Aaaa).await.unwrap();
        [found(aaaa), found(resolver.look_up(host, Kind::A).await.unwrap())]
    }

    fn both(aaaa: &str, a: &str) -> [Vec<String>; 2] {
        [aaaa, a].map(|text| text.split_whitespace().map(str::to_owned).collect())
    }

    #[tokio::test]
    async fn literals_localhost_and_hosts_need_no_name_server_r4_3() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts"), "192.0.2.9 own.example # mine\nnonsense\n::9 own.example\n")
            .unwrap();
        let resolver = Resolver::new(
            &settings(&["192.0.2.1 au.example", "2001:db8::1 au.example AU2.example"]),
            files(&folder),
        );
        assert_eq!(texts(&resolver, "[2001:db8::7]").await, both("2001:db8::7", ""));
        assert_eq!(texts(&resolver, "192.0.2.7").await, both("", "192.0.2.7"));
        assert_eq!(texts(&resolver, "LOCALHOST").await, both("::1", "127.0.0.1"));
        assert_eq!(texts(&resolver, "a.localhost.").await, both("::1", "127.0.0.1"));
        assert_eq!(texts(&resolver, "Au.Example.").await, both("2001:db8::1", "192.0.2.1"));
        assert_eq!(texts(&resolver, "au2.example").await, both("2001:db8::1", ""));
        assert_eq!(texts(&resolver, "own.example").await, both("::9", "192.0.2.9"));
        fs::write(folder.path().join("hosts"), "192.0.2.10 own.example\n").unwrap();
        assert_eq!(texts(&resolver, "own.example").await, both("", "192.0.2.10"), "the file is read again");
    }

    #[tokio::test]
    async fn without_a_name_server_the_reason_names_the_file_r4_3() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = Resolver::new(&settings(&[]), files(&folder));
        let missing = resolver.look_up("au.example", Kind::A).await.unwrap_err();
        assert!(missing.contains("no name server is known") && missing.contains("resolv.conf"), "{missing}");
        fs::write(folder.path().join("resolv.conf"), "search example\n").unwrap();
        let empty = resolver.look_up("au.example", Kind::A).await.unwrap_err();
        assert!(empty.contains("no name server") && empty.contains("resolv.conf"), "{empty}");
        assert!(!empty.contains('\n'), "{empty}");
    }

    #[tokio::test]
    async fn a_prefix_of_the_settings_is_not_asked_for_r4_3() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::new("2001:db8::/32".parse().unwrap()).unwrap();
        let mut settings = settings(&[]);
        for (nat64, expected) in [(Nat64::Prefix(prefix), vec![prefix]), (Nat64::Off, vec![])] {
            settings.nat64 = nat64;
            assert_eq!(Resolver::new(&settings, files(&folder)).nat64().await, Ok(expected));
        }
        settings.nat64 = Nat64::Discover;
        settings.hosts = vec![host_entry("64:ff9b::c000:aa ipv4only.arpa").unwrap()];
        let found = Resolver::new(&settings, files(&folder)).nat64().await;
        assert_eq!(found, Ok(vec![crate::base::nat64::WELL_KNOWN]));
    }
}
