//! `server.ini`: read without losing a byte, understood, and written again for what a scope sees (R6, activeupdate.md).
//!
//! A manifest goes `ini` (lines) -> `server_ini` (components, packages, increments; `catalogue` gives each its class) ->
//! `view` (the bytes that an agent gets).
//! Pure: no I/O, no clock.

pub mod catalogue;
pub mod ini;
