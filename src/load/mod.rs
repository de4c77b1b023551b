//! The fleet that plays against a server with a tree: a relay, or any other (R12).
//!
//! ```text
//! plan ──> arrival ──> schedule ──> thread ──> exchange ──> server
//!                         ^            │  one request at a time, on a connection of a bounded number
//!                         └── agent <──┘
//! ```
//!
//! A [`plan::Plan`] says what is played; with its seed it says all that the fleet itself decides. An [`agent::Agent`] is a small state
//! machine: it takes the manifest, reads from it what it wants ([`menu`]), and takes that, file by file, each with its signature. While
//! it waits it is an entry of the [`schedule`], not a task; one that has not arrived yet is only a number of [`arrival`]. Each thread
//! (`thread`) has its part of the agents and of the connections; a request is a task that lives until its answer ended (`exchange`).
//! What came is checked ([`known`]) and counted ([`figures`]); [`budget`] judges, [`report`] tells.
//!
//! Latencies are counted from the moment at which the schedule had a request, not from its sending: a server that stalls is not spared
//! the requests that would have come meanwhile (coordinated omission). The times from the sending stand beside them.
//!
//! Agents that the relay tells when to update arrive when it does: [`told`].
//!
//! The pure parts (`plan`, `draw`, `arrival`, `menu`, `agent`, `schedule`, `known`, `budget`, `figures`, `latency`, `report`, `table`, `source`,
//! `told/errand`, `told/events`, `told/figures`, `told/tokens`) do no I/O and know no clock, but for `known`, which reads a local copy of a tree before the
//! start. Shares nothing with the code that serves.
//! Invariant: nothing is sent to anything but the addresses of the URL's host; a redirect is an error.

pub mod agent;
mod answer;
pub mod arrival;
pub mod budget;
mod connection;
pub mod draw;
mod exchange;
pub mod fault;
pub mod figures;
pub mod fleet;
pub mod known;
pub mod latency;
pub mod menu;
pub mod plan;
pub mod report;
mod request;
pub mod schedule;
pub mod source;
mod table;
pub mod target;
mod thread;
mod timer;
pub mod told;
pub mod wanted;
