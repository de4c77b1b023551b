//! `server.ini`: read without losing a byte, understood, and written again for what a scope sees (R6, activeupdate.md).
//!
//! A manifest goes `ini` (lines) -> `server_ini` (components, packages, increments; `catalogue` gives each its class) ->
//! `view` (the bytes that an agent gets). Between them: `reader` walks the lines, `sections` and
//! `fields` know names, keys and values, `components` and `table` hold what is listed. Pure: no I/O, no clock.

pub mod catalogue;
mod components;
pub mod fields;
pub mod ini;
pub mod links;
mod reader;
#[cfg(test)]
mod samples;
mod sections;
pub mod server_ini;
mod table;
pub mod view;
