//! A datagram towards a container: UDP, or an ICMP message. Both have a header of 8 bytes behind that of IP.
//!
//! What does not fit the network's MTU leaves as IP fragments, which the container's kernel puts together: the far side may
//! have sent as large a datagram as there can be. A burst of equal UDP datagrams leaves as one frame that the receiver's kernel,
//! or [`Out::send`](crate::engine::Out::send) for a port without the offload, cuts. Nothing is allocated: headers are written
//! on the stack, payload stays where it is.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6FragmentHeader, Ipv6FragmentRepr, Ipv6Packet, Ipv6Repr,
};

use super::{Cx, Home};
use crate::forwarding::EgressDrop;
use crate::frame::{Gso, Offload, checksum};

/// RFC 792, RFC 768, RFC 4443.
pub(crate) const ICMP4: u8 = 1;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;

/// The header of UDP, and of every ICMP message that is sent here, in bytes.
pub(crate) const HEADER_LEN: usize = 8;

/// The hop limit of what starts here: the default of RFC 1700.
pub(crate) const HOP_LIMIT: u8 = 64;

/// Most payload of one datagram, over IPv6; IPv4 holds 20 bytes less.
pub(crate) const MOST_PAYLOAD: usize = MOST_IP - HEADER_LEN;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const FRAGMENT_LEN: usize = 8;
/// All headers of a fragment, at most.
const MOST_HEADERS: usize = ETHERNET_LEN + IPV6_LEN + FRAGMENT_LEN + HEADER_LEN;
/// Most bytes behind an IPv6 header, and of a whole IPv4 packet. RFC 791 3.1, RFC 8200 3.
const MOST_IP: usize = 65_535;
/// Offsets of fragments count in units of this many bytes. RFC 791 3.1, RFC 8200 4.5.
const UNIT: usize = 8;

/// The last identification given to a datagram that left in fragments. One worker's; all flows of a container are one
/// worker's, so none of its datagrams share one within 65,536.
#[derive(Debug, Default)]
pub(crate) struct Idents(u32);

/// All but the payload of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    /// Whom it comes from, as the container sees it.
    pub from: IpAddr,
    /// The container's address, of the same family.
    pub to: IpAddr,
    /// [`UDP`], [`ICMP4`] or [`ICMP6`].
    pub protocol: u8,
    pub hop_limit: u8,
    /// The header behind that of IP; its sum is made here.
    pub header: [u8; HEADER_LEN],
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug)]
struct Part {
    id: u32,
    /// In bytes.
    offset: usize,
    more: bool,
}

impl Datagram {
    /// A UDP datagram of `len` bytes of payload, at most [`MOST_PAYLOAD`].
    pub(crate) fn udp(from: std::net::SocketAddr, to: std::net::SocketAddr, len: usize) -> Self {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&from.port().to_be_bytes());
        header[2..4].copy_from_slice(&to.port().to_be_bytes());
        header[4..6].copy_from_slice(&narrow(HEADER_LEN + len).to_be_bytes());
        Datagram { from: from.ip(), to: to.ip(), protocol: UDP, hop_limit: HOP_LIMIT, header }
    }

    fn ip_len(&self) -> usize {
        if self.from.is_ipv4() { IPV4_LEN } else { IPV6_LEN }
    }

    /// Most bytes of payload in one IP packet.
    fn most_payload(&self) -> usize {
        MOST_PAYLOAD - if self.from.is_ipv4() { IPV4_LEN } else { 0 }
    }

    /// Offset of the sum in the header.
    fn sum_at(&self) -> usize {
        if self.protocol == UDP { 6 } else { 2 }
    }

    /// The sum of what is not in the datagram itself but summed up with it. ICMP over IPv4 has no such thing.
    fn pseudo_sum(&self, payload_len: usize) -> u16 {
        let len = (HEADER_LEN + payload_len) as u32;
        if self.protocol == ICMP4 { 0 } else { checksum::pseudo_header(self.from, self.to, self.protocol, len) }
    }

    /// Its header with the whole sum.
    fn finished(&self, payload: &[u8]) -> [u8; HEADER_LEN] {
        let mut header = self.header;
        header[self.sum_at()..][..2].fill(0);
        let start = checksum::sum(&header, self.pseudo_sum(payload.len()).into());
        let sum = !checksum::sum(payload, start.into());
        // RFC 768: a sum of zero means none.
        let sum = if self.protocol == UDP && sum == 0 { 0xffff } else { sum };
        header[self.sum_at()..][..2].copy_from_slice(&sum.to_be_bytes());
        header
    }

    /// Its header with the sum left to the receiver.
    fn unfinished(&self, payload_len: usize) -> [u8; HEADER_LEN] {
        let mut header = self.header;
        header[self.sum_at()..][..2].copy_from_slice(&self.pseudo_sum(payload_len).to_be_bytes());
        header
    }

    /// Ethernet and IP headers before `len` bytes; how long they are.
    fn write_ip(&self, home: &Home, len: usize, part: Option<Part>, out: &mut [u8; MOST_HEADERS]) -> usize {
        let ethertype = if self.from.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
        let (src_addr, dst_addr) = (EthernetAddress(home.gateway.octets()), EthernetAddress(home.mac.octets()));
        let (ethernet, ip) = out.split_at_mut(ETHERNET_LEN);
        EthernetRepr { src_addr, dst_addr, ethertype }.emit(&mut EthernetFrame::new_unchecked(ethernet));
        let next_header = IpProtocol::from(self.protocol);
        match (self.from, self.to) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let hop_limit = self.hop_limit;
                let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: len, hop_limit };
                write4(header, part, ip);
                ETHERNET_LEN + IPV4_LEN
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let hop_limit = self.hop_limit;
                let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len: len, hop_limit };
                ETHERNET_LEN + write6(header, part, ip)
            }
            _ => unreachable!("both ends of a datagram are of one family"),
        }
    }
}

fn write4(header: Ipv4Repr, part: Option<Part>, out: &mut [u8]) {
    let mut packet = Ipv4Packet::new_unchecked(out);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    if let Some(Part { id, offset, more }) = part {
        packet.set_ident(id as u16);
        packet.set_dont_frag(false);
        packet.set_more_frags(more);
        packet.set_frag_offset(narrow(offset));
        packet.fill_checksum();
    }
}

/// Returns the length of the headers.
fn write6(mut header: Ipv6Repr, part: Option<Part>, out: &mut [u8]) -> usize {
    let Some(Part { id, offset, more }) = part else {
        header.emit(&mut Ipv6Packet::new_unchecked(out));
        return IPV6_LEN;
    };
    let next = u8::from(header.next_header);
    header.next_header = IpProtocol::Ipv6Frag;
    header.payload_len += FRAGMENT_LEN;
    let (ip, rest) = out.split_at_mut(IPV6_LEN);
    header.emit(&mut Ipv6Packet::new_unchecked(ip));
    rest[..2].copy_from_slice(&[next, 0]);
    let fragment = Ipv6FragmentRepr { frag_offset: narrow(offset / UNIT), more_frags: more, ident: id };
    fragment.emit(&mut Ipv6FragmentHeader::new_unchecked(&mut rest[2..FRAGMENT_LEN]));
    IPV6_LEN + FRAGMENT_LEN
}

/// Sends `datagram` with `payload` to the container.
///
/// # Errors
/// Why it, or the rest of it, was not sent: `TooBig` for more than an IP packet can hold.
pub(crate) fn send(cx: &mut Cx<'_>, home: &Home, datagram: &Datagram, payload: &[u8]) -> Result<(), EgressDrop> {
    if payload.len() > datagram.most_payload() {
        return Err(EgressDrop::TooBig);
    }
    if datagram.ip_len() + HEADER_LEN + payload.len() > home.mtu as usize {
        return send_in_fragments(cx, home, datagram, payload);
    }
    send_whole(cx, home, datagram, payload, Gso::None)
}

/// Sends a burst of UDP datagrams of `size` bytes of payload each, of which the last may be shorter, as one frame. They fit an
/// IP packet together.
///
/// # Errors
/// Why it was not sent: `Refused` also by a kernel that cannot cut UDP.
pub(crate) fn send_burst(
    cx: &mut Cx<'_>,
    home: &Home,
    datagram: &Datagram,
    payload: &[u8],
    size: u16,
) -> Result<(), EgressDrop> {
    send_whole(cx, home, datagram, payload, Gso::Udp { size })
}

/// Whether a burst of such datagrams can leave as one frame.
pub(crate) fn is_burst(home: &Home, datagram: &Datagram, payload: &[u8], size: u16) -> bool {
    payload.len() > usize::from(size)
        && datagram.ip_len() + HEADER_LEN + usize::from(size) <= home.mtu as usize
        && payload.len() <= datagram.most_payload()
}

fn send_whole(cx: &mut Cx<'_>, home: &Home, datagram: &Datagram, payload: &[u8], gso: Gso) -> Result<(), EgressDrop> {
    let mut space = [0; MOST_HEADERS];
    let start = datagram.write_ip(home, HEADER_LEN + payload.len(), None, &mut space);
    let needs_csum = datagram.protocol == UDP;
    let header = if needs_csum { datagram.unfinished(payload.len()) } else { datagram.finished(payload) };
    let end = start + HEADER_LEN;
    space[start..end].copy_from_slice(&header);
    let offload = if needs_csum {
        let (header_len, csum_start) = (narrow(end), narrow(start));
        Offload { needs_csum, gso, header_len, csum_start, csum_offset: narrow(datagram.sum_at()) }
    } else {
        Offload { header_len: narrow(start), ..Offload::NONE }
    };
    cx.out.send(home.place, &offload, &space[..end], &[payload])
}

fn send_in_fragments(cx: &mut Cx<'_>, home: &Home, datagram: &Datagram, payload: &[u8]) -> Result<(), EgressDrop> {
    cx.idents.0 = cx.idents.0.wrapping_add(1);
    let id = cx.idents.0;
    let fragment_len = if datagram.from.is_ipv4() { 0 } else { FRAGMENT_LEN };
    let room = (home.mtu as usize - datagram.ip_len() - fragment_len) / UNIT * UNIT;
    let header = datagram.finished(payload);
    let whole = HEADER_LEN + payload.len();
    for offset in (0..whole).step_by(room) {
        let end = whole.min(offset + room);
        let mut space = [0; MOST_HEADERS];
        let part = Part { id, offset, more: end < whole };
        let mut len = datagram.write_ip(home, end - offset, Some(part), &mut space);
        let offload = Offload { header_len: narrow(len), ..Offload::NONE };
        if offset == 0 {
            space[len..len + HEADER_LEN].copy_from_slice(&header);
            len += HEADER_LEN;
        }
        let piece = &payload[offset.saturating_sub(HEADER_LEN)..end - HEADER_LEN];
        cx.out.send(home.place, &offload, &space[..len], &[piece])?;
    }
    Ok(())
}

/// Lengths of headers and of what fits an IP packet.
fn narrow(len: usize) -> u16 {
    u16::try_from(len).expect("checked against what an IP packet holds")
}
