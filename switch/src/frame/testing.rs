//! Tiny frame constructors for the tests of this crate. Every sum they make is right; [`partial`] undoes that one
//! that a sender with offload leaves to the receiver.
#![allow(dead_code, reason = "a set of constructors: each layer's tests take what they need")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Frame, Mac, OffloadHeader, Payload, checksum};

/// TCP flag bits, as they stand in the header.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;

/// Fields of [`OffloadHeader`].
pub(crate) const NEEDS_CSUM: u8 = 1;
pub(crate) const TCPV4: u8 = 1;
pub(crate) const TCPV6: u8 = 4;
pub(crate) const UDP_L4: u8 = 5;

/// The sequence number of every TCP frame made here, and the identification of every IPv4 one.
pub(crate) const SEQUENCE: u32 = 0xffff_f000;
pub(crate) const IP_ID: u16 = 0xfffe;

/// 02:00:00:00:00:`last`.
pub(crate) const fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}

/// Two stations and their addresses, for the tests of this layer; those of `forwarding` have ports of the same names.
pub(crate) mod stations {
    use super::{Ipv4Addr, Ipv6Addr, Mac, mac};

    pub(crate) const A: Mac = mac(1);
    pub(crate) const B: Mac = mac(2);
    pub(crate) const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    pub(crate) const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    pub(crate) const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    pub(crate) const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
}

/// An Ethernet frame of any type.
pub(crate) fn raw(src: Mac, dst: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.octets()[..], &src.octets(), &ethertype.to_be_bytes(), payload].concat()
}

/// An ARP packet in a frame from `src` to `dst`; 1 = request, 2 = reply.
pub(crate) fn arp(src: Mac, dst: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        body.extend(mac.octets());
        body.extend(ip.octets());
    }
    raw(src, dst, 0x0806, &body)
}

/// A broadcast ARP request of `src` at `sender` for `target`.
pub(crate) fn arp_request(src: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(src, Mac::BROADCAST, 1, (src, sender), (Mac::new([0; 6]), target))
}

/// An ARP reply of `src` at `sender` to `dst` at `target`.
pub(crate) fn arp_answer(src: Mac, sender: Ipv4Addr, dst: Mac, target: Ipv4Addr) -> Vec<u8> {
    arp(src, dst, 2, (src, sender), (dst, target))
}

/// An IPv4 packet of any protocol, not fragmented.
pub(crate) fn ip4(src: Mac, dst: Mac, from: Ipv4Addr, to: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    ip4_at(src, dst, from, to, protocol, 0, body)
}

/// An IPv4 packet whose flags and fragment offset field is `place` (0x2000 = more fragments).
pub(crate) fn ip4_at(
    src: Mac,
    dst: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    place: u16,
    body: &[u8],
) -> Vec<u8> {
    let mut head = vec![0x45, 0];
    head.extend(u16::try_from(20 + body.len()).unwrap().to_be_bytes());
    head.extend(IP_ID.to_be_bytes());
    head.extend(place.to_be_bytes());
    head.extend([64, protocol, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    let sum = !checksum::sum(&head, 0);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    raw(src, dst, 0x0800, &[&head, body].concat())
}

/// An IPv6 packet; `next` is the type of the first header in `body`.
pub(crate) fn ip6(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    ip6_hops(src, dst, from, to, next, 64, body)
}

/// An IPv6 packet with hop limit `hops`.
pub(crate) fn ip6_hops(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut head = vec![0x60, 0, 0, 0];
    head.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    head.extend([next, hops]);
    head.extend(from.octets());
    head.extend(to.octets());
    raw(src, dst, 0x86dd, &[&head, body].concat())
}

/// An IPv6 fragment header: `place` in units of 8 bytes.
pub(crate) fn fragment_header(next: u8, place: u16, more: bool, id: u32) -> Vec<u8> {
    let mut head = vec![next, 0];
    head.extend((place << 3 | u16::from(more)).to_be_bytes());
    head.extend(id.to_be_bytes());
    head
}

/// A UDP datagram over IPv4.
pub(crate) fn udp4(
    src: Mac,
    dst: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    payload: &[u8],
) -> Vec<u8> {
    ip4(src, dst, from, to, 17, &udp(from.into(), to.into(), src_port, dst_port, payload))
}

/// A UDP datagram over IPv6.
pub(crate) fn udp6(
    src: Mac,
    dst: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    src_port: u16,
    dst_port: u16,
    payload: &[u8],
) -> Vec<u8> {
    ip6(src, dst, from, to, 17, &udp(from.into(), to.into(), src_port, dst_port, payload))
}

/// A TCP segment over IPv4.
#[expect(clippy::too_many_arguments, reason = "a frame has that many fields")]
pub(crate) fn tcp4(
    src: Mac,
    dst: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    ip4(src, dst, from, to, 6, &tcp(from.into(), to.into(), src_port, dst_port, flags, payload))
}

/// A TCP segment over IPv6.
#[expect(clippy::too_many_arguments, reason = "a frame has that many fields")]
pub(crate) fn tcp6(
    src: Mac,
    dst: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    src_port: u16,
    dst_port: u16,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    ip6(src, dst, from, to, 6, &tcp(from.into(), to.into(), src_port, dst_port, flags, payload))
}

/// A UDP header and payload.
pub(crate) fn udp(from: IpAddr, to: IpAddr, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [src_port, dst_port, u16::try_from(8 + payload.len()).unwrap(), 0] {
        body.extend(field.to_be_bytes());
    }
    body.extend(payload);
    complete(from, to, 17, body, 6)
}

/// A TCP header without options, and payload.
pub(crate) fn tcp(from: IpAddr, to: IpAddr, src_port: u16, dst_port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(src_port.to_be_bytes());
    body.extend(dst_port.to_be_bytes());
    body.extend(SEQUENCE.to_be_bytes());
    body.extend(7u32.to_be_bytes());
    body.extend([0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    body.extend(payload);
    complete(from, to, 6, body, 16)
}

/// An ICMP message over IPv4; `rest` is the second word of its header.
#[expect(clippy::too_many_arguments, reason = "a frame has that many fields")]
pub(crate) fn icmp4(
    src: Mac,
    dst: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = [&[kind, code, 0, 0], &rest[..], payload].concat();
    let sum = !checksum::sum(&body, 0);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    ip4(src, dst, from, to, 1, &body)
}

/// An ICMPv6 message with hop limit 255; `rest` is the second word of its header.
#[expect(clippy::too_many_arguments, reason = "a frame has that many fields")]
pub(crate) fn icmp6(
    src: Mac,
    dst: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let body = [&[kind, code, 0, 0], &rest[..], payload].concat();
    ip6_hops(src, dst, from, to, 58, 255, &complete(from.into(), to.into(), 58, body, 2))
}

/// An echo request over IPv4, sequence number 1.
pub(crate) fn icmp_echo4(src: Mac, dst: Mac, from: Ipv4Addr, to: Ipv4Addr, id: u16, payload: &[u8]) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    icmp4(src, dst, from, to, 8, 0, [a, b, 0, 1], payload)
}

/// An echo request over IPv6, sequence number 1.
pub(crate) fn icmp_echo6(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr, id: u16, payload: &[u8]) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    icmp6(src, dst, from, to, 128, 0, [a, b, 0, 1], payload)
}

/// An ICMP error over IPv4 that quotes the IP packet of the frame `quoted`.
pub(crate) fn icmp_error4(
    src: Mac,
    dst: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    kind: u8,
    code: u8,
    quoted: &[u8],
) -> Vec<u8> {
    icmp4(src, dst, from, to, kind, code, [0; 4], &quoted[14..])
}

/// An ICMPv6 error that quotes the IP packet of the frame `quoted`.
pub(crate) fn icmp_error6(
    src: Mac,
    dst: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    code: u8,
    quoted: &[u8],
) -> Vec<u8> {
    icmp6(src, dst, from, to, kind, code, [0; 4], &quoted[14..])
}

/// A neighbour solicitation to the solicited-node group; with a source link-layer option unless `from` is `::`.
pub(crate) fn ns(src: Mac, from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(target);
    ns_to(src, multicast_mac(group), from, group, target)
}

/// A neighbour solicitation to any destination, as NUD's unicast ones.
pub(crate) fn ns_to(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    if !from.is_unspecified() {
        body.extend([1, 1]);
        body.extend(src.octets());
    }
    icmp6(src, dst, from, to, 135, 0, [0; 4], &body)
}

/// A neighbour advertisement of `src` for `target`, override set, with a target link-layer option.
pub(crate) fn na(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, solicited: bool) -> Vec<u8> {
    let body = [&target.octets()[..], &[2, 1], &src.octets()].concat();
    icmp6(src, dst, from, to, 136, 0, [if solicited { 0x60 } else { 0x20 }, 0, 0, 0], &body)
}

/// ff02::1:ffXX:XXXX of `address`. RFC 4291 2.7.1.
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0xff, h)
}

/// 33:33 and the low 32 bits of `group`. RFC 2464 7.
pub(crate) fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac::new([0x33, 0x33, a, b, c, d])
}

/// Leaves the L4 checksum of a TCP or UDP frame to the receiver, as a sender with offload does: the pseudo-header's
/// sum in the frame, and the header that says so.
pub(crate) fn partial(frame: &[u8]) -> (Vec<u8>, OffloadHeader) {
    let parsed = Frame::parse(frame).unwrap();
    let Payload::Ip(packet) = &parsed.payload else { panic!("not an IP packet") };
    let csum_offset: u16 = if packet.protocol == 6 { 16 } else { 6 };
    let length = u32::try_from(packet.end - packet.l4_offset).unwrap();
    let sum = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, length);
    let mut bytes = frame.to_vec();
    let at = packet.l4_offset + usize::from(csum_offset);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let csum_start = u16::try_from(packet.l4_offset).unwrap();
    let header = OffloadHeader { flags: NEEDS_CSUM, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start, csum_offset };
    (bytes, header)
}

/// [`partial`], to be cut into segments of `size` payload bytes.
pub(crate) fn gso(frame: &[u8], size: u16) -> (Vec<u8>, OffloadHeader) {
    let (bytes, mut header) = partial(frame);
    let is_ip4 = bytes[12..14] == [0x08, 0x00];
    header.gso_type = match (header.csum_offset, is_ip4) {
        (16, true) => TCPV4,
        (16, false) => TCPV6,
        _ => UDP_L4,
    };
    header.gso_size = size;
    (bytes, header)
}

/// Puts the checksum of `body` at `at`.
fn complete(from: IpAddr, to: IpAddr, protocol: u8, mut body: Vec<u8>, at: usize) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let sum = !checksum::sum(&body, checksum::pseudo_header(from, to, protocol, length).into());
    let sum = if protocol == 17 && sum == 0 { 0xffff } else { sum };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    body
}
