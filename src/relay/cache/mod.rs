//! The general cache: answers of servers that no tree is of, kept as RFC 9111 says, for all agents (R3.2).
//!
//! What may be kept, for how long and for whom is decided without a clock or a socket: [`directives`], [`freshness`],
//! [`storable`], [`vary`], [`reuse`], [`validate`], [`hops`]; [`answer`] is what is kept.

pub mod answer;
pub mod directives;
pub mod freshness;
pub mod hops;
pub mod reuse;
pub mod storable;
pub mod validate;
pub mod vary;
