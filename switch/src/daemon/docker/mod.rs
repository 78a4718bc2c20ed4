//! Docker's plugin protocol, version 1: the remote NetworkDriver and IpamDriver, both on one socket.
//!
//! ```text
//!  dockerd ── POST /NetworkDriver.Join {..} ─▶ router ─▶ driver, ipam ── Handle::ask ─▶ control
//!  container ── 127.0.0.11:53 ─▶ relay ─▶ dockerd's own resolver, at a port of its, or the gateway's names
//! ```
//!
//! [`wire`] is what goes over the socket, [`options`] what Docker's options mean here. dockerd is never called: it holds locks
//! while it waits for us. Every call has [`router::ANSWER_WITHIN`].
//!
//! Source: libnetwork's `drivers/remote/api` and `ipams/remote/api`, as of Docker 20.10 to 29.
//!
//! Threads: all of it runs in the api thread.

mod driver;
mod id;
mod ipam;
mod options;
mod relay;
mod router;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use id::DockerId;
pub(crate) use relay::{Relaying, Relays, relays};
pub(crate) use router::router;

/// Before the names of devices that dockerd takes to its containers: with 12 digits behind it as long as a name may be.
pub(crate) use super::keeper::ENGINE_PREFIX as PREFIX;
