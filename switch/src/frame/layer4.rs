//! The upper-layer header, and the packet that an ICMP error quotes.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ip_number};

use super::ip::{self, Fragment};
use super::parse::Malformed;

/// Length of the header that every ICMP and ICMPv6 message has, in bytes. RFC 792; RFC 4443 3, 4.
const ICMP_LEN: usize = 8;

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
    /// ICMPv6.
    Icmp6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// For an echo its identifier; else 0.
        id: u16,
        /// The packet that an error message quotes.
        quote: Option<IcmpQuote>,
        /// The whole ICMPv6 message, its header included, for neighbour discovery.
        message: &'a [u8],
    },
    /// Another protocol, or a later fragment.
    Other,
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

#[cfg(test)]
mod tests {
    use super::super::testing::stations::{A, A4, A6, B, B4, B6};
    use super::super::testing::{self, ACK, SYN};
    use super::super::{Frame, Packet, Payload};
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
