//! Sockets: listening, the data workers that accept, and streams that may not stall.
//!
//! Never knows what is spoken on a connection. Invariant: connections are bounded in number, and each ends.

pub mod inherited;
pub mod listen;
pub mod pulse;
pub mod stall;
pub mod worker;
