//! The daemon: two processes, the networks and endpoints they serve, and what is kept of them.

mod announce;
pub mod api;
pub mod attach_socket;
mod control;
mod docker;
mod endpoint;
mod endpoints;
pub mod host;
mod host_access;
pub mod keeper;
mod keeper_link;
pub mod log;
pub mod name;
mod names;
mod network;
pub mod publish;
pub mod rate_limit;
mod refusal;
pub mod settings;
mod state;
mod switch;
mod tally;
pub mod tun_node;
pub mod wanted;

pub(crate) use control::refuse_contradiction;
pub use switch::switch_main;
