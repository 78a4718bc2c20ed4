//! Sockets at the address where a container's resolver is expected.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// Who knows the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUpstream {
    /// Asked by datagrams.
    pub udp: SocketAddr,
    /// Asked by connections.
    pub tcp: SocketAddr,
}

/// Sockets made in a container's namespace, for its names to be answered by a process outside it.
#[derive(Debug)]
pub struct NameSockets {
    /// UDP, bound to 127.0.0.11 port 53.
    pub queries: OwnedFd,
    /// TCP, listening there.
    pub listener: OwnedFd,
    /// UDP, connected to [`NameUpstream::udp`].
    pub relay: OwnedFd,
    /// TCP, neither bound nor connected: to connect to [`NameUpstream::tcp`] with, one connection after the other.
    pub stream: OwnedFd,
    /// The engine's own resolver, at another port, or the network's gateway.
    pub upstream: NameUpstream,
}
