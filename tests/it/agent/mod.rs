//! The agent of this program against relays of this program, on real sockets and folders (R7 to R9).
//!
//! `updates`: release after release, increments, scopes, privileges, settings files, commands; `sources`: fallback and resumption, wrong
//! sizes, proxies, TLS; `live`: told by relays; `events`: streams and polls, broken ones too; `killed`: SIGKILL at each step on the folder and within a file, and disks that say no; `typed`: the commands as
//! processes; `fleet`: fifty of them with IPv6 alone, a release, and one that is killed; `through`: two that reach an upstream by the relay's
//! proxy; `certificates`: known by a certificate. `machine` is what they stand on.

mod certificates;
mod events;
mod fleet;
mod killed;
mod live;
mod machine;
mod sources;
mod through;
mod typed;
mod updates;
