//! A UDP datagram of a container, or a burst of them in one frame, as it is to leave.
//!
//! A sum that is there is verified here: the socket makes another, and what was damaged would leave as if it were whole.

use std::net::SocketAddr;

use super::super::datagram::UDP;
use super::super::{Ends, Incoming};
use crate::forwarding::DropReason;
use crate::frame::{Gso, Layer4, Packet, checksum};

const HEADER_LEN: usize = 8;

/// What is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outbound<'a> {
    pub(super) ends: Ends,
    pub(super) payload: &'a [u8],
    /// It is a burst of datagrams of this length, of which the last may be shorter.
    pub(super) segment: Option<u16>,
    pub(super) hop_limit: u8,
    /// Routers may not cut it.
    pub(super) whole: bool,
}

impl<'a> Outbound<'a> {
    /// Of a whole UDP packet.
    ///
    /// # Errors
    /// `Malformed` where the sum is wrong, or missing over IPv6.
    pub(super) fn read(incoming: &Incoming<'a>) -> Result<Self, DropReason> {
        let packet = incoming.packet;
        let Layer4::Udp { src_port, dst_port } = packet.l4 else { return Err(DropReason::NoService) };
        let message = &incoming.bytes[packet.l4_offset..packet.end];
        let (segment, len) = match incoming.offload.gso {
            Gso::Udp { size } => (Some(size), message.len()),
            // A datagram may be shorter than its packet.
            _ => (None, usize::from(u16::from_be_bytes([message[4], message[5]]))),
        };
        let message = &message[..len];
        if !incoming.offload.needs_csum && !is_sum_right(packet, message) {
            return Err(DropReason::Malformed);
        }
        let ends = Ends { near: SocketAddr::new(packet.src, src_port), far: SocketAddr::new(packet.dst, dst_port) };
        let payload = &message[HEADER_LEN..];
        Ok(Outbound { ends, payload, segment, hop_limit: packet.hop_limit, whole: incoming.is_whole() })
    }
}

/// RFC 768: zero is no sum. RFC 8200 8.1: over IPv6 there is one.
fn is_sum_right(packet: &Packet<'_>, message: &[u8]) -> bool {
    if message[6..HEADER_LEN] == [0, 0] {
        return packet.src.is_ipv4();
    }
    let start = checksum::pseudo_header(packet.src, packet.dst, UDP, message.len() as u32);
    checksum::sum(message, start.into()) == 0xffff
}
