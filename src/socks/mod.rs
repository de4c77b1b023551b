//! SOCKS5 as agents speak it (R4.2): connections to other servers, and none of what else the protocol has.
//!
//! A connection's way: [`message`] reads what the client says and knows what it is told. Invariant: what CONNECT refuses is
//! refused here too, since the same code decides.

pub mod message;
