//! The headers of segments for a container: what is the same for all of a flow is made once.

use std::net::{IpAddr, SocketAddr};

use super::super::{Ends, Home};
use super::options::{MAX_OPTIONS, Options};
use super::segment::TCP;
use super::sequence::Seq;
use crate::frame::{Gso, MAX_FRAME, Offload, checksum};

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

/// The same of a frame whose packet is longer than [`MAX_PACKET`].
const MAX_BIG_SEGMENTS: usize = 4 * MAX_SEGMENTS;

/// What an IPv6 packet that is longer than its length field can say has behind its header: hop-by-hop options, of which one
/// is its length (RFC 2675 2). An IPv4 packet has none, and its length field is 0: that its end is the frame's is Linux's own (BIG TCP).
const JUMBO: usize = 8;

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
    bytes: [u8; MAX_PLAIN + JUMBO + MAX_OPTIONS],
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

    /// Most payload of one frame of at most `longest` bytes whose segments are of `mss` bytes: whole segments.
    pub(super) fn most_payload(&self, mss: u16, longest: usize) -> usize {
        let mss = usize::from(mss);
        let segments = |longest: usize| (longest - self.l4 - PLAIN) / mss;
        let big = segments(longest - JUMBO);
        if longest > MAX_FRAME && big <= MAX_BIG_SEGMENTS {
            return big * mss;
        }
        segments(ETHERNET + MAX_PACKET).clamp(1, MAX_SEGMENTS) * mss
    }

    /// The headers of `payload_len` bytes, cut into segments of `mss` by the receiver.
    pub(super) fn make(&self, fields: &Fields, payload_len: usize, mss: u16) -> Headers {
        let options = fields.options.as_bytes();
        let tcp_len = PLAIN + options.len() + payload_len;
        let mut bytes = [0; MAX_PLAIN + JUMBO + MAX_OPTIONS];
        bytes[..MAX_PLAIN].copy_from_slice(&self.bytes);
        let ip = &mut bytes[ETHERNET..];
        let l4 = if self.is_ipv4() {
            // 0 where it does not say it.
            let total = u16::try_from(IPV4 + tcp_len).unwrap_or(0);
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            let sum = !checksum::sum(&ip[..IPV4], 0);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            self.l4
        } else if let Ok(payload) = u16::try_from(tcp_len) {
            ip[4..6].copy_from_slice(&payload.to_be_bytes());
            self.l4
        } else {
            // Next header: hop-by-hop options. Of them one, of type 194 and 4 bytes.
            ip[6] = 0;
            ip[IPV6..IPV6 + 4].copy_from_slice(&[TCP, 0, 194, 4]);
            ip[IPV6 + 4..IPV6 + JUMBO].copy_from_slice(&wide(JUMBO + tcp_len).to_be_bytes());
            // The ports stood where these are now.
            ip[IPV6 + JUMBO..][..4].copy_from_slice(&self.bytes[self.l4..][..4]);
            self.l4 + JUMBO
        };
        let len = l4 + PLAIN + options.len();
        let tcp = &mut bytes[l4..];
        tcp[4..8].copy_from_slice(&fields.seq.0.to_be_bytes());
        tcp[8..12].copy_from_slice(&fields.ack.0.to_be_bytes());
        tcp[12] = ((PLAIN + options.len()) / 4) as u8 * 16;
        tcp[13] = fields.flags;
        tcp[14..16].copy_from_slice(&fields.window.to_be_bytes());
        tcp[16..18].copy_from_slice(&checksum::sum(&wide(tcp_len).to_be_bytes(), self.pseudo.into()).to_be_bytes());
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
    u16::try_from(len).expect("headers are shorter than 64 KB")
}

fn wide(len: usize) -> u32 {
    u32::try_from(len).expect("a frame is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::super::segment::Segment;
    use super::*;
    use crate::engine::Place;
    use crate::forwarding::{PortId, PortIndex};
    use crate::frame::segment::segment;
    use crate::frame::{Frame, Mac, Payload};
    use crate::port::BIG_TCP;
    use proptest::prelude::*;

    const HOME: Home = Home {
        port: PortId(1),
        place: Place { network: 0, port: PortIndex(0) },
        mac: Mac::new([2, 0, 0, 0, 0, 2]),
        gateway: Mac::new([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
    };

    fn ends(is_ipv4: bool) -> Ends {
        let (near, far) = if is_ipv4 { ("10.0.0.2:1", "192.0.2.1:80") } else { ("[fd00::2]:1", "[2001:db8::1]:80") };
        Ends { near: near.parse().unwrap(), far: far.parse().unwrap() }
    }

    proptest! {
        /// What the receiver's kernel cuts and sums is the payload, in segments whose every sum is right.
        #[test]
        fn frames_are_cut_into_whole_segments(is_ipv4: bool, mss in 48_u16..1400, len in 0_usize..70_000, seq: u32) {
            let template = Template::new(&HOME, &ends(is_ipv4));
            let payload: Vec<u8> = (0..len.min(template.most_payload(mss, MAX_FRAME))).map(|n| (n % 251) as u8).collect();
            let fields = Fields { seq: Seq(seq), ack: Seq(7), flags: ACK | PSH, window: 99, options: Options::NONE };
            let headers = template.make(&fields, payload.len(), mss);
            let frame = [headers.as_bytes(), &payload].concat();
            let (mut got, mut next) = (Vec::<u8>::new(), Seq(seq));
            segment(&frame, &headers.offload, &mut Vec::new(), |finished| {
                let frame = Frame::parse(finished).expect("well-formed");
                let Payload::Ip(packet) = &frame.payload else { panic!("{frame:?}") };
                let segment = Segment::read(finished, packet, &Offload::NONE).expect("a right sum");
                assert_eq!((segment.seq, segment.ack, segment.window), (next, Some(Seq(7)), 99));
                assert!(segment.payload.len() <= mss.into());
                next = segment.end();
                got.extend(segment.payload);
                true
            });
            prop_assert_eq!(got, payload);
        }
    }

    #[test]
    fn a_packet_longer_than_its_length_field_can_say_has_its_length_elsewhere() {
        const MSS: u16 = 1400;
        for ends in [ends(true), ends(false)] {
            let template = Template::new(&HOME, &ends);
            let payload = template.most_payload(MSS, BIG_TCP);
            let fields = Fields { seq: Seq(1), ack: Seq(7), flags: ACK, window: 99, options: Options::NONE };
            let headers = template.make(&fields, payload, MSS);
            let (bytes, len) = (headers.as_bytes(), headers.as_bytes().len() + payload);
            assert!(len <= BIG_TCP && len > BIG_TCP - 2 * usize::from(MSS));
            let l4 = usize::from(headers.offload.csum_start);
            let said = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            if ends.near.is_ipv4() {
                assert_eq!((&bytes[16..18], l4, checksum::sum(&bytes[14..34], 0)), (&[0, 0][..], 34, 0xffff));
            } else {
                // Payload length, next header; a header of options with the length in it (RFC 2675 2).
                assert_eq!((&bytes[18..21], &bytes[54..58], l4), (&[0, 0, 0][..], &[6, 0, 194, 4][..], 62));
                assert_eq!(said(58), len - 54);
            }
            let sum = checksum::pseudo_header(ends.far.ip(), ends.near.ip(), TCP, (len - l4) as u32);
            assert_eq!(bytes[l4 + 16..l4 + 18], sum.to_be_bytes());
            assert_eq!((&bytes[l4..l4 + 4], headers.offload.header_len), (&[0, 80, 0, 1][..], bytes.len() as u16));
        }
    }

    #[test]
    fn frames_are_of_few_segments_or_short() {
        for ends in [ends(true), ends(false)] {
            let template = Template::new(&HOME, &ends);
            let segments = [(200, BIG_TCP), (1448, BIG_TCP), (200, MAX_FRAME), (1448, MAX_FRAME)]
                .map(|(mss, longest)| template.most_payload(mss, longest) / usize::from(mss));
            assert_eq!(segments, [128, 362, 128, 45]);
        }
    }

    #[test]
    fn the_syn_that_an_error_quotes_is_the_container_s() {
        let quoted = quoted_syn(&ends(true), Seq(0x0102_0304));
        assert_eq!((quoted[0], &quoted[12..16], &quoted[16..20]), (0x45, &[10, 0, 0, 2][..], &[192, 0, 2, 1][..]));
        assert_eq!((&quoted[20..24], &quoted[24..28]), (&[0, 1, 0, 80][..], &[1, 2, 3, 4][..]));
    }
}
