//! The general cache: answers of servers that no tree is of, kept as RFC 9111 says, for all agents (R3.2).
//!
//! - What may be kept, for how long and for whom is decided without a clock or a socket: [`directives`], [`freshness`],
//!   [`storable`], [`vary`], [`reuse`], [`validate`], [`renewal`], [`hops`].
//! - [`answer`] is what is kept, [`table`] where; its body is a blob like any other.
//! - [`shared`] has one question to a server for all who want the same, `fetch` asks it, [`arrival`] is read while it comes,
//!   [`underway`] bounds what comes at once. [`interim`] is what a server says before its answer.
//!
//! Never speaks to agents. Invariant: what is given out of the cache was whole when it was kept.

pub mod answer;
pub mod arrival;
pub mod directives;
mod fetch;
pub mod freshness;
mod gather;
pub mod hops;
pub mod interim;
pub mod renewal;
pub mod reuse;
#[cfg(test)]
mod samples;
pub mod shared;
pub mod storable;
pub mod table;
pub mod underway;
pub mod validate;
pub mod vary;
