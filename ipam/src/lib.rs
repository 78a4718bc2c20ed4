//! Picks a range that overlaps nothing on the host, and leases its addresses.
//!
//! Everything here is arithmetic: what the host has arrives as [`Occupied`], the time as a
//! [`Duration`](std::time::Duration), randomness as a [`GlobalId`]. Nothing is read, nothing is opened, no frame
//! and no namespace is known.
//!
//! | question | answer |
//! |---|---|
//! | which range does a network get by itself? | [`choose`] and [`choose_v6`] |
//! | may it have the one it was given? | [`Subnet::new`] or [`SubnetV6::new`], then [`check`] |
//! | does it overlap something that came later? | [`collisions`] |
//! | which address does an endpoint get? | [`Leases`] |
//! | and which MAC? | [`mac_of`] |

mod collision;
mod free;
mod lease;
mod leases;
mod occupied;
mod pool;
mod subnet;
mod subnet_v6;
mod ula;

pub use collision::{Collision, Refused, Warning, check, collisions};
pub use lease::{Lease, LeaseError, Owner, Reserved, Wanted, mac_of};
pub use leases::{COOLING, Leases};
pub use occupied::{NetworkName, Occupied, OwnNetwork, Route, RouteKind};
pub use pool::{AllTaken, Choice, Pool, choose};
pub use subnet::{Subnet, SubnetError};
pub use subnet_v6::{SubnetV6, SubnetV6Error};
pub use ula::{ChoiceV6, GlobalId, NoUlaLeft, choose_v6};
