//! Sockets: listening, the data workers that accept, TLS, streams that may not stall, files that the kernel sends, and bytes that are
//! passed on.
//!
//! Never knows what a request is. Invariant: connections are bounded in number, and each ends.

pub mod addresses;
pub mod ahead;
mod call;
pub mod certificate;
mod client_authorities;
mod client_certificate;
mod client_verifier;
pub mod copy;
pub mod half_open;
mod heap;
pub mod idle;
pub mod inherited;
pub mod inserts;
pub mod listen;
pub mod noted;
pub mod pem;
pub mod places;
pub mod proxy_header;
pub mod pulse;
mod queues;
pub mod socket;
pub mod spans;
pub mod stall;
pub mod tls;
mod wakes;
pub mod worker;
