//! Who may have what. Pure: no I/O, no clock.
//!
//! Invariant: only [`decide`](decide::Policy::decide) makes a permit, and without a permit nothing is read or connected.

pub mod administrator;
pub mod caller;
pub mod check_in;
pub mod decide;
pub mod identity;
pub mod limit;
pub mod outline;
pub mod reach;
pub mod scope;
pub mod secret;
pub mod sources;
pub mod tree;
pub mod users;
