//! Echo messages: the container's requests, and the kernel's identifiers turned back into the container's.

use std::net::{IpAddr, SocketAddr};

use super::super::datagram::{HEADER_LEN, ICMP4, ICMP6};
use super::super::{Ends, Incoming};
use crate::forwarding::DropReason;
use crate::frame::{Layer4, checksum};

/// RFC 792, RFC 4443 4.1.
const REQUEST4: u8 = 8;
const REQUEST6: u8 = 128;

/// A container's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// The near end has the identifier for a port.
    pub(super) ends: Ends,
    /// From the ICMP header on.
    pub(super) message: &'a [u8],
}

impl<'a> Request<'a> {
    /// Of a whole ICMP packet.
    ///
    /// # Errors
    /// `NoService` for anything but an echo request; `Malformed` where the sum is wrong.
    pub(super) fn read(incoming: &Incoming<'a>) -> Result<Self, DropReason> {
        let packet = incoming.packet;
        let id = match packet.l4 {
            Layer4::Icmp4 { kind: REQUEST4, code: 0, id, .. } => id,
            Layer4::Icmp6 { kind: REQUEST6, code: 0, id, .. } => id,
            _ => return Err(DropReason::NoService),
        };
        let message = &incoming.bytes[packet.l4_offset..packet.end];
        let start = match packet.src {
            IpAddr::V4(_) => 0,
            IpAddr::V6(_) => checksum::pseudo_header(packet.src, packet.dst, ICMP6, message.len() as u32),
        };
        if checksum::sum(message, start.into()) != 0xffff {
            return Err(DropReason::Malformed);
        }
        let ends = Ends { near: SocketAddr::new(packet.src, id), far: SocketAddr::new(packet.dst, 0) };
        Ok(Request { ends, message })
    }
}

/// The protocol number of ICMP for packets of this family.
pub(super) fn protocol(address: IpAddr) -> u8 {
    if address.is_ipv4() { ICMP4 } else { ICMP6 }
}

/// The header of `message` with the identifier `id`, its sum not made, and what is behind it.
pub(super) fn own(message: &[u8], id: u16) -> Option<([u8; HEADER_LEN], &[u8])> {
    let ([kind, code, _, _, _, _, s0, s1], data) = message.split_first_chunk::<HEADER_LEN>()?;
    let [i0, i1] = id.to_be_bytes();
    Some(([*kind, *code, 0, 0, i0, i1, *s0, *s1], data))
}
