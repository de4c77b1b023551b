//! The calls of the API, a file for each thing that they are about.
//!
//! A change's way: a handler -> [`change`] (has somebody changed it since? does it widen a scope?) -> `state` -> answer. Never decides
//! what a change means: that is [`policy::tree`](crate::policy::tree). Invariant: what waits for the disk, or takes a while, is done
//! where nobody else waits for it.

pub mod agent_tree;
pub mod agents;
pub mod audit;
pub mod change;
pub(super) mod current;
pub mod domains;
pub mod enrolments;
pub mod events;
pub mod files;
pub mod me;
mod page;
pub mod ranges;
pub mod reports;
mod select;
pub mod settings;
pub mod sources;
pub mod tokens;
pub mod transaction;
pub mod updates;
pub mod watch;
pub mod why;

use crate::admin::problem::Problem;

/// Does what takes a while, or waits for the disk, where nobody else waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Problem::failed("the relay could not do it"))
}
