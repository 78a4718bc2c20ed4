//! The virtio-net header that stands before a frame: read, checked against the parsed frame, rebuilt.
//!
//! It is built by the sender's kernel, but PACKET_VNET_HDR lets a container choose every field, so nothing of
//! it is copied through: [`Offload::check`] keeps what is consistent with our own parse, and
//! [`Offload::write`] makes the header that the receiver gets. Little endian on every port.
//!
//! The rules:
//! 1. NEEDS_CSUM only for TCP and UDP of a whole datagram, and only where `csum_start` is the upper-layer header that we
//!    found and `csum_offset` is that protocol's: else the receiver's kernel would overwrite two bytes of the
//!    sender's choice after the filter looked.
//! 2. Segmentation only with NEEDS_CSUM, only of the kind that fits the packet: TCPV4, TCPV6, UDP_L4. The ECN bit only with
//!    TCP. The frame ends with the packet.
//! 3. Segments of TCP have at least 48 payload bytes, the kernel's own minimum; of UDP at least 1, and there are at most
//!    128 of them. Headers and one segment fit the MTU.
//! 4. The length of the headers is recomputed. DATA_VALID and what else the flags say is forgotten without a drop:
//!    kernels set it rightly, and nobody here takes one tenant's word for another's bytes.
//!
//! Segmentation of a frame that fits one segment is none, as the kernel sees it too.
//!
//! Limit: a tunnel that a container builds for itself (VXLAN with no outer sum) asks for the sum of its inner packet, which
//! is beyond our parse, and is dropped by rule 1. `ethtool -K DEVICE tx off` on the tunnel's device is the remedy.

use super::parse::ETHERNET_LEN;
use super::{Fragment, Frame, Layer4, Packet, Payload};

/// Length of the header on every port that has one, in bytes (`struct virtio_net_hdr`).
pub const HEADER_LEN: usize = 10;

/// Most segments that a receiver's kernel is asked to cut one frame into. More of UDP is refused (UDP_MAX_SEGMENTS of
/// Linux); more of TCP is legal, for a path with a small MSS, and is for [`super::segment::segment`] to cut.
pub const MAX_SEGMENTS: usize = 128;

// Flags and types of `struct virtio_net_hdr`. Virtio 1.2, 5.1.6.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Offset of the sum in a TCP header. RFC 9293 3.1.
const TCP_CSUM: u16 = 16;
/// Offset of the sum in a UDP header. RFC 768.
const UDP_CSUM: u16 = 6;
const UDP_LEN: usize = 8;

/// Fewest payload bytes of a TCP segment: TCP_MIN_SND_MSS of Linux, its smallest MSS.
const TCP_MIN_SIZE: u16 = 48;

/// The header as read: nothing of it is trusted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadHeader {
    /// 1 = NEEDS_CSUM, 2 = DATA_VALID, 4 = RSC_INFO.
    pub flags: u8,
    /// 0 NONE, 1 TCPV4, 3 UDP, 4 TCPV6, 5 UDP_L4; 0x80 = ECN.
    pub gso_type: u8,
    /// Length of all headers, in bytes, as the sender says.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where summing starts, from the start of the frame.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start`.
    pub csum_offset: u16,
}

/// How the receiver, or we in software, shall cut the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// Not at all.
    None,
    /// TCP segments of at most `size` payload bytes.
    Tcp {
        /// Payload bytes per segment.
        size: u16,
        /// CWR is set only on the first segment.
        ecn: bool,
        /// Over IPv6.
        ipv6: bool,
    },
    /// UDP datagrams of at most `size` payload bytes.
    Udp {
        /// Payload bytes per datagram.
        size: u16,
    },
}

/// What of the header survived the check: consistent with the frame, and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The L4 checksum is not made yet.
    pub needs_csum: bool,
    /// Segmentation.
    pub gso: Gso,
    /// Length of all headers, recomputed, in bytes.
    pub header_len: u16,
    /// Offset of the L4 header, in bytes.
    pub csum_start: u16,
    /// 16 (TCP) or 6 (UDP).
    pub csum_offset: u16,
}

/// The header asks for something that the frame does not bear out; dropped as `bad_offload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOffload;

impl OffloadHeader {
    /// Reads the first [`HEADER_LEN`] bytes of `bytes`.
    ///
    /// # Panics
    /// When `bytes` is shorter.
    #[inline]
    pub fn read(bytes: &[u8]) -> Self {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().expect("a port reads at least an offload header");
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *header;
        OffloadHeader {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }
}

impl Offload {
    /// Nothing to be done: what a frame from a plain port has.
    pub const NONE: Offload =
        Offload { needs_csum: false, gso: Gso::None, header_len: 0, csum_start: 0, csum_offset: 0 };

    /// Keeps of `header` what `frame` bears out, for a network whose largest IP packet is `mtu` bytes.
    ///
    /// A frame without segmentation that is longer than `mtu` is not refused here.
    ///
    /// # Errors
    /// [`BadOffload`] by the rules of the module's head.
    #[inline]
    pub fn check(header: OffloadHeader, frame: &Frame<'_>, mtu: u32) -> Result<Offload, BadOffload> {
        if header.flags & NEEDS_CSUM == 0 {
            return match header.gso_type {
                GSO_NONE => Ok(Offload { header_len: headers_len(frame), ..Offload::NONE }),
                _ => Err(BadOffload),
            };
        }
        let Payload::Ip(packet) = &frame.payload else { return Err(BadOffload) };
        let (header_len, csum_offset) = match packet.l4 {
            Layer4::Tcp { header_len, .. } => (packet.l4_offset + header_len, TCP_CSUM),
            Layer4::Udp { .. } => (packet.l4_offset + UDP_LEN, UDP_CSUM),
            _ => return Err(BadOffload),
        };
        let is_at_l4 = usize::from(header.csum_start) == packet.l4_offset && header.csum_offset == csum_offset;
        if !is_at_l4 || packet.fragment != Fragment::Whole {
            return Err(BadOffload);
        }
        let gso = if header.gso_type == GSO_NONE { Gso::None } else { gso(header, frame, packet, header_len, mtu)? };
        Ok(Offload {
            needs_csum: true,
            gso,
            header_len: narrow(header_len),
            csum_start: header.csum_start,
            csum_offset,
        })
    }

    /// The sum that is to be made is UDP's.
    #[inline]
    pub(super) fn is_udp(&self) -> bool {
        self.csum_offset == UDP_CSUM
    }

    /// Writes the rebuilt header into the first [`HEADER_LEN`] bytes of `out` and zeroes the rest of `out`.
    ///
    /// # Panics
    /// When `out` is shorter.
    #[inline]
    pub fn write(&self, out: &mut [u8]) {
        let (header, rest) = out.split_first_chunk_mut::<HEADER_LEN>().expect("a port writes a whole offload header");
        let (kind, size) = match self.gso {
            Gso::None => (GSO_NONE, 0),
            Gso::Tcp { size, ecn, ipv6 } => {
                (if ipv6 { GSO_TCPV6 } else { GSO_TCPV4 } | if ecn { GSO_ECN } else { 0 }, size)
            }
            Gso::Udp { size } => (GSO_UDP_L4, size),
        };
        let [h0, h1] = self.header_len.to_le_bytes();
        let [g0, g1] = size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        *header = [u8::from(self.needs_csum), kind, h0, h1, g0, g1, s0, s1, o0, o1];
        if !rest.is_empty() {
            rest.fill(0);
        }
    }

    /// How many frames a port without the offload gets of a frame of `frame_len` bytes, Ethernet header included.
    #[inline]
    pub fn segments(&self, frame_len: usize) -> usize {
        match self.gso {
            Gso::None => 1,
            Gso::Tcp { size, .. } | Gso::Udp { size } => {
                frame_len.saturating_sub(self.header_len.into()).div_ceil(size.into()).max(1)
            }
        }
    }
}

/// Rules 2 and 3, for a frame that passed rule 1 and asks for segmentation.
fn gso(
    header: OffloadHeader,
    frame: &Frame<'_>,
    packet: &Packet<'_>,
    header_len: usize,
    mtu: u32,
) -> Result<Gso, BadOffload> {
    let size = header.gso_size;
    let payload_len = packet.end - header_len;
    let ecn = header.gso_type & GSO_ECN != 0;
    let gso = match (header.gso_type & !GSO_ECN, &packet.l4, packet.src.is_ipv6()) {
        (GSO_TCPV4, Layer4::Tcp { .. }, false) if size >= TCP_MIN_SIZE => Gso::Tcp { size, ecn, ipv6: false },
        (GSO_TCPV6, Layer4::Tcp { .. }, true) if size >= TCP_MIN_SIZE => Gso::Tcp { size, ecn, ipv6: true },
        (GSO_UDP_L4, Layer4::Udp { .. }, _) if size >= 1 && !ecn => Gso::Udp { size },
        _ => return Err(BadOffload),
    };
    let is_too_many = matches!(gso, Gso::Udp { .. }) && payload_len.div_ceil(size.into()) > MAX_SEGMENTS;
    let is_too_big = header_len - ETHERNET_LEN + usize::from(size) > mtu as usize;
    if is_too_many || is_too_big || packet.end != frame.bytes().len() {
        return Err(BadOffload);
    }
    Ok(if payload_len <= size.into() { Gso::None } else { gso })
}

/// How much of a frame is headers, as far as we parse: what the receiver's kernel keeps in one piece.
#[inline]
fn headers_len(frame: &Frame<'_>) -> u16 {
    let Payload::Ip(packet) = &frame.payload else { return narrow(ETHERNET_LEN) };
    narrow(match packet.l4 {
        Layer4::Tcp { header_len, .. } => packet.l4_offset + header_len,
        Layer4::Udp { .. } => packet.l4_offset + UDP_LEN,
        _ => packet.l4_offset,
    })
}

#[inline]
fn narrow(header_len: usize) -> u16 {
    u16::try_from(header_len).expect("eight extension headers of at most 2,048 bytes each")
}

#[cfg(test)]
mod tests {
    use super::super::Mac;
    use super::super::testing::{self, ACK, mac};
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const A: Mac = mac(1);
    const B: Mac = mac(2);
    const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const NOTHING: OffloadHeader =
        OffloadHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    fn tcp4(payload: usize) -> Vec<u8> {
        testing::tcp4(A, B, A4, B4, 4000, 80, ACK, &vec![7; payload])
    }

    fn tcp6(payload: usize) -> Vec<u8> {
        testing::tcp6(A, B, A6, B6, 4000, 80, ACK, &vec![7; payload])
    }

    fn udp4(payload: usize) -> Vec<u8> {
        testing::udp4(A, B, A4, B4, 4000, 53, &vec![7; payload])
    }

    fn check(frame: &[u8], header: OffloadHeader) -> Result<Offload, BadOffload> {
        Offload::check(header, &Frame::parse(frame).unwrap(), 1500)
    }

    /// The header of [`testing::gso`] with one thing changed.
    fn check_with(frame: &[u8], size: u16, change: impl Fn(&mut OffloadHeader)) -> Result<Offload, BadOffload> {
        let (frame, mut header) = testing::gso(frame, size);
        change(&mut header);
        check(&frame, header)
    }

    #[test]
    fn a_header_is_read_little_endian() {
        let header = OffloadHeader::read(&[1, 4, 0x36, 0, 0xdc, 5, 34, 0, 16, 0, 0xff]);
        let expected =
            OffloadHeader { flags: 1, gso_type: 4, hdr_len: 54, gso_size: 1500, csum_start: 34, csum_offset: 16 };
        assert_eq!(header, expected);
    }

    #[test]
    fn what_is_written_is_ours_and_the_rest_is_zero() {
        let gso = Gso::Tcp { size: 1448, ecn: true, ipv6: false };
        let offload = Offload { needs_csum: true, gso, header_len: 66, csum_start: 34, csum_offset: 16 };
        let mut out = [0xff; 12];
        offload.write(&mut out);
        assert_eq!(out, [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
        Offload::NONE.write(&mut out);
        assert_eq!(out, [0; 12]);
    }

    #[test]
    fn rule_1_the_sum_goes_only_where_our_own_parse_found_its_field() {
        for (frame, start, offset) in [(tcp4(10), 34, 16), (tcp6(10), 54, 16), (udp4(10), 34, 6)] {
            let good = OffloadHeader { flags: 1, csum_start: start, csum_offset: offset, ..NOTHING };
            let offload = check(&frame, good).unwrap();
            assert!(offload.needs_csum);
            assert_eq!((offload.csum_start, offload.csum_offset, offload.gso), (start, offset, Gso::None));
            for (start, offset) in [
                (start - 1, offset),
                (start + 1, offset),
                (start - 8, offset + 8),
                (start, offset + 1),
                (start, 22 - offset),
                (0, 0),
                (14, 12),
                (0xffff, 0xffff),
            ] {
                let bad = OffloadHeader { csum_start: start, csum_offset: offset, ..good };
                assert_eq!(check(&frame, bad), Err(BadOffload), "{bad:?}");
            }
        }
    }

    #[test]
    fn rule_1_only_tcp_and_udp_have_a_sum_to_make() {
        for frame in [
            testing::icmp_echo4(A, B, A4, B4, 1, &[0; 40]),
            testing::ip4(A, B, A4, B4, 132, &[0; 40]),
            testing::arp_request(A, A4, B4),
            testing::raw(A, B, 0x8100, &[0; 60]),
        ] {
            for csum_offset in [2, 6, 8, 16] {
                let header = OffloadHeader { flags: 1, csum_start: 34, csum_offset, ..NOTHING };
                assert_eq!(check(&frame, header), Err(BadOffload));
            }
        }
    }

    #[test]
    fn rule_1_the_sum_of_a_packet_inside_a_tunnel_is_not_ours_to_let_pass() {
        // VXLAN: UDP, 8 bytes of its own, and a whole frame.
        let inner = tcp4(10);
        let frame = testing::udp4(A, B, A4, B4, 4000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat());
        let header = OffloadHeader { flags: 1, csum_start: 42 + 8 + 34, csum_offset: 16, ..NOTHING };
        assert_eq!(check(&frame, header), Err(BadOffload));
    }

    #[test]
    fn rule_1_fragments_have_no_sum_to_make() {
        let udp = testing::udp(A4.into(), B4.into(), 1, 2, &[0; 32]);
        for place in [0x2000, 0x0002] {
            let frame = testing::ip4_at(A, B, A4, B4, 17, place, &udp);
            let header = OffloadHeader { flags: 1, csum_start: 34, csum_offset: 6, ..NOTHING };
            assert_eq!(check(&frame, header), Err(BadOffload));
        }
        let body = [&*testing::fragment_header(17, 0, true, 7), &udp].concat();
        let frame = testing::ip6(A, B, A6, B6, 44, &body);
        let header = OffloadHeader { flags: 1, csum_start: 62, csum_offset: 6, ..NOTHING };
        assert_eq!(check(&frame, header), Err(BadOffload));
    }

    #[test]
    fn rule_2_the_kind_of_segmentation_is_that_of_the_packet() {
        let (tcp4, tcp6, udp4) = (tcp4(4000), tcp6(4000), udp4(4000));
        let udp6 = testing::udp6(A, B, A6, B6, 4000, 53, &[7; 4000]);
        for kind in 0..=255u8 {
            let accepts = |frame: &[u8]| check_with(frame, 1000, |h| h.gso_type = kind).is_ok();
            let expected = (
                matches!(kind, 0 | 1 | 0x81),
                matches!(kind, 0 | 4 | 0x84),
                matches!(kind, 0 | 5),
                matches!(kind, 0 | 5),
            );
            assert_eq!((accepts(&tcp4), accepts(&tcp6), accepts(&udp4), accepts(&udp6)), expected, "{kind:#x}");
        }
        let offload = check_with(&tcp4, 1000, |h| h.gso_type = 0x81).unwrap();
        assert_eq!(offload.gso, Gso::Tcp { size: 1000, ecn: true, ipv6: false });
        let offload = check_with(&tcp6, 1000, |_| ()).unwrap();
        assert_eq!(offload.gso, Gso::Tcp { size: 1000, ecn: false, ipv6: true });
    }

    #[test]
    fn rule_2_segmentation_needs_the_sum() {
        for flags in [0, 2, 4, 0xfe] {
            assert_eq!(check_with(&tcp4(4000), 1000, |h| h.flags = flags), Err(BadOffload));
        }
    }

    #[test]
    fn rule_2_the_frame_ends_with_the_packet() {
        let (mut frame, header) = testing::gso(&tcp4(4000), 1000);
        frame.push(0);
        assert_eq!(check(&frame, header), Err(BadOffload));
    }

    #[test]
    fn rule_3_segments_are_neither_tiny_nor_beyond_the_mtu() {
        for (frame, size, is_good) in [
            (tcp4(4000), 0, false),
            (tcp4(4000), 47, false),
            (tcp4(4000), 48, true),
            (tcp4(4000), 1460, true),
            (tcp4(4000), 1461, false),
            (tcp4(4000), 0xffff, false),
            (tcp6(4000), 1440, true),
            (tcp6(4000), 1441, false),
            (udp4(100), 0, false),
            (udp4(100), 1, true),
            (udp4(128), 1, true),
            (udp4(129), 1, false),
            (udp4(256), 2, true),
            (udp4(257), 2, false),
            (udp4(4000), 1472, true),
            (udp4(4000), 1473, false),
            (udp4(4000), 0xffff, false),
        ] {
            assert_eq!(check_with(&frame, size, |_| ()).is_ok(), is_good, "{} bytes by {size}", frame.len());
        }
    }

    #[test]
    fn one_segment_is_no_segmentation() {
        for (payload, expected) in [(0, Gso::None), (1000, Gso::None), (1001, Gso::Udp { size: 1000 })] {
            let offload = check_with(&udp4(payload), 1000, |_| ()).unwrap();
            assert_eq!((offload.gso, offload.needs_csum), (expected, true));
        }
    }

    #[test]
    fn rule_4_data_valid_and_unknown_flags_are_forgotten() {
        for flags in [2, 4, 6, 0xfe] {
            let header = OffloadHeader { flags, csum_start: 7, csum_offset: 9, gso_size: 3, hdr_len: 1, ..NOTHING };
            let offload = check(&tcp4(10), header).unwrap();
            assert_eq!(offload, Offload { header_len: 54, ..Offload::NONE });
        }
    }

    #[test]
    fn rule_4_the_length_of_the_headers_is_recomputed() {
        let neighbour = testing::ns(A, A6, B6);
        for (frame, expected) in [
            (tcp4(10), 54),
            (tcp6(10), 74),
            (udp4(10), 42),
            (neighbour, 54),
            (testing::arp_request(A, A4, B4), 14),
            (testing::raw(A, B, 0x88b5, b""), 14),
        ] {
            let header = OffloadHeader { hdr_len: 0xffff, ..NOTHING };
            assert_eq!(check(&frame, header).unwrap().header_len, expected);
        }
        assert_eq!(check_with(&tcp4(4000), 1000, |h| h.hdr_len = 14).unwrap().header_len, 54);
    }

    #[test]
    fn segments_are_counted() {
        for (payload, expected) in [(1000, 1), (1001, 2), (2000, 2), (2001, 3)] {
            let frame = udp4(payload);
            assert_eq!(check_with(&frame, 1000, |_| ()).unwrap().segments(frame.len()), expected);
        }
        assert_eq!(Offload::NONE.segments(60), 1);
    }

    fn arbitrary_header() -> impl Strategy<Value = OffloadHeader> {
        let near = |values: &'static [u16]| prop_oneof![3 => proptest::sample::select(values), 1 => any::<u16>()];
        let kinds = proptest::sample::select(&[0u8, 1, 4, 5, 0x81, 0x84][..]);
        (0u8..8, kinds, any::<u16>(), near(&[1, 48, 536, 1448]), near(&[34, 54]), near(&[6, 16])).prop_map(
            |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| OffloadHeader {
                flags,
                gso_type,
                hdr_len,
                gso_size,
                csum_start,
                csum_offset,
            },
        )
    }

    proptest! {
        #[test]
        fn a_rebuilt_header_passes_the_check_unchanged(which in 0usize..3, payload in 0usize..3000, header in arbitrary_header()) {
            let frame = [tcp4, tcp6, udp4][which](payload);
            if let Ok(offload) = check(&frame, header) {
                let mut out = [0xff; 12];
                offload.write(&mut out);
                prop_assert_eq!(check(&frame, OffloadHeader::read(&out)), Ok(offload));
                prop_assert!(out[0] <= 1 && out[10..] == [0, 0]);
            }
        }
    }
}
