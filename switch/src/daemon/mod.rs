//! The daemon: two processes, the networks and endpoints they serve, and what is kept of them.

pub mod api;
pub mod keeper;
pub mod name;
mod packet;
mod refusal;
pub mod settings;
mod state;
pub mod wanted;
