//! A UDP flow: where its datagrams leave, and how long it lives.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::super::ready::Pending;
use super::super::socket::Socket;
use super::outbound::Outbound;
use crate::forwarding::Permit;
use crate::uplink::Publication;

/// Nobody answered yet: what routers of homes use, and Linux (`nf_conntrack_udp_timeout`).
const ONE_WAY: Duration = Duration::from_secs(30);
/// Both sides have spoken (`nf_conntrack_udp_timeout_stream` was 180 s for long).
const BOTH_WAYS: Duration = Duration::from_secs(180);
/// A resolver uses a port for one question (RFC 5452 9.2); a repeated answer may still come.
const ANSWERED: Duration = Duration::from_secs(10);
/// RFC 1035 4.2.
const DNS: u16 = 53;

/// A flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) way: Way,
    /// The far side has sent something.
    pub(super) is_answered: bool,
    pub(super) pending: Pending,
}

/// Where its datagrams leave.
#[derive(Debug)]
pub(super) enum Way {
    /// By a socket of its own, connected to `far`.
    Own {
        /// The socket.
        socket: Socket,
        /// Where that leads: not always where the container believes.
        far: SocketAddr,
        /// Of the host's port that the socket has; given back with it.
        _permit: Permit,
    },
    /// By the socket of a published port, to this client.
    Published {
        /// What is published.
        publication: Arc<Publication>,
        /// The client as it is.
        client: Client,
    },
}

/// A client of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its real address.
    pub(crate) address: SocketAddr,
    /// Which of the host's addresses it asked, and is to be answered from; `None` where the socket has but one.
    pub(crate) asked: Option<IpAddr>,
}

impl From<SocketAddr> for Client {
    fn from(address: SocketAddr) -> Self {
        Client { address, asked: None }
    }
}

impl Flow {
    pub(super) fn new(way: Way) -> Self {
        Flow { way, is_answered: false, pending: Pending::default() }
    }

    /// Whether it has a socket of its own, and a port of the host's with it.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.way, Way::Own { .. })
    }

    /// How long it may be idle.
    pub(super) fn timeout(&self, far: SocketAddr) -> Duration {
        match (self.is_answered, far.port()) {
            (false, _) => ONE_WAY,
            (true, DNS) => ANSWERED,
            (true, _) => BOTH_WAYS,
        }
    }

    /// Sends what a container sent.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn send(&mut self, outbound: &Outbound<'_>) -> Result<(), Errno> {
        match &mut self.way {
            Way::Own { socket, .. } => {
                socket.shape(outbound.hop_limit, outbound.whole)?;
                match outbound.segment {
                    Some(size) => socket.send_burst(outbound.payload, size),
                    None => socket.send(outbound.payload),
                }
            }
            Way::Published { publication, client } => {
                let size = outbound.segment.map_or(outbound.payload.len().max(1), usize::from);
                if outbound.payload.is_empty() {
                    return send_by(publication, *client, &[]);
                }
                outbound.payload.chunks(size).try_for_each(|datagram| send_by(publication, *client, datagram))
            }
        }
    }

    /// Largest IP packet that fits its path, as far as known, in bytes.
    pub(super) fn path_mtu(&self) -> Option<u32> {
        match &self.way {
            Way::Own { socket, .. } => socket.path_mtu(),
            Way::Published { .. } => None,
        }
    }
}

fn send_by(publication: &Publication, client: Client, datagram: &[u8]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (to, parts) = (SockaddrStorage::from(client.address), [IoSlice::new(datagram)]);
    let send = |from: &[ControlMessage<'_>]| sendmsg(publication.socket.as_raw_fd(), &parts, from, flags, Some(&to));
    let sent = match client.asked {
        None => send(&[]),
        Some(IpAddr::V4(asked)) => {
            let none = libc::in_addr { s_addr: 0 };
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(asked.octets()) };
            send(&[ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: from,
                ipi_addr: none,
            })])
        }
        Some(IpAddr::V6(asked)) => {
            let ipi6_addr = libc::in6_addr { s6_addr: asked.octets() };
            // A link-local address is one of a link, which the client's address names.
            send(&[ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 })])
        }
    };
    sent.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::{Permits, PortId};
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn an_answered_question_to_a_resolver_is_soon_forgotten() {
        let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = here.local_addr().unwrap();
        let permit = Permits::new(1).take(PortId(1)).unwrap();
        let mut flow = Flow::new(Way::Own { socket: Socket::udp(far).unwrap(), far, _permit: permit });
        let resolver = SocketAddr::new(far.ip(), DNS);
        assert_eq!((flow.timeout(far), flow.timeout(resolver)), (ONE_WAY, ONE_WAY));
        flow.is_answered = true;
        assert_eq!((flow.timeout(far), flow.timeout(resolver)), (BOTH_WAYS, ANSWERED));
    }
}
