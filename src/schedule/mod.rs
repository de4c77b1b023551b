//! When agents update, and who tells them (R9).
//!
//! [`plan`] says what a schedule means in time; [`notices`] who is to be told of what, how often and how many at once. Neither knows
//! a clock, does I/O or is async: the moment is passed in. [`notifier`] runs them: by its [`journal`] it goes on after a restart, and by
//! the [`streams`] that agents hold it tells them. Invariant: an agent is told of one thing at a time.

pub mod journal;
mod known;
pub mod notices;
pub mod notifier;
pub mod plan;
pub mod streams;
