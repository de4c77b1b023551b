//! What the relay runs by: every setting with its default and the reason for it.
//!
//! A field's key is its name, with `_secs` after times, in the table named at its struct; bounds stand in
//! [`table`](crate::config::table). Invariant: values were checked, one by one and against each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::base::destination::HostPattern;
use crate::base::nat64::Prefix;
use crate::base::tree::TreeName;
use crate::config::admin_access::AdminAccess;
use crate::config::elsewhere::{CacheSettings, MountSettings, ProxySettings, RouteSettings, SocksSettings};
use crate::config::notices::NoticeSettings;
use crate::config::value::{PublicBase, TreeBase};
use crate::manifest::catalogue::{Catalogue, Rule};
use crate::manifest::links::Links;
use crate::policy::decide::Unknown;
use crate::policy::scope::Scope;

/// All settings; the top level of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The data folder. Default `./forebay-data`: a first start needs no rights and leaves all that it made
    /// in one place.
    pub data: PathBuf,
    /// What the data folder may take on its disk, in bytes. Default `None`, as much as the disk has: only its
    /// administrator knows what else is to fit.
    pub quota_bytes: Option<u64>,
    /// Data workers. Default `None`, one for each core: a worker never blocks, so more would only take turns.
    pub workers: Option<usize>,
    /// How the bytes of large stored files are sent in clear text over HTTP/1. Default auto: `sendfile` spares a copy, but for
    /// agents on the same machine, where the reader has to make it.
    pub sendfile: Sendfile,
    /// Where agents connect. Default `[::]:8080` and `0.0.0.0:8080`: both families, and a port that needs no
    /// rights.
    pub listen: Listen,
    /// `[admin] listen`: where administrators and metrics connect in clear text. Default port 8081 on loopback: on a network,
    /// anybody on the way could read tokens.
    pub admin: Listen,
    /// The rest of `[admin]`.
    pub admin_access: AdminAccess,
    /// Proxies and balancers that say in front of each connection for whom they speak (PROXY protocol). Default none: an
    /// address that anybody may claim is no address.
    pub trusted_proxies: Vec<IpNet>,
    /// `[tls]`
    pub tls: TlsSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[[tree]]`, at least one; names and paths are unique, and no path begins with another.
    pub trees: Vec<TreeSettings>,
    /// `[agents]`
    pub agents: AgentSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[http2]`
    pub http2: Http2Settings,
    /// `[fill]`
    pub fill: FillSettings,
    /// `[upstream]`
    pub upstream: UpstreamSettings,
    /// `[notices]`
    pub notices: NoticeSettings,
    /// `[scrub]`
    pub scrub: ScrubSettings,
    /// `[proxy]`
    pub proxy: ProxySettings,
    /// `[socks]`
    pub socks: SocksSettings,
    /// `[cache]`
    pub cache: CacheSettings,
    /// `[[mount]]`. Default none.
    pub mounts: Vec<MountSettings>,
    /// `[[route]]`. Default none: all connections are direct.
    pub routes: Vec<RouteSettings>,
}

/// Whether the kernel sends files by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sendfile {
    /// Where the other side is another machine.
    #[default]
    Auto,
    /// Everywhere.
    On,
    /// Nowhere: it copies them from where they are in memory.
    Off,
}

/// Addresses to listen on. A default one that cannot be had is a warning, a configured one an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nothing was configured.
    Default(Vec<SocketAddr>),
    /// As the administrator wants it.
    Configured(Vec<SocketAddr>),
}

/// `[tls]`: where agents connect with TLS. Default nowhere: there is no certificate yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The addresses; empty where there is no certificate.
    pub listen: Vec<SocketAddr>,
    /// `[[tls.certificate]]`; the first is shown to who asks for no name, or for one that none has.
    pub certificates: Vec<CertificateFiles>,
    /// `client_ca_files`: PEM files of authorities that vouch for the names in agents' certificates; relative ones count from where the
    /// relay was started. Default none: an agent is known by its certificate's names only where somebody is trusted to give them.
    pub client_authorities: Vec<PathBuf>,
}

/// `[[tls.certificate]]`: files in PEM; relative ones count from where the relay was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those between it and its authority. Its names say for whom it is shown.
    pub chain: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Default text: the first reader is a person at a terminal.
    pub format: LogFormat,
    /// Default info: what an administrator would do something about, and each new generation.
    pub level: LogLevel,
    /// Default on: it is where to see why an agent got what it got.
    pub access: AccessLog,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least serious event that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What stops working.
    Error,
    /// What works less well than it should.
    Warn,
    /// What changes.
    Info,
    /// What is decided.
    Debug,
    /// What is done.
    Trace,
}

/// Whether each request leaves a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// `[[tree]]`
#[derive(Clone, Debug, PartialEq)]
pub struct TreeSettings {
    /// Default: from the path, `/activeupdate/` -> `activeupdate`: one thing less to keep the same.
    pub name: TreeName,
    /// Default `/activeupdate/`: where agents look unless told otherwise.
    pub path: TreeBase,
    /// Where the tree comes from; there is no default.
    pub upstream: Upstream,
    /// How it is reached; its keys stand in the tree's table.
    pub reach: ReachSettings,
    /// From one look at the upstream's manifest to the next. Default 900: patterns come a few times a day,
    /// and the look is a conditional request.
    pub refresh: Duration,
    /// How much of `refresh` is random. Default 10: relays that were started together do not ask together.
    pub jitter_percent: u8,
    /// Default all: the first agent that asks does not wait for the upstream, nor does one when the upstream
    /// is down.
    pub prefetch: Prefetch,
    /// Generations kept, the current one counted. Default 3: agents finish what they began, and two steps
    /// back are at hand.
    pub keep_generations: usize,
    /// What `[Server]` lines of manifests name. Default none, they are commented out: agents then stay where
    /// they asked.
    pub public_base: Option<PublicBase>,
    /// What URLs in manifests become: made of all trees and mounts by [`Settings::linked`], where there is a `public_base`.
    pub links: Links,
    /// `[[tree.catalogue]]`: rules that come before those of the built-in catalogue. Default none.
    pub catalogue: Vec<Rule>,
}

/// `[[tree]]`: how connections to its upstream are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReachSettings {
    /// Default race: whichever family answers is the right one.
    pub family: Family,
    /// `source_ipv4`: where connections over IPv4 come from. Default none: the system chooses by its routes.
    pub source_ipv4: Option<Ipv4Addr>,
    /// `source_ipv6`: the same over IPv6.
    pub source_ipv6: Option<Ipv6Addr>,
}

/// Which addresses of an upstream are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both families', raced (RFC 8305).
    #[default]
    Race,
    /// IPv4 addresses alone.
    Ipv4,
    /// IPv6 addresses alone.
    Ipv6,
}

/// Where a tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Base URLs (http or https), tried in order; each ends with `/`, none has credentials, a query or a
    /// fragment.
    Urls(Vec<Url>),
    /// A folder that holds the tree; a relative one counts from where the relay was started.
    Directory(PathBuf),
}

/// What of a generation is fetched before it becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// All packages.
    All,
    /// Packages of components that agents have asked for.
    Used,
    /// No package; signatures come along in any case (R1.4).
    None,
}

/// `[agents]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// What an agent that nothing shows gets outside all ranges. Default: what the root of the agent tree says, scope `all`
    /// by default, until there is a range or a domain (a first start serves everybody); then refuse: who lists agents means those.
    pub unknown: Unknown,
    /// `[[agents.range]]`, each prefix once; of two that hold an address the longer counts. Default none.
    pub ranges: Vec<AgentRange>,
    /// `permission_secs`: for how long an agent that checked in may take packages (R8). Default 4 hours: a thin line takes that
    /// long for a program.
    pub permission: Duration,
    /// Whether agents on other machines are told their secrets without TLS. Default refuse: on the way anybody could read them.
    pub clear_text_enrolment: ClearText,
}

/// Whether something secret is told in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearText {
    /// It is not.
    Refuse,
    /// It is.
    Allow,
}

/// `[[agents.range]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentRange {
    /// The prefix, without host bits; there is no default.
    pub from: IpNet,
    /// What agents there may update; there is no default.
    pub scope: Scope,
}

/// `[limits]`: what agents may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// A request's line and headers, in bytes. Default 16 KiB: agents send under 1 KiB, proxies before them
    /// add some.
    pub head_bytes_max: usize,
    /// A request's path as sent, in bytes; not over `head_bytes_max`. Default 4,096: the longest path of a
    /// tree (1,024) with every byte percent-encoded, and its base.
    pub path_bytes_max: usize,
    /// Ranges in one request. Default 16: resuming asks for one; hundreds are an attack (CVE-2011-3192).
    pub ranges_max: usize,
    /// For a request's head to arrive, for a body of the agents' API after it, and for an idle connection to ask again. Default 15:
    /// a thin line sends 16 KiB in it.
    pub head_timeout: Duration,
    /// A client that takes no byte for so long is cut. Default 60: longer than a line that comes back.
    pub stall_timeout: Duration,
    /// Connections at a time. Default 20,000: they fit in 1 GiB. When there are so many and another one comes, the one that
    /// has been idle longest is closed; while none is idle, more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections of one address at a time, of IPv6 the /64; more are closed at once. Default three quarters of
    /// `connections_max`: a whole site may be behind one address, and yet the rest has places.
    pub connections_per_address_max: usize,
    /// For transfers to end after SIGTERM. Default 30: service managers kill after 90.
    pub drain: Duration,
}

/// `[http2]`: what one HTTP/2 connection may take up; `[limits]` count for it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// Requests at a time. Default 100: no less is advised (RFC 9113 section 6.5.2), and one fills a line.
    pub streams_max: u32,
    /// Requests taken back before the relay began them, and streams ended for the client's faults; more end the
    /// connection. Default 20: clients give up now and then, a flood is an attack (CVE-2023-44487).
    pub resets_max: usize,
    /// Frames that ask for nothing (pings, settings, resets, priorities, window updates) in a second, beside one for each
    /// KiB that the client takes; more end the connection. Default 1,000: clients send a few, floods are attacks
    /// (CVE-2019-9512, CVE-2019-9515).
    pub control_frames_max: u32,
    /// From one sign of life that is asked for to the next, and for it to come. Default 20: a peer that is gone is
    /// noticed within a minute.
    pub ping: Duration,
    /// Bytes of an answer that wait for the client, for each request; where more than four are under way on a connection, they
    /// share four times as much, but each has a frame (16 KiB). Default 64 KiB: a line is kept full, and a hundred requests
    /// hold little.
    pub send_buffer_bytes: usize,
}

/// `[fill]`: how packages are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillSettings {
    /// From request to the first byte of the answer. Default 30: agents give up after 120, which leaves
    /// tries.
    pub first_byte: Duration,
    /// Without a byte in the middle. Default 30: a line that is silent for so long is dead.
    pub silence: Duration,
    /// Tries in a row that bring under 64 KiB each, the first counted. Default 6: with growing pauses, a few
    /// minutes.
    pub attempts: u32,
    /// Requests that a fill may have under way for readers far ahead of it, besides its own. Default 4: with it under the six
    /// connections that browsers taught servers to expect. 0: they wait, and no transfer is ever broken off.
    pub far_lanes: usize,
    /// How long an agent waits for the first byte of a file that is being fetched, before it is told to come back; the
    /// fetch goes on. Default 60: agents give up after 120.
    pub wait: Duration,
    /// Fills at a time. Default 32: enough to fill a line with small files, no burden for an upstream.
    pub at_once: usize,
    /// How many of those may be prefetch; not over `at_once`. Default 4, or
    /// `at_once` where that is less: it leaves room for agents that wait.
    pub prefetch_at_once: usize,
}

/// `[upstream]`: connections to all upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// For a connection, TLS included. Default 10: three lost SYNs (1 + 2 + 4 s) and some.
    pub connect: Duration,
    /// A PEM file of authorities trusted besides the system's. Default none: a public upstream needs none.
    pub ca_file: Option<PathBuf>,
    /// `attempt_delay_ms`: from one address's attempt to the next one's, while none fails. Default 250, which RFC 8305 found
    /// long enough for most first answers and too short for people.
    pub attempt_delay: Duration,
    /// `nameservers`: who is asked for names. Default none: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// Addresses of names that nobody else is asked for, as in a hosts file. Default none.
    pub hosts: Vec<HostEntry>,
    /// `nat64_prefix`: how IPv4 addresses are reached from a network without IPv4. Default discover: such a network says it,
    /// and it is asked only when IPv4 does not get through.
    pub nat64: Nat64,
    /// `no_proxy`: places that no route leads to by a parent. Default none.
    pub no_proxy: Vec<HostPattern>,
}

/// A line of a hosts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// The address of all its names.
    pub address: IpAddr,
    /// In lower case, without a dot at the end; at least one.
    pub names: Vec<String>,
}

/// How IPv4 addresses are reached where there is no IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat64 {
    /// By the prefix that the network tells (RFC 7050).
    Discover,
    /// By this one.
    Prefix(Prefix),
    /// Not.
    Off,
}

/// `[scrub]`: how stored files are checked against their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// From the beginning of one pass to that of the next, in days; 0 has the relay begin none. Default 30: disks go bad over
    /// years, and a month's damage can still be fetched.
    pub every_days: u64,
    /// Bytes that a pass reads in a second. Default 8 MiB: a tenth of a slow disk, and 20 TB in 30 days.
    pub bytes_per_sec: u64,
}

impl Settings {
    /// Every default, for trees that the caller has checked.
    pub(super) fn with_trees(trees: Vec<TreeSettings>) -> Self {
        Self {
            data: "./forebay-data".into(),
            quota_bytes: None,
            workers: None,
            sendfile: Sendfile::default(),
            listen: Listen::Default(vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            ]),
            admin: Listen::Default(vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 8081)),
            ]),
            admin_access: AdminAccess::default(),
            trusted_proxies: Vec::new(),
            tls: TlsSettings::default(),
            log: LogSettings::default(),
            trees,
            agents: AgentSettings::default(),
            limits: LimitSettings::default(),
            http2: Http2Settings::default(),
            fill: FillSettings::default(),
            upstream: UpstreamSettings::default(),
            notices: NoticeSettings::default(),
            scrub: ScrubSettings::default(),
            proxy: ProxySettings::default(),
            socks: SocksSettings::default(),
            cache: CacheSettings::default(),
            mounts: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl Settings {
    /// The same, with what manifests' URLs become.
    #[must_use]
    pub fn linked(mut self) -> Self {
        let trees = self.trees.iter().flat_map(|tree| match &tree.upstream {
            Upstream::Urls(urls) => urls.iter().map(|url| (url.clone(), tree.path.clone())).collect(),
            Upstream::Directory(_) => Vec::new(),
        });
        let mounts = self.mounts.iter().map(|mount| (mount.upstream.clone(), mount.path.clone()));
        let stand_ins: Vec<_> = trees.chain(mounts).collect();
        for tree in &mut self.trees {
            let Some(base) = &tree.public_base else { continue };
            let led = stand_ins.iter().map(|(url, path)| (url.clone(), format!("{base}{path}")));
            tree.links = Links::new(led);
        }
        self
    }
}

impl Listen {
    /// The addresses; at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Default(addresses) | Self::Configured(addresses) => addresses,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, access: AccessLog::On }
    }
}

impl TreeSettings {
    /// Every default, for a tree of this name and path from this upstream.
    pub fn new(name: TreeName, path: TreeBase, upstream: Upstream) -> Self {
        Self {
            name,
            path,
            upstream,
            reach: ReachSettings::default(),
            refresh: Duration::from_mins(15),
            jitter_percent: 10,
            prefetch: Prefetch::All,
            keep_generations: 3,
            public_base: None,
            links: Links::default(),
            catalogue: Vec::new(),
        }
    }
}

impl TreeSettings {
    /// What the components' classes come from.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::builtin().with_overrides(self.catalogue.clone())
    }

    /// What the manifest's `[Server]` lines name: the public base with the tree's path. `None` has them commented out.
    pub fn server_base(&self) -> Option<String> {
        let base = self.public_base.as_ref()?;
        Some(format!("{}{}", base.as_str(), self.path.as_str().trim_end_matches('/')))
    }
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            unknown: Unknown::Open,
            ranges: Vec::new(),
            permission: Duration::from_hours(4),
            clear_text_enrolment: ClearText::Refuse,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 << 10,
            path_bytes_max: 4096,
            ranges_max: 16,
            head_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_mins(1),
            connections_max: 20_000,
            connections_per_address_max: 15_000,
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            streams_max: 100,
            resets_max: 20,
            control_frames_max: 1000,
            ping: Duration::from_secs(20),
            send_buffer_bytes: 64 << 10,
        }
    }
}

impl Default for FillSettings {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            attempts: 6,
            far_lanes: 4,
            wait: Duration::from_mins(1),
            at_once: 32,
            prefetch_at_once: 4,
        }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            ca_file: None,
            attempt_delay: Duration::from_millis(250),
            name_servers: Vec::new(),
            hosts: Vec::new(),
            nat64: Nat64::Discover,
            no_proxy: Vec::new(),
        }
    }
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { every_days: 30, bytes_per_sec: 8 << 20 }
    }
}
