//! tapswitch: a userspace virtual switch that takes docker0's place.
//!
//! The layers, lowest first; a lower one never imports a higher one (`tests/layers.rs` reads every
//! `use crate::` and fails on an upward arrow):
//!
//! | layer | is |
//! |---|---|
//! | `persistent` | tables whose next version shares with the last what is the same; pure |
//! | [`frame`] | checked views over borrowed bytes; the offload header; pure |
//! | [`forwarding`] | what happens to a frame; pure, no allocation |
//! | [`port`] | the two sides of a TAP, or of an in-memory cable |
//! | [`engine`] | workers: wait, read a burst, decide, write |
//! | [`gateway`] | what speaks at the gateway's own addresses: names |
//! | [`uplink`] | the ways out: sockets of the switch, the host's routing; published ports |
//! | [`daemon`] | keeper, networks, endpoints, state, control API |
//! | [`cli`] | the commands |
//! | [`plugin`] | the faces to container engines: CNI, netavark, OCI hook |

pub mod cli;
pub mod daemon;
pub mod engine;
pub mod forwarding;
pub mod frame;
pub mod gateway;
mod persistent;
pub mod plugin;
pub mod port;
pub mod uplink;
