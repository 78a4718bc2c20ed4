//! The ways out of a network.
//!
//! [`user`] ends in the switch: packets leave through its own sockets, without privilege and without netfilter. The host's
//! routing is the other, behind a port of its own; of it only what [`Plan`] says is here. Published ports use the sockets
//! of [`user`] under every uplink.

mod hairpin;
pub mod plan;
mod published;
pub mod refused;
pub mod user;

pub use plan::{NetworkPlan, Plan, Publication, Transport, View};
pub use published::Published;
pub use refused::{HostAddresses, Refused};
