//! When agents update, and who tells them (R9).
//!
//! [`plan`] says what a schedule means in time. It knows no clock, does no I/O and is not async: the moment is passed in. Invariant:
//! an agent has one moment in each window.

pub mod plan;
