//! One datagram from a published port's socket, and the addresses in what the kernel says.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use crate::uplink::Publication;

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
    /// To which of the host's addresses, where the socket has more than one.
    pub(super) asked: Option<IpAddr>,
}

/// Receives one datagram into `space`.
pub(super) fn receive(publication: &Publication, space: &mut Space) -> nix::Result<Received> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(&mut space.0)];
    let (socket, flags) = (publication.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
    let asked = message.cmsgs()?.find_map(|told| match told {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    // A group, which nothing is sent from, is answered by whatever address of ours leads to the client.
    let may_answer = |asked: &IpAddr| publication.host.ip().is_unspecified() && !asked.is_multicast();
    let client = message.address.as_ref().and_then(address);
    Ok(Received { len: message.bytes, client, asked: asked.filter(may_answer) })
}

/// An address of IP; one of a link keeps its scope, without which it cannot be answered.
pub(super) fn address(name: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = name.as_sockaddr_in().map(|sin| SocketAddr::new(sin.ip().into(), sin.port()));
    let v6 = name.as_sockaddr_in6().map(|sin| SocketAddrV6::new(sin.ip(), sin.port(), 0, sin.scope_id()).into());
    v4.or(v6)
}
