//! The headers of segments for a container: what is the same for all of a flow is made once.

use std::net::{IpAddr, SocketAddr};

use super::super::{Ends, Home};
use super::options::{MAX_OPTIONS, Options};
use super::segment::TCP;
use super::sequence::Seq;
use crate::frame::{Gso, Offload, checksum};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// A TCP header without options.
const PLAIN: usize = 20;
const MAX_PLAIN: usize = ETHERNET + IPV6 + PLAIN;

/// Longest IP packet, in bytes: its length field has 16 bits.
const MAX_PACKET: usize = 65_535;

/// Most segments of one frame: what a receiver's kernel is asked to cut at once.
const MAX_SEGMENTS: usize = crate::frame::offload::MAX_SEGMENTS;

/// Hops that a packet from a gateway may still make; as Linux starts with.
const HOPS: u8 = 64;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// What differs from segment to segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Options,
}

/// Headers of frames that a container gets, from Ethernet to TCP.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: [u8; MAX_PLAIN],
    /// Where TCP starts.
    l4: usize,
    /// The sum of the pseudo-header but for the length.
    pseudo: u16,
}

/// Headers that were made, and what the receiver's kernel is left to do.
#[derive(Debug)]
pub(super) struct Headers {
    bytes: [u8; MAX_PLAIN + MAX_OPTIONS],
    len: usize,
    pub(super) offload: Offload,
}

impl Headers {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Template {
    /// For what the container at `ends.near` is sent as from `ends.far`.
    pub(super) fn new(home: &Home, ends: &Ends) -> Self {
        let mut template = Template::between(ends.far, ends.near);
        template.bytes[..6].copy_from_slice(&home.mac.octets());
        template.bytes[6..12].copy_from_slice(&home.gateway.octets());
        template
    }

    /// Without MACs.
    fn between(from: SocketAddr, to: SocketAddr) -> Self {
        let mut bytes = [0; MAX_PLAIN];
        let ip = &mut bytes[ETHERNET..];
        let l4 = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                // Version and length; no fragments; hops and protocol.
                ip[0] = 0x45;
                ip[6] = 0x40;
                ip[8..10].copy_from_slice(&[HOPS, TCP]);
                ip[12..16].copy_from_slice(&from.octets());
                ip[16..20].copy_from_slice(&to.octets());
                ETHERNET + IPV4
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ip[0] = 0x60;
                ip[6..8].copy_from_slice(&[TCP, HOPS]);
                ip[8..24].copy_from_slice(&from.octets());
                ip[24..40].copy_from_slice(&to.octets());
                ETHERNET + IPV6
            }
            _ => unreachable!("both ends of a flow are of one family"),
        };
        let ethertype: u16 = if l4 == ETHERNET + IPV4 { 0x0800 } else { 0x86dd };
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes[l4..l4 + 2].copy_from_slice(&from.port().to_be_bytes());
        bytes[l4 + 2..l4 + 4].copy_from_slice(&to.port().to_be_bytes());
        Template { bytes, l4, pseudo: checksum::pseudo_header(from.ip(), to.ip(), TCP, 0) }
    }

    fn is_ipv4(&self) -> bool {
        self.l4 == ETHERNET + IPV4
    }

    /// Most payload of one frame whose segments are of `mss` bytes: whole segments.
    pub(super) fn most_payload(&self, mss: u16) -> usize {
        let room = MAX_PACKET - (self.l4 - ETHERNET) - PLAIN;
        (room / usize::from(mss)).clamp(1, MAX_SEGMENTS) * usize::from(mss)
    }

    /// The headers of `payload_len` bytes, cut into segments of `mss` by the receiver.
    pub(super) fn make(&self, fields: &Fields, payload_len: usize, mss: u16) -> Headers {
        let options = fields.options.as_bytes();
        let (l4, len) = (self.l4, self.l4 + PLAIN + options.len());
        let mut bytes = [0; MAX_PLAIN + MAX_OPTIONS];
        bytes[..MAX_PLAIN].copy_from_slice(&self.bytes);
        let tcp_len = narrow(len - l4 + payload_len);
        if self.is_ipv4() {
            let ip = &mut bytes[ETHERNET..ETHERNET + IPV4];
            ip[2..4].copy_from_slice(&narrow(IPV4 + usize::from(tcp_len)).to_be_bytes());
            let sum = !checksum::sum(ip, 0);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&tcp_len.to_be_bytes());
        }
        let tcp = &mut bytes[l4..];
        tcp[4..8].copy_from_slice(&fields.seq.0.to_be_bytes());
        tcp[8..12].copy_from_slice(&fields.ack.0.to_be_bytes());
        tcp[12] = ((PLAIN + options.len()) / 4 << 4) as u8;
        tcp[13] = fields.flags;
        tcp[14..16].copy_from_slice(&fields.window.to_be_bytes());
        tcp[16..18].copy_from_slice(&checksum::sum(&tcp_len.to_be_bytes(), self.pseudo.into()).to_be_bytes());
        tcp[PLAIN..PLAIN + options.len()].copy_from_slice(options);
        let is_cut = payload_len > usize::from(mss);
        let gso = if is_cut { Gso::Tcp { size: mss, ecn: false, ipv6: !self.is_ipv4() } } else { Gso::None };
        let offload =
            Offload { needs_csum: true, gso, header_len: narrow(len), csum_start: narrow(l4), csum_offset: 16 };
        Headers { bytes, len, offload }
    }
}

/// The head of the SYN that `ends.near` sent with sequence number `seq`, as an ICMP error quotes it.
pub(super) fn quoted_syn(ends: &Ends, seq: Seq) -> Vec<u8> {
    let fields = Fields { seq, ack: Seq(0), flags: SYN, window: 0, options: Options::NONE };
    Template::between(ends.near, ends.far).make(&fields, 0, 1).as_bytes()[ETHERNET..].to_vec()
}

/// Bytes of headers, without options, of a packet between these addresses: what an MTU loses to them.
pub(super) fn overhead(address: SocketAddr) -> u32 {
    (if address.is_ipv4() { IPV4 + PLAIN } else { IPV6 + PLAIN }) as u32
}

fn narrow(len: usize) -> u16 {
    u16::try_from(len).expect("a frame is at most 64 KB")
}
