//! Sockets at the address where a container's resolver is expected.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Sockets made in a container's namespace, for its names to be answered by a process outside it.
#[derive(Debug)]
pub struct NameSockets {
    /// UDP, bound to 127.0.0.11 port 53.
    pub queries: OwnedFd,
    /// TCP, listening there.
    pub listener: OwnedFd,
    /// UDP, connected to [`NameSockets::upstream`].
    pub relay: OwnedFd,
    /// TCP, neither bound nor connected: to connect to [`NameSockets::upstream`] with, one connection after the other.
    pub stream: OwnedFd,
    /// Who knows the names: the engine's own resolver, at another port, or the network's gateway.
    pub upstream: SocketAddr,
}
