//! The upper-layer header, and the packet that an ICMP error quotes.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ip_number};

use super::ip;
use super::parse::{Fragment, IcmpQuote, Layer4, Malformed, TcpFlags};

/// Length of the header that every ICMP and ICMPv6 message has, in bytes. RFC 792; RFC 4443 3, 4.
const ICMP_LEN: usize = 8;

/// Reads the upper-layer header of an IPv4 packet that is no later fragment.
#[inline]
pub(super) fn parse4(protocol: u8, body: &[u8], fragment: Fragment) -> Result<Layer4<'_>, Malformed> {
    match IpNumber(protocol) {
        ip_number::TCP => tcp(body),
        ip_number::UDP => udp(body, fragment),
        ip_number::ICMP => icmp4(body),
        _ => Ok(Layer4::Other),
    }
}

/// Reads the upper-layer header of an IPv6 packet that is no later fragment.
#[inline]
pub(super) fn parse6(protocol: u8, body: &[u8], fragment: Fragment) -> Result<Layer4<'_>, Malformed> {
    match IpNumber(protocol) {
        ip_number::TCP => tcp(body),
        ip_number::UDP => udp(body, fragment),
        ip_number::IPV6_ICMP => icmp6(body),
        _ => Ok(Layer4::Other),
    }
}

#[inline]
fn tcp(body: &[u8]) -> Result<Layer4<'_>, Malformed> {
    let header = TcpHeaderSlice::from_slice(body).map_err(|_| Malformed)?;
    Ok(Layer4::Tcp {
        src_port: header.source_port(),
        dst_port: header.destination_port(),
        flags: TcpFlags { syn: header.syn(), ack: header.ack(), fin: header.fin(), rst: header.rst() },
        header_len: header.slice().len(),
    })
}

/// The length field covers the whole datagram, so a first fragment holds less than it says.
#[inline]
fn udp(body: &[u8], fragment: Fragment) -> Result<Layer4<'_>, Malformed> {
    let header = UdpHeaderSlice::from_slice(body).map_err(|_| Malformed)?;
    let length = usize::from(header.length());
    if length < header.slice().len() || (fragment == Fragment::Whole && length > body.len()) {
        return Err(Malformed);
    }
    Ok(Layer4::Udp { src_port: header.source_port(), dst_port: header.destination_port() })
}

fn icmp4(body: &[u8]) -> Result<Layer4<'_>, Malformed> {
    let ([kind, code, _, _, a, b, _, _], quoted) = body.split_first_chunk::<ICMP_LEN>().ok_or(Malformed)?;
    let id = if matches!(kind, 0 | 8) { u16::from_be_bytes([*a, *b]) } else { 0 };
    // Destination unreachable, time exceeded, parameter problem. RFC 792.
    let quote = if matches!(kind, 3 | 11 | 12) { quote4(quoted) } else { None };
    Ok(Layer4::Icmp4 { kind: *kind, code: *code, id, quote })
}

fn icmp6(body: &[u8]) -> Result<Layer4<'_>, Malformed> {
    let ([kind, code, _, _, a, b, _, _], quoted) = body.split_first_chunk::<ICMP_LEN>().ok_or(Malformed)?;
    let id = if matches!(kind, 128 | 129) { u16::from_be_bytes([*a, *b]) } else { 0 };
    // Destination unreachable, packet too big, time exceeded, parameter problem. RFC 4443 3.
    let quote = if matches!(kind, 1..=4) { quote6(quoted) } else { None };
    Ok(Layer4::Icmp6 { kind: *kind, code: *code, id, quote, message: body })
}

/// The flow of a quoted IPv4 packet, which is cut as short as 8 bytes behind its header. A quoted later fragment names
/// no flow.
fn quote4(quoted: &[u8]) -> Option<IcmpQuote> {
    let header = Ipv4HeaderSlice::from_slice(quoted).ok()?;
    if let Fragment::Later { .. } = ip::fragment4(&header).ok()? {
        return None;
    }
    let protocol = header.protocol();
    let (src_port, dst_port) = quoted_ports(protocol, &quoted[header.slice().len()..])?;
    let (src, dst) = (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()));
    Some(IcmpQuote { src, dst, protocol: protocol.0, src_port, dst_port })
}

/// The flow of a quoted IPv6 packet.
fn quote6(quoted: &[u8]) -> Option<IcmpQuote> {
    let header = Ipv6HeaderSlice::from_slice(quoted).ok()?;
    let payload = &quoted[header.slice().len()..];
    let upper = ip::upper(header.next_header(), payload).ok()?;
    if let Fragment::Later { .. } = upper.fragment {
        return None;
    }
    let (src_port, dst_port) = quoted_ports(IpNumber(upper.protocol), &payload[upper.offset..])?;
    let (src, dst) = (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()));
    Some(IcmpQuote { src, dst, protocol: upper.protocol, src_port, dst_port })
}

/// What stands for ports in the first bytes of a quoted upper-layer header.
fn quoted_ports(protocol: IpNumber, body: &[u8]) -> Option<(u16, u16)> {
    match (protocol, body) {
        (ip_number::TCP | ip_number::UDP, [a, b, c, d, ..]) => {
            Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
        }
        (ip_number::ICMP, [0 | 8, _, _, _, a, b, ..]) | (ip_number::IPV6_ICMP, [128 | 129, _, _, _, a, b, ..]) => {
            let id = u16::from_be_bytes([*a, *b]);
            Some((id, id))
        }
        (ip_number::TCP | ip_number::UDP, _) => None,
        _ => Some((0, 0)),
    }
}
