//! What happens to a frame. Pure: [`Network::ingress`] takes a frame and the time and gives a [`Decision`];
//! it allocates nothing and waits for nothing.
//!
//! One [`Network`] is one broadcast domain as control last published it: its ports, their assigned MACs and
//! leased addresses, its rules and limits. It is immutable, and the next one shares with it what is the same; what traffic teaches (learned MACs, icc flows, fragments,
//! claimed link-local addresses) lives in [`Tables`], which outlive every republication.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
mod claims;
mod decision;
mod drop_reason;
mod expiring;
mod fdb;
mod flows;
mod fragments;
mod guard;
mod holders;
mod host_port;
mod ids;
mod leases;
mod limiter;
mod link_local;
mod neighbour;
mod neighbour_message;
mod network;
mod permits;
mod policy;
mod ports;
mod ranges;
mod spec;
mod standing;
mod tables;
#[cfg(test)]
mod testing;
mod to_gateway;

pub use answer::{gratuitous_arp, unsolicited_na};
pub use decision::{Decision, Scratch};
pub use drop_reason::{DropReason, EgressDrop};
pub use fdb::{Fdb, FdbLimits, LearnedEntry, MAX_AGEING, MIN_AGEING};
pub use ids::{Instant, PortId, PortIndex};
pub use limiter::{Limiter, Rate};
pub use network::Network;
pub use permits::{Permit, Permits};
pub use policy::{Rule, RulePort};
pub use ranges::Ranges;
pub use spec::{NetworkSettings, NetworkSpec, PortSpec, Uplink};
pub use standing::Standing;
pub use tables::Tables;
