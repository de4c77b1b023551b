//! The relay as a service of the system: what it asks of the system, and what it tells the service manager (R11.4).

pub mod files;
pub mod notify;
pub mod sockets;
pub mod unit;
