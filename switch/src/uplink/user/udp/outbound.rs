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

#[cfg(test)]
mod tests {
    use super::super::super::Home;
    use super::*;
    use crate::engine::Place;
    use crate::forwarding::{PortId, PortIndex};
    use crate::frame::testing::{self, stations::*};
    use crate::frame::{Frame, Offload, OffloadHeader, Payload};
    use proptest::prelude::*;

    const PLAIN: OffloadHeader =
        OffloadHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Payload, length of a burst's datagrams, and whether it may not be cut.
    type Read = (Vec<u8>, Option<u16>, bool);

    /// What is read of a frame that the switch would take; none where it would not.
    fn read(bytes: &[u8], header: OffloadHeader) -> Option<Result<Read, DropReason>> {
        let frame = Frame::parse(bytes).ok()?;
        let offload = &Offload::check(header, &frame, 1500).ok()?;
        let Payload::Ip(packet) = &frame.payload else { return None };
        let place = Place { network: 0, port: PortIndex(0) };
        let home = Home { port: PortId(1), place, mac: A, gateway: B, mtu: 1500 };
        let outbound = Outbound::read(&Incoming { home, bytes, packet, offload, was_cut: false });
        Some(outbound.map(|outbound| (outbound.payload.to_vec(), outbound.segment, outbound.whole)))
    }

    #[test]
    fn a_datagram_shorter_than_its_packet_is_what_its_length_says() {
        let mut message = testing::udp(A4.into(), B4.into(), 1, 2, b"x");
        message.extend(b"not part of it");
        let frame = testing::ip4(A, B, A4, B4, 17, &message);
        assert_eq!(read(&frame, PLAIN).unwrap().unwrap().0, b"x");
    }

    #[test]
    fn a_sum_left_to_make_is_not_verified_and_one_that_is_there_is() {
        for frame in [testing::udp4(A, B, A4, B4, 1, 2, b"data"), testing::udp6(A, B, A6, B6, 1, 2, b"data")] {
            assert!(read(&frame, PLAIN).unwrap().is_ok());
            let (partial, header) = testing::partial(&frame);
            assert_eq!(read(&partial, header).unwrap().unwrap().0, b"data");
            assert_eq!(read(&partial, PLAIN).unwrap(), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn over_ipv4_its_sender_says_whether_it_may_be_cut() {
        let message = testing::udp(A4.into(), B4.into(), 1, 2, b"x");
        for (place, whole) in [(0, false), (0x4000, true)] {
            let frame = testing::ip4_at(A, B, A4, B4, 17, place, &message);
            assert_eq!(read(&frame, PLAIN).unwrap().unwrap().2, whole);
        }
        assert!(read(&testing::udp6(A, B, A6, B6, 1, 2, b"x"), PLAIN).unwrap().unwrap().2);
    }

    proptest! {
        #[test]
        fn whatever_a_container_sends_is_read_within_its_bounds_or_refused(
            ipv6 in any::<bool>(),
            size in proptest::option::of(1u16..1400),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            cut in 0usize..20,
        ) {
            let mut frame = if ipv6 {
                testing::udp6(A, B, A6, B6, 1, 2, &[7; 300])
            } else {
                testing::udp4(A, B, A4, B4, 1, 2, &[7; 300])
            };
            let mut header = PLAIN;
            if let Some(size) = size {
                (frame, header) = testing::gso(&frame, size);
            }
            frame.truncate(frame.len() - cut);
            for (at, value) in flips {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(Ok((payload, segment, _))) = read(&frame, header) {
                prop_assert!(payload.len() <= frame.len() - 42);
                prop_assert!(segment.is_none_or(|size| size > 0));
            }
        }
    }
}
