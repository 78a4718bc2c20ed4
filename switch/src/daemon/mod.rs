//! The daemon: two processes, the networks and endpoints they serve, and what is kept of them.

pub mod api;
pub mod host;
pub mod keeper;
