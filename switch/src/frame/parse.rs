//! One look at a frame: [`Frame::parse`].
//!
//! Each length field is held against the bytes that are there, down to the upper-layer header; nothing behind that is
//! read. Sums are not verified: the receiver's kernel does so, and between containers with offload most are not even
//! made. `etherparse` reads the headers; what they mean together (which part of a datagram, where it ends) is decided
//! here and in [`super::ip`]. This runs for every frame: no branch is spent on what the switch does not ask for.

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpPacketSlice, Ethernet2HeaderSlice};

use super::Mac;
use super::ip::{self, Packet};

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
    use super::super::Layer4;
    use super::super::testing::stations::{A, A4, A6, B, B4, B6};
    use super::super::testing::{self, ACK, SYN, arp_request, raw};
    use super::*;
    use proptest::prelude::*;

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
}
