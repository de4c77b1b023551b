//! What the relay does with a permitted request, and how it gets what it serves.
//!
//! - A *decision*: [`decision`] has the policy decide what a request for a file is for.
//! - A *hit*: [`serve`] finds the entry in the tree's current [`snapshot`] and gives its blob.
//! - A *miss*: [`serve`] joins or starts the entry's one [`fill`] and follows the staged file; for readers far ahead of its main
//!   lane it opens others.
//! - A *generation*: [`refresh`] takes the manifest, [`assemble`] fetches signatures and payloads, then the snapshot is
//!   swapped.
//! - A *limit*: [`limits`] has requests wait and transfers slowed by it.
//! - A *bad blob*: [`scrub`] finds it and takes it out of the store, [`mend`] fetches it anew.
//!
//! Never speaks HTTP to agents, never decides who may have what. Invariant: a snapshot is immutable, and what it names is
//! stored or can be fetched from the current upstream.

pub mod agents;
pub mod assemble;
mod attempts;
mod batch;
pub mod cache;
pub mod content;
pub mod crowds;
pub mod decision;
pub mod entry;
pub mod fill;
pub mod fills;
pub mod follow;
pub mod generation;
mod lanes;
pub mod limits;
pub mod live;
mod load;
pub mod mend;
pub mod pins;
mod plan;
pub mod reach;
pub mod refresh;
pub mod refusals;
pub mod resources;
pub mod scrub;
pub mod serve;
pub mod shelf;
pub mod snapshot;
pub mod standing;
pub mod sweep;
pub mod traffic;
pub mod tree;
