//! A UDP flow: where its datagrams leave, and how long it lives.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};

use super::super::ready::Pending;
use super::super::socket::Socket;
use super::outbound::Outbound;
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
    },
    /// By the socket of a published port, to this client.
    Published {
        /// What is published.
        publication: Arc<Publication>,
        /// The client's real address.
        client: SocketAddr,
    },
}

impl Flow {
    pub(super) fn new(way: Way) -> Self {
        Flow { way, is_answered: false, pending: Pending::default() }
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

fn send_by(publication: &Publication, client: SocketAddr, datagram: &[u8]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendto(publication.socket.as_raw_fd(), datagram, &SockaddrStorage::from(client), flags).map(drop)
}
