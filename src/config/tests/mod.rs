//! Files of settings, read whole.
//!
//! - `good`: files as administrators write them, a start without one, what a reload cannot change
//! - `refused`: what each error says
//! - `table`: the table tells the truth; any subset of its keys is a file; damage and junk never panic

mod good;
mod refused;
mod table;

/// The least file.
const TREE: &str = "[[tree]]\nupstream = \"/srv/au\"\n";
