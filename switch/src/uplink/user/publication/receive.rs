//! One datagram from a published port's socket, and the addresses in what the kernel says.

use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg};

/// The longest datagram: RFC 768 has 16 bits for it.
const LONGEST: usize = 65_536;

/// Where datagrams are received.
pub(super) struct Space(Vec<u8>);

impl Default for Space {
    fn default() -> Self {
        Space(vec![0; LONGEST])
    }
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").finish_non_exhaustive()
    }
}

impl Space {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What was received.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes in the space.
    pub(super) len: usize,
    /// Who sent it.
    pub(super) client: Option<SocketAddr>,
}

/// Receives one datagram into `space`.
pub(super) fn receive(socket: &OwnedFd, space: &mut Space) -> nix::Result<Received> {
    let mut parts = [IoSliceMut::new(&mut space.0)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT)?;
    Ok(Received { len: message.bytes, client: message.address.as_ref().and_then(address) })
}

/// An address of IP; one of a link keeps its scope, without which it cannot be answered.
pub(super) fn address(name: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = name.as_sockaddr_in().map(|sin| SocketAddr::new(sin.ip().into(), sin.port()));
    let v6 = name.as_sockaddr_in6().map(|sin| SocketAddrV6::new(sin.ip(), sin.port(), 0, sin.scope_id()).into());
    v4.or(v6)
}
