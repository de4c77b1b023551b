//! What agents speak: HTTP/1.0, 1.1 and 2 over hyper (R3).
//!
//! A connection's way: [`arrival`] finds out whom it is for -> [`connection`] what is spoken -> [`speak`] speaks it, [`http1`] until nothing is
//! asked for a while, and then it may become something else ([`onward`]): [`connect`] makes a [`tunnel`] of it, [`paced`] as limits have
//! it, and an agent that is to be told ([`events`]) has it [`held`].
//!
//! A request's way: [`speak`] reads it -> [`exchange`] answers it, at once where it can -> [`route`] says what it is for (one match), [`caller`] who
//! sends it -> [`limited`] has it wait where that is a matter of limits -> [`mirror`] asks the policy,
//! finds the entry and gets its representation, or [`forward`] takes it to another server or to what the general cache keeps ->
//! [`part`] says which part of it, of [`conditional`] and [`ranges`] -> [`body`] gives
//! the bytes, in [`turn`]s, as [`reading`] reads them, or an [`outlet`] has them sent from their file. What goes wrong becomes a status in
//! [`respond`] (one match); [`record`] counts and logs each request once, when its body ends. Invariant: a body that cannot be given whole ends in an error on the wire.

pub mod agents;
pub mod arrival;
pub mod body;
pub mod buffers;
pub mod caller;
pub mod conditional;
pub mod connect;
pub mod connection;
pub mod events;
pub mod exchange;
pub mod forward;
pub mod frames;
pub mod held;
pub mod http1;
pub mod interim;
pub mod limited;
pub mod mirror;
pub mod onward;
pub mod outlet;
pub mod paced;
pub mod part;
pub mod passing;
pub mod ranges;
pub mod reading;
pub mod record;
pub mod respond;
pub mod route;
pub mod speak;
pub mod streams;
pub mod tunnel;
pub mod tunnel_record;
pub mod turn;
