//! SOCKS5 as agents speak it (R4.2): connections to other servers, and none of what else the protocol has.
//!
//! A connection's way: [`connection`] takes the steps that HTTP's take too, reads what the client says with [`message`], and
//! hands the tunnel to where those of CONNECT go (`http::tunnel`); what goes wrong becomes a reply in [`respond`] (one match). Invariant: what CONNECT refuses is
//! refused here too, since the same code decides.

pub mod connection;
pub mod message;
pub mod respond;
