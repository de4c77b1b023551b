//! Notices: who is told to update, for what reason, when, how often, and how many at once (R9.1, R9.3, R9.4).
//!
//! [`machine::Notices`] hears what happens: agents come and go, generations appear, administrators start updates, agents report. Asked
//! by [`poll`](machine::Notices::poll) it says whom to tell; [`next`](machine::Notices::next) says when to ask again.
//!
//! | file | what it holds |
//! |---|---|
//! | `notice.rs` | what is said to the machine and by it |
//! | `machine.rs` | what is heard: presence, reasons, reports |
//! | `poll.rs` | what is done when a moment has come, and when the next one comes |
//! | `queue.rs` | who waits for a place, and in which order |
//! | `record.rs`, `ledger.rs` | what outlives a restart, and the records that alone change it |
//! | `shown.rs` | what a tree showed each scope when agents were told of it last |
//! | `pace.rs` | how many were told within a second |
//! | `windows.rs` | the windows of schedules, looked up once for all agents that share one |
//!
//! What the machine does is a row of [`record::Record`]s, which whoever runs it has written down before it tells anybody: the same
//! records make the same [`ledger::Ledger`] after a restart. Who is online, and whose turn it is, is not written down: agents connect
//! again. Never asks the time, never does I/O.
//!
//! The rules, which the tests state once more as predicates:
//! - Nobody offline is told. Nobody is told for its schedule outside a window, or twice in the same.
//! - An agent has one notice at a time. What comes meanwhile waits until it has reported or is given up; then it is told of all that
//!   still holds at once, and of a tree's generations of the newest alone.
//! - At most so many are *under way*: told, online, neither reported nor given up. At most so many are told within any second.
//! - Who is told and does not report is told again, under the same number, so many times. Who goes offline gives its place up and is
//!   told again when it is back within the time that the repeats take.
//! - A generation is for those who are online when it appears; who goes offline before its turn has some minutes to come back, since a
//!   relay that restarts must not lose them. An administrator's start waits for who is offline for a day.
//! - A generation that came while the relay was down, or comes within minutes of its start, is for those too who are not back yet: they
//!   have as many minutes. The first that a relay ever sees of a tree is nobody's.
//! - Settings count as they are at the moment of telling.

pub mod ledger;
pub mod machine;
pub mod notice;
mod pace;
mod poll;
mod queue;
pub mod record;
pub mod shown;
#[cfg(test)]
mod tests;
mod windows;
