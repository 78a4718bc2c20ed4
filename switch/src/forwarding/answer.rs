//! What the switch itself says on a network: ARP replies, neighbour advertisements, echo replies and announcements.
//!
//! Each function clears `out` and writes one whole frame into it, without offload header and with all sums made. It
//! allocates nothing where the capacity of `out` suffices, which [`super::Scratch`] sees to. Whether there is
//! anything to answer is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use crate::frame::{Arp, Frame, Mac, Packet};

/// ff02::1, to whom unsolicited advertisements go, and its MAC. RFC 4291 2.7.1, RFC 2464 7.
const ALL_NODES: (Ipv6Addr, Mac) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Mac::new([0x33, 0x33, 0, 0, 0, 1]));
/// The hop limit of an echo reply: the default of RFC 1700.
const HOP_LIMIT: u8 = 64;
/// The hop limit of neighbour discovery, which shows that no router passed it on. RFC 4861 7.1.
const NDISC_HOP_LIMIT: u8 = 255;
/// Length of the ICMP and ICMPv6 echo header, in bytes.
const ECHO_LEN: usize = 8;

/// The answer to `request`: its target address is at `owner`.
pub(super) fn arp_reply(request: &Arp, owner: Mac, out: &mut Vec<u8>) {
    let sender = (owner, request.target_ip);
    arp(ArpOperation::Reply, request.sender_mac, sender, (request.sender_mac, request.sender_ip), out);
}

/// Tells everybody that `address` is at `owner` now. An ARP announcement: RFC 5227 3.
pub fn gratuitous_arp(address: Ipv4Addr, owner: Mac, out: &mut Vec<u8>) {
    let target = (Mac::new([0; 6]), address);
    arp(ArpOperation::Request, Mac::BROADCAST, (owner, address), target, out);
}

/// The answer to a solicitation of `asker` at `from` for `target`, which is at `owner`. Where `from` is `::` (duplicate
/// address detection) it goes to all nodes, unsolicited: RFC 4861 7.2.4.
pub(super) fn neighbour_advertisement(
    asker: Mac,
    from: Ipv6Addr,
    target: Ipv6Addr,
    owner: Mac,
    router: bool,
    out: &mut Vec<u8>,
) {
    if from.is_unspecified() {
        return unsolicited_na(target, owner, router, out);
    }
    advertise(target, owner, (from, asker), role(router) | NdiscNeighborFlags::SOLICITED, out);
}

/// Tells everybody that `address` is at `owner` now. RFC 4861 7.2.6.
pub fn unsolicited_na(address: Ipv6Addr, owner: Mac, router: bool, out: &mut Vec<u8>) {
    advertise(address, owner, ALL_NODES, role(router), out);
}

/// The answer of the gateway to the echo request `packet` of `frame`, which must be a whole datagram. `from` is the address
/// that answers: the request's destination, unless that is a group. Options and extension headers are not echoed.
///
/// # Panics
/// When `packet` is no whole echo request of `from`'s family.
pub(super) fn echo_reply(frame: &Frame<'_>, packet: &Packet<'_>, gateway: Mac, from: IpAddr, out: &mut Vec<u8>) {
    let message = &frame.bytes()[packet.l4_offset..packet.end];
    let (header, data) = message.split_first_chunk::<ECHO_LEN>().expect("an echo request has its header");
    let [_, _, _, _, i0, i1, s0, s1] = *header;
    let (ident, seq_no) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    match (from, packet.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let body = ip4(gateway, frame.src, from, to, message.len(), out);
            let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
            reply.emit(&mut Icmpv4Packet::new_unchecked(body), &ChecksumCapabilities::default());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let body = ip6(gateway, (from, to, frame.src), HOP_LIMIT, message.len(), out);
            let reply = Icmpv6Repr::EchoReply { ident, seq_no, data };
            reply.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(body), &ChecksumCapabilities::default());
        }
        _ => panic!("{from} answers {}", packet.src),
    }
}

/// An ARP packet whose sender is also the frame's.
fn arp(operation: ArpOperation, dst: Mac, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), out: &mut Vec<u8>) {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: ethernet_address(sender.0),
        source_protocol_addr: sender.1,
        target_hardware_addr: ethernet_address(target.0),
        target_protocol_addr: target.1,
    };
    let body = ethernet(sender.0, dst, EthernetProtocol::Arp, repr.buffer_len(), out);
    repr.emit(&mut ArpPacket::new_unchecked(body));
}

/// What an advertisement says of its sender. It always overrides: the switch knows who has an address.
fn role(router: bool) -> NdiscNeighborFlags {
    let role = if router { NdiscNeighborFlags::ROUTER } else { NdiscNeighborFlags::empty() };
    role | NdiscNeighborFlags::OVERRIDE
}

fn advertise(target: Ipv6Addr, owner: Mac, to: (Ipv6Addr, Mac), flags: NdiscNeighborFlags, out: &mut Vec<u8>) {
    let lladdr = Some(ethernet_address(owner).into());
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr });
    let body = ip6(owner, (target, to.0, to.1), NDISC_HOP_LIMIT, repr.buffer_len(), out);
    repr.emit(&target, &to.0, &mut Icmpv6Packet::new_unchecked(body), &ChecksumCapabilities::default());
}

/// Starts a frame of an ICMP message of `len` bytes, whose place is returned.
fn ip4(src: Mac, dst: Mac, from: Ipv4Addr, to: Ipv4Addr, len: usize, out: &mut Vec<u8>) -> &mut [u8] {
    let header = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmp,
        payload_len: len,
        hop_limit: HOP_LIMIT,
    };
    let packet = ethernet(src, dst, EthernetProtocol::Ipv4, header.buffer_len() + len, out);
    header.emit(&mut Ipv4Packet::new_unchecked(&mut *packet), &ChecksumCapabilities::default());
    &mut packet[header.buffer_len()..]
}

/// Starts a frame of an ICMPv6 message of `len` bytes, whose place is returned, from an address to an address at a MAC.
fn ip6(
    src: Mac,
    (from, to, dst): (Ipv6Addr, Ipv6Addr, Mac),
    hop_limit: u8,
    len: usize,
    out: &mut Vec<u8>,
) -> &mut [u8] {
    let header =
        Ipv6Repr { src_addr: from, dst_addr: to, next_header: IpProtocol::Icmpv6, payload_len: len, hop_limit };
    let packet = ethernet(src, dst, EthernetProtocol::Ipv6, header.buffer_len() + len, out);
    header.emit(&mut Ipv6Packet::new_unchecked(&mut *packet));
    &mut packet[header.buffer_len()..]
}

/// Starts a frame with `len` bytes of zero behind the Ethernet header, which are returned.
fn ethernet(src: Mac, dst: Mac, ethertype: EthernetProtocol, len: usize, out: &mut Vec<u8>) -> &mut [u8] {
    out.clear();
    out.resize(ETHERNET_HEADER_LEN + len, 0);
    let header = EthernetRepr { src_addr: ethernet_address(src), dst_addr: ethernet_address(dst), ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut *out));
    &mut out[ETHERNET_HEADER_LEN..]
}

fn ethernet_address(mac: Mac) -> EthernetAddress {
    EthernetAddress(mac.octets())
}

#[cfg(test)]
mod tests {
    use super::super::neighbour_message::NeighbourMessage;
    use super::*;
    use crate::frame::testing::{self, mac};
    use crate::frame::{Layer4, Payload};

    const A: Mac = mac(1);
    const GATEWAY: Mac = mac(0xfe);
    const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

    /// Runs `make` on space of a worker's size that holds an older answer.
    fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(65_536 + 14);
        out.resize(200, 0xee);
        let (place, capacity) = (out.as_ptr(), out.capacity());
        make(&mut out);
        assert_eq!((out.as_ptr(), out.capacity()), (place, capacity), "nothing is allocated");
        out
    }

    fn packet<'a>(frame: &Frame<'a>) -> Packet<'a> {
        match &frame.payload {
            Payload::Ip(packet) => packet.clone(),
            other => panic!("no IP packet: {other:?}"),
        }
    }

    fn answer(request: &[u8], from: IpAddr) -> Vec<u8> {
        let frame = Frame::parse(request).unwrap();
        made(|out| echo_reply(&frame, &packet(&frame), GATEWAY, from, out))
    }

    #[test]
    fn an_arp_request_is_answered_to_the_asker_from_the_owner() {
        let request = testing::arp_request(A, A4, GATEWAY4);
        let Payload::Arp(request) = Frame::parse(&request).unwrap().payload else { panic!("no ARP") };
        assert_eq!(made(|out| arp_reply(&request, GATEWAY, out)), testing::arp_answer(GATEWAY, GATEWAY4, A, A4));
    }

    #[test]
    fn a_gratuitous_arp_announces_to_everybody() {
        let expected = testing::arp_request(A, A4, A4);
        assert_eq!(made(|out| gratuitous_arp(A4, A, out)), expected);
    }

    #[test]
    fn a_solicitation_is_answered_to_the_asker() {
        let expected = testing::na(GATEWAY, A, GATEWAY6, A6, GATEWAY6, true);
        let made = made(|out| neighbour_advertisement(A, A6, GATEWAY6, GATEWAY, false, out));
        assert_eq!(made, expected);
    }

    #[test]
    fn duplicate_address_detection_is_answered_to_all_nodes() {
        let (to, dst) = ALL_NODES;
        let expected = testing::na(GATEWAY, dst, GATEWAY6, to, GATEWAY6, false);
        let from = Ipv6Addr::UNSPECIFIED;
        assert_eq!(made(|out| neighbour_advertisement(A, from, GATEWAY6, GATEWAY, false, out)), expected);
        assert_eq!(made(|out| unsolicited_na(GATEWAY6, GATEWAY, false, out)), expected);
    }

    #[test]
    fn the_gateway_says_that_it_is_a_router_and_our_own_reader_takes_it() {
        let bytes = made(|out| neighbour_advertisement(A, A6, GATEWAY6, GATEWAY, true, out));
        assert_eq!(bytes[58], 0xe0);
        let message = NeighbourMessage::parse(&packet(&Frame::parse(&bytes).unwrap())).unwrap();
        let (target, target_mac) = (GATEWAY6, Some(GATEWAY));
        assert_eq!(message, Some(NeighbourMessage::Advertisement { target, target_mac, solicited: true }));
    }

    #[test]
    fn an_echo_request_over_ipv4_is_answered() {
        for len in [0, 1, 56, 1472, 65_521 - 28] {
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let bytes = answer(&testing::icmp_echo4(A, GATEWAY, A4, GATEWAY4, 77, &data), GATEWAY4.into());
            let frame = Frame::parse(&bytes).unwrap();
            let packet = packet(&frame);
            assert_eq!((frame.src, frame.dst, packet.src, packet.dst), (GATEWAY, A, GATEWAY4.into(), A4.into()));
            assert!(matches!(packet.l4, Layer4::Icmp4 { kind: 0, code: 0, id: 77, .. }));
            assert_eq!(packet.end, bytes.len());
            assert_eq!((&bytes[40..42], &bytes[42..]), (&[0, 1][..], &data[..]));
            assert!(Ipv4Packet::new_unchecked(&bytes[14..]).verify_checksum());
            assert!(Icmpv4Packet::new_unchecked(&bytes[34..]).verify_checksum());
        }
    }

    #[test]
    fn an_echo_request_over_ipv6_is_answered() {
        for len in [0, 1, 56, 1452, 65_521 - 48] {
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let bytes = answer(&testing::icmp_echo6(A, GATEWAY, A6, GATEWAY6, 77, &data), GATEWAY6.into());
            let frame = Frame::parse(&bytes).unwrap();
            let packet = packet(&frame);
            assert_eq!((frame.src, frame.dst, packet.src, packet.dst), (GATEWAY, A, GATEWAY6.into(), A6.into()));
            assert!(matches!(packet.l4, Layer4::Icmp6 { kind: 129, code: 0, id: 77, .. }));
            assert_eq!((&bytes[60..62], &bytes[62..]), (&[0, 1][..], &data[..]));
            assert!(Icmpv6Packet::new_unchecked(&bytes[54..]).verify_checksum(&GATEWAY6, &A6));
        }
    }

    #[test]
    fn padding_is_not_echoed_and_an_unmade_sum_is_made() {
        let whole = testing::icmp_echo4(A, GATEWAY, A4, GATEWAY4, 77, b"x");
        let mut padded = whole.clone();
        padded.resize(60, 0xaa);
        padded[36..38].fill(0);
        assert_eq!(answer(&padded, GATEWAY4.into()), answer(&whole, GATEWAY4.into()));
    }

    #[test]
    fn an_echo_request_to_a_group_is_answered_from_the_gateways_address() {
        let (group, dst) = ALL_NODES;
        let bytes = answer(&testing::icmp_echo6(A, dst, A6, group, 77, b"x"), GATEWAY6.into());
        let packet = packet(&Frame::parse(&bytes).unwrap());
        assert_eq!((packet.src, packet.dst), (GATEWAY6.into(), A6.into()));
        assert!(Icmpv6Packet::new_unchecked(&bytes[54..]).verify_checksum(&GATEWAY6, &A6));
    }
}
