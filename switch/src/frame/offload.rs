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
//!    TCP, and TCP not to a group: every receiver discards it (RFC 1122 4.2.3.10), and a frame of tiny segments would be cut
//!    for each of them. The frame ends with the packet.
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

    /// The bytes of these together: each has the headers.
    #[inline]
    pub fn bytes(&self, frame_len: usize) -> u64 {
        let more = (self.segments(frame_len) - 1) * usize::from(self.header_len);
        (frame_len + more) as u64
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
    let may_be_tcp = size >= TCP_MIN_SIZE && !frame.dst.is_group();
    let gso = match (header.gso_type & !GSO_ECN, &packet.l4, packet.src.is_ipv6()) {
        (GSO_TCPV4, Layer4::Tcp { .. }, false) if may_be_tcp => Gso::Tcp { size, ecn, ipv6: false },
        (GSO_TCPV6, Layer4::Tcp { .. }, true) if may_be_tcp => Gso::Tcp { size, ecn, ipv6: true },
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
mod tests;
