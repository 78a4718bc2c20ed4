//! The virtio-net header that stands before a frame: read, checked against the parsed frame, rebuilt.
//!
//! It is built by the sender's kernel, but PACKET_VNET_HDR lets a container choose every field, so nothing of
//! it is copied through: [`Offload::check`] keeps what is consistent with our own parse, and
//! [`Offload::write`] makes the header that the receiver gets. Little endian on every port.

use super::Frame;

/// Length of the header on every port that has one, in bytes (`struct virtio_net_hdr`).
pub const HEADER_LEN: usize = 10;

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
    pub fn read(bytes: &[u8]) -> Self {
        let _ = bytes;
        unimplemented!()
    }
}

impl Offload {
    /// Nothing to be done: what a frame from a plain port has.
    pub const NONE: Offload =
        Offload { needs_csum: false, gso: Gso::None, header_len: 0, csum_start: 0, csum_offset: 0 };

    /// Keeps of `header` what `frame` bears out, for a network whose largest IP packet is `mtu` bytes.
    ///
    /// # Errors
    /// [`BadOffload`] by the rules of the module's head.
    pub fn check(header: OffloadHeader, frame: &Frame<'_>, mtu: u32) -> Result<Offload, BadOffload> {
        let _ = (header, frame, mtu);
        unimplemented!()
    }

    /// Writes the rebuilt header into the first [`HEADER_LEN`] bytes of `out` and zeroes the rest of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let _ = out;
        unimplemented!()
    }

    /// How many frames a port without the offload gets.
    pub fn segments(&self, frame_len: usize) -> usize {
        let _ = frame_len;
        unimplemented!()
    }
}
