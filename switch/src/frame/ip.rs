//! The network header: IPv4, and IPv6 with its extension headers.
//!
//! Fragments: whoever filters by ports must see them in the first fragment and must not have them rewritten by a later
//! one. So a first fragment holds the whole upper-layer header, and a later one never starts within a TCP header's
//! first 16 bytes (RFC 1858 3, RFC 3128 2). An IPv6 packet has at most one fragment header, or an atomic one behind a
//! true one would make a part look whole.

use std::net::IpAddr;

use etherparse::{IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};
use etherparse::{IpNumber, ip_number};

use super::layer4;
use super::parse::{ETHERNET_LEN, Fragment, Layer4, Malformed, Packet};

/// Extension headers that an IPv6 packet may have. RFC 8200 4.1 names six, one of them twice; more is an attack.
const MAX_EXTENSIONS: usize = 8;

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
    place(offset, header.more_fragments(), header.identification().into(), header.protocol())
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
                at.fragment = place(offset, more, header.identification(), header.next_header())?;
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
fn place(offset: u16, more: bool, id: u32, protocol: IpNumber) -> Result<Fragment, Malformed> {
    match (offset, more) {
        (0, false) => Ok(Fragment::Whole),
        (0, true) => Ok(Fragment::First { id }),
        (1, _) if protocol == ip_number::TCP => Err(Malformed),
        _ => Ok(Fragment::Later { id }),
    }
}

#[inline]
fn is_later(fragment: Fragment) -> bool {
    matches!(fragment, Fragment::Later { .. })
}
