//! What is asked of the API and answered by it, as plain values: for the handlers here, and for commands that ask.
//!
//! Never decides anything. Invariant: a request with a field that is not named here is refused, so that no typing error goes unseen.

pub mod access;
pub mod admission;
pub mod agents;
pub mod change;
pub mod domains;
pub mod page;
pub mod problem;
pub mod reports;
pub mod schema;
pub mod settings;
pub mod updates;
pub mod watch;
pub mod why;
