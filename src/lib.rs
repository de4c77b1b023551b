//! Forebay, an update relay for fleets of security agents: it mirrors an ActiveUpdate tree into a content-addressed store,
//! serves it over IPv6 and IPv4, and shows each agent only what its scope allows. One binary, and this library.
//!
//! ```no_run
//! use forebay::app::Relay;
//! use forebay::config::settings::Settings;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::for_upstream("http://osce14-p.activeupdate.trendmicro.com/activeupdate/")?;
//! let relay = Relay::start(settings)?;
//! println!("agents reach it at {:?}", relay.running().listen);
//! relay.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! A file imports lower layers only, and its own folder; `tests/it/layers.rs` checks it.
//!
//! | layer | folder | what it holds |
//! |---|---|---|
//! | commands | `main.rs`, `cli/` | what can be typed, a file for each command: `cli/commands.rs`; those over the administrators' API: `cli/api/` |
//! | wiring | `app.rs`, `app/` | the only place that wires parts and owns tasks: [`app::Relay::start`] |
//! | drivers | `socks/` | SOCKS5, as agents speak it; it stands above `http/`, with which it shares the steps of a connection and its tunnels |
//! | | `http/` | what agents speak; where a URL is handled: `http/route.rs`; the agents' API: `http/agents/`; the status of an error: `http/respond.rs` |
//! | | `admin/` | what administrators and their programs ask: the table of calls, with the role for each: `admin/routes.rs`; who asks: `admin/access.rs`; a call: `admin/api/`; what it takes and gives: `admin/model/` |
//! | | `load/` | the fleet that plays against a server with a tree; its flow: `load/mod.rs`; shares no code with what serves |
//! | | `agent/` | an agent, for its machine and to be embedded; one update: `agent/update.rs`; what lies where: `agent/folder.rs`; speaks to a relay by HTTP alone |
//! | | `fixture/` | writes trees for tests; shares no code with the parser |
//! | use cases | `schedule/` | automatic update, above `relay/`: what a schedule means in time: `schedule/plan/`; who is told of what, when and how often: `schedule/notices/`; what runs that and tells: `schedule/notifier.rs` |
//! | | `relay/` | serve (hit or fill), fill, refresh (a new generation), scrub and mend; reach other servers, and the general cache of what they answer: `relay/cache/`; agents as they are met: `relay/agents/`; what agents and domains may have in a second: `relay/limits/` |
//! | parts | `net/` | sockets, data workers, streams that may not stall; files that the kernel sends: `net/socket.rs` |
//! | | `store/` | staging, blobs, generations, index (sled), quarantine; the layout on disk: `store/mod.rs` |
//! | | `upstream/` | where a tree comes from: URLs in order, or a directory; routes, names, and the race for a connection |
//! | | `state/` | the agent tree on the disk: the journal of its changes, which is the audit log too; the layout: `state/mod.rs`; the relay's own authority: `state/authority.rs`; who administers: `state/tokens.rs` |
//! | | `client/` | how agents, and commands of administrators, speak to a relay: HTTP, and whom TLS believes; it stands above `net/`, which reads certificates |
//! | ground | `disk/` | the way to the data folder, on which tests see and break each step; journals of checksummed lines; files as mappings |
//! | knowledge | `config/` | file -> checked settings; a default and its reason: `config/settings.rs` |
//! | | `policy/` | who may have what; why a request was refused: `policy/decide.rs`; who sends it: `policy/caller.rs`; which limits hold for it: `policy/limit.rs`; the agent tree: `policy/tree/`, and as a file: `policy/outline/`; where agents update from: `policy/sources.rs` |
//! | | `manifest/` | `server.ini`: lines, what they list, the class of a component, what a scope sees |
//! | | `base/` | paths, identifiers, ranges, bounds, the clock, the tally |
//!
//! Knowledge does no I/O, knows no clock and is not async. Within it, `config` stands above `policy` and `manifest`, since
//! settings hold scopes and catalogue rules.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | relay | the running program |
//! | tree | a base path and its manifest with what it names |
//! | upstream, origin | where a tree comes from; one URL of it, or its directory |
//! | race | an origin's addresses attempted one after the other, until one connects; those that failed are *behind* |
//! | manifest | `server.ini`, parsed without losing a byte |
//! | component, class | what the manifest lists; pattern, engine, driver, hotfix or program |
//! | package, increment | a component's full file; a file that takes it from one version to the next |
//! | generation | one manifest with all it names, numbered, visible as a whole; what a tree *shows* is one, as each scope sees it |
//! | candidate | a generation that is being fetched |
//! | blob | immutable bytes in the store, named by BLAKE3 |
//! | entry | a file of a tree: path -> blob, validators; the class stands in the generation |
//! | fill | the one fetch that brings a blob in; readers follow it |
//! | lane | one line of requests of a fill: the main lane begins at the start, far lanes where readers far ahead wait |
//! | room, quota | what the data folder takes on its disk; how much that may be |
//! | sweep | removes what no kept generation names, when room is needed |
//! | scrub, quarantine, mend | checks stored files; where bad ones go; fetches them anew |
//! | prior | what was held under an entry's path before it |
//! | shelf | the blobs that a data worker has at hand |
//! | mapping, span | a file's bytes under an address, for the kernel alone to read; a run of it that a connection is about to send |
//! | look, stretch | the kernel is asked which pages of a mapping are in memory; 256 KiB of one, of which it is remembered that all were |
//! | exchange, part | a request and its answer; what of a representation is answered: all, ranges, the head, nothing new |
//! | turn | what a connection gives of its body before others have theirs; who wants another waits for it, and few are *let on* at a time |
//! | round | the first turns of all bodies under way on a worker, while they are no crowd |
//! | crowd | so many bodies under way on a worker that each begins with little |
//! | pin | the generation that an agent stays on |
//! | mount, stands for | a path of the relay that is another server's; so does a tree for its upstream |
//! | destination | a host and a port that an agent wants to be taken to; *listed* by a rule or by the settings |
//! | passage | a permit to be taken to a destination; it judges each address that the destination turns out to have |
//! | answer, question | what another server says and the general cache may keep; a request to it, shared by all who want the same |
//! | interim answer | what a server says before its answer: a status of 1xx |
//! | route, parent | how a destination is connected to: directly, or through a proxy, the parent |
//! | way | one of a route's: directly, or by one parent; one that failed *rests* |
//! | tunnel | a connection to a destination that nobody here reads, by CONNECT or SOCKS; or what the mirror answers in its place |
//! | place | what a connection takes; the one idle longest gives its own up |
//! | agent tree | the root, domains within domains, and the agents; always said in full |
//! | node | what a setting of the agent tree stands at: the root, a domain, an agent |
//! | effective settings | what the agent tree says for one agent, the nearest node first |
//! | action, transaction | one change of the agent tree; several of them, done whole or not at all |
//! | difference | a node of the agent tree before and after a transaction |
//! | amendment | an action that makes several nodes what they are to be, all at once |
//! | outline | the whole agent tree as people keep it in a file, domains by their paths |
//! | path of a domain | its name behind the names of those that hold it: `Branches/North` |
//! | state | the agent tree of a data folder, with the journal of its changes |
//! | fingerprint | the SHA-256 of a client's certificate, by which it is known whoever issued it |
//! | authority | whose signature vouches for the names in certificates; the relay's *own* signs those of agents that ask for one |
//! | group | changes that are written and synced together |
//! | caller | who sends a request, and what holds for it at that moment |
//! | token, key | what is shown to be known by, an id and a secret; what the agent tree knows an agent by |
//! | limit, holder | so many requests or bytes in a second; the agent, the address or the domain whose it is |
//! | transfer | a body or a tunnel, as limits of bytes know it |
//! | grant, share | bytes that a transfer may pass now; what a connection has of a limit that several want |
//! | gate | where a transfer asks for its grants |
//! | role | what an administrator may do: viewer, operator, administrator, each all that those before it may |
//! | refusal | a request of an agent that the policy refused, with the reason |
//! | decision | what the policy says of a request, on which file; *why* tells one, in steps to a verdict |
//! | page, cursor | some of a list; where the next one begins |
//! | widening | a change that gives agents the scope `all`, and what it means in bytes |
//! | problem | what went wrong, as programs are told it (RFC 9457) |
//! | enrolment | lets so many agents join a domain by themselves, until a moment |
//! | check-in, permission | an agent says why it wants to update; until when it may take packages |
//! | report | an agent says how an update went; what it has that is not current makes it *out of date* |
//! | occurrence | a window of a daily or weekly schedule, named by its day |
//! | moment | when an agent is told in an occurrence, at random |
//! | stream | what an agent holds to be told; *events* come on it |
//! | notice | what tells an agent to update, for a *reason*: a generation, its schedule, an administrator's start |
//! | start | an administrator has agents update, online or not |
//! | under way | told, online, and neither reported nor given up: such an agent has one of so many places |
//! | settings file | what administrators hand to agents at the root or a domain, apart from components |
//! | source | a place that an agent may update from |
//! | scope | what an agent may update |
//! | view | the manifest that a scope sees |
//! | set, current set | what an agent has, one version for each component; the one that its link leads to |
//! | want | a component that an agent is to take, by a package or an increment |
//! | fleet | agents that `forebay load` plays, by its *plan*; a *menu* is what a manifest has to offer them |
//! | errand | what an agent of a fleet that is told does besides its update: it checks in, and reports |
//! | due | when a request of a fleet's agent was meant to be made; its latency counts from there |
//! | permit | proof of a decision: only `policy` makes one, every answer spends one |
//!
//! # Where the design was changed
//!
//! - A fill belongs to its entry, not to a table of fills: generations that name the same file share the entry, so "one
//!   fetch for each object" needs no key that could be wrong.
//! - The layer of knowledge has an order (above).
//! - Manifests have no `Last-Modified`, only a strong entity tag: views differ by scope, and a date would tell an agent whose
//!   scope was widened that nothing changed.
//! - A package that stands in a new generation under the same path, version and size is taken over without asking the
//!   upstream, unless its signature differs: then the upstream is asked whether it changed.
//! - A generation that turns out to name what is gone, whose journal was damaged, or whose missing files appeared, is made
//!   again under the same manifest and the next number.
//! - Rows of the index hold when a blob was last used: soft state, for which a file's time of change stands where it is lost.
//! - A generation is begun as `N.new` beside the `N.next` that it replaces: a crash in between must not leave what was fetched
//!   without a name.
//! - A part of the quota is kept for what is small and cannot wait: journals, manifests and the index are counted, not reserved.
//! - Directories `blobs/00` to `blobs/ff` are made at the start, so that a commit syncs one folder.
//! - `disk/` is a layer of its own, below the parts: `store` and `state` both write through it, and neither may import the other.
//! - The agent tree has no table in sled. It is in memory whole (20 MB for 100,000 agents), and a start reads it from a snapshot
//!   and a journal in well under a second: a database beside them would be a third copy to keep in step, and to rebuild.
//! - A difference holds a node as a whole, before and after, so that a journal that lost a part does not fit and is refused.
//! - The agents have a table of our own, `policy/tree/agents.rs`: the one on the path of each request, measured against a library's.
//! - The seam for faults is a value, `disk::Disk`, not a second backend: each step tells it before and after.
//! - What a fill left is gone on with in a copy while its file is open anywhere: readers of the fill that failed may be about to send
//!   what lies beyond the checkpoint, and for as long as they like.
//! - A connection's socket finds spans in a queue of its own, not in a table of address ranges of its worker: it is empty or short, and
//!   what it names cannot be unmapped meanwhile.
//! - RFC 9111 is decided in `relay/cache/`, not by `http-cache-semantics`: that follows RFC 7234, gives what is stale to who takes it
//!   so despite `proxy-revalidate` and `s-maxage`, compares directives by case, and keeps one line of a field that has several.
//! - A date alone never vouches for a signature or package, and for a manifest only when it was a minute old: releases may
//!   follow each other within its second.

pub mod admin;
pub mod agent;
pub mod app;
pub mod base;
pub mod cli;
pub mod client;
pub mod config;
pub mod disk;
pub mod fixture;
pub mod http;
pub mod load;
pub mod manifest;
pub mod net;
pub mod policy;
pub mod relay;
pub mod schedule;
pub mod socks;
pub mod state;
pub mod store;
pub mod upstream;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
