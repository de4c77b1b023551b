//! Agents that the relay tells: the fleet whose arrivals are notices (R9, R12.1).
//!
//! ```text
//! one agent:
//!
//!   its stream (`listen`, `poll`)                 its update (`agent`, over the fleet's connections)
//!   ──────────────────────────────                ───────────────────────────────────────────────────
//!   opens it, by its token (`tokens`)
//!   hears that it is heard ── Opened ──┐
//!   hears a notice ────────── Told ────┤           check-in ─> server.ini ─> files ─> report
//!   the stream ends ───────── Lost ────┤              ^                                 │
//!   waits, and opens it again          │              │ an agent that arrives           │ an outcome
//!                                      └─> `listeners` (who is told, is done, is left) <┘
//! ```
//!
//! Each agent holds its stream as a task from the start of the run to its end, also while it updates and after it: a relay that tells
//! it again finds it there. What it hears it says to its thread's `listeners`, which make an update of each notice: the
//! same state machine as that of agents that come by themselves, with a check-in before it and a report after it (`errand`), so that the relay knows
//! of its end and does not tell again. Notices that come while an update is under way are one more update after it, the newest; the same
//! notice once more is counted, and followed again only by an agent that is not at it.
//!
//! A stream has a connection of its own over HTTP/1 (`connection`), shares one over HTTP/2 (`shared`), or is a row of polls. So many are
//! being opened at a time as the fleet has connections. A request for events is a request like any other, of its own kind: one that brings
//! no stream, and a stream that says what is none, are errors. A stream that is lost is none: it is counted, and opened again after as long
//! as the relay says, longer each time, and at random.
//!
//! A fleet is done when each of its agents has ended an update and none has one to go; who is never told is left when the time is over.
//! What agents are known by is read, or made by an enrolment (`enrol`), before the run begins.

pub mod enrol;
pub mod errand;
pub mod events;
pub mod figures;
mod listen;
pub(super) mod listeners;
mod poll;
pub(super) mod shared;
pub mod tokens;

use std::time::Duration;

use crate::load::fault::Failure;
use crate::load::figures::Sample;
use crate::load::told::events::Notice;

/// What an agent's stream says to its thread.
#[derive(Debug)]
struct Heard {
    /// The agent's number.
    agent: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The stream is held.
    Opened { sample: Sample, connections: u64 },
    /// There was none: an error.
    Failed { sample: Sample, failure: Failure },
    /// The agent is to update; heard at this moment.
    Told(Notice, Duration),
    /// A poll that is not the first was answered.
    Polled { connections: u64 },
    /// The stream ended.
    Lost,
    /// The stream said what is none, and was left.
    Wrong(Failure),
}
