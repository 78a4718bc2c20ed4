//! The daemon: two processes, the networks and endpoints they serve, and what is kept of them.

pub mod api;
mod control;
mod endpoint;
pub mod host;
pub mod keeper;
mod keeper_link;
pub mod name;
mod network;
mod refusal;
pub mod settings;
mod state;
mod tally;
pub mod wanted;
