//! Words and values that every layer shares: paths, identifiers, ranges, addresses, bounds, the clock and the tally.
//!
//! Never does I/O. Invariant: a value of these types is valid by construction.

pub mod address;
pub mod blob;
pub mod causes;
pub mod clock;
pub mod destination;
pub mod intervals;
pub mod limits;
pub mod nat64;
pub mod path;
pub mod peer;
pub mod range;
pub mod reserved;
pub mod seldom;
pub mod tally;
pub mod tree;
pub mod validator;
