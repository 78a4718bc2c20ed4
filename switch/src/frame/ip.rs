//! The network header: IPv4, and IPv6 with its extension headers.
//!
//! Fragments: whoever filters by ports must see them in the first fragment and must not have them rewritten by a later
//! one. So a first fragment holds the whole upper-layer header, and a later one does not start 8 bytes into it, before
//! TCP's flags (RFC 1858 3, RFC 3128 2). An IPv6 packet has at most one fragment header, or an atomic one behind a true one
//! would make a part look whole.

use std::net::IpAddr;

use etherparse::{IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};
use etherparse::{IpNumber, ip_number};

use super::layer4::{self, Layer4};
use super::parse::{ETHERNET_LEN, Malformed};

/// Extension headers that an IPv6 packet may have. RFC 8200 4.1 names six, one of them twice; more is an attack.
const MAX_EXTENSIONS: usize = 8;

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

/// Reads the IPv4 packet of the frame `bytes`.
#[inline]
pub(super) fn parse4(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let header = Ipv4HeaderSlice::from_slice(&bytes[ETHERNET_LEN..]).map_err(|_| Malformed)?;
    let l4_offset = ETHERNET_LEN + header.slice().len();
    let end = ETHERNET_LEN + usize::from(header.total_len());
    let fragment = fragment4(&header)?;
    let protocol = header.protocol().0;
    let body = bytes.get(l4_offset..end).ok_or(Malformed)?;
    let l4 = if is_later(fragment) { Layer4::Other } else { layer4::parse4(protocol, body, fragment)? };
    Ok(Packet {
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        protocol,
        hop_limit: header.ttl(),
        fragment,
        l3_offset: ETHERNET_LEN,
        l4_offset,
        end,
        l4,
    })
}

/// Reads the IPv6 packet of the frame `bytes`. A jumbogram has payload length 0 and so too little of everything.
#[inline]
pub(super) fn parse6(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let header = Ipv6HeaderSlice::from_slice(&bytes[ETHERNET_LEN..]).map_err(|_| Malformed)?;
    let start = ETHERNET_LEN + header.slice().len();
    let end = start + usize::from(header.payload_length());
    let payload = bytes.get(start..end).ok_or(Malformed)?;
    let Upper { protocol, offset, fragment } = upper(header.next_header(), payload)?;
    let body = &payload[offset..];
    let l4 = if is_later(fragment) { Layer4::Other } else { layer4::parse6(protocol, body, fragment)? };
    Ok(Packet {
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        protocol,
        hop_limit: header.hop_limit(),
        fragment,
        l3_offset: ETHERNET_LEN,
        l4_offset: start + offset,
        end,
        l4,
    })
}

/// The place of an IPv4 packet in its datagram.
#[inline]
pub(super) fn fragment4(header: &Ipv4HeaderSlice<'_>) -> Result<Fragment, Malformed> {
    let offset = header.fragments_offset().value();
    // Eight bytes are the whole header of UDP and ICMP.
    if offset == 1 && header.protocol() == ip_number::TCP {
        return Err(Malformed);
    }
    Ok(place(offset, header.more_fragments(), header.identification().into()))
}

/// Where the upper-layer header of an IPv6 packet is.
pub(super) struct Upper {
    /// Its protocol number.
    pub(super) protocol: u8,
    /// Its offset from the end of the IPv6 header.
    pub(super) offset: usize,
    /// The packet's place in its datagram.
    pub(super) fragment: Fragment,
}

/// Walks the extension headers in `payload`, the first of which is of type `next`. Stops at a later fragment, whose
/// bytes are no header, and at the first type that is no extension header, among them ESP and "no next header".
#[inline]
pub(super) fn upper(next: IpNumber, payload: &[u8]) -> Result<Upper, Malformed> {
    let whole = Upper { protocol: next.0, offset: 0, fragment: Fragment::Whole };
    if is_extension(next) { walk(whole, payload) } else { Ok(whole) }
}

/// The part of [`upper`] that few packets need.
#[inline(never)]
fn walk(mut at: Upper, payload: &[u8]) -> Result<Upper, Malformed> {
    let mut is_fragment_seen = false;
    for _ in 0..MAX_EXTENSIONS {
        let rest = payload.get(at.offset..).ok_or(Malformed)?;
        let (next, len) = match IpNumber(at.protocol) {
            ip_number::IPV6_FRAG if is_fragment_seen => return Err(Malformed),
            ip_number::IPV6_FRAG => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Malformed)?;
                let (offset, more) = (header.fragment_offset().value(), header.more_fragments());
                // The protocol that a later fragment names counts for nothing (RFC 8200 4.5), and no link cuts so early.
                if offset == 1 {
                    return Err(Malformed);
                }
                at.fragment = place(offset, more, header.identification());
                is_fragment_seen = true;
                (header.next_header(), header.slice().len())
            }
            ip_number::AUTH => {
                let header = IpAuthHeaderSlice::from_slice(rest).map_err(|_| Malformed)?;
                (header.next_header(), header.slice().len())
            }
            _ => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| Malformed)?;
                (header.next_header(), header.slice().len())
            }
        };
        at.protocol = next.0;
        at.offset += len;
        if is_later(at.fragment) || !is_extension(next) {
            return Ok(at);
        }
    }
    Err(Malformed)
}

/// Hop-by-hop, routing, fragment, authentication and destination options: what stands between IPv6 and a transport.
#[inline]
fn is_extension(number: IpNumber) -> bool {
    matches!(
        number,
        ip_number::IPV6_HEADER_HOP_BY_HOP
            | ip_number::IPV6_ROUTE_HEADER
            | ip_number::IPV6_FRAGMENTATION_HEADER
            | ip_number::AUTHENTICATION_HEADER
            | ip_number::IPV6_DESTINATION_OPTIONS
    )
}

/// An atomic fragment (RFC 6946), at 0 with no more to come, is a whole datagram.
#[inline]
fn place(offset: u16, more: bool, id: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First { id },
        _ => Fragment::Later { id },
    }
}

#[inline]
fn is_later(fragment: Fragment) -> bool {
    matches!(fragment, Fragment::Later { .. })
}

#[cfg(test)]
mod tests {
    use super::super::testing::stations::{A, A4, A6, B, B4, B6};
    use super::super::testing::{self, SYN};
    use super::super::{Frame, Payload};
    use super::*;

    fn packet(bytes: &[u8]) -> Packet<'_> {
        match Frame::parse(bytes).expect("well-formed").payload {
            Payload::Ip(packet) => packet,
            other => panic!("no IP packet: {other:?}"),
        }
    }

    fn is_malformed(bytes: &[u8]) -> bool {
        Frame::parse(bytes).is_err()
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
        for next in [6, 17, 60] {
            let body = [&*testing::fragment_header(next, 1, false, 7), &[0; 32]].concat();
            assert!(is_malformed(&testing::ip6(A, B, A6, B6, 44, &body)));
        }
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
}
