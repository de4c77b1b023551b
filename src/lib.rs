//! Forebay, an update relay for fleets of security agents.

pub mod admin;
pub mod base;
pub mod config;
pub mod fixture;
pub mod http;
pub mod manifest;
pub mod net;
pub mod policy;
pub mod relay;
pub mod store;
pub mod upstream;
