//! One TOML file, checked whole, becomes [`Settings`]: what the relay runs by (R11.3).
//!
//! The way of a file: [`parse`] -> `reader` (TOML, section by section, each key asked for by name) -> `check`
//! (each value against what [`table`] allows, then values against each other) -> [`settings`]. All errors of
//! a file are reported at once, each with line, key, value and what is allowed. To find a setting's default
//! and its reason, read [`settings`]; what its key may hold stands in [`rows`].
//!
//! Never reads a file, the environment or a clock. Invariant: outside this module a `Settings` is valid.

pub mod admin_access;
pub mod agent;
mod check;
pub mod elsewhere;
pub mod error;
mod listen;
pub mod notices;
mod proxying;
mod reader;
pub mod rows;
pub mod settings;
pub mod table;
mod upstream;
pub mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::config::error::ConfigErrors;
use crate::config::reader::Document;
use crate::config::settings::{Listen, Settings};

/// Reads the text of a settings file.
///
/// # Errors
/// All that is wrong with it, in the order of its lines. Where the text is not TOML, only that is reported:
/// what a broken file means beyond its break is a guess.
pub fn parse(text: &str) -> Result<Settings, ConfigErrors> {
    let document = Document::new(text, rows::TABLE);
    let settings = document.root().map(check::settings);
    document.close(settings)
}

/// The keys that differ between two settings and that a reload cannot change: sockets, runtimes, the data
/// folder's lock, the trees' stores and the slots for connections and fills are made once, at the start. A `listen` written out with the default
/// addresses is no difference.
pub fn restart_needed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let sorted = |addresses: &[SocketAddr]| {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let addresses = |listen: &Listen| sorted(listen.addresses());
    let trees = |settings: &Settings| {
        let mut sorted: Vec<_> =
            settings.trees.iter().map(|tree| (tree.name.clone(), tree.path.clone())).collect();
        sorted.sort_unstable();
        sorted
    };
    let differences = [
        ("data", old.data != new.data),
        ("workers", old.workers != new.workers),
        ("listen", addresses(&old.listen) != addresses(&new.listen)),
        ("admin.listen", addresses(&old.admin) != addresses(&new.admin)),
        ("admin.tls.listen", sorted(&old.admin_access.tls.listen) != sorted(&new.admin_access.tls.listen)),
        ("socks.listen", addresses(&old.socks.listen) != addresses(&new.socks.listen)),
        ("tls.listen", sorted(&old.tls.listen) != sorted(&new.tls.listen)),
        ("log.format", old.log.format != new.log.format),
        ("tree", trees(old) != trees(new)),
        ("limits.connections_max", old.limits.connections_max != new.limits.connections_max),
        ("fill.at_once", old.fill.at_once != new.fill.at_once),
    ];
    differences.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}
