//! The tests of Forebay as a whole: real sockets, real processes, a hostile origin. R numbers are those of the requirements.
//!
//! What is checked
//! - `admin`: health, metrics, status and refresh, and who is kept away from them (R11.1, R11.2).
//! - `administer`: the administrators' API, a file each: `access` (tokens, roles, failed logins, TLS, certificates, problems), `typed` (the first
//!   start, `forebay admin-token`), `calls` (each role against each call), `changes` (two at once, several as one, widened scopes, the audit
//!   log, events), `commands` (what is typed), `dashboard` (Grafana), `document` (openapi-spec-validator, schemathesis), `fleet` (`FOREBAY_AGENTS` says how many),
//!   `updates` (`forebay update`), `remote` (commands for a relay elsewhere: TLS, redirects, clear text) (R5, R6.5, R9.1, R11.1, R11.2).
//! - `agent`: the agent of this program, a file each: `updates` (releases, increments, scopes, privileges, settings files, commands), `sources`
//!   (fallback, resumption, wrong sizes, proxies, TLS), `killed` (SIGKILL at each step and within a file, full disks), `live` and `events`
//!   (told by a relay, and by broken streams), `typed` (`forebay agent`); `FOREBAY_CRASHES=all` takes every moment (R6.1, R7, R8, R9).
//! - `agents`: agents of the agent tree, a file each: `api` (enrolment, check-ins, reports, settings files, privileges), `ways` (each scope,
//!   class and way in), `leaving` (what is taken back holds for open connections), `attack` (guesses, replays, races, smuggled
//!   identities), `certificates` (of others; resumed sessions), `bodies` (bounds and deadlines), `secrets` (in no log and at no other
//!   server), `stock` (curl, wget), `why` and `reports` (what administrators are told of it) (R5.5, R5.6, R6.2, R7, R8, R11.2).
//! - `cache`: the forward proxy and mounts, a file each: `sentences` (RFC 9111, one by one), `shared` (one question for all who want
//!   the same), `stored` (restarts, equal bytes, bounds, bytes that break off), `carried` (what passes on each side), `interim` (1xx
//!   answers), `broken` (answers that are none), `damaged` (kept files that cannot be opened), `killed` (SIGKILL), `hostile` (smuggling,
//!   loops), `scope` (a tree's upstream by its URL), `stock` (curl and wget); `server` is a server that says what it is told (R3.2, R4).
//! - `calls`: the system calls of a hit, and those that wake a crowd, counted (issue 6).
//! - `client_certificates`: who shows one over TLS. `seen`: fingerprints, names that an authority vouches for, resumed sessions, changed
//!   files; `hostile`: stolen, damaged, oversize; `stock`: curl and openssl; `issued`: by the relay's own authority.
//! - `command`: the program as who types it meets it, a file each: `help`; `shells` (completions, manual pages); `certs`; `errors` (bad input, by name); `listen` (what is
//!   printed, default addresses, IPv6 disabled; R4.1); `ask` (status, refresh); `signals` (drain, cut, kill); `reload` (R11.3);
//!   `log` (text, JSON, no forged lines; R11.2); `long` (progress, fixture); `notices` (to a service manager),
//!   `activation` (sockets passed by it), `service` (limits, rights), `units` (for systemd; R11.4), `upstream` (what is shown of the way to one; R4.3).
//! - `conditional`: preconditions in their order; entity tags stay with the state they name, and move with it (R3.1, R1.7).
//! - `connect`: connections to upstreams, a file each: `families` (silent, refused and mute addresses, TLS, sources), `names` (a name
//!   server that is late, broken or lavish; redirects to this machine), `network` (one family on each side, NAT64; namespaces) (R4.3).
//! - `crash`: ends at the worst moments, a file each: `points` (SIGKILL at each step on the data folder), `moments` (under load),
//!   `cuts` (of power); a few of each, and with `FOREBAY_CRASHES=all` every one; `stall`: a disk that stalls (R1.5, R1.6).
//! - `data_folder`: folders that a relay cannot use, and what it says of them (R11.4).
//! - `directory`: a directory as the upstream: renames, changes in place, a folder that vanishes (R1.2).
//! - `disk_errors`: folders that take no files in the middle of a refresh (R1.4).
//! - `embedded`: the relay as a library, within tasks of another program (design.md, Layers).
//! - `faults`: each step on the data folder failed, torn and lost, in a first life and in a later one (R1.5).
//! - `fill`: one fetch for all readers (R1.5, R2). `stampede`: 500 agents, each byte once; `resume`: resets, closes, changed files;
//!   `deadlines`: silence, agents that leave; `far`: readers far ahead, lanes that are refused or break; `lies`: wrong lengths, statuses,
//!   pages; `origins`: several, never mixed; `readers`: late, slow, HTTP/1.0; `store`: lost blobs, a full disk; `unfinished`: stops and SIGKILL; `model`: random faults and readers (`FOREBAY_SEEDS` says how many).
//! - `formats`: data folders of every format so far, and migrations that are cut (R11.4).
//! - `framing`: ambiguous requests are refused, and what hides behind them is never read; heads have bounds (R3.3, R4.6).
//! - `hostile`: clients that mean harm. `places`: idle connections make room, addresses have bounds; `http1`: half-open, pipelined,
//!   oversize, slow; `http2`: floods, nonsense and narrow windows as raw frames; `pressure`: connections by the thousand
//!   (`FOREBAY_CONNECTIONS` says how many) (R4.6).
//! - `fuzzed`: what holds for any bytes as a range, a PROXY header, a SOCKS message, a journal or settings; the targets in `fuzz/` check the same.
//! - `http2`: by ALPN and by prior knowledge: answers as over HTTP/1, a hundred at once, resets, idle clients (R1.1, R2.3, R3.1).
//! - `layers`: a file imports lower layers only; what knows does no I/O; sled stays in its folders; lib.rs names each folder.
//! - `limits`: agents' and domains' limits, a file each: `shares` (bytes in equal shares), `slow` (nothing is cut; limits that change under way),
//!   `tunnels` (CONNECT, SOCKS, the forward proxy), `requests` (floods, `Retry-After`) (R10.1).
//! - `load`: a fleet that plays, a file each: `relayed` (against a relay: counts, seeds, ranges, TLS, give-ups), `told` (agents that wait to
//!   be told: releases, starts, restarts, odd relays), `nginx`, `found` (each thing that a server can do wrong), `ends` (signals, time, what
//!   is shown), `many` (`FOREBAY_AGENTS` says how many), `typed` (R9.1, R12.1).
//! - `many_blobs`: starts and stops on data folders of very many blobs (`FOREBAY_BLOBS` says how many), with the index whole, left open,
//!   lost or damaged (issue 6).
//! - `missing`: packages, increments and signatures that the upstream does not have, and that appear later (R1.5).
//! - `newcomer`: from an empty relay to a fleet, by what `--help` says (R11.1).
//! - `paths`: nothing outside the tree has a path, and each bad path has its status.
//! - `persistence`: HTTP/1.0 and 1.1, keep-alive, pipelining, HEAD, what heads say (R1.1).
//! - `prefetch`: all, used, none; what is asked after before it is shown (R1.4, R1.5).
//! - `proxies`: the PROXY protocol from trusted proxies, and from anybody else (R4.1, R6.1).
//! - `quota`: the data folder stays within it, the oldest goes first, and what is missing is said (R1.8).
//! - `raced`: `benches/race` measures all of its rows, and every body in them is right (issue 6).
//! - `ranges`: ranges are slices of the file, in memory, on the disk, in a view and while it is filled (R3.1).
//! - `readme`: its settings table is the program's, and the program accepts its configurations (R11.3).
//! - `recovery`: random lives of a data folder, cut at a random place of a journal: a prefix of what was acknowledged.
//! - `refresh`: from release to release: what is fetched, shown and kept; pinned agents (R1.4, R1.7).
//! - `refusals`: reserved addresses by every form, name and redirect, whichever way they are asked for (R4.6).
//! - `reload`: settings in force for the next request of a connection (R11.3).
//! - `rests`: connections that are idle for a while and hold no buffer then: what comes after is answered, in clear text and TLS (issue 6).
//! - `restart`: without the upstream, with a lost index, damaged journals, unfinished generations, lost blobs (R1.5, R1.6).
//! - `routes`: parent proxies, a file each: `mirror` (each kind, byte for byte; rules), `failover` (parents that fail, rested),
//!   `credentials`, `agents` (requests and tunnels), `reload`, `relay` (another Forebay), `stock` (tinyproxy,
//!   microsocks); `proxy` is a parent (R4.5, R4.6).
//! - `scopes`: each scope sees and gets its classes and no other; `[Server]` leads nowhere but to the relay (R6, R5.5).
//! - `scrub`: stored files that go bad (R1.5). `found`: what is damaged, who had it, what becomes of it; `passes`: pace, restarts, beside
//!   sweeps and agents; `faults`: the disk says no at each step; `command`: `forebay scrub`, with a relay and without.
//! - `sendfile`: large files that the kernel sends by itself: right bytes each way, files that are cut, removed or leave the memory meanwhile (R3.1, R2.3).
//! - `serve`: every file of the tree over both families; the store serves after a restart without the upstream (R1.1, R1.6).
//! - `slow_clients`: the slow, the idle and the gone are cut in time and hold up nobody; requests are counted once (R11.2).
//! - `soak`: a mixed load with faults, for `FOREBAY_SOAK_SECS`: right bytes all along, and memory, files, threads and tasks return.
//! - `state`: the agent tree on the disk (R5.4). `keeps`: restarts, the audit log, snapshots; `cuts`: journals cut or damaged anywhere;
//!   `faults`: each step failed, torn and lost; `kill`: SIGKILL in a stream of changes; `power`: cuts of power;
//!   `group`: many changes, few syncs.
//! - `stock`: upstream, relay and stock curl and wget as processes, release after release (R1.1, R2.1, R3.1, R4.1).
//! - `stock_http2`: stock curl, openssl, nghttp and h2load over HTTP/2 and TLS (R1.1, R4.1).
//! - `tls`: certificates by name, reloaded; TLS 1.2 and 1.3; handshakes that fail, stall or are none (R4.1).
//! - `told`: agents are told when to update: the streams that they hold, updates that administrators start, and a crowd of streams (R9.1, R9.4).
//!   `FOREBAY_STREAMS` says how many.
//! - `tree_file`: the agent tree as a file (R5). `command`: exported, checked, applied, with a relay and without; `terminal`: who is asked,
//!   and changes in between; `hostile`: files that are none; `api`: the admin listener; `large`: 20,000 agents; `kill`: SIGKILL while it is made.
//! - `trees`: several trees in one relay and one store (R1.1, R1.3).
//! - `tunnel`: CONNECT and SOCKS5, a file each: `stock` (curl, to the mirror and to a TLS server); `scope` (a tunnel to an upstream is
//!   the mirror's); `refused` (destinations, in every form); `bytes` (early ones, half-closed sides, slow ones, resets); `ends` (idle,
//!   total, room, drain, the log); `many` (a thousand); `socks` (messages, deadlines, listeners); `users` (R3.2, R4.2, R4.6, R6.2).
//! - `turns`: a crowd's first bytes come before anybody has many, counted look by look (R2.3, issue 6).
//! - `upstreams`: manifests that are none, upstreams that lie, stall or are down; several URLs (R1.2, R1.6).
//! - `ways`: whole trees by each way that agents know, through a relay from one address family to the other (R4.2, R6.2).
//! - `week`: a simulated week of automatic update, for fleets small and large, against rules stated as predicates (`FOREBAY_SEEDS` says how
//!   many weeks) (R9).
//!
//! What the tests stand on, each with tests of its own
//! - `dns`: a name server that answers as it is told.
//! - `network`: namespaces with one family each, and a relay's place between them.
//! - `origin`: an ActiveUpdate server that serves, counts at the socket, lies, stalls and breaks off (R1.5, R2).
//! - `raw`: an HTTP client that sends exact bytes and tells a short body from a reset, and from a whole one (R2.3, R3).
//! - `machine`: a small kernel of its own, whose power is cut.
//! - `relay`: a relay inside the test's process, on real sockets.
//! - `authority`: a certificate authority of the test's own, and clients that trust it.
//! - `site`: a small upstream tree, written release by release.
//! - `process`: the binary and stock tools as processes: their lines, signals and ends (R11).
//! - `served`: a relay as a process, with its settings file and its data.
//!
//! A test whose tool or network is missing fails under `CI=true` and says elsewhere that it was skipped (`process::missing`).
#![cfg(test)]

mod admin;
mod administer;
mod agent;
mod agents;
mod authority;
mod cache;
mod calls;
mod client_certificates;
mod command;
mod conditional;
mod connect;
mod crash;
mod data_folder;
mod directory;
mod disk_errors;
mod dns;
mod embedded;
mod faults;
mod fill;
mod formats;
mod framing;
mod fuzzed;
mod hostile;
mod http2;
mod layers;
mod limits;
mod load;
mod machine;
mod many_blobs;
mod missing;
mod network;
mod newcomer;
mod origin;
mod paths;
mod persistence;
mod prefetch;
mod process;
mod proxies;
mod quota;
mod raced;
mod ranges;
mod raw;
mod readme;
mod recovery;
mod refresh;
mod refusals;
mod relay;
mod reload;
mod restart;
mod rests;
mod routes;
mod scopes;
mod scrub;
mod sendfile;
mod serve;
mod served;
mod site;
mod slow_clients;
mod soak;
mod state;
mod stock;
mod stock_http2;
mod tls;
mod told;
mod tree_file;
mod trees;
mod tunnel;
mod turns;
mod upstreams;
mod ways;
mod week;
