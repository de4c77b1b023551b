//! When agents update, and who tells them (R9).
//!
//! [`plan`] says what a schedule means in time; [`notices`] who is to be told of what, how often and how many at once. Neither knows
//! a clock, does I/O or is async: the moment is passed in. Invariant: an agent is told of one thing at a time.

pub mod notices;
pub mod plan;
