//! The relay as a service of the system: what it asks of the system when it starts.

pub mod files;
