//! All settings: each key with its default, what may stand there, and why; in the order in which a file is best written.

use crate::base::limits::QUOTA_BYTES_MIN;
use crate::config::table::{Allowed, Preset, Row};

/// Every setting.
pub const TABLE: &[Row] = &[
    Row {
        key: "data",
        default: Preset::Toml("\"./forebay-data\""),
        allowed: Allowed::Text("the path of a folder"),
        reason: "a first start needs no rights and leaves all that it made in one place",
    },
    Row {
        key: "quota_bytes",
        default: Preset::Otherwise("none: as much as the disk has"),
        allowed: Allowed::Bytes(QUOTA_BYTES_MIN, 1 << 50),
        reason: "only its administrator knows what else is to fit on the disk; a release with its predecessors wants two to three times its size",
    },
    Row {
        key: "workers",
        default: Preset::Otherwise("one per core"),
        allowed: Allowed::Number(1, 1024),
        reason: "a worker never blocks, so more would only take turns",
    },
    Row {
        key: "sendfile",
        default: Preset::Toml("\"auto\""),
        allowed: Allowed::Words(&["auto", "on", "off"]),
        reason: "the kernel sends stored files of more than 48 KiB by itself (HTTP/1, clear text), which spares a copy; auto: but to this machine, where the reader would make it",
    },
    Row {
        key: "listen",
        default: Preset::Toml("[\"[::]:8080\", \"0.0.0.0:8080\"]"),
        allowed: Allowed::Text(ADDRESSES),
        reason: "both families, and a port that needs no rights",
    },
    Row {
        key: "trusted_proxies",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(
            "an IPv4 or IPv6 prefix such as \"10.0.0.5\" or \"2001:db8::/64\", or a list of 1 to 64",
        ),
        reason: "balancers that must send the PROXY protocol (1 or 2); the address in it is the agent's",
    },
    Row {
        key: "admin.listen",
        default: Preset::Toml("[\"127.0.0.1:8081\", \"[::1]:8081\"]"),
        allowed: Allowed::Text(ADDRESSES),
        reason: "clear text, so this machine alone may connect: on a network anybody on the way could read tokens",
    },
    Row {
        key: "admin.clear_text",
        default: Preset::Toml("\"refuse\""),
        allowed: Allowed::Words(&["refuse", "allow"]),
        reason: "whether `admin.listen` may name an address that other machines reach, without TLS",
    },
    Row {
        key: "admin.tls.listen",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(ADDRESSES),
        reason: "where administrators connect with TLS; needs a certificate",
    },
    Row {
        key: "admin.tls.client_ca_files",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("the path of a PEM file, or a list of 1 to 16"),
        reason: "authorities that vouch for the names in administrators' certificates",
    },
    Row {
        key: "admin.tls.certificate.chain",
        default: Preset::Required,
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "as `tls.certificate.chain`",
    },
    Row {
        key: "admin.tls.certificate.key",
        default: Preset::Required,
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "as `tls.certificate.key`",
    },
    Row {
        key: "admin.tls.client.name",
        default: Preset::Required,
        allowed: Allowed::Text("a DNS name or a URI, 1 to 256 bytes of printable ASCII; unique"),
        reason: "whoever shows a certificate with this name, for which an authority vouches, needs no token",
    },
    Row {
        key: "admin.tls.client.role",
        default: Preset::Required,
        allowed: Allowed::Words(&["viewer", "operator", "administrator"]),
        reason: "what its owner may do",
    },
    Row {
        key: "tls.listen",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(ADDRESSES),
        reason: "where agents connect with TLS; needs a certificate",
    },
    Row {
        key: "tls.client_ca_files",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("the path of a PEM file, or a list of 1 to 16"),
        reason: "authorities that vouch for the names in agents' certificates; with none, a certificate is known by its fingerprint alone",
    },
    Row {
        key: "tls.certificate.chain",
        default: Preset::Required,
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "a certificate and those that lead to its authority; its names choose it, the first one is for all others",
    },
    Row {
        key: "tls.certificate.key",
        default: Preset::Required,
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "the certificate's private key; both files are read again when they change",
    },
    Row {
        key: "log.format",
        default: Preset::Toml("\"text\""),
        allowed: Allowed::Words(&["text", "json"]),
        reason: "the first reader is a person at a terminal",
    },
    Row {
        key: "log.level",
        default: Preset::Toml("\"info\""),
        allowed: Allowed::Words(&["error", "warn", "info", "debug", "trace"]),
        reason: "what an administrator would do something about, and each new generation",
    },
    Row {
        key: "log.access",
        default: Preset::Toml("\"on\""),
        allowed: Allowed::Words(&["on", "off"]),
        reason: "it is where to see why an agent got what it got",
    },
    Row {
        key: "tree.name",
        default: Preset::Otherwise("from the path: `/a/b/` is `a-b`"),
        allowed: Allowed::Text("1 to 64 of a-z, 0-9, '-' and '_', first a letter or digit; unique"),
        reason: "a folder in the data folder, a label in metrics and logs",
    },
    Row {
        key: "tree.path",
        default: Preset::Toml("\"/activeupdate/\""),
        allowed: Allowed::Text(
            "a path such as \"/activeupdate/\", of A-Z, a-z, 0-9, '.', '_', '~' and '-' between slashes, \
             up to 255 bytes, \
             that neither begins with nor begins another tree's",
        ),
        reason: "where agents look unless told otherwise",
    },
    Row {
        key: "tree.upstream",
        default: Preset::Required,
        allowed: Allowed::Text(
            "an http or https URL without credentials, query and fragment, a list of 1 to 16 such URLs, \
             or the path of a folder",
        ),
        reason: "where the tree comes from; URLs are tried in order",
    },
    Row {
        key: "tree.family",
        default: Preset::Toml("\"race\""),
        allowed: Allowed::Words(&["race", "ipv4", "ipv6"]),
        reason: "addresses of both families are attempted, and the first that connects is used; or those of one alone",
    },
    Row {
        key: "tree.source_ipv4",
        default: Preset::Otherwise("the system chooses"),
        allowed: Allowed::Text("an IPv4 address of this machine"),
        reason: "where connections to the upstream come from over IPv4",
    },
    Row {
        key: "tree.source_ipv6",
        default: Preset::Otherwise("the system chooses"),
        allowed: Allowed::Text("an IPv6 address of this machine"),
        reason: "the same over IPv6",
    },
    Row {
        key: "tree.refresh_secs",
        default: Preset::Toml("900"),
        allowed: Allowed::Number(1, 30 * 86_400),
        reason: "patterns come a few times a day, and a look at the manifest is a conditional request",
    },
    Row {
        key: "tree.jitter_percent",
        default: Preset::Toml("10"),
        allowed: Allowed::Number(0, 50),
        reason: "relays that were started together do not ask together",
    },
    Row {
        key: "tree.prefetch",
        default: Preset::Toml("\"all\""),
        allowed: Allowed::Words(&["all", "used", "none"]),
        reason: "no agent waits for the upstream, nor misses it when it is down; `used` and `none` spare a thin line",
    },
    Row {
        key: "tree.keep_generations",
        default: Preset::Toml("3"),
        allowed: Allowed::Number(1, 100),
        reason: "agents finish what they began, and two steps back are at hand",
    },
    Row {
        key: "tree.public_base",
        default: Preset::Otherwise("none: `[Server]` lines are commented out"),
        allowed: Allowed::Text(
            "http://host[:port] or https://host[:port], without a path or a '/' at its end",
        ),
        reason: "what `[Server]` lines name; without them agents stay where they asked",
    },
    Row {
        key: "tree.catalogue.label",
        default: Preset::Otherwise("any"),
        allowed: Allowed::Text("a component's label; a rule has a label, a path or both"),
        reason: "rules here come before the built-in catalogue's",
    },
    Row {
        key: "tree.catalogue.path",
        default: Preset::Otherwise("any"),
        allowed: Allowed::Text("a package's path; a rule has a label, a path or both"),
        reason: "rules here come before the built-in catalogue's",
    },
    Row {
        key: "tree.catalogue.class",
        default: Preset::Required,
        allowed: Allowed::Words(&["pattern", "engine", "driver", "hotfix", "program"]),
        reason: "which scopes see what the rule names",
    },
    Row {
        key: "agents.unknown",
        default: Preset::Otherwise("the root's scope until there is a range or a domain, then `\"refuse\"`"),
        allowed: Allowed::Words(&["refuse", "patterns", "patterns-engines-drivers", "all"]),
        reason: "a first start serves everybody; who lists agents means those",
    },
    Row {
        key: "agents.permission_secs",
        default: Preset::Toml("14400"),
        allowed: Allowed::Number(60, 7 * 86_400),
        reason: "an agent that checked in may take packages for so long; a thin line takes hours for a program",
    },
    Row {
        key: "agents.clear_text_enrolment",
        default: Preset::Toml("\"refuse\""),
        allowed: Allowed::Words(&["refuse", "allow"]),
        reason: "whether secrets are told without TLS to agents on other machines; on the way anybody could read them",
    },
    Row {
        key: "notices.under_way_max",
        default: Preset::Toml("250"),
        allowed: Allowed::Number(1, 1_000_000),
        reason: "agents that were told to update and have not reported: so many take packages at once",
    },
    Row {
        key: "notices.per_sec",
        default: Preset::Toml("50"),
        allowed: Allowed::Number(1, 100_000),
        reason: "agents told in a second: 250 within five, so that no line is filled within one",
    },
    Row {
        key: "notices.repeat_secs",
        default: Preset::Toml("900"),
        allowed: Allowed::Number(10, 86_400),
        reason: "after so long an agent that has not reported is told again",
    },
    Row {
        key: "notices.repeats_max",
        default: Preset::Toml("5"),
        allowed: Allowed::Number(0, 100),
        reason: "so often; then it is not waited for any longer",
    },
    Row {
        key: "agents.range.from",
        default: Preset::Required,
        allowed: Allowed::Text(
            "an IPv4 or IPv6 prefix such as \"10.0.0.0/8\" or \"2001:db8::/32\", each once",
        ),
        reason: "of two that hold an address the longer counts",
    },
    Row {
        key: "agents.range.scope",
        default: Preset::Required,
        allowed: Allowed::Words(&["patterns", "patterns-engines-drivers", "all"]),
        reason: "what agents there may update",
    },
    Row {
        key: "limits.head_bytes_max",
        default: Preset::Toml("\"16 KiB\""),
        allowed: Allowed::Bytes(8 << 10, 1 << 20),
        reason: "agents send under 1 KiB, proxies before them add some",
    },
    Row {
        key: "limits.path_bytes_max",
        default: Preset::Toml("4096"),
        allowed: Allowed::Bytes(256, 1 << 20),
        reason: "the longest path of a tree with every byte percent-encoded, and its base; not over `head_bytes_max`",
    },
    Row {
        key: "limits.ranges_max",
        default: Preset::Toml("16"),
        allowed: Allowed::Number(1, 1000),
        reason: "resuming asks for one; hundreds are an attack",
    },
    Row {
        key: "limits.head_timeout_secs",
        default: Preset::Toml("15"),
        allowed: Allowed::Number(1, 600),
        reason: "a thin line sends a full head in it; bodies of the agents' API have as long, and idle connections end after it too",
    },
    Row {
        key: "limits.stall_timeout_secs",
        default: Preset::Toml("60"),
        allowed: Allowed::Number(1, 3600),
        reason: "a client that takes no byte for so long is cut; a line that comes back is quicker",
    },
    Row {
        key: "limits.connections_max",
        default: Preset::Toml("20000"),
        allowed: Allowed::Number(1, 1_000_000),
        reason: "they fit in 1 GiB; for one more, the one that has been idle longest is closed",
    },
    Row {
        key: "limits.connections_per_address_max",
        default: Preset::Otherwise("three quarters of `connections_max`"),
        allowed: Allowed::Number(1, 1_000_000),
        reason: "a site may be behind one address, and yet the rest has places; of IPv6 a /64 counts, of a trusted proxy the client",
    },
    Row {
        key: "limits.drain_secs",
        default: Preset::Toml("30"),
        allowed: Allowed::Number(0, 3600),
        reason: "for transfers to end after SIGTERM; service managers kill after 90",
    },
    Row {
        key: "http2.streams_max",
        default: Preset::Toml("100"),
        allowed: Allowed::Number(1, 1000),
        reason: "requests at a time on one connection; no less is advised",
    },
    Row {
        key: "http2.resets_max",
        default: Preset::Toml("20"),
        allowed: Allowed::Number(1, 10_000),
        reason: "requests that a client takes back before they are begun, or gets wrong; more end its connection",
    },
    Row {
        key: "http2.control_frames_max",
        default: Preset::Toml("1000"),
        allowed: Allowed::Number(100, 1_000_000),
        reason: "frames in a second that ask for nothing, beside one for each KiB taken; a flood ends the connection",
    },
    Row {
        key: "http2.ping_secs",
        default: Preset::Toml("20"),
        allowed: Allowed::Number(1, 600),
        reason: "a client that is gone is noticed within twice that",
    },
    Row {
        key: "http2.send_buffer_bytes",
        default: Preset::Toml("\"64 KiB\""),
        allowed: Allowed::Bytes(16 << 10, 1 << 20),
        reason: "what waits of each answer; it keeps a line full, and a hundred requests hold little",
    },
    Row {
        key: "fill.first_byte_secs",
        default: Preset::Toml("30"),
        allowed: Allowed::Number(1, 600),
        reason: "agents give up after 120, which leaves tries",
    },
    Row {
        key: "fill.silence_secs",
        default: Preset::Toml("30"),
        allowed: Allowed::Number(1, 600),
        reason: "a line that is silent for so long is dead",
    },
    Row {
        key: "fill.attempts",
        default: Preset::Toml("6"),
        allowed: Allowed::Number(1, 100),
        reason: "tries without a byte gained: with growing pauses, a few minutes",
    },
    Row {
        key: "fill.far_lanes",
        default: Preset::Toml("4"),
        allowed: Allowed::Number(0, 16),
        reason: "requests for readers far ahead of a fill; with its own under the six that servers expect; 0: they wait",
    },
    Row {
        key: "fill.wait_secs",
        default: Preset::Toml("60"),
        allowed: Allowed::Number(1, 600),
        reason: "an agent is told to come back before it gives up (120); the fetch goes on",
    },
    Row {
        key: "fill.at_once",
        default: Preset::Toml("32"),
        allowed: Allowed::Number(1, 1024),
        reason: "enough to fill a line with small files, no burden for an upstream",
    },
    Row {
        key: "fill.prefetch_at_once",
        default: Preset::Toml("4"),
        allowed: Allowed::Number(1, 1024),
        reason: "leaves room for agents that wait; not over `at_once`, which lowers the default too",
    },
    Row {
        key: "upstream.connect_secs",
        default: Preset::Toml("10"),
        allowed: Allowed::Number(1, 120),
        reason: "three lost packets at the start, and some",
    },
    Row {
        key: "upstream.ca_file",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "authorities trusted besides the system's, for an upstream with a private certificate",
    },
    Row {
        key: "upstream.attempt_delay_ms",
        default: Preset::Toml("250"),
        allowed: Allowed::Number(100, 2000),
        reason: "from one address's attempt to the next one's while none fails; most first answers come sooner",
    },
    Row {
        key: "upstream.nameservers",
        default: Preset::Otherwise("the system's, from `/etc/resolv.conf`"),
        allowed: Allowed::Text(
            "an address such as \"192.0.2.53\" or \"[2001:db8::53]:5353\", or a list of 1 to 8",
        ),
        reason: "who is asked for the names of upstreams",
    },
    Row {
        key: "upstream.hosts",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("a line as in a hosts file, \"192.0.2.1 au.example\", or a list of 1 to 256"),
        reason: "names that nobody is asked for; they come before `/etc/hosts`",
    },
    Row {
        key: "upstream.nat64_prefix",
        default: Preset::Toml("\"discover\""),
        allowed: Allowed::Text(
            "\"discover\", \"off\", or a prefix such as \"64:ff9b::/96\" of 32, 40, 48, 56, 64 or 96 bits",
        ),
        reason: "how IPv4 addresses are reached from a network without IPv4; it is asked for its prefix when IPv4 gets nowhere",
    },
    Row {
        key: "upstream.no_proxy",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(PATTERNS),
        reason: "places that no route leads to by a parent",
    },
    Row {
        key: "proxy.tunnel_idle_secs",
        default: Preset::Toml("300"),
        allowed: Allowed::Number(1, 86_400),
        reason: "a tunnel without a byte for so long is closed; longer than an agent thinks",
    },
    Row {
        key: "proxy.tunnel_total_secs",
        default: Preset::Toml("43200"),
        allowed: Allowed::Number(1, 30 * 86_400),
        reason: "an older tunnel is closed; longer than any download on a thin line",
    },
    Row {
        key: "proxy.allow.name",
        default: Preset::Required,
        allowed: Allowed::Text("1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'; unique"),
        reason: "what refusals, logs and metrics call the rule",
    },
    Row {
        key: "proxy.allow.to",
        default: Preset::Required,
        allowed: Allowed::Text(PATTERNS),
        reason: "where agents may be taken besides the upstreams; private and other reserved addresses need a prefix here, whatever name has them",
    },
    Row {
        key: "proxy.allow.ports",
        default: Preset::Toml("[80, 443]"),
        allowed: Allowed::Text("a port from 1 to 65535, or a list of 1 to 64"),
        reason: "the web's; others open other services",
    },
    Row {
        key: "proxy.allow.tunnels",
        default: Preset::Toml("\"all\""),
        allowed: Allowed::Words(&["all", "any", "never"]),
        reason: "who may have CONNECT and SOCKS there: agents with scope `all`, any agent, nobody; nobody sees what a tunnel carries",
    },
    Row {
        key: "proxy.user.name",
        default: Preset::Required,
        allowed: Allowed::Text("1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'; unique"),
        reason: "who may use the proxy; where there is no user, every agent that `[agents]` knows may",
    },
    Row {
        key: "proxy.user.secret_hash",
        default: Preset::Required,
        allowed: Allowed::Text("64 hexadecimal digits"),
        reason: "as `forebay secret` prints it with a new secret",
    },
    Row {
        key: "socks.listen",
        default: Preset::Toml("[\"[::]:1080\", \"0.0.0.0:1080\"]"),
        allowed: Allowed::Text(ADDRESSES),
        reason: "where agents speak SOCKS5; a default one that cannot be had is left out",
    },
    Row {
        key: "cache.bytes_max",
        default: Preset::Toml("\"4 GiB\""),
        allowed: Allowed::Bytes(0, 1 << 50),
        reason: "what files that are in no tree may take in all; 0 keeps none",
    },
    Row {
        key: "cache.file_bytes_max",
        default: Preset::Toml("\"1 GiB\""),
        allowed: Allowed::Bytes(0, 1 << 50),
        reason: "the largest of them that is kept",
    },
    Row {
        key: "cache.entries_max",
        default: Preset::Toml("10000"),
        allowed: Allowed::Number(1, 1_000_000),
        reason: "answers that are remembered, each in about a kilobyte of memory",
    },
    Row {
        key: "mount.path",
        default: Preset::Required,
        allowed: Allowed::Text("a path as a tree's, which no tree or other mount has"),
        reason: "what stands for the upstream on the relay; of several the longest path counts",
    },
    Row {
        key: "mount.upstream",
        default: Preset::Required,
        allowed: Allowed::Text(
            "an http or https URL without credentials, query and fragment, outside the trees' upstreams",
        ),
        reason: "what the path stands for; a tree's mount is its `[[tree]]`",
    },
    Row {
        key: "mount.family",
        default: Preset::Toml("\"race\""),
        allowed: Allowed::Words(&["race", "ipv4", "ipv6"]),
        reason: "as `tree.family`",
    },
    Row {
        key: "mount.source_ipv4",
        default: Preset::Otherwise("the system chooses"),
        allowed: Allowed::Text("an IPv4 address of this machine"),
        reason: "as `tree.source_ipv4`",
    },
    Row {
        key: "mount.source_ipv6",
        default: Preset::Otherwise("the system chooses"),
        allowed: Allowed::Text("an IPv6 address of this machine"),
        reason: "as `tree.source_ipv6`",
    },
    Row {
        key: "mount.scope",
        default: Preset::Toml("\"all\""),
        allowed: Allowed::Words(&["patterns", "patterns-engines-drivers", "all"]),
        reason: "the least scope that sees it; what nobody described counts as most restricted",
    },
    Row {
        key: "route.to",
        default: Preset::Toml("[\"*\"]"),
        allowed: Allowed::Text(PATTERNS),
        reason: "places that the route leads to; the first route that names a place counts",
    },
    Row {
        key: "route.via",
        default: Preset::Required,
        allowed: Allowed::Text(
            "\"direct\", or a parent proxy such as \"http://parent.example:3128\", \"https://...\" or \"socks5://...\", \
             or a list of 1 to 8",
        ),
        reason: "tried in order; one that fails rests for a while",
    },
    Row {
        key: "route.credentials",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("the path of a file that holds user:password"),
        reason: "what the route's parents are told; a file, so that no secret stands in the settings",
    },
    Row {
        key: "scrub.every_days",
        default: Preset::Toml("30"),
        allowed: Allowed::Number(0, 365),
        reason: "stored files are checked against their hashes so often; disks go bad over years; 0 leaves it to `forebay scrub`",
    },
    Row {
        key: "scrub.bytes_per_sec",
        default: Preset::Toml("\"8 MiB\""),
        allowed: Allowed::Bytes(64 << 10, 1 << 40),
        reason: "what that reads in a second: a tenth of a slow disk, and 20 TB in 30 days",
    },
];

const ADDRESSES: &str = "an address and port such as \"192.0.2.1:8080\", \"[2001:db8::1]:8080\" or \"[fe80::1%3]:8080\", \
     or a list of 1 to 64, none of which takes another's port";

const PATTERNS: &str = "\"*\", a name such as \"au.example\" or \"*.example.net\" (those below it), a prefix such as \"10.0.0.0/8\", \
     or a list of 1 to 256";
