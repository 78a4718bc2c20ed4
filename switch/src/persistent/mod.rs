//! Tables that share what they have in common: changing a copy costs the same whatever the size of the original, and leaves
//! the original as it was.
//!
//! What workers go by is immutable and swapped between bursts, so each change of it is a new one. Made anew it would cost
//! something for each endpoint that is there; here a change copies the way to what it changes, and both versions share the rest
//! through `Arc`s. What nobody else holds is changed in place, so that a first filling copies nothing.
//!
//! [`Vector`] is the one structure, [`Map`] a hash table on it. Neither has an order that could reach a user: a map cannot be
//! iterated. Immutable while shared: any thread may read.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod map;
mod seed;
mod vector;

pub(crate) use map::Map;
pub(crate) use seed::{Key, Seed};
pub(crate) use vector::Vector;
