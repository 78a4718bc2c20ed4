//! One look at a frame: [`Frame::parse`].
//!
//! Each length field is held against the bytes that are there, down to the upper-layer header; nothing behind that is
//! read. Sums are not verified: the receiver's kernel does so, and between containers with offload most are not even
//! made. `etherparse` reads the headers; what they mean together (which part of a datagram, where it ends) is decided
//! here and in [`super::ip`]. This runs for every frame: no branch is spent on what the switch does not ask for.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpPacketSlice, Ethernet2HeaderSlice};

use super::{Mac, ip};

/// Length of an Ethernet header, in bytes.
pub(super) const ETHERNET_LEN: usize = 14;

/// An Ethernet type, host byte order. Values at or below 1500 are 802.3 lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// ARP.
    pub const ARP: EtherType = EtherType(0x0806);
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// An 802.1Q tag.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// An 802.1ad tag.
    pub const QINQ: EtherType = EtherType(0x88a8);
    /// The tag that was used for stacking before 802.1ad.
    pub const OLD_QINQ: EtherType = EtherType(0x9100);
}

/// A frame whose headers were checked against its length.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// The outermost type.
    pub ethertype: EtherType,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a frame carries, as far as the switch looks.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    /// ARP for Ethernet and IPv4.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Packet<'a>),
    /// An 802.1Q or 802.1ad tag; what is behind it is not looked at.
    Vlan,
    /// Anything else.
    Other,
}

/// An ARP packet for Ethernet and IPv4 (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply; anything else is carried as it is.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; 0.0.0.0 is a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The upper-layer protocol number, after all IPv6 extension headers; of a later fragment that of the first header
    /// that was cut, which can be an extension header.
    pub protocol: u8,
    /// Hop limit or time to live.
    pub hop_limit: u8,
    /// Whether and which part of a datagram this is.
    pub fragment: Fragment,
    /// Offset of the network header from the start of the frame.
    pub l3_offset: usize,
    /// Offset of the upper-layer header from the start of the frame.
    pub l4_offset: usize,
    /// End of the IP packet from the start of the frame; Ethernet padding may follow.
    pub end: usize,
    /// The upper-layer header.
    pub l4: Layer4<'a>,
}

/// A packet's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A whole datagram.
    Whole,
    /// The first part, which holds the whole upper-layer header.
    First {
        /// The datagram's identification; IPv4's 16 bits are widened.
        id: u32,
    },
    /// A later part: no upper-layer header.
    Later {
        /// The datagram's identification; IPv4's 16 bits are widened.
        id: u32,
    },
}

/// TCP flags that the switch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

/// The upper-layer header, as far as the switch looks.
#[derive(Clone, Debug)]
pub enum Layer4<'a> {
    /// TCP.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Its flags.
        flags: TcpFlags,
        /// Header length with options, in bytes.
        header_len: usize,
    },
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// ICMP over IPv4.
    Icmp4 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// For an echo its identifier; else 0.
        id: u16,
        /// The packet that an error message quotes.
        quote: Option<IcmpQuote>,
    },
    /// ICMPv6; the body after the 4-byte ICMPv6 header, for neighbour discovery.
    Icmp6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// For an echo its identifier; else 0.
        id: u16,
        /// The packet that an error message quotes.
        quote: Option<IcmpQuote>,
        /// The whole ICMPv6 message, its header included.
        message: &'a [u8],
    },
    /// Another protocol, or a later fragment.
    Other,
}

/// The head of the packet that an ICMP error quotes, as far as it identifies a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpQuote {
    /// Source of the quoted packet.
    pub src: IpAddr,
    /// Destination of the quoted packet.
    pub dst: IpAddr,
    /// Its upper-layer protocol.
    pub protocol: u8,
    /// Its source port (TCP, UDP) or echo identifier; 0 otherwise.
    pub src_port: u16,
    /// Its destination port (TCP, UDP) or echo identifier; 0 otherwise.
    pub dst_port: u16,
}

/// Why a frame could not be parsed; it is dropped and counted as `malformed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Frame<'a> {
    /// Checks the headers of `bytes`, an Ethernet frame without offload header and FCS.
    ///
    /// # Errors
    /// [`Malformed`] where a header does not fit its container, or a length field contradicts the frame.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let header = Ethernet2HeaderSlice::from_slice(bytes).map_err(|_| Malformed)?;
        let ethertype = EtherType(header.ether_type().0);
        let payload = match ethertype {
            EtherType::IPV4 => Payload::Ip(ip::parse4(bytes)?),
            EtherType::IPV6 => Payload::Ip(ip::parse6(bytes)?),
            EtherType::ARP => Payload::Arp(parse_arp(&bytes[ETHERNET_LEN..])?),
            EtherType::VLAN | EtherType::QINQ | EtherType::OLD_QINQ => Payload::Vlan,
            _ => Payload::Other,
        };
        let (dst, src) = (Mac::new(header.destination()), Mac::new(header.source()));
        Ok(Frame { bytes, dst, src, ethertype, payload })
    }

    /// The whole frame.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of what follows the Ethernet header, padding included, in bytes: what an MTU limits.
    #[inline]
    pub fn l3_len(&self) -> usize {
        self.bytes.len() - ETHERNET_LEN
    }
}

/// Only ARP for Ethernet and IPv4 exists on our networks; anything else that calls itself ARP is malformed, so that no
/// oddly sized one slips past the guard.
fn parse_arp(bytes: &[u8]) -> Result<Arp, Malformed> {
    let arp = ArpPacketSlice::from_slice(bytes).map_err(|_| Malformed)?;
    if arp.hw_addr_type() != ArpHardwareId::ETHERNET || arp.proto_addr_type().0 != EtherType::IPV4.0 {
        return Err(Malformed);
    }
    let mac = |octets: &[u8]| octets.try_into().map(Mac::new).map_err(|_| Malformed);
    let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).map_err(|_| Malformed);
    Ok(Arp {
        operation: arp.operation().0,
        sender_mac: mac(arp.sender_hw_addr())?,
        sender_ip: address(arp.sender_protocol_addr())?,
        target_mac: mac(arp.target_hw_addr())?,
        target_ip: address(arp.target_protocol_addr())?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, ACK, SYN, arp_request, mac, raw};
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const A: Mac = mac(1);
    const B: Mac = mac(2);
    const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn packet(bytes: &[u8]) -> Packet<'_> {
        match Frame::parse(bytes).expect("well-formed").payload {
            Payload::Ip(packet) => packet,
            other => panic!("no IP packet: {other:?}"),
        }
    }

    fn is_malformed(bytes: &[u8]) -> bool {
        Frame::parse(bytes).is_err()
    }

    /// One frame of each kind that is looked into.
    fn samples() -> Vec<Vec<u8>> {
        let quoted4 = testing::udp4(B, A, B4, A4, 53, 4000, b"answer");
        let quoted6 = testing::tcp6(B, A, B6, A6, 80, 4000, SYN, b"");
        let udp = testing::udp(A6.into(), B6.into(), 4000, 53, b"query");
        let extensions =
            [&[60, 0, 0, 0, 0, 0, 0, 0], &[44, 0, 0, 0, 0, 0, 0, 0], &*testing::fragment_header(17, 0, false, 7), &udp];
        vec![
            arp_request(A, A4, B4),
            testing::tcp4(A, B, A4, B4, 4000, 80, SYN | ACK, b"payload"),
            testing::tcp6(A, B, A6, B6, 4000, 80, SYN, b"payload"),
            testing::udp4(A, B, A4, B4, 4000, 53, b"query"),
            testing::udp6(A, B, A6, B6, 4000, 53, b"query"),
            testing::icmp_echo4(A, B, A4, B4, 77, b"ping"),
            testing::icmp_echo6(A, B, A6, B6, 77, b"ping"),
            testing::icmp_error4(A, B, A4, B4, 3, 3, &quoted4),
            testing::icmp_error6(A, B, A6, B6, 1, 4, &quoted6),
            testing::ns(A, A6, B6),
            testing::na(A, B, A6, B6, A6, true),
            testing::ip6(A, B, A6, B6, 0, &extensions.concat()),
            testing::ip4_at(A, B, A4, B4, 17, 0x2000, &udp),
            raw(A, B, 0x88b5, b"anything"),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::parse(&bytes);
        }

        #[test]
        fn mutated_and_cut_frames_never_panic_and_offsets_stay_inside(
            which in 0usize..14,
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
            cut in 0usize..40,
        ) {
            let mut bytes = samples().swap_remove(which);
            bytes.truncate(bytes.len() - cut.min(bytes.len() - 1));
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(Frame { payload: Payload::Ip(packet), .. }) = Frame::parse(&bytes) {
                prop_assert!(packet.l3_offset < packet.l4_offset);
                prop_assert!(packet.l4_offset <= packet.end && packet.end <= bytes.len());
                if let Layer4::Tcp { header_len, .. } = packet.l4 {
                    prop_assert!(packet.l4_offset + header_len <= packet.end);
                }
            }
        }

        #[test]
        fn a_frame_cut_anywhere_within_its_headers_is_malformed(which in 0usize..7, cut in any::<proptest::sample::Index>()) {
            let bytes = samples().swap_remove(which);
            prop_assert!(is_malformed(&bytes[..cut.index(bytes.len())]));
        }
    }

    #[test]
    fn addresses_and_type_are_read() {
        let bytes = raw(A, B, 0x88b5, b"");
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!((frame.src, frame.dst, frame.ethertype), (A, B, EtherType(0x88b5)));
        assert_eq!((frame.bytes(), frame.l3_len()), (&bytes[..], 0));
        assert!(matches!(frame.payload, Payload::Other));
        assert!(is_malformed(&bytes[..13]));
    }

    #[test]
    fn vlan_tags_are_told_and_802_3_lengths_are_other() {
        for tag in [0x8100, 0x88a8, 0x9100] {
            assert!(matches!(Frame::parse(&raw(A, B, tag, &[0; 4])).unwrap().payload, Payload::Vlan));
        }
        assert!(matches!(Frame::parse(&raw(A, B, 38, &[0x42; 38])).unwrap().payload, Payload::Other));
    }

    #[test]
    fn arp_is_read_with_padding() {
        let mut bytes = arp_request(A, A4, B4);
        bytes.resize(60, 0);
        let Payload::Arp(arp) = Frame::parse(&bytes).unwrap().payload else { panic!("no ARP") };
        let zero = Mac::new([0; 6]);
        assert_eq!(arp, Arp { operation: 1, sender_mac: A, sender_ip: A4, target_mac: zero, target_ip: B4 });
    }

    #[test]
    fn arp_for_anything_but_ethernet_and_ipv4_is_malformed() {
        for (at, value) in [(14, 1), (15, 6), (16, 9), (17, 1), (18, 8), (18, 5), (19, 16), (19, 3)] {
            let mut bytes = arp_request(A, A4, B4);
            bytes.resize(100, 0);
            bytes[at] = value;
            assert!(is_malformed(&bytes), "byte {at} = {value}");
        }
    }

    #[test]
    fn tcp_over_ipv4_is_read() {
        let bytes = testing::tcp4(A, B, A4, B4, 4000, 80, SYN | ACK, b"payload");
        let packet = packet(&bytes);
        assert_eq!((packet.src, packet.dst), (A4.into(), B4.into()));
        assert_eq!((packet.protocol, packet.hop_limit, packet.fragment), (6, 64, Fragment::Whole));
        assert_eq!((packet.l3_offset, packet.l4_offset, packet.end), (14, 34, bytes.len()));
        let Layer4::Tcp { src_port: 4000, dst_port: 80, flags, header_len: 20 } = packet.l4 else {
            panic!("{packet:?}")
        };
        assert_eq!(flags, TcpFlags { syn: true, ack: true, fin: false, rst: false });
    }

    #[test]
    fn udp_over_ipv6_is_read() {
        let bytes = testing::udp6(A, B, A6, B6, 4000, 53, b"query");
        let packet = packet(&bytes);
        assert_eq!((packet.src, packet.dst, packet.l4_offset), (A6.into(), B6.into(), 54));
        assert!(matches!(packet.l4, Layer4::Udp { src_port: 4000, dst_port: 53 }));
    }

    #[test]
    fn padding_behind_the_packet_is_no_part_of_it() {
        let mut bytes = testing::udp4(A, B, A4, B4, 1, 2, b"x");
        let end = bytes.len();
        bytes.resize(60, 0xaa);
        assert_eq!(packet(&bytes).end, end);
        let mut bytes = testing::icmp_echo6(A, B, A6, B6, 1, b"x");
        let end = bytes.len();
        bytes.resize(80, 0xaa);
        let packet = packet(&bytes);
        let Layer4::Icmp6 { message, .. } = packet.l4 else { panic!("{packet:?}") };
        assert_eq!((packet.end, message.len()), (end, end - packet.l4_offset));
    }

    #[test]
    fn lengths_that_contradict_the_frame_are_malformed() {
        let tcp4 = testing::tcp4(A, B, A4, B4, 1, 2, ACK, b"payload");
        let udp4 = testing::udp4(A, B, A4, B4, 1, 2, b"payload");
        let tcp6 = testing::tcp6(A, B, A6, B6, 1, 2, ACK, b"payload");
        for (what, frame, at, value) in [
            ("IPv4 version", &tcp4, 14, 0x65),
            ("IHL below 5", &tcp4, 14, 0x44),
            ("IHL beyond the packet", &tcp4, 14, 0x4f),
            ("total length 0", &tcp4, 17, 0),
            ("total length below the header", &tcp4, 17, 19),
            ("total length beyond the frame", &tcp4, 17, tcp4.len() as u8 - 13),
            ("data offset below 5", &tcp4, 46, 0x40),
            ("data offset beyond the packet", &tcp4, 46, 0xf0),
            ("UDP length below 8", &udp4, 39, 7),
            ("UDP length beyond the packet", &udp4, 39, 16),
            ("IPv6 version", &tcp6, 14, 0x40),
            ("payload length 0, as a jumbogram", &tcp6, 19, 0),
            ("payload length beyond the frame", &tcp6, 19, tcp6.len() as u8 - 53),
        ] {
            let mut frame = frame.clone();
            frame[at] = value;
            assert!(is_malformed(&frame), "{what}");
        }
    }

    #[test]
    fn unknown_protocols_are_other() {
        assert!(matches!(packet(&testing::ip4(A, B, A4, B4, 132, &[])).l4, Layer4::Other));
        for protocol in [50, 59, 132] {
            let bytes = testing::ip6(A, B, A6, B6, protocol, &[]);
            let packet = packet(&bytes);
            assert!(matches!(packet.l4, Layer4::Other));
            assert_eq!(packet.protocol, protocol);
        }
    }

    #[test]
    fn ipv4_fragments_are_told_apart() {
        let udp = testing::udp(A4.into(), B4.into(), 1, 2, &[0; 64]);
        let id = testing::IP_ID.into();
        let first = testing::ip4_at(A, B, A4, B4, 17, 0x2000, &udp[..16]);
        assert_eq!(packet(&first).fragment, Fragment::First { id });
        assert!(matches!(packet(&first).l4, Layer4::Udp { src_port: 1, dst_port: 2 }));
        for place in [0x2002, 0x0002] {
            let later = testing::ip4_at(A, B, A4, B4, 17, place, &udp[16..]);
            assert_eq!(packet(&later).fragment, Fragment::Later { id });
            assert!(matches!(packet(&later).l4, Layer4::Other));
        }
    }

    #[test]
    fn a_first_fragment_without_its_whole_header_is_malformed() {
        let tcp = testing::tcp(A4.into(), B4.into(), 1, 2, SYN, &[0; 64]);
        assert!(is_malformed(&testing::ip4_at(A, B, A4, B4, 6, 0x2000, &tcp[..16])));
        assert!(is_malformed(&testing::ip4_at(A, B, A4, B4, 17, 0x2000, &tcp[..7])));
        let mut body = testing::fragment_header(6, 0, true, 7);
        body.extend(&tcp[..16]);
        assert!(is_malformed(&testing::ip6(A, B, A6, B6, 44, &body)));
        // The upper-layer header hidden behind options that end in the next fragment: RFC 7112.
        let body = [&*testing::fragment_header(60, 0, true, 7), &[6, 3, 0, 0, 0, 0, 0, 0]].concat();
        assert!(is_malformed(&testing::ip6(A, B, A6, B6, 44, &body)));
    }

    #[test]
    fn a_later_fragment_cannot_rewrite_tcp_flags() {
        assert!(is_malformed(&testing::ip4_at(A, B, A4, B4, 6, 1, &[0; 32])));
        assert!(!is_malformed(&testing::ip4_at(A, B, A4, B4, 17, 1, &[0; 32])));
        let body = [&*testing::fragment_header(6, 1, false, 7), &[0; 32]].concat();
        assert!(is_malformed(&testing::ip6(A, B, A6, B6, 44, &body)));
    }

    #[test]
    fn ipv6_fragments_are_told_apart_and_atomic_ones_are_whole() {
        let udp = testing::udp(A6.into(), B6.into(), 1, 2, &[0; 64]);
        for (place, more, cut, expected) in [
            (0, true, &udp[..16], Fragment::First { id: 7 }),
            (2, true, &udp[16..32], Fragment::Later { id: 7 }),
            (2, false, &udp[16..], Fragment::Later { id: 7 }),
            (0, false, &udp[..], Fragment::Whole),
        ] {
            let bytes = testing::ip6(A, B, A6, B6, 44, &[&*testing::fragment_header(17, place, more, 7), cut].concat());
            let packet = packet(&bytes);
            assert_eq!((packet.fragment, packet.protocol, packet.l4_offset), (expected, 17, 62));
            assert_eq!(matches!(packet.l4, Layer4::Udp { .. }), place == 0);
        }
    }

    #[test]
    fn a_second_fragment_header_is_malformed() {
        let udp = testing::udp(A6.into(), B6.into(), 1, 2, b"");
        let atomic = testing::fragment_header(17, 0, false, 8);
        for more in [true, false] {
            let body = [&*testing::fragment_header(44, 0, more, 7), &atomic, &udp].concat();
            assert!(is_malformed(&testing::ip6(A, B, A6, B6, 44, &body)));
        }
    }

    #[test]
    fn up_to_eight_extension_headers_are_walked() {
        let udp = testing::udp(A6.into(), B6.into(), 1, 2, b"");
        for (count, is_read) in [(1, true), (8, true), (9, false), (100, false)] {
            let mut body = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
            body[(count - 1) * 8] = 17;
            body.extend(&udp);
            let bytes = testing::ip6(A, B, A6, B6, 60, &body);
            assert_eq!(!is_malformed(&bytes), is_read, "{count}");
        }
    }

    #[test]
    fn hop_by_hop_routing_and_authentication_headers_are_walked() {
        let udp = testing::udp(A6.into(), B6.into(), 1, 2, b"");
        // 16 bytes of authentication header: (2 + 2) words.
        let body = [&[43, 0, 0, 0, 0, 0, 0, 0], &[51, 0, 0, 0, 0, 0, 0, 0], &[17, 2][..], &[0; 14], &udp].concat();
        let bytes = testing::ip6(A, B, A6, B6, 0, &body);
        let packet = packet(&bytes);
        assert_eq!((packet.protocol, packet.l4_offset), (17, 54 + 32));
        assert!(matches!(packet.l4, Layer4::Udp { src_port: 1, dst_port: 2 }));
    }

    #[test]
    fn echoes_have_an_id() {
        assert!(matches!(
            packet(&testing::icmp_echo4(A, B, A4, B4, 77, b"")).l4,
            Layer4::Icmp4 { kind: 8, code: 0, id: 77, quote: None }
        ));
        assert!(matches!(
            packet(&testing::icmp_echo6(A, B, A6, B6, 77, b"")).l4,
            Layer4::Icmp6 { kind: 128, code: 0, id: 77, quote: None, .. }
        ));
        assert!(is_malformed(&testing::ip4(A, B, A4, B4, 1, &[8, 0, 0, 0, 0, 77, 0])));
    }

    #[test]
    fn icmp_errors_name_the_flow_they_quote() {
        let quoted = testing::udp4(B, A, B4, A4, 53, 4000, b"answer");
        for kind in [3, 11, 12] {
            // Eight bytes behind the quoted header are what RFC 792 grants.
            let bytes = testing::icmp_error4(A, B, A4, B4, kind, 0, &quoted[..14 + 20 + 8]);
            let Layer4::Icmp4 { quote: Some(quote), .. } = packet(&bytes).l4 else { panic!("no quote") };
            let expected = IcmpQuote { src: B4.into(), dst: A4.into(), protocol: 17, src_port: 53, dst_port: 4000 };
            assert_eq!(quote, expected);
        }
        let quoted = testing::icmp_echo6(B, A, B6, A6, 77, b"");
        for kind in 1..=4 {
            let bytes = testing::icmp_error6(A, B, A6, B6, kind, 0, &quoted);
            let Layer4::Icmp6 { quote: Some(quote), .. } = packet(&bytes).l4 else { panic!("no quote") };
            let expected = IcmpQuote { src: B6.into(), dst: A6.into(), protocol: 58, src_port: 77, dst_port: 77 };
            assert_eq!(quote, expected);
        }
    }

    #[test]
    fn a_quote_that_names_no_flow_is_none() {
        let later = testing::ip4_at(B, A, B4, A4, 17, 2, &[0; 16]);
        let short = &testing::udp4(B, A, B4, A4, 53, 4000, b"")[..14 + 20 + 3];
        for quoted in [&later[..], short, &[0; 14], &[0xff; 60]] {
            let bytes = testing::icmp_error4(A, B, A4, B4, 3, 3, quoted);
            assert!(matches!(packet(&bytes).l4, Layer4::Icmp4 { kind: 3, quote: None, .. }));
        }
        // An echo's body is not a quote, whatever it looks like.
        let quoted = testing::udp4(B, A, B4, A4, 53, 4000, b"");
        let bytes = testing::icmp_echo4(A, B, A4, B4, 1, &quoted[14..]);
        assert!(matches!(packet(&bytes).l4, Layer4::Icmp4 { quote: None, .. }));
    }
}
