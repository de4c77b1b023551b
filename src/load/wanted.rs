//! What an agent asks for, what came of it, and what follows.
//!
//! Plain data, between the agent and whoever sends its requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::path::TreePath;
use crate::load::figures::Kind;
use crate::load::menu::Menu;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is for.
    pub kind: Kind,
    /// What is asked for; `None` for the manifest.
    pub path: Option<TreePath>,
    /// Its size, where the manifest says it.
    pub size: Option<u64>,
    /// After so many bytes the agent drops the transfer.
    pub drop_after: Option<u64>,
    /// What the agent says with it; nothing with a request for a file.
    pub says: Bytes,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Taken {
    /// The manifest came.
    Manifest(Arc<Menu>),
    /// A file or a signature came.
    Whole,
    /// The agent dropped it, and leaves.
    GaveUp,
    /// An error.
    Failed {
        /// When the server told the agent to come back.
        retry_after: Option<Duration>,
        /// What the server answered, where it did.
        status: Option<u16>,
    },
}

/// What the agent does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It asks on at once.
    On,
    /// It waits until it is due.
    Waits,
    /// It is done.
    Gone(Outcome),
}

/// What became of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has all that it wanted.
    Updated,
    /// It gave up.
    GaveUp,
    /// A request of its failed.
    Failed,
}
