//! A worker's end of the names served at the gateway.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::forwarding::{DropReason, PortId};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// His network's name.
    pub network: Arc<str>,
    /// His port.
    pub port: PortId,
}

/// An answer for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The asker's port.
    pub port: PortId,
    /// The asker's address, whereto it goes.
    pub near: SocketAddr,
    /// The gateway's address that was asked, from which it comes.
    pub far: SocketAddr,
    /// The message, without UDP header.
    pub payload: Vec<u8>,
}

/// A worker's end.
#[derive(Debug, Default)]
pub struct Link {}

impl Link {
    /// Nobody answers.
    pub fn nobody() -> Self {
        Link::default()
    }

    /// A query that `near` sent to the gateway's `far` over UDP. The answer, if there is one, comes by [`Link::reply`].
    ///
    /// # Errors
    /// Nobody answers, or too many wait.
    pub fn query(&self, _asker: Asker, _near: SocketAddr, _far: SocketAddr, _payload: &[u8]) -> Result<(), DropReason> {
        Err(DropReason::NoService)
    }

    /// A connection over which queries come as over TCP: our end of a pair of Unix stream sockets, non-blocking.
    ///
    /// # Errors
    /// Nobody answers, or too many wait.
    pub fn stream(&self, _asker: Asker) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    /// The next answer.
    pub fn reply(&mut self) -> Option<Reply> {
        None
    }
}
