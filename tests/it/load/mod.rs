//! `forebay load`: what it plays, what it finds out, and what it says (R12.1; issue 6, point 3).
//!
//! Each fleet is a process of the real program against a real server on loopback, bounded by a time of its own.

mod ends;
mod found;
mod ground;
mod many;
mod nginx;
mod relayed;
mod told;
mod typed;
